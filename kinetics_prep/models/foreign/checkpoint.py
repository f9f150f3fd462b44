"""Reads TensorFlow checkpoints, of the first format and the second, with TensorFlow's own reader."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from kinetics_prep.errors import BadWeights, MissingTool

_TABLE_MAGIC = bytes.fromhex("57fb808b247547db")
"""The last bytes of a table file: of an index of the second format, and of any file of the first."""

_PART = re.compile(r"\.(index|data-\d{5}-of-\d{5})\Z")


def find_prefix(path: Path) -> Path | None:
    """The prefix by which TensorFlow knows a checkpoint; None if `path` is no checkpoint.

    Args:
      path: the prefix itself, or any file of the checkpoint.
    """
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
    """The variables of a checkpoint. Shapes are read at once, values on demand.

    Raises:
      BadWeights: if it is damaged.
      MissingTool: if TensorFlow is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tf = _tensorflow()
        with self._damage_as_bad_weights():
            self._reader = self._tf.train.load_checkpoint(str(path))
            shapes, types = self._reader.get_variable_to_shape_map(), self._reader.get_variable_to_dtype_map()
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.float32_names = frozenset(name for name, kind in types.items() if kind == self._tf.float32)

    def read(self, name: str) -> np.ndarray:
        """A variable's value.

        Raises:
          BadWeights: if the file is damaged there.
        """
        with self._damage_as_bad_weights():
            return np.asarray(self._reader.get_tensor(name))

    @contextlib.contextmanager
    def _damage_as_bad_weights(self) -> Iterator[None]:
        """Turns the errors of TensorFlow's reader into `BadWeights`."""
        try:
            yield
        except (self._tf.errors.OpError, ValueError, RuntimeError, LookupError) as error:
            lines = str(getattr(error, "message", error)).strip().splitlines() or [repr(error)]
            raise BadWeights(f"{self.path} does not read as a TensorFlow checkpoint: {lines[0][:300]}") from None


def _tensorflow() -> ModuleType:
    try:
        import tensorflow
    except ImportError as error:
        raise MissingTool(f"reading a TensorFlow checkpoint needs tensorflow: {error}") from None
    return tensorflow
