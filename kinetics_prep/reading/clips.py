"""The index of a prepared split: where each clip is stored, its class and its size.

It is made from dataset.json and the ledgers, without reading a record. So clips can be shuffled across all shards
without a buffer, each clip can be read alone, and a record that contradicts the index is noticed.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from kinetics_prep.dataset import manifest
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.errors import CorruptShard
from kinetics_prep.reading import CLIP_READERS, split_entries
from kinetics_prep.reading.record_part import IMAGES
from kinetics_prep.reading.stored_clip import UNLABELLED, StoredClip
from kinetics_prep.records.record import Record

COLUMNS = np.dtype(
    [(name, np.int64) for name in ("shard", "offset_or_row", "record_bytes", "class_id", "frames", "height", "width")]
)
"""Columns of `ClipIndex.table`. `shard` is an index into `ClipIndex.paths`; the others are those of `StoredClip`."""


@dataclasses.dataclass(frozen=True, eq=False)
class ClipIndex:
    """All written clips of a split, in the order of the shards; clips added by a refresh come last."""

    folder: Path
    split: str
    format: str
    """A name of `SHARD_FORMATS`."""
    labels: tuple[str, ...]
    """In the order of their class ids."""
    digest: str
    """Of the recipe; every record holds it too."""
    fps: Fraction
    short_side: int
    """Of the images on disk, px."""
    quantizer: str
    bound_px: float
    paths: tuple[Path, ...]
    """The shards that hold a clip."""
    ids: tuple[str, ...]
    """Clip ids."""
    table: np.ndarray
    """[clips], a structured array of the dtype `COLUMNS`."""
    verified: set[tuple[str, tuple[str, ...]]] = dataclasses.field(default_factory=set, repr=False)
    """(clip id, streams) that were read once without an error. Shards do not change, so readers check checksums only
    at the first reading in a process."""

    @classmethod
    def open(cls, folder: Path | str, split: str, format: str | None = None) -> "ClipIndex":
        """Opens a split of a prepared folder.

        Args:
          split: "train", "val" or "test".
          format: a name of `SHARD_FORMATS`; None for the one that the folder holds, TFRecord if it holds both.

        Raises:
          BadOption: if the folder does not hold that split or format, or the split holds no clip.
          IncompleteShard: if the split is not finished, or shards are missing.
          CorruptShard: if the folder was not made by kinetics-prep, or its files do not fit together.
        """
        layout = Layout(Path(folder))
        content = manifest.read(layout.store)
        shards = split_entries.find_shards(layout, content, split)
        preparation = split_entries.read_preparation(layout, content["recipe"])
        format = split_entries.choose_format(layout, preparation.formats, format)
        paths = tuple(split_entries.find_file(layout, shard, format) for shard in shards)
        labels = split_entries.read_labels(layout, content)
        ids, rows = [], []
        for number, shard in enumerate(shards):
            for clip_id, row in split_entries.read_entries(layout, shard, format, labels):
                ids.append(clip_id)
                rows.append((number, *row))
        return cls(
            folder=Path(folder),
            split=split,
            format=format,
            labels=labels.labels,
            digest=content["digest"],
            fps=preparation.fps,
            short_side=preparation.short_side,
            quantizer=preparation.quantizer,
            bound_px=preparation.bound_px,
            paths=paths,
            ids=tuple(ids),
            table=np.array(rows, COLUMNS),
        )

    @property
    def class_ids(self) -> np.ndarray:
        """int32 [clips]; `UNLABELLED` where there is no label."""
        return self.table["class_id"].astype(np.int32)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> StoredClip:
        shard, offset_or_row, record_bytes, *rest = self.table[number].tolist()
        return StoredClip(self.paths[shard], offset_or_row, record_bytes, self.ids[number], *rest)

    def __iter__(self) -> Iterator[StoredClip]:
        return map(self.__getitem__, range(len(self)))

    def __repr__(self) -> str:
        return (
            f"ClipIndex({str(self.folder)!r}, {self.split!r}, {self.format!r}: {len(self)} clips, "
            f"{len(self.labels)} labels)"
        )

    def record(self, number: int) -> Record:
        """Reads one whole clip: its features, with every frame and flow image still encoded.

        Args:
          number: of the clip, from 0.

        Raises:
          CorruptShard: if the record cannot be read, a checksum is wrong, or it contradicts the index.
          IndexError: if there is no such clip.
        """
        clip = self[number]
        try:
            record = CLIP_READERS[self.format].read_record(clip)
            self.check(clip, record.features, {stream: len(record.images(name)) for stream, name in IMAGES.items()})
        except CorruptShard as error:
            raise CorruptShard(f"{clip.path}, {clip.clip_id}: {error}") from None
        return record

    def check(self, clip: StoredClip, context: Mapping[str, object], frames: Mapping[str, int]) -> None:
        """Compares a record with the index.

        Args:
          context: the record's features of `record_part.CONTEXT`, as far as it has them; others are ignored.
          frames: stream -> number of images in the record.

        Raises:
          CorruptShard: if they differ.
        """
        expected = {
            "example/id": clip.clip_id,
            "clip/label/index": None if clip.class_id == UNLABELLED else clip.class_id,
            "kinetics_prep/recipe": self.digest,
            "kinetics_prep/quantizer": self.quantizer,
            "kinetics_prep/bound_px": float(np.float32(self.bound_px)),
        }
        for name, value in expected.items():
            if context.get(name) != value:
                raise CorruptShard(f"its {name} is {context.get(name)!r}, the data set says {value!r}")
        for stream, count in frames.items():
            if count != clip.frames:
                raise CorruptShard(f"it holds {count} {stream} images, the ledger says {clip.frames}")
