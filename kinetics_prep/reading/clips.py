"""The clips of a prepared split: where each stands, and of which class it is.

Made from the manifest and the ledgers, without reading a record. So that a record which says
something else is noticed, and so that a shuffle goes across all shards without a buffer: each clip
can be asked for alone, in any order.
"""

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.dataset import ledger, manifest
from kinetics_prep.dataset.shards import Layout
from kinetics_prep.errors import BadOption, CorruptShard, IncompleteShard, UnknownLabel
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import sha256_of

UNLABELLED = -1
"""Class id of a clip of a test set without labels."""

_COLUMNS = ("clip_id", "label", "status", "frames", "height", "width")


@dataclasses.dataclass(frozen=True)
class Clip:
    """One clip of a split."""

    path: Path
    """The shard that holds it."""
    place: int
    """Byte at which its record begins in a TFRecord file, row in a Parquet file."""
    bytes: int
    """Of its record in a TFRecord file, header and footer included; 0 in Parquet."""
    clip_id: str
    class_id: int
    frames: int
    height: int
    width: int


@dataclasses.dataclass(frozen=True, eq=False)
class Clips:
    """Every clip that was written of a split, those found by a refresh included, in the order of the shards."""

    folder: Path
    split: str
    format: str
    """A name of `SHARD_FORMATS`."""
    labels: tuple[str, ...]
    """In the order of their class ids."""
    digest: str
    """Of the recipe; each record bears it."""
    fps: Fraction
    short_side: int
    quantizer: str
    bound_px: float
    paths: tuple[Path, ...]
    """The shards."""
    ids: tuple[str, ...]
    """Of the clips."""
    table: np.ndarray
    """int64 [clips, 7]: number of the shard, place, bytes, class id, frames, height, width."""
    checked: set = dataclasses.field(default_factory=set, repr=False)
    """What was read and whole once: readers check sums at a process's first reading, as shards do not change."""

    @classmethod
    def open(cls, folder: Path, split: str, format: str | None = None) -> "Clips":
        """The clips of a split.

        Args:
          format: a name of `SHARD_FORMATS`; None for the one that the folder holds, TFRecord if it holds both.

        Raises:
          BadOption: if the folder does not hold that split or format.
          IncompleteShard: if the split is not finished, or shards are missing.
          CorruptShard: if the folder is none of ours, or does not say what it should.
        """
        layout = Layout(Path(folder))
        content = manifest.read(layout)
        shards = [shard for shard in _part(layout, content, split)["shards"] if shard["written"]]
        made = content["recipe"]
        format = _format(layout, made, format)
        if not shards:
            raise BadOption(f"split {split} of {folder} holds no clip: every row was refused; see its ledger")
        paths = tuple(_file(layout, shard, format) for shard in shards)
        labels = _labels(layout, content)
        ids, rows = [], []
        for number, shard in enumerate(shards):
            for clip_id, *row in _clips(layout, shard, format, labels):
                ids.append(clip_id)
                rows.append((number, *row))
        return cls(
            folder=Path(folder),
            split=split,
            format=format,
            labels=labels.labels,
            digest=content["digest"],
            fps=Fraction(made["fps"]),
            short_side=made["short_side"],
            quantizer=made["quantizer"],
            bound_px=made["bound_px"],
            paths=paths,
            ids=tuple(ids),
            table=np.array(rows, np.int64),
        )

    @property
    def class_ids(self) -> np.ndarray:
        """int32 [clips]; `UNLABELLED` where there is no label."""
        return self.table[:, 3].astype(np.int32)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, number: int) -> Clip:
        shard, place, size, *rest = self.table[number].tolist()
        return Clip(self.paths[shard], place, size, self.ids[number], *rest)

    def __repr__(self):
        return f"Clips({str(self.folder)!r}, {self.split!r}, {self.format!r}: {len(self)} of {len(self.labels)} labels)"


def _part(layout: Layout, content: dict, split: str) -> dict:
    parts = content["splits"]
    if split in parts:
        return parts[split]
    if layout.plan(split).exists():
        raise IncompleteShard(
            f"split {split} of {layout.output} is not finished; give its `kinetics-prep flow` command once more"
        )
    raise BadOption(f"{layout.output} holds no split {split!r}, only {', '.join(parts) or 'none'}")


def _format(layout: Layout, made: dict, wanted: str | None) -> str:
    there = [name for name in SHARD_FORMATS if name in made.get("formats", ())]
    if not there or (wanted is not None and wanted not in there):
        raise BadOption(
            f"{layout.output} was prepared as {', '.join(there) or 'nothing known here'}, not as {wanted}; read that, "
            "or prepare another folder with --format"
        )
    return wanted or there[0]


def _file(layout: Layout, shard: dict, format: str) -> Path:
    described = shard["files"].get(format)
    if described is None or len(described.get("offsets", ())) != shard["written"]:
        raise CorruptShard(f"{layout.manifest} does not say where the clips of {shard['ledger']} stand as {format}")
    path = layout.output / described["path"]
    try:
        size = path.stat().st_size
    except OSError as error:
        raise IncompleteShard(f"{path} cannot be read: {error.strerror}; copy the whole folder") from None
    if size != described["bytes"]:
        raise CorruptShard(
            f"{path} is {size} bytes long, expected {described['bytes']}; copy it once more, or see what else is wrong "
            f"with `kinetics-prep validate {layout.output}`"
        )
    return path


def _labels(layout: Layout, content: dict) -> LabelMap:
    labels = manifest.read_labels(layout)
    if sha256_of(layout.labels) != content["labels"]["sha256"]:
        raise CorruptShard(f"{layout.labels} is not the file that dataset.json knows; class ids may be wrong")
    return labels


def _clips(layout: Layout, shard: dict, format: str, labels: LabelMap) -> Iterator[tuple]:
    """(clip id, place, bytes, class id, frames, height, width) of each clip of a shard."""
    path, described = layout.output / shard["ledger"], shard["files"][format]
    offsets = described["offsets"]
    ends = [*offsets[1:], described["bytes"]] if format == "tfrecord" else offsets
    written = [row for row in tables.read(path, "ledger", columns=_COLUMNS) if row["status"] == ledger.WRITTEN]
    if len(written) != len(offsets):
        raise CorruptShard(f"{path} has {len(written)} rows written, dataset.json says {len(offsets)}")
    for row, place, end in zip(written, offsets, ends):
        if None in (row["frames"], row["height"], row["width"]) or end < place:
            raise CorruptShard(f"{path} does not say how large {row['clip_id']} is, or dataset.json where it stands")
        class_id = _class_id(row["label"], labels, path)
        yield row["clip_id"], place, end - place, class_id, row["frames"], row["height"], row["width"]


def _class_id(label: str | None, labels: LabelMap, path: Path) -> int:
    try:
        return UNLABELLED if label is None else labels.index(label)
    except UnknownLabel as error:
        raise CorruptShard(f"{path}: {error}") from None
