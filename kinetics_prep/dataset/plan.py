"""Annotation rows -> immutable shard plan.

Rows are sorted by the sha256 of their clip id, which shuffles classes and keeps the order free of
the machine, and dealt into shards of a fixed number of clips. Once written a plan never changes;
a clip's place in the output is decided here and nowhere else.
"""

import dataclasses
import difflib
import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetics_prep.annotations.annotation import Annotation, LabelMap
from kinetics_prep.annotations.formats import Row
from kinetics_prep.annotations.row_store import Selected, Spool
from kinetics_prep.errors import BadAnnotations, BadOption, ClipError, DuplicateRow
from kinetics_prep.storage import tables

ROW_GROUPS = 1024
"""Of a plan, at most: what Parquet notes of each stays in memory while the plan is written or read."""


@dataclasses.dataclass(frozen=True)
class PlanRow:
    """One annotation row and its place; the meaning of each field stands in `schemas/plan.json`."""

    shard: int
    index: int
    clip_id: str
    media_id: str | None
    label: str | None
    label_index: int | None
    split: str
    start_seconds: float | None
    end_seconds: float | None
    annotation_file: str
    annotation_line: int
    refusal_reason: str | None = None
    refusal_message: str | None = None

    def told(self) -> dict:
        """What ledgers repeat of the annotation row."""
        names = ("clip_id", "media_id", "label", "split", "start_seconds", "end_seconds")
        return {name: getattr(self, name) for name in (*names, "annotation_file", "annotation_line")}

    @property
    def annotation(self) -> Annotation:
        """The annotation of a row that is not refused already."""
        return Annotation(self.media_id, self.start_seconds, self.end_seconds, self.split, self.label)


def select(rows: Spool, split: str, only: tuple[str, ...] = (), strays: bool = True) -> Selected:
    """The rows of one split, and of the labels in `only` if there are any, in the order of a plan.

    Rows that cannot be read are kept whatever the labels, and with `strays` also those whose split
    cannot be read.

    Raises:
      BadAnnotations: if the split has no row.
      BadOption: if no row bears a label of `only`.
    """
    if not rows.holds(split):
        found = ", ".join(sorted(rows.splits())) or "none"
        raise BadAnnotations(f"no readable row of split {split!r}; the annotations hold {found}")
    labels = rows.labels() if only else ()
    for label in only:
        if label not in labels:
            close = difflib.get_close_matches(label, labels, 3) or sorted(labels)[:3]
            raise BadOption(f"--only {label!r}: no row bears this label; there are {', '.join(map(repr, close))}")
    return rows.by_clip(split, only, strays)


def arrange(
    rows: Iterable[Row], split: str, labels: LabelMap, clips_per_shard: int, limit: int | None = None
) -> Iterator[PlanRow]:
    """The plan of one split, in shard order.

    Args:
      rows: in the order of a plan, as `select` gives them.
      limit: takes the first so many of that order, which is a fair sample of the classes.
    """
    for position, (row, error) in enumerate(itertools.islice(_judged(rows, labels), limit)):
        yield _plan_row(*divmod(position, clips_per_shard), row, error, split, labels)


def _judged(rows: Iterable[Row], labels: LabelMap) -> Iterator[tuple[Row, ClipError | None]]:
    first, first_id = None, None
    for row in rows:
        if (clip_id := row.clip_id) != first_id:  # in this order a clip's rows stand together
            first, first_id = row, clip_id
            yield row, row.error or _unusable(row, labels)
        else:
            yield row, row.error or _duplicate(row, first)


def _duplicate(row: Row, first: Row) -> DuplicateRow:
    return DuplicateRow(f"{row.file}:{row.line}: the same video and times stand in {first.file}:{first.line}")


def _unusable(row: Row, labels: LabelMap) -> ClipError | None:
    try:
        if row.annotation.label is not None:
            labels.index(row.annotation.label)
    except ClipError as error:
        return type(error)(f"{row.file}:{row.line}: {error}")
    return None


def _plan_row(shard, index, row: Row, error: ClipError | None, split: str, labels: LabelMap) -> PlanRow:
    annotation = row.annotation
    label = annotation.label if annotation else None
    return PlanRow(
        shard=shard,
        index=index,
        clip_id=row.clip_id,
        media_id=annotation.media_id if annotation else None,
        label=label,
        label_index=labels.index(label) if label in labels else None,
        split=split,
        start_seconds=annotation.start_seconds if annotation else None,
        end_seconds=annotation.end_seconds if annotation else None,
        annotation_file=row.file,
        annotation_line=row.line,
        refusal_reason=error.reason if error else None,
        refusal_message=str(error) if error else None,
    )


def write(path: Path, rows: Iterable[PlanRow], shards: int = 1) -> None:
    """Writes a plan, with whole shards in a row group, so that a worker reads no more than it must.

    Args:
      shards: how many there are; up to `ROW_GROUPS`, each has a row group of its own.
    """
    together = max(1, math.ceil(shards / ROW_GROUPS))
    groups = itertools.groupby(rows, key=lambda row: row.shard // together)
    tables.write(path, "plan", ([vars(row) for row in group] for _, group in groups))


def read(path: Path, shard: int | None = None) -> Iterator[PlanRow]:
    """Reads a plan, or one shard of it, back."""
    if shard is None:
        return (PlanRow(**row) for row in tables.read(path, "plan"))
    group = shard // (tables.highest(path, "shard", 0) + 1)
    return (PlanRow(**row) for row in tables.read(path, "plan", group) if row["shard"] == shard)
