"""Clip -> quantized flow, by any engine: grey frames, one flow a frame, levels."""

import functools
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np

from kinetics_prep import flow
from kinetics_prep.flow.flow_engine import FlowEngine, GPUFailed, QuantizedField, QuantizingEngine
from kinetics_prep.flow.parameters import TVL1
from kinetics_prep.media import quantize
from kinetics_prep.media.clip import Clip, QuantizedFlow


def quantized_flow(
    clip: Clip, engine: FlowEngine, tvl1: TVL1, quantizer: str, bound_px: float, notes: list[str]
) -> QuantizedFlow:
    """Computes TV-L1 from each frame to the next, quantized: N flows for N frames.

    The last flow leads to the frame just after the clip if the video has one; otherwise it repeats the flow before.
    Readers pair the streams frame by frame; with N - 1 flows the pairs would shift.

    Args:
      notes: receives what a reader of the ledger should know, such as that a GPU failed.
    """
    grey = _grey_frames(clip)
    levels = np.empty((*clip.frames.shape[:3], 2), np.uint8)
    saturated = 0
    fields = quantized_fields(engine, grey, tvl1, quantizer, bound_px, notes)
    for k, field in zip(range(len(grey) - 1), fields, strict=True):
        levels[k] = field.levels
        saturated += field.saturated
    if clip.next_frame is None:
        levels[-1] = levels[-2]
    computed = levels[: len(grey) - 1].size
    return QuantizedFlow(
        levels=levels,
        quantizer=quantizer,
        bound_px=bound_px,
        saturated_share=float(Fraction(saturated, computed)),
        last="repeated" if clip.next_frame is None else "next_frame",
    )


def _grey_frames(clip: Clip) -> np.ndarray:
    """uint8 [T, H, W]: the clip's frames in grey, and the one after it if there is one."""
    following = () if clip.next_frame is None else (clip.next_frame,)
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (*clip.frames, *following)])


def quantized_fields(
    engine: FlowEngine, grey: np.ndarray, tvl1: TVL1, quantizer: str, bound_px: float, notes: list[str]
) -> Iterator[QuantizedField]:
    """Yields the flow from each frame to the next, quantized. If GPUs fail, the CPU computes the rest of the clip.

    Args:
      grey: uint8 [T, H, W].
      notes: receives what a reader of the ledger should know.

    Yields:
      T - 1 fields.

    Raises:
      ValueError: if a flow is not finite.
    """
    done = 0
    try:
        for field in _quantized_by(engine, grey, tvl1, quantizer, bound_px, notes):
            yield field
            done += 1
    except GPUFailed as error:
        notes.append(f"{error}; flow from frame {done} on by tvl1 on the CPU")
        yield from _quantized_by(_cpu_engine(), grey[done:], tvl1, quantizer, bound_px, notes)


def _quantized_by(
    engine: FlowEngine, grey: np.ndarray, tvl1: TVL1, quantizer: str, bound_px: float, notes: list[str]
) -> Iterator[QuantizedField]:
    """As `quantized_fields`, by this engine alone."""
    if isinstance(engine, QuantizingEngine):
        yield from engine.quantized(grey, tvl1, quantizer, bound_px, notes)
        return
    for field in engine.flows(grey, tvl1):
        levels = quantize.quantize(field, quantizer, bound_px)
        yield QuantizedField(levels, quantize.saturated_count(field, bound_px))


@functools.cache
def _cpu_engine() -> FlowEngine:
    """One for all clips, because it reuses the memory it works in."""
    return flow.engine("tvl1")
