"""One clip of a prepared split: where its record is stored, its class and its size."""

import dataclasses
from pathlib import Path

UNLABELLED = -1
"""Class id of a clip of a test set without labels."""


@dataclasses.dataclass(frozen=True)
class StoredClip:
    """Where one clip is stored, and what the manifest and the ledger say about it. No record was read for it."""

    path: Path
    """The shard that holds the clip."""
    offset_or_row: int
    """In a TFRecord file, the byte at which the record begins; in a Parquet file, the number of the row."""
    record_bytes: int
    """Size of the record in a TFRecord file, header and footer included; 0 in Parquet."""
    clip_id: str
    class_id: int
    """Line of labels.txt, from 0; `UNLABELLED` if the clip has no label."""
    frames: int
    height: int
    """Of the images on disk, px."""
    width: int
