"""What tests of models share: facts, and arrays and inputs from a generator that is the same in every NumPy."""

from collections.abc import Mapping

import keras
import numpy as np

from kinetics_prep.models import model_variables
from kinetics_prep.models.facts import Facts
from kinetics_prep.models.spec import CHANNELS, Spec

FACTS = Facts("i3d", "rgb", 3, ("a", "b", "c"), size=32, origin="a test's, Ünïcode")


def array(random: np.random.RandomState, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 values such as a trained network's: what goes through many layers of them neither grows nor dies."""
    kind = name.rpartition("/")[2]
    values = random.standard_normal(shape) if shape else np.float64(0)
    if kind in ("kernel", "recurrent_kernel", "w", "weights"):
        return (values * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)
    if kind.endswith("variance"):
        return (0.5 + np.abs(values)).astype(np.float32)
    if kind.endswith("gamma"):
        return (0.1 + 0.01 * values).astype(np.float32)
    return (0.1 * values).astype(np.float32)


def arrays(model: keras.Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Values for all weights of a model."""
    random = np.random.RandomState(seed)
    variables = sorted(model_variables.by_name(model).items())
    return {name: array(random, name, tuple(variable.shape)) for name, variable in variables}


def inputs(spec: Spec, stream: str, span: int, size: int, clips: int = 1, seed: int = 1) -> dict[str, np.ndarray]:
    """Noise for a model, in [-1, 1]."""
    random = np.random.RandomState(seed)
    return {
        part: random.uniform(-1, 1, (clips, len(offsets), size, size, CHANNELS[part])).astype(np.float32)
        for part, offsets in spec.offsets(stream, span).items()
    }


def run(model: keras.Model, given: Mapping[str, np.ndarray]) -> np.ndarray:
    """A model's output at test."""
    return keras.ops.convert_to_numpy(model(given))


def same(left: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> bool:
    """Whether two sets of arrays have the same names and values."""
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)
