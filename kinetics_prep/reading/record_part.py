"""Part of a record: its context and some of its encoded images. What a module must have to read one shard format."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from kinetics_prep.reading.stored_clip import StoredClip
from kinetics_prep.records.record import Record

IMAGES = {"rgb": "image/encoded", "flow": "FORWARD_FLOW/image/encoded"}
"""Stream -> the feature that holds its images."""

CONTEXT = (
    "example/id",
    "clip/label/index",
    "kinetics_prep/recipe",
    "kinetics_prep/quantizer",
    "kinetics_prep/bound_px",
)
"""The features by which a record is compared with the index."""


@dataclasses.dataclass(frozen=True)
class RecordPart:
    """The part of a record that a sample needs."""

    context: Mapping[str, object]
    """The features of `CONTEXT` that the record has; text is str."""
    encoded: Mapping[str, Mapping[int, memoryview]]
    """Stream -> index of a frame -> encoded image; indices beyond the end of the record are missing.

    Valid until the same thread reads another clip.
    """
    frames: Mapping[str, int]
    """Stream -> number of images in the record."""


class ClipReader(Protocol):
    """A module that reads single clips from the shards of one format."""

    def read_part(self, clip: StoredClip, wanted: Mapping[str, list[int]], verify: bool = True) -> RecordPart:
        """Reads some images of a clip.

        Args:
          wanted: stream -> indices of frames, in ascending order.
          verify: whether to check the checksums of the data.

        Raises:
          CorruptShard: if the record cannot be read.
        """
        ...

    def read_record(self, clip: StoredClip) -> Record:
        """Reads a whole clip and checks its checksums.

        Raises:
          CorruptShard: if the record cannot be read.
        """
        ...
