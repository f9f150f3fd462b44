"""Reads TensorFlow checkpoints, of the first format and the second, with TensorFlow's own reader."""

import re
from pathlib import Path

import numpy as np

from kinetics_prep.errors import BadWeights, MissingTool

_TABLE_MAGIC = bytes.fromhex("57fb808b247547db")
"""The last bytes of a table file: of an index of the second format, and of any file of the first."""

_PART = re.compile(r"\.(index|data-\d{5}-of-\d{5})\Z")


def prefix(path: Path) -> Path | None:
    """By what TensorFlow calls the checkpoint that a path is a file of, or the prefix; None if there is none."""
    stem = Path(_PART.sub("", str(path)))
    if stem.with_name(f"{stem.name}.index").is_file():
        return stem
    if path.is_file() and _ends_as_table(path):
        return path
    return None


def _ends_as_table(path: Path) -> bool:
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(_TABLE_MAGIC)))
        return file.read() == _TABLE_MAGIC


class Checkpoint:
    """The variables of a checkpoint: their shapes at once, their values when asked for."""

    def __init__(self, path: Path):
        self.path = path
        self._tf = _tensorflow()
        with self._as_damage():
            self._reader = self._tf.train.load_checkpoint(str(path))
            shapes, types = self._reader.get_variable_to_shape_map(), self._reader.get_variable_to_dtype_map()
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.of_floats = {name for name, kind in types.items() if kind == self._tf.float32}

    def array(self, name: str) -> np.ndarray:
        """A variable's value."""
        with self._as_damage():
            return np.asarray(self._reader.get_tensor(name))

    def _as_damage(self):
        return _AsDamage(self.path, (self._tf.errors.OpError, ValueError, RuntimeError, LookupError))


class _AsDamage:
    """Turns what TensorFlow says of a damaged file into `BadWeights`."""

    def __init__(self, path: Path, errors: tuple):
        self.path, self.errors = path, errors

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, self.errors):
            said = str(getattr(error, "message", error)).strip().splitlines() or [repr(error)]
            raise BadWeights(f"{self.path} does not read as a TensorFlow checkpoint: {said[0][:300]}") from None


def _tensorflow():
    try:
        import tensorflow
    except ImportError as error:
        raise MissingTool(f"reading a TensorFlow checkpoint needs tensorflow: {error}") from None
    return tensorflow
