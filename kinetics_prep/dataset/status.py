"""How far a folder is, finished or not; what it lost, by reason and class; how it compares with what was published."""

import collections
import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations import published
from kinetics_prep.annotations.published import PublishedDataset
from kinetics_prep.dataset import layout, ledger, plan, recipe_file
from kinetics_prep.dataset.door import open_for_reading
from kinetics_prep.dataset.markers import committed_shards
from kinetics_prep.dataset.objects import list_objects, read_ledger_row
from kinetics_prep.dataset.part import Part, found_later, list_parts
from kinetics_prep.errors import RETRYABLE, CorruptShard
from kinetics_prep.storage.store import Store


def _counter() -> collections.Counter[str]:
    return collections.Counter()


@dataclasses.dataclass
class SplitStatus:
    """One split of a folder."""

    split: str
    rows: int = 0
    written: int = 0
    refused: int = 0
    reasons: collections.Counter[str] = dataclasses.field(default_factory=_counter)
    """Refused rows of complete shards, by reason."""
    rows_of: collections.Counter[str] = dataclasses.field(default_factory=_counter)
    """Rows by label, where there are labels."""
    lost_of: collections.Counter[str] = dataclasses.field(default_factory=_counter)
    """Refused rows of complete shards, by label."""
    published: list[PublishedDataset] = dataclasses.field(default_factory=list)
    """What it may be a copy of."""

    @property
    def to_go(self) -> int:
        """Rows that are neither written nor refused yet."""
        return self.rows - self.written - self.refused

    def worst(self, most: int) -> list[tuple[str, int, int]]:
        """(label, rows lost, rows) of the classes that lost the largest share, the largest first."""
        shares = [(-lost / self.rows_of[label], label) for label, lost in self.lost_of.items()]
        return [(label, self.lost_of[label], self.rows_of[label]) for _, label in sorted(shares)[:most]]


def read_status(output: Path) -> list[SplitStatus]:
    """What is known of each split that a folder has a plan for.

    Raises:
      CorruptShard: if it has none, or something in it cannot be read.
    """
    store, state = open_for_reading(output)
    recipe = recipe_file.read(store)
    if recipe is None:
        raise CorruptShard(f"{output} holds no {layout.RECIPE}")
    statuses = {split: _planned(store, split) for split in state.splits}
    committed, counts = committed_shards(store), _count_objects(store, state.epoch)
    for part in list_parts(store, state, recipe):
        _add_part(statuses[part.split], part, committed, counts)
    labels = {label for status in statuses.values() for label in status.rows_of}
    for status in statuses.values():
        # A test list may come without labels; then those of the folder's other splits tell.
        status.published = published.find_candidates(status.rows_of or labels, status.split, status.rows)
    return list(statuses.values())


def _planned(store: Store, split: str) -> SplitStatus:
    status = SplitStatus(split)
    for row in plan.read(store, layout.plan_key(split)):
        status.rows += 1
        if row.label is not None:
            status.rows_of[row.label] += 1
    return status


def _count_objects(store: Store, epoch: int) -> dict[str, collections.Counter[str]]:
    """Objects by the prefix of their shard and by status, by one listing."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(_counter)
    for prefix, key in list_objects(store, epoch):
        with contextlib.suppress(FileNotFoundError, CorruptShard):  # taken into a shard meanwhile, or to be done again
            counts[prefix][read_ledger_row(store, key).status] += 1
    return counts


def _add_part(
    status: SplitStatus, part: Part, committed: frozenset[str], counts: dict[str, collections.Counter[str]]
) -> None:
    later = found_later(part)
    for shard in range(part.shards):
        name = part.shard_name(shard)
        if name in committed:
            columns = "clip_id", "status", "reason", "label"
            for row in ledger.read_columns(part.store, layout.ledger_key(name), *columns):
                # While a search is packed, a clip that it found may still be in the ledger that it leaves.
                if row["reason"] not in RETRYABLE or row["clip_id"] not in later:
                    _add_row(status, row["status"], row["reason"], row["label"])
        else:
            there = counts.get(part.objects_prefix(shard), _counter())
            status.written += there[ledger.WRITTEN]
            status.refused += there[ledger.REFUSED]


def _add_row(split: SplitStatus, status: str, reason: str, label: str | None) -> None:
    if status == ledger.WRITTEN:
        split.written += 1
        return
    split.refused += 1
    split.reasons[reason] += 1
    if label is not None:
        split.lost_of[label] += 1


def describe(statuses: list[SplitStatus], retryable: tuple[str, ...], worst: int = 5) -> Iterator[str]:
    """The lines to print.

    Args:
      retryable: reasons for which a retry may help.
      worst: how many classes to name that lost the most.
    """
    for status in statuses:
        share = status.written / status.rows if status.rows else 0.0
        written = f"{status.written} written ({share:.1%})"
        yield f"{status.split}: {status.rows} rows, {written}, {status.refused} refused, {status.to_go} to go"
        if status.published:
            yield _describe_published(status)
        for reason, count in status.reasons.most_common():
            again = f"  to try again: --retry {reason}" if reason in retryable else ""
            yield f"  {count:7d}  {reason}{again}"
        unnamed = status.refused - status.reasons.total()
        if unnamed:
            yield f"  {unnamed:7d}  in shards that are not complete yet"
        for label, lost, rows in status.worst(worst):
            yield f"  lost {lost} of {rows}: {label}"


def _describe_published(status: SplitStatus) -> str:
    pairs = [(data_set.name, data_set.splits[status.split]) for data_set in status.published]
    names = ", or ".join(f"{name} {status.split}, {rows:,} rows" for name, rows in pairs)
    shares = " or ".join(f"{status.written / rows:.1%}" for _, rows in pairs)
    return f"  published: {names}; written here {status.written:,} ({shares}), planned {status.rows:,}"
