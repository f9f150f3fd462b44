"""Annotation rows -> immutable shard plan.

Rows are sorted by the sha256 of their clip id, which shuffles classes and keeps the order free of
the machine, and dealt into shards of a fixed number of clips. Once written a plan never changes;
a clip's place in the output is decided here and nowhere else.
"""

import dataclasses
import difflib
import hashlib
import heapq
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetics_prep import tables
from kinetics_prep.annotations import Annotation, LabelMap
from kinetics_prep.datasets import Row
from kinetics_prep.errors import BadAnnotations, BadOption, ClipError, DuplicateRow


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

    @property
    def annotation(self) -> Annotation:
        """The annotation of a row that is not refused already."""
        return Annotation(self.media_id, self.start_seconds, self.end_seconds, self.split, self.label)


def select(rows: Iterable[Row], split: str, only: tuple[str, ...] = (), strays: bool = True) -> list[Row]:
    """The rows of one split, and of the labels in `only` if there are any.

    Rows that cannot be read are kept whatever the labels, and with `strays` also those whose split
    cannot be read.

    Raises:
      BadAnnotations: if the split has no row.
      BadOption: if no row bears a label of `only`.
    """
    rows = list(rows)
    chosen = [row for row in rows if row.split == split or (strays and row.error and row.split is None)]
    if not any(row.annotation for row in chosen):
        found = sorted({row.split for row in rows if row.split})
        raise BadAnnotations(f"no readable row of split {split!r}; the annotations hold {', '.join(found) or 'none'}")
    if not only:
        return chosen
    labels = {row.annotation.label for row in rows if row.annotation and row.annotation.label}
    for label in only:
        if label not in labels:
            close = difflib.get_close_matches(label, labels, 3) or sorted(labels)[:3]
            raise BadOption(f"--only {label!r}: no row bears this label; there are {', '.join(map(repr, close))}")
    return [row for row in chosen if row.error or row.annotation.label in only]


def arrange(
    rows: Iterable[Row], split: str, labels: LabelMap, clips_per_shard: int, limit: int | None = None
) -> Iterator[PlanRow]:
    """The plan of one split, in shard order. `limit` takes the first so many of that order, which
    is a fair sample of the classes."""
    judged = _judged(rows, labels)
    # Sorting is stable, so of a clip's duplicates the first one read stays the first.
    order = sorted(judged, key=_key) if limit is None else heapq.nsmallest(limit, judged, key=_key)
    for position, (row, error) in enumerate(order):
        yield _plan_row(*divmod(position, clips_per_shard), row, error, split, labels)


def _key(judged: tuple[Row, ClipError | None]) -> bytes:
    row, _ = judged
    return hashlib.sha256(_clip_id(row).encode()).digest()


def _judged(rows: Iterable[Row], labels: LabelMap) -> Iterator[tuple[Row, ClipError | None]]:
    firsts = {}
    for row in rows:
        yield row, row.error or _unusable(row, labels, firsts)


def _unusable(row: Row, labels: LabelMap, firsts: dict[str, Row]) -> ClipError | None:
    annotation, here = row.annotation, f"{row.file}:{row.line}"
    first = firsts.setdefault(annotation.clip_id, row)
    if first is not row:
        return DuplicateRow(f"{here}: the same video and times stand in {first.file}:{first.line}")
    try:
        if annotation.label is not None:
            labels.index(annotation.label)
    except ClipError as error:
        return type(error)(f"{here}: {error}")
    return None


def _clip_id(row: Row) -> str:
    return row.annotation.clip_id if row.annotation else f"{row.file}:{row.line}"


def _plan_row(shard, index, row: Row, error: ClipError | None, split: str, labels: LabelMap) -> PlanRow:
    annotation = row.annotation
    label = annotation.label if annotation else None
    return PlanRow(
        shard=shard,
        index=index,
        clip_id=_clip_id(row),
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


def write(path: Path, rows: Iterable[PlanRow]) -> None:
    """Writes a plan, one row group per shard, so that a worker reads only its own."""
    shards = itertools.groupby(rows, key=lambda row: row.shard)
    tables.write(path, "plan", ([dataclasses.asdict(row) for row in group] for _, group in shards))


def read(path: Path, shard: int | None = None) -> Iterator[PlanRow]:
    """Reads a plan, or one shard of it, back."""
    return (PlanRow(**row) for row in tables.read(path, "plan", shard))
