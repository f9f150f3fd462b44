"""Finds in dataset.json and the ledgers where the clips of a split are stored, and checks that the two fit together."""

import dataclasses
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.dataset import labels as label_files
from kinetics_prep.dataset import ledger
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.errors import BadOption, CorruptShard, IncompleteShard, UnknownLabel
from kinetics_prep.media import quantize
from kinetics_prep.reading.stored_clip import UNLABELLED
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import sha256_of

_COLUMNS = ("clip_id", "label", "status", "frames", "height", "width")


@dataclasses.dataclass(frozen=True)
class Preparation:
    """The settings of a recipe that readers need."""

    fps: Fraction
    short_side: int
    quantizer: str
    bound_px: float
    formats: tuple[str, ...]
    """The known ones."""


def read_preparation(layout: Layout, recipe: dict) -> Preparation:
    """The settings in the recipe of dataset.json; those that readers do not need are ignored.

    Raises:
      CorruptShard: if a setting is missing or impossible.
    """
    try:
        formats = tuple(name for name in SHARD_FORMATS if name in recipe["formats"])
        short_side, bound_px = int(recipe["short_side"]), float(recipe["bound_px"])
        preparation = Preparation(Fraction(recipe["fps"]), short_side, str(recipe["quantizer"]), bound_px, formats)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise CorruptShard(f"{layout.manifest} does not hold the recipe: {error!r}") from None
    possible = preparation.fps > 0 and short_side > 0 and 0 < bound_px < math.inf
    if not possible or preparation.quantizer not in quantize.QUANTIZERS:
        raise CorruptShard(f"{layout.manifest} holds an impossible recipe: {preparation}")
    return preparation


def find_shards(layout: Layout, content: dict, split: str) -> list[dict]:
    """The entries in dataset.json of a split's shards that hold a clip.

    Args:
      content: of dataset.json.

    Raises:
      BadOption: if there is no such split, or every row of it was refused.
      IncompleteShard: if the split is not finished.
    """
    splits = content["splits"]
    if split not in splits:
        if layout.plan(split).exists():
            raise IncompleteShard(
                f"split {split} of {layout.output} is not finished; give its `kinetics-prep flow` command once more"
            )
        raise BadOption(f"{layout.output} holds no split {split!r}, only {', '.join(splits) or 'none'}")
    shards = [shard for shard in splits[split]["shards"] if shard["written"]]
    if not shards:
        raise BadOption(f"split {split} of {layout.output} holds no clip: every row was refused; see its ledger")
    return shards


def choose_format(layout: Layout, available: tuple[str, ...], requested: str | None) -> str:
    """The format to read: the requested one, or the first of those that the folder holds.

    Raises:
      BadOption: if the folder does not hold it.
    """
    if not available or (requested is not None and requested not in available):
        raise BadOption(
            f"{layout.output} was prepared as {', '.join(available) or 'no known format'}, not as {requested}; read "
            "that, or prepare another folder with --format"
        )
    return requested or available[0]


def find_file(layout: Layout, shard: dict, format: str) -> Path:
    """The file of a shard, which has the size that dataset.json says.

    Raises:
      IncompleteShard: if the file cannot be read.
      CorruptShard: if it has another size, or dataset.json does not describe it.
    """
    described = shard["files"].get(format)
    if described is None or len(described.get("offsets", ())) != shard["written"]:
        raise CorruptShard(f"{layout.manifest} does not say where {format} holds the clips of {shard['ledger']}")
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


def read_labels(layout: Layout, content: dict) -> LabelMap:
    """The folder's label map.

    Raises:
      CorruptShard: if labels.txt cannot be read, or is not the file that dataset.json was made with.
    """
    labels = label_files.read_labels(layout.store)
    if sha256_of(layout.labels) != content["labels"]["sha256"]:
        raise CorruptShard(f"{layout.labels} is not the file that dataset.json was made with; class ids may be wrong")
    return labels


def read_entries(layout: Layout, shard: dict, format: str, labels: LabelMap) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields (clip id, (offset or row, bytes of the record, class id, frames, height, width)) of each clip of a shard.

    Raises:
      CorruptShard: if the ledger cannot be read, or does not fit dataset.json or labels.txt.
    """
    path, described = layout.output / shard["ledger"], shard["files"][format]
    offsets = described["offsets"]
    ends = [*offsets[1:], described["bytes"]] if format == "tfrecord" else offsets
    written = [row for row in tables.read(path, "ledger", columns=_COLUMNS) if row["status"] == ledger.WRITTEN]
    if len(written) != len(offsets):
        raise CorruptShard(f"{path} has {len(written)} rows written, dataset.json says {len(offsets)}")
    for row, begin, end in zip(written, offsets, ends):
        size = row["frames"], row["height"], row["width"]
        if None in size or not begin <= end <= described["bytes"]:
            raise CorruptShard(f"{path} does not say how large {row['clip_id']} is, or dataset.json where it is stored")
        yield row["clip_id"], (begin, end - begin, _class_id(row["label"], labels, path), *size)


def _class_id(label: str | None, labels: LabelMap, path: Path) -> int:
    try:
        return UNLABELLED if label is None else labels.index(label)
    except UnknownLabel as error:
        raise CorruptShard(f"{path}: {error}") from None
