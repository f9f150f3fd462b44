"""Which frames of a clip are seen, and which part of them: window, crop, mirror.

Drawn here for every reader, from (seed, epoch, clip id) alone. Threads, processes and the order
in which clips are read have no part in it.
"""

import dataclasses
import hashlib
import struct
from collections.abc import Mapping

import numpy as np

from kinetics_prep.errors import BadOption

REDUCTIONS = (4, 2, 1)
"""By how much a JPEG can be shrunk while it is decoded, by leaving out the finer half of its cosines."""

STREAMS = ("rgb", "flow")


@dataclasses.dataclass(frozen=True)
class Draw:
    """What is taken of a clip."""

    indices: Mapping[str, np.ndarray]
    """Of the frames of each stream, int64 [T]; they repeat where a short clip is looped."""
    top: int
    left: int
    """Of the crop, in pixels of the reduced image."""
    flip: bool
    """Whether it is mirrored, left to right."""
    reduce: int
    """By how much images are shrunk before they are cropped."""


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How samples are drawn."""

    offsets: Mapping[str, np.ndarray]
    """Which frames of a window each stream sees, from 0, in frames of the window."""
    size: int
    """Height and width of a sample, px."""
    train: bool
    """Whether window and crop are drawn at random; else they are the middle ones."""
    flip: bool = False
    """Whether half of the samples are mirrored. Only in training."""
    stride: int = 1
    """How many frames of a clip make one of the window."""
    seed: int = 0
    span: int | None = None
    """Frames of the window; None for just so many that each offset is inside."""

    def __post_init__(self):
        offsets = {name: np.asarray(places, np.int64) for name, places in self.offsets.items()}
        object.__setattr__(self, "offsets", offsets)
        if not offsets or not set(offsets) <= set(STREAMS):
            raise BadOption(f"streams are {', '.join(offsets) or 'none'}, expected one or both of {', '.join(STREAMS)}")
        if any(places.ndim != 1 or not len(places) or places.min() < 0 for places in offsets.values()):
            raise BadOption("offsets must be frames of a window, from 0, at least one for each stream")
        if self.size < 1 or self.stride < 1:
            raise BadOption(f"size is {self.size} and stride {self.stride}, expected at least 1")
        least = 1 + max(int(places.max()) for places in offsets.values())
        object.__setattr__(self, "span", self.span or least)
        if self.span < least:
            raise BadOption(f"a window of {self.span} frames has no frame {least - 1}")

    @property
    def streams(self) -> tuple[str, ...]:
        return tuple(self.offsets)

    def expect(self, short_side: int) -> int:
        """Makes sure that images of this short side can be sampled; returns by how much they are reduced.

        The paper crops 224 of 256 pixels. Images with many more are shrunk first, by a whole number, to no less than
        that share.

        Raises:
          BadOption: if they are too small, or hold flow that would have to be shrunk.
        """
        if short_side < self.size:
            raise BadOption(
                f"images of short side {short_side} px are too small for crops of {self.size} px; prepare the data "
                f"with --short-side {self.size * 8 // 7}"
            )
        reduce = next(factor for factor in REDUCTIONS if 7 * short_side >= 8 * self.size * factor or factor == 1)
        if reduce > 1 and "flow" in self.offsets:
            raise BadOption(
                f"images of short side {short_side} px are too large for crops of {self.size} px, and flow cannot be "
                f"shrunk as frames can; prepare the data with --short-side {self.size * 8 // 7}"
            )
        return reduce

    def draw(self, clip_id: str, epoch: int, frames: int, height: int, width: int) -> Draw:
        """What is taken of a clip in an epoch.

        Args:
          frames, height, width: of the clip as it stands on disk.

        Raises:
          BadOption: if its images cannot be sampled.
        """
        reduce = self.expect(min(height, width))
        room = max(0, frames - 1 - (self.span - 1) * self.stride)
        down, right = (-(-side // reduce) - self.size for side in (height, width))
        if self.train:
            numbers = _numbers(self.seed, epoch, clip_id)
            start, top, left = (_below(number, count + 1) for number, count in zip(numbers, (room, down, right)))
            flip = self.flip and numbers[3] >> 63 == 1
        else:
            start, top, left, flip = room // 2, down // 2, right // 2, False
        indices = {name: (start + places * self.stride) % frames for name, places in self.offsets.items()}
        return Draw(indices, top, left, flip, reduce)


def _numbers(seed: int, epoch: int, clip_id: str) -> tuple[int, int, int, int]:
    """Four random numbers of 64 bits."""
    key = f"{seed} {epoch} {clip_id}".encode()
    return struct.unpack("<4Q", hashlib.blake2b(key, digest_size=32, person=b"kinetics-prep").digest())


def _below(number: int, count: int) -> int:
    """A number of 64 bits -> 0 to count - 1, all equally likely."""
    return number * count >> 64
