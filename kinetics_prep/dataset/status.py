"""How far a folder is, finished or not; what it lost, by reason and class; how it compares with what was published."""

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations import published
from kinetics_prep.annotations.published import PublishedDataset
from kinetics_prep.dataset import ledger, plan, shards
from kinetics_prep.dataset.shards import Layout
from kinetics_prep.errors import CorruptShard
from kinetics_prep.storage import tables


@dataclasses.dataclass
class SplitStatus:
    """One split of a folder."""

    split: str
    rows: int
    written: int = 0
    refused: int = 0
    reasons: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    """Of the refused rows, those of complete shards."""
    rows_of: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    """Rows by label, where there are labels."""
    lost_of: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    """Refused rows of complete shards, by label."""
    published: list[PublishedDataset] = dataclasses.field(default_factory=list)
    """What it may be a copy of."""

    @property
    def to_go(self) -> int:
        return self.rows - self.written - self.refused

    def worst(self, most: int) -> list[tuple[str, int, int]]:
        """(label, rows lost, rows) of the classes that lost the largest share, the largest first."""
        shares = [(-lost / self.rows_of[label], label) for label, lost in self.lost_of.items()]
        return [(label, self.lost_of[label], self.rows_of[label]) for _, label in sorted(shares)[:most]]


def examine(output: Path) -> list[SplitStatus]:
    """What is known of each split that a folder has a plan for.

    Raises:
      CorruptShard: if it has none, or something in it cannot be read.
    """
    layout = Layout(output.absolute())
    splits = [split for split, refresh in shards.parts(layout) if not refresh]
    if not splits:
        raise CorruptShard(f"{output} holds no plan: nothing was begun here")
    statuses = [_examined(layout, split) for split in splits]
    known = set().union(*(one.rows_of for one in statuses))
    for one in statuses:
        # A test list may come without labels; then those of the folder's other splits tell.
        one.published = published.find_candidates(one.rows_of or known, one.split, one.rows)
    return statuses


def _examined(layout: Layout, split: str) -> SplitStatus:
    found = SplitStatus(split, 0)
    for row in plan.read(layout.plan(split)):
        found.rows += 1
        if row.label is not None:
            found.rows_of[row.label] += 1
    for part in (shards.part_name(*one) for one in shards.parts(layout) if one[0] == split):
        _count_part(found, layout, part)
    return found


def _count_part(found: SplitStatus, layout: Layout, part: str) -> None:
    last = max((row.shard for row in plan.read(layout.plan(part))), default=-1)
    for shard in range(last + 1):
        name = shards.shard_name(part, shard, last + 1)
        if layout.marker(name).exists():
            for row in tables.read(layout.ledger(name), "ledger"):
                _count(found, row)
        else:
            counts = shards.objects_committed(layout, part, shard)
            found.written += counts[ledger.WRITTEN]
            found.refused += counts[ledger.REFUSED]


def _count(found: SplitStatus, row: dict) -> None:
    if row["status"] == ledger.WRITTEN:
        found.written += 1
        return
    found.refused += 1
    found.reasons[row["reason"]] += 1
    if row["label"] is not None:
        found.lost_of[row["label"]] += 1


def in_words(statuses: list[SplitStatus], retryable: tuple[str, ...], worst: int = 5) -> Iterator[str]:
    """The lines to print."""
    for one in statuses:
        share = one.written / one.rows if one.rows else 0.0
        written = f"{one.written} written ({share:.1%})"
        yield f"{one.split}: {one.rows} rows, {written}, {one.refused} refused, {one.to_go} to go"
        if one.published:
            yield _compared(one)
        for reason, count in one.reasons.most_common():
            again = f"  to try again: --retry {reason}" if reason in retryable else ""
            yield f"  {count:7d}  {reason}{again}"
        unnamed = one.refused - one.reasons.total()
        if unnamed:
            yield f"  {unnamed:7d}  in shards that are not complete yet"
        for label, lost, rows in one.worst(worst):
            yield f"  lost {lost} of {rows}: {label}"


def _compared(one: SplitStatus) -> str:
    sizes = [data_set.splits[one.split] for data_set in one.published]
    names = (f"{data_set.name} {one.split}, {size:,} rows" for data_set, size in zip(one.published, sizes, strict=True))
    shares = " or ".join(f"{one.written / size:.1%}" for size in sizes)
    return f"  published: {', or '.join(names)}; written here {one.written:,} ({shares}), planned {one.rows:,}"
