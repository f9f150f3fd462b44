"""Annotation rows -> planned rows: each row's place in the output, or the reason why it gets no clip.

Rows are sorted by the sha256 of their clip id, which shuffles classes and keeps the order free of
the machine, and dealt into shards of a fixed number of clips. A clip's place in the output is
decided here and nowhere else; `dataset/plan.py` keeps it on disk.
"""

import dataclasses
import difflib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from kinetics_prep.annotations.annotation import Annotation, LabelMap
from kinetics_prep.annotations.row_store import RowStore, SortedRows
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import BadAnnotations, BadOption, ClipError, DuplicateRow


@dataclasses.dataclass(frozen=True)
class PlannedRow:
    """An annotation row to be prepared, and its place; the meaning of each field stands in `schemas/plan.json`."""

    shard: int
    index: int
    clip_id: str
    media_id: str
    label: str | None
    label_index: int | None
    split: str
    start_seconds: float
    end_seconds: float | None
    annotation_file: str
    annotation_line: int

    @property
    def annotation(self) -> Annotation:
        """The annotation that the row repeats."""
        return Annotation(self.media_id, self.start_seconds, self.end_seconds, self.split, self.label)


@dataclasses.dataclass(frozen=True)
class RefusedRow:
    """An annotation row refused for what the annotations say, and its place; it gets a ledger row and no clip."""

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
    refusal_reason: str
    refusal_message: str


PlanRow = PlannedRow | RefusedRow


def annotation_columns(row: PlanRow) -> dict[str, Any]:
    """The columns that every ledger repeats of an annotation row."""
    names = ("clip_id", "media_id", "label", "split", "start_seconds", "end_seconds")
    return {name: getattr(row, name) for name in (*names, "annotation_file", "annotation_line")}


def select(rows: RowStore, split: str, only: tuple[str, ...] = (), strays: bool = True) -> SortedRows:
    """The rows of one split, and of the labels in `only` if there are any, in the order of a plan.

    Rows that cannot be read are kept whatever the labels, and with `strays` also those whose split
    cannot be read.

    Raises:
      BadAnnotations: if the split has no row.
      BadOption: if no row has a label of `only`.
    """
    if not rows.holds(split):
        splits = ", ".join(sorted(rows.splits())) or "none"
        raise BadAnnotations(f"no readable row of split {split!r}; the annotations hold {splits}")
    labels = rows.labels() if only else set()
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
        shard, index = divmod(position, clips_per_shard)
        yield _plan_row(shard, index, row, error, split, labels)


def _judged(rows: Iterable[Row], labels: LabelMap) -> Iterator[tuple[Row, ClipError | None]]:
    """Each row, and the reason to refuse it."""
    first: Row | None = None
    for row in rows:
        if first is None or row.clip_id != first.clip_id:  # in this order a clip's rows stand together
            first = row
            yield row, row.error if isinstance(row, UnreadableRow) else _unknown_label(row, labels)
        else:
            yield row, row.error if isinstance(row, UnreadableRow) else _duplicate(row, first)


def _duplicate(row: ReadableRow, first: Row) -> DuplicateRow:
    return DuplicateRow(f"{row.file}:{row.line}: the same video and times stand in {first.file}:{first.line}")


def _unknown_label(row: ReadableRow, labels: LabelMap) -> ClipError | None:
    try:
        if row.annotation.label is not None:
            labels.index(row.annotation.label)
    except ClipError as error:
        return type(error)(f"{row.file}:{row.line}: {error}")
    return None


def _plan_row(shard: int, index: int, row: Row, error: ClipError | None, split: str, labels: LabelMap) -> PlanRow:
    if isinstance(row, UnreadableRow):
        reason, message = row.error.reason, str(row.error)
        return RefusedRow(
            shard, index, row.clip_id, None, None, None, split, None, None, row.file, row.line, reason, message
        )
    annotation, label = row.annotation, row.annotation.label
    planned = PlannedRow(
        shard=shard,
        index=index,
        clip_id=row.clip_id,
        media_id=annotation.media_id,
        label=label,
        label_index=labels.index(label) if label is not None and label in labels else None,
        split=split,
        start_seconds=annotation.start_seconds,
        end_seconds=annotation.end_seconds,
        annotation_file=row.file,
        annotation_line=row.line,
    )
    if error is None:
        return planned
    return RefusedRow(**vars(planned), refusal_reason=error.reason, refusal_message=str(error))
