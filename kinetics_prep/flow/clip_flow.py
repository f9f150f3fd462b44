"""Clip -> quantized flow, by any engine: grey frames, one flow a frame, levels."""

from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from kinetics_prep import flow
from kinetics_prep.flow.parameters import TVL1
from kinetics_prep.media.clip import Clip, QuantizedFlow


def quantized_flow(
    clip: Clip, engine: Any, tvl1: TVL1, quantizer: str, bound_px: float, notes: list[str]
) -> QuantizedFlow:
    """TV-L1 from each frame to the next, quantized; N flows for N frames.

    The last one goes to the frame just after the clip where the video has it; else it repeats the
    one before. Readers pair the streams frame by frame, and N - 1 flows would let them slip.

    Args:
      engine: as `flow.engine` gives it.
      notes: takes what a reader of the ledger should know, such as that a GPU failed.
    """
    following = () if clip.next_frame is None else (clip.next_frame,)
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (*clip.frames, *following)])
    levels = np.empty((*clip.frames.shape[:3], 2), np.uint8)
    saturated = 0
    for k, (field, beyond) in enumerate(flow.quantized(engine, grey, tvl1, quantizer, bound_px, notes)):
        levels[k] = field
        saturated += beyond
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
