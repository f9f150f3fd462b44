"""What tests of models share: arrays and inputs from a generator that is the same in every NumPy."""

import numpy as np

from kinetics_prep.models import model_variables
from kinetics_prep.models.spec import CHANNELS


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


def arrays(model, seed: int = 0) -> dict[str, np.ndarray]:
    """Values for all weights of a model."""
    random = np.random.RandomState(seed)
    return {name: array(random, name, tuple(v.shape)) for name, v in sorted(model_variables.by_name(model).items())}


def inputs(spec, stream: str, span: int, size: int, clips: int = 1, seed: int = 1) -> dict[str, np.ndarray]:
    """Noise for a model, in [-1, 1]."""
    random = np.random.RandomState(seed)
    return {
        part: random.uniform(-1, 1, (clips, len(offsets), size, size, CHANNELS[part])).astype(np.float32)
        for part, offsets in spec.offsets(stream, span).items()
    }
