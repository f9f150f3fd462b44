"""The plan of a split on disk: which row goes into which shard. Once written it never changes."""

import collections
import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetics_prep.annotations.planned import PlannedRow, PlanRow, RefusedRow
from kinetics_prep.dataset.state import PlanEntry
from kinetics_prep.errors import CorruptShard, OtherRecipe
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import sha256_of
from kinetics_prep.storage.store import Store

ROW_GROUPS = 1024
"""Of a plan, at most: what Parquet notes of each stays in memory while the plan is written or read."""


_SAME_FLAGS = (
    "use the same --annotations, --split, --only, --ids, --limit, --labels and --dataset to go on, or another --output"
)


def write(store: Store, key: str, rows: Iterable[PlanRow], shards: int = 1) -> PlanEntry:
    """Writes a plan, with whole shards in a row group, so that a worker reads no more than it must.

    Args:
      shards: how many there are; up to `ROW_GROUPS`, each has a row group of its own.
    """
    digest = PlanDigest()
    with store.temporary("plan.parquet") as path:
        _write_file(path, digest.watch(rows), shards)
        file_sha256 = sha256_of(path)
        store.put(key, path)
    return PlanEntry(digest.rows, digest.sha256(), file_sha256)


def write_anew(store: Store, key: str, rows: Iterable[PlanRow], shards: int, before: PlanEntry | None) -> PlanEntry:
    """Writes a plan; one that was there and was lost comes back with the same rows.

    Args:
      before: what was recorded of it; None if it is new.

    Raises:
      OtherRecipe: if it had other rows; nothing is written then.
    """
    if before is not None:
        rows, digest = list(rows), PlanDigest()
        collections.deque(digest.watch(rows), maxlen=0)
        if digest.sha256() != before.sha256:
            raise OtherRecipe(
                f"{store.place}/{key} is damaged or missing, and planned other rows: {before.rows} there, {len(rows)} "
                f"here. {_SAME_FLAGS}"
            )
    return write(store, key, rows, shards)


def is_whole(store: Store, key: str, entry: PlanEntry) -> bool:
    """Whether a plan is as it was written."""
    try:
        with store.local(key) as path:
            return sha256_of(path) == entry.file_sha256
    except (FileNotFoundError, NotADirectoryError):
        return False


def _write_file(path: Path, rows: Iterable[PlanRow], shards: int) -> None:
    together = max(1, math.ceil(shards / ROW_GROUPS))
    groups = itertools.groupby(rows, key=lambda row: row.shard // together)
    tables.write(path, "plan", ([columns(row) for row in group] for _, group in groups))


def read(store: Store, key: str, shard: int | None = None) -> Iterator[PlanRow]:
    """Reads a plan, or one shard of it, back.

    Raises:
      CorruptShard: if the file is missing or damaged.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    try:
        with store.local(key) as path:
            if shard is None:
                yield from map(_plan_row, tables.read(path, "plan"))
            else:
                group = shard // _shards_in_a_group(path)
                yield from (_plan_row(row) for row in tables.read(path, "plan", group) if row["shard"] == shard)
    except FileNotFoundError:
        raise CorruptShard(f"{store.place}/{key} is missing") from None


def _shards_in_a_group(path: Path) -> int:
    with tables.opened(path, "plan"):  # so that the column is there, of the type that it should have
        highest = tables.highest(path, "shard", 0)
    if highest < 0:
        raise CorruptShard(f"{path} says shard {highest}, expected a number from 0")
    return highest + 1


def columns(row: PlanRow) -> dict[str, object]:
    """A row as `schemas/plan.json` lists its columns, in that order."""
    if isinstance(row, RefusedRow):
        return dict(vars(row))
    return {**vars(row), "refusal_reason": None, "refusal_message": None}


def _plan_row(cells: dict) -> PlanRow:
    if cells["refusal_reason"] is not None:
        return RefusedRow(**{name: cells[name] for name in _REFUSED_NAMES})
    return PlannedRow(**{name: cells[name] for name in _PLANNED_NAMES})


_PLANNED_NAMES = tuple(field.name for field in dataclasses.fields(PlannedRow))
_REFUSED_NAMES = tuple(field.name for field in dataclasses.fields(RefusedRow))


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


def entry_of(store: Store, key: str) -> PlanEntry:
    """What state.json says of a plan on disk.

    Raises:
      CorruptShard: if the file is missing or damaged.
    """
    digest = PlanDigest()
    collections.deque(digest.watch(read(store, key)), maxlen=0)
    with store.local(key) as path:
        return PlanEntry(digest.rows, digest.sha256(), sha256_of(path))


def check_same(store: Store, key: str, rows: Iterable[PlanRow]) -> None:
    """Checks that the plan on disk holds the same rows.

    Raises:
      OtherRecipe: if it holds others.
      CorruptShard: if it is missing or damaged.
    """
    there, here = PlanDigest(), PlanDigest()
    first_there, first_here = _first_difference(there.watch(read(store, key)), here.watch(rows))
    if there.sha256() != here.sha256():
        raise OtherRecipe(
            f"{store.place}/{key} plans other rows: {there.rows} there, {here.rows} here; the first to differ is "
            f"{first_there} there and {first_here} here. A plan never changes: {_SAME_FLAGS}"
        )


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
