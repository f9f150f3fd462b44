"""Weights on disk: a safetensors file of named arrays with their facts.

The name of an array is `<layer>/<variable>`, e.g. `Mixed_3b.Branch_0.Conv3d_0a_1x1.conv_3d/kernel`.
"""

import dataclasses
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from kinetics_prep.errors import BadWeights
from kinetics_prep.models.facts import Facts
from kinetics_prep.storage.files import atomic_write

Arrays = dict[str, np.ndarray]
"""float32 arrays by name."""

_MOST_NAMED = 10


@dataclasses.dataclass(frozen=True)
class Weights:
    """Named float32 arrays, all finite, and what they are for."""

    facts: Facts
    arrays: Arrays

    def __post_init__(self) -> None:
        for name, array in self.arrays.items():
            if array.dtype != np.float32:
                raise BadWeights(f"array {name} is {array.dtype}, expected float32")
            if not np.isfinite(array).all():
                raise BadWeights(f"array {name} holds values that are not finite")


def save(path: Path, weights: Weights) -> None:
    """Writes weights, completely or not at all. The same weights make the same bytes."""
    path = Path(path)
    # Not `ascontiguousarray`, which makes an array of a number. safetensors sorts by name.
    arrays = {name: np.asarray(array, order="C") for name, array in weights.arrays.items()}
    data = safetensors.numpy.save(arrays, weights.facts.to_metadata())
    with atomic_write(path, path.parent) as temporary:
        temporary.write_bytes(data)


def load(path: Path) -> Weights:
    """Reads weights. The file may be a stranger's.

    Raises:
      BadWeights: if the file is missing, is damaged, or is not like those that `save` writes.
    """
    try:
        # safetensors trusts nothing in the file: it checks names, types and shapes against the number of bytes.
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = Facts.from_metadata(file.metadata())
            return Weights(facts, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except BadWeights as error:
        raise BadWeights(f"{path}: {error}") from None
    except (OSError, safetensors.SafetensorError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise BadWeights(f"{path} does not read as safetensors: {error}") from None


def check_no_problems(problems: list[str], what: str) -> None:
    """Raises if there are problems with arrays; the message quotes the first ten and counts the others.

    Args:
      problems: a phrase for each, such as "a/kernel is missing".
      what: the message's first words.

    Raises:
      BadWeights: if there are any.
    """
    if problems:
        more = f", and {len(problems) - _MOST_NAMED} more" if len(problems) > _MOST_NAMED else ""
        raise BadWeights(f"{what}: {'; '.join(problems[:_MOST_NAMED])}{more}")
