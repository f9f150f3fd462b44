"""Float flow <-> uint8, in the three ways found in published data sets.

Every quantizer clips to +-bound px. They differ in where zero motion lands:

* `symmetric` (our default): `round(v * 127 / bound) + 128`, so zero is exactly 128 and the sign of a flow
  can be flipped without error. Level 0 is never written.
* `mediapipe`: `trunc(255 * (v + bound) / (2 * bound))`, as DeepMind's published preprocessing does
  (google/mediapipe, kinetics_dataset.py). Zero becomes 127 and reads back as -0.078 px.
* `denseflow`: the same, rounded (open-mmlab/denseflow). Zero becomes 128, +0.078 px.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from kinetics_prep.errors import BadOption

BOUND_PX = 20.0
"""Carreira & Zisserman, CVPR 2017: flow truncated to [-20, 20]."""


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """Functions from px to levels and back; both take the bound in px."""

    encode: Callable[[np.ndarray, float], np.ndarray]
    """float32 flow in px -> uint8 levels."""
    decode: Callable[[np.ndarray, float], np.ndarray]
    """uint8 levels -> float32 flow in px."""


def _encode_symmetric(flow: np.ndarray, bound: float) -> np.ndarray:
    return (np.rint(np.clip(flow, -bound, bound) * np.float32(127 / bound)) + 128).astype(np.uint8)


def _decode_symmetric(levels: np.ndarray, bound: float) -> np.ndarray:
    return (levels.astype(np.float32) - 128) * np.float32(bound / 127)


def _to_255(flow: np.ndarray, bound: float) -> np.ndarray:
    """Maps -bound to 0 and +bound to 255; float32, not rounded."""
    return np.clip((flow + np.float32(bound)) / np.float32(2 * bound), 0, 1) * np.float32(255)


def _encode_mediapipe(flow: np.ndarray, bound: float) -> np.ndarray:
    return _to_255(flow, bound).astype(np.uint8)


def _encode_denseflow(flow: np.ndarray, bound: float) -> np.ndarray:
    return np.rint(_to_255(flow, bound)).astype(np.uint8)


def _decode_asymmetric(levels: np.ndarray, bound: float) -> np.ndarray:
    return levels.astype(np.float32) * np.float32(2 * bound / 255) - np.float32(bound)


QUANTIZERS = {
    "symmetric": Quantizer(_encode_symmetric, _decode_symmetric),
    "mediapipe": Quantizer(_encode_mediapipe, _decode_asymmetric),
    "denseflow": Quantizer(_encode_denseflow, _decode_asymmetric),
}


def quantizer(name: str) -> Quantizer:
    """Returns the quantizer called `name`.

    Raises:
      BadOption: if there is none.
    """
    try:
        return QUANTIZERS[name]
    except KeyError:
        raise BadOption(f"quantizer is {name!r}, expected one of {', '.join(QUANTIZERS)}") from None


def quantize(flow: np.ndarray, name: str = "symmetric", bound_px: float = BOUND_PX) -> np.ndarray:
    """float32 flow in px, any shape -> uint8 levels of the same shape.

    Raises:
      BadOption: if there is no quantizer called `name`.
      ValueError: if a flow is not finite. A cast to uint8 would turn it into an arbitrary level.
    """
    if not np.isfinite(flow).all():
        raise ValueError("flow holds values that are not finite")
    return quantizer(name).encode(flow, bound_px)


def dequantize(levels: np.ndarray, name: str = "symmetric", bound_px: float = BOUND_PX) -> np.ndarray:
    """uint8 levels, any shape -> float32 flow in px, of the same shape.

    Raises:
      BadOption: if there is no quantizer called `name`.
    """
    return quantizer(name).decode(levels, bound_px)


def saturated_count(flow: np.ndarray, bound_px: float = BOUND_PX) -> int:
    """Returns how many values lie beyond +-bound_px, which `quantize` clips.

    Args:
      flow: float32 in px, any shape.
    """
    return int(np.count_nonzero(np.abs(flow) > bound_px))
