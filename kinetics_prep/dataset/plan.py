"""The plan of a split on disk: which row goes into which shard. Once written it never changes."""

import collections
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetics_prep.annotations.planned import PlannedRow, PlanRow, RefusedRow
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.errors import OtherRecipe
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import atomic_write

ROW_GROUPS = 1024
"""Of a plan, at most: what Parquet notes of each stays in memory while the plan is written or read."""


def write(path: Path, rows: Iterable[PlanRow], shards: int = 1) -> None:
    """Writes a plan, with whole shards in a row group, so that a worker reads no more than it must.

    Args:
      shards: how many there are; up to `ROW_GROUPS`, each has a row group of its own.
    """
    together = max(1, math.ceil(shards / ROW_GROUPS))
    groups = itertools.groupby(rows, key=lambda row: row.shard // together)
    tables.write(path, "plan", ([columns(row) for row in group] for _, group in groups))


def read(path: Path, shard: int | None = None) -> Iterator[PlanRow]:
    """Reads a plan, or one shard of it, back.

    Raises:
      CorruptShard: if the file is damaged.
    """
    if shard is None:
        return map(_plan_row, tables.read(path, "plan"))
    group = shard // (tables.highest(path, "shard", 0) + 1)
    return (_plan_row(row) for row in tables.read(path, "plan", group) if row["shard"] == shard)


def columns(row: PlanRow) -> dict[str, object]:
    """A row as `schemas/plan.json` lists its columns, in that order."""
    if isinstance(row, RefusedRow):
        return dict(vars(row))
    return {**vars(row), "refusal_reason": None, "refusal_message": None}


def _plan_row(cells: dict) -> PlanRow:
    if cells["refusal_reason"] is not None:
        return RefusedRow(**cells)
    del cells["refusal_reason"], cells["refusal_message"]
    return PlannedRow(**cells)


class PlanDigest:
    """Digest of a plan's content, the same whatever version of Parquet holds it.

    A renamed annotation file changes it only where a row cannot be read: its clip id is made from the file's name.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sha256 = hashlib.sha256()

    def watch(self, rows: Iterable[PlanRow]) -> Iterator[PlanRow]:
        """The same rows, each taken into the digest as it passes."""
        for row in rows:
            content = columns(row) | {"annotation_file": None, "refusal_message": None}
            self._sha256.update(json.dumps(content).encode() + b"\n")
            self.rows += 1
            yield row

    def sha256(self) -> str:
        """Hex sha256 of the rows that have passed."""
        return self._sha256.hexdigest()


def digest_of(path: Path) -> PlanDigest:
    """The digest of a plan on disk.

    Raises:
      CorruptShard: if the file is damaged.
    """
    digest = PlanDigest()
    collections.deque(digest.watch(read(path)), maxlen=0)
    return digest


def write_or_check(layout: Layout, split: str, rows: Iterable[PlanRow], shards: int) -> PlanDigest:
    """Writes the plan of a split, or checks that the one that is there holds the same rows.

    Args:
      shards: how many the plan has.

    Raises:
      OtherRecipe: if the folder holds another plan of this split.
      CorruptShard: if that plan is damaged.
    """
    path, here = layout.plan(split), PlanDigest()
    if not path.exists():
        with atomic_write(path, layout.scratch) as temporary:
            write(temporary, here.watch(rows), shards)
        return here
    there = PlanDigest()
    first_there, first_here = _first_difference(there.watch(read(path)), here.watch(rows))
    if there.sha256() != here.sha256():
        raise OtherRecipe(
            f"{path} plans other rows: {there.rows} there, {here.rows} here; the first to differ is {first_there} "
            f"there and {first_here} here. A plan never changes: use the same --annotations, --split, --ids, --only, "
            "--limit, --dataset and --labels to go on, or another --output"
        )
    return here


def _first_difference(there: Iterable[PlanRow], here: Iterable[PlanRow]) -> tuple[str, str]:
    """Goes through both plans to their ends; describes the first two rows whose descriptions differ."""
    difference = None
    for one, other in itertools.zip_longest(there, here):
        if difference is None and one != other and _describe(one) != _describe(other):
            difference = _describe(one), _describe(other)
    return difference or ("one", "another of its name")


def _describe(row: PlanRow | None) -> str:
    if row is None:
        return "nothing"
    return f"{row.clip_id} (line {row.annotation_line}, label {row.label!r}, class id {row.label_index})"
