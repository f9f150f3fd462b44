"""Samples by position: reads a clip, compares it with the index, decodes it, and handles clips that cannot be read."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.reading import CLIP_READERS, images
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.image_header import check_image
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.record_part import RecordPart
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.reading.stored_clip import StoredClip


@dataclasses.dataclass(frozen=True)
class Reader:
    """Samples of clips, by position in an order."""

    clips: ClipIndex
    sampler: Sampler
    order: Order | Once
    streams: tuple[str, ...]
    """Some of those of the sampler."""
    skipped: Skipped | None = None
    """Counts clips that cannot be read: another clip replaces it (`Order.stand_ins`), or the clip is left out (`Once`).
    None to stop at the first such clip."""

    def __post_init__(self) -> None:
        if not self.streams or not set(self.streams) <= set(self.sampler.streams):
            raise BadOption(f"streams are {self.streams}, expected some of {self.sampler.streams}")
        if self.order.clips != len(self.clips):
            raise BadOption(f"the order is for {self.order.clips} clips, and the split has {len(self.clips)}")
        self.sampler.reduction(self.clips.short_side)  # raises BadOption if such images cannot be sampled

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Stream -> (T, size, size, channels) of a sample."""
        size = self.sampler.size
        return {name: (len(self.sampler.offsets[name]), size, size, images.CHANNELS[name]) for name in self.streams}

    def fill(self, position: int, out: Mapping[str, np.ndarray]) -> int | None:
        """Reads the sample at a position.

        Args:
          out: stream -> uint8 array of the shape in `shapes`, which is filled: RGB, or levels of dx and dy.

        Returns:
          The class id, or None if the clip cannot be read and no other clip may replace it.

        Raises:
          CorruptShard: if the clip cannot be read and `skipped` is None, or if no clip can be read.
        """
        stand_ins = self.order.stand_ins(position)
        for candidate in (position, *stand_ins):
            epoch, number = self.order.at(candidate)
            clip = self.clips[number]
            try:
                self._read(clip, epoch, out)
                return clip.class_id
            except CorruptShard as error:
                self._skip(clip, error)
        if stand_ins or self.order.clips == 1:
            raise CorruptShard(f"none of the {len(self.clips)} clips of {self.clips.folder} can be read")
        return None

    def _skip(self, clip: StoredClip, error: CorruptShard) -> None:
        if self.skipped is None:
            raise CorruptShard(
                f"{clip.path}, {clip.clip_id}: {error}. `kinetics-prep validate {self.clips.folder}` tells whether "
                "more is wrong. Prepare or copy this shard once more, or skip what cannot be read"
            ) from None
        self.skipped.add(clip.path, clip.clip_id, str(error))

    def _read(self, clip: StoredClip, epoch: int, out: Mapping[str, np.ndarray]) -> None:
        draw = self.sampler.draw(clip.clip_id, epoch, clip.frames, clip.height, clip.width)
        wanted = {name: np.unique(draw.indices[name]).tolist() for name in self.streams}
        reading = (clip.clip_id, self.streams)
        part = CLIP_READERS[self.clips.format].read_part(clip, wanted, verify=reading not in self.clips.verified)
        self.clips.check(clip, part.context, part.frames)
        _check_images(part, clip, wanted)
        for name in self.streams:
            images.stack(part.encoded[name], name, draw, self.clips.quantizer, out[name])
        self.clips.verified.add(reading)


def _check_images(part: RecordPart, clip: StoredClip, wanted: Mapping[str, list[int]]) -> None:
    for name, indices in wanted.items():
        for index in indices:
            try:
                check_image(part.encoded[name][index], clip.height, clip.width)
            except CorruptShard as error:
                raise CorruptShard(f"{name} image {index} {error}") from None
