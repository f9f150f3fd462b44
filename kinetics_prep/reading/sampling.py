"""Which frames of a clip a sample shows, and which part of them: window, crop, mirroring.

All readers use these functions. The random numbers depend only on the seed, the epoch and the clip id, not on threads,
processes or the order in which clips are read.
"""

import dataclasses
import hashlib
import struct
from collections.abc import Mapping

import numpy as np

from kinetics_prep.errors import BadOption

REDUCTIONS = (4, 2, 1)
"""Factors by which a JPEG can be shrunk while it is decoded, by leaving out the higher frequencies of its cosines."""

STREAMS = ("rgb", "flow")


@dataclasses.dataclass(frozen=True)
class Draw:
    """The part of a clip that a sample shows."""

    indices: Mapping[str, np.ndarray]
    """Stream -> indices of frames, int64 [T]; they repeat where a short clip is looped."""
    top: int
    """First row of the crop, in pixels of the shrunk image."""
    left: int
    """First column of the crop, in pixels of the shrunk image."""
    flip: bool
    """Whether the sample is mirrored, left to right."""
    reduce: int
    """Factor by which images are shrunk before they are cropped; one of `REDUCTIONS`."""


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How samples are drawn from clips."""

    offsets: Mapping[str, np.ndarray]
    """Stream -> the frames of a window that it sees, from 0: int64 [T], or what NumPy makes such an array of."""
    size: int
    """Height and width of a sample, px."""
    train: bool
    """Whether window and crop are random; else they are the middle ones."""
    flip: bool = False
    """Whether half of the samples are mirrored. Only in training."""
    stride: int = 1
    """A window takes each `stride`-th frame of a clip."""
    seed: int = 0
    span: int | None = None
    """Frames of the window; None for just as many as the offsets need."""

    def __post_init__(self) -> None:
        offsets = {name: np.asarray(frames, np.int64) for name, frames in self.offsets.items()}
        object.__setattr__(self, "offsets", offsets)
        if not offsets or not set(offsets) <= set(STREAMS):
            raise BadOption(f"streams are {', '.join(offsets) or 'none'}, expected one or both of {', '.join(STREAMS)}")
        if any(frames.ndim != 1 or not len(frames) or frames.min() < 0 for frames in offsets.values()):
            raise BadOption("offsets must be frames of a window, from 0, at least one for each stream")
        if self.size < 1 or self.stride < 1:
            raise BadOption(f"size is {self.size} and stride {self.stride}, expected at least 1")
        if self.span is not None and self.span < self._least_span:
            raise BadOption(f"a window of {self.span} frames has no frame {self._least_span - 1}")

    @property
    def _least_span(self) -> int:
        return 1 + max(int(frames.max()) for frames in self.offsets.values())

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams of a sample."""
        return tuple(self.offsets)

    def reduction(self, short_side: int) -> int:
        """The factor by which images of this short side are shrunk before they are cropped.

        The paper crops 224 of 256 pixels. Images with many more pixels are shrunk first, by a whole factor, but never
        so far that the crop takes more than 7/8 of the short side.

        Raises:
          BadOption: if the images are too small, or hold flow that would have to be shrunk.
        """
        advice = f"prepare the data with --short-side {self.size * 8 // 7}"
        if short_side < self.size:
            raise BadOption(f"images of short side {short_side} px are too small for crops of {self.size} px; {advice}")
        factor = next(factor for factor in REDUCTIONS if 7 * short_side >= 8 * self.size * factor or factor == 1)
        if factor > 1 and "flow" in self.offsets:
            raise BadOption(
                f"images of short side {short_side} px are too large for crops of {self.size} px, and flow cannot be "
                f"shrunk as frames can; {advice}"
            )
        return factor

    def draw(self, clip_id: str, epoch: int, frames: int, height: int, width: int) -> Draw:
        """The part of a clip that is shown in an epoch.

        Args:
          frames: of the clip on disk.
          height: of its images on disk, px.
          width: of its images on disk, px.

        Raises:
          BadOption: if its images cannot be sampled.
        """
        reduce = self.reduction(min(height, width))
        span = self._least_span if self.span is None else self.span
        last_start = max(0, frames - 1 - (span - 1) * self.stride)
        last_top, last_left = (-(-side // reduce) - self.size for side in (height, width))
        if self.train:
            numbers = _random_numbers(self.seed, epoch, clip_id)
            start, top, left = (_below(number, n + 1) for number, n in zip(numbers, (last_start, last_top, last_left)))
            flip = self.flip and numbers[3] >> 63 == 1
        else:
            start, top, left, flip = last_start // 2, last_top // 2, last_left // 2, False
        indices = {name: (start + k * self.stride) % frames for name, k in self.offsets.items()}
        return Draw(indices, top, left, flip, reduce)


def _random_numbers(seed: int, epoch: int, clip_id: str) -> tuple[int, int, int, int]:
    """Four random numbers of 64 bits."""
    key = f"{seed} {epoch} {clip_id}".encode()
    window, top, left, flip = struct.unpack(
        "<4Q", hashlib.blake2b(key, digest_size=32, person=b"kinetics-prep").digest()
    )
    return window, top, left, flip


def _below(number: int, count: int) -> int:
    """Maps a random number of 64 bits to 0 ... count - 1, all equally likely."""
    return number * count >> 64
