"""Which frame a clip shows at which moment, by timestamp. Arithmetic only; no ffmpeg.

Frame k of a clip is the frame that the video shows at `start + k / fps`: the last one whose
timestamp is not later. Frame numbers and average rates are never used, so variable frame rates,
late starts, edit lists and dropped frames come out at the right moment.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np

Time = TypeVar("Time", int, Fraction)
Shown = TypeVar("Shown")


def frame_count(seconds: float, fps: Fraction) -> int:
    """Returns how many frames a clip of `seconds` shows: the number of k with k / fps before its end."""
    return math.ceil(Fraction(round(seconds * 1e6), 1_000_000) * fps)


def frame_times_us(count: int, fps: Fraction) -> list[Fraction]:
    """Returns the times of the frames of a clip, in microseconds from its start."""
    return [Fraction(k * 1_000_000) / fps for k in range(count)]


def resample(decoded: Iterable[tuple[Time, Time, Shown]], times: Sequence[Time]) -> Iterator[tuple[int, Shown]]:
    """Yields the frame shown at each time.

    Args:
      decoded: (timestamp, duration, frame), in the order shown. A frame whose timestamp is before that of the frame
        before it is ignored. The duration counts for the last frame only.
      times: increasing, in the same unit.

    Yields:
      (k, frame) for k = 0, 1, ... until the video ends. Times before the first frame get the first frame.
    """
    k = 0
    current: tuple[Time, Time, Shown] | None = None
    for timestamp, duration, frame in decoded:
        if current is not None:
            begins, _, current_frame = current
            if timestamp < begins:
                continue
            while k < len(times) and times[k] < timestamp:
                yield k, current_frame
                k += 1
        if k == len(times):
            return
        current = timestamp, timestamp + duration, frame
    if current is None:
        return
    _, ends, current_frame = current
    while k < len(times) and times[k] < ends:
        yield k, current_frame
        k += 1


def with_times(
    decoded: Iterable[tuple[int, int | None, np.ndarray]], tolerance: Fraction, fps: Fraction
) -> Iterator[tuple[Fraction, Fraction, tuple[Fraction, np.ndarray]]]:
    """Prepares what a `Decoder` yields for `resample`.

    Args:
      decoded: (pts, duration, frame), in microseconds.
      tolerance: in microseconds; each frame begins so much earlier, because its timestamp may be rounded.
      fps: of the clip.

    Yields:
      (timestamp, duration, (timestamp, frame)). A frame of unknown duration lasts as long as the frame before it, and
      the first frame as long as a frame of the clip.
    """
    previous, gap = None, Fraction(1_000_000) / fps
    for pts, duration, frame in decoded:
        gap = Fraction(pts - previous) if previous is not None and pts > previous else gap
        previous = pts
        begins = pts - tolerance
        yield begins, Fraction(duration or gap), (begins, frame)
