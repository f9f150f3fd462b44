"""Annotation rows -> planned rows: each row's place in the output, or the reason why it is refused.

Rows are sorted by the sha256 of their clip id, which shuffles the classes and gives the same order on every machine.
Then they are dealt into shards of a fixed number of clips. A clip's place in the output is decided here and nowhere
else; `dataset/plan.py` keeps it on disk.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import ClipError, DuplicateRow, UnknownLabel


@dataclasses.dataclass(frozen=True)
class PlannedRow:
    """An annotation row to be prepared, and its place; `schemas/plan.json` gives the meaning of each field."""

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
        """The annotation that the row was made from."""
        return Annotation(self.media_id, self.start_seconds, self.end_seconds, self.split, self.label)


@dataclasses.dataclass(frozen=True)
class RefusedRow:
    """An annotation row refused while planning, and its place; it gets a row in the ledger and no clip.

    What is None cannot be read, or is missing from the label map.
    """

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
    """The columns of a planned row that every ledger repeats."""
    names = ("clip_id", "media_id", "label", "split", "start_seconds", "end_seconds")
    return {name: getattr(row, name) for name in (*names, "annotation_file", "annotation_line")}


def arrange(
    rows: Iterable[Row], split: str, labels: LabelMap, clips_per_shard: int, limit: int | None = None
) -> Iterator[PlanRow]:
    """Yields the plan of one split, in the order of shards.

    Args:
      rows: in the order of a plan, as `RowStore.by_clip` returns them.
      split: becomes the split of rows whose own split cannot be read.
      labels: gives the class ids; rows whose label is missing are refused.
      limit: takes only the first rows of that order, which is a fair sample of the classes.
    """
    first: ReadableRow | None = None
    for position, row in enumerate(itertools.islice(rows, limit)):
        shard, index = divmod(position, clips_per_shard)
        if isinstance(row, UnreadableRow):
            yield _refuse_unreadable(row, shard, index, split)
        elif first is not None and row.clip_id == first.clip_id:  # in this order the rows of a clip follow each other
            yield _refuse(_plan(row, shard, index, labels), _duplicate(row, first))
        else:
            first = row
            planned, error = _plan(row, shard, index, labels), _unknown_label(row, labels)
            yield planned if error is None else _refuse(planned, error)


def _plan(row: ReadableRow, shard: int, index: int, labels: LabelMap) -> PlannedRow:
    annotation, label = row.annotation, row.annotation.label
    return PlannedRow(
        shard=shard,
        index=index,
        clip_id=row.clip_id,
        media_id=annotation.media_id,
        label=label,
        label_index=labels.index(label) if label is not None and label in labels else None,
        split=annotation.split,
        start_seconds=annotation.start_seconds,
        end_seconds=annotation.end_seconds,
        annotation_file=row.file,
        annotation_line=row.line,
    )


def _refuse(planned: PlannedRow, error: ClipError) -> RefusedRow:
    return RefusedRow(**vars(planned), refusal_reason=error.reason, refusal_message=str(error))


def _refuse_unreadable(row: UnreadableRow, shard: int, index: int, split: str) -> RefusedRow:
    return RefusedRow(
        shard=shard,
        index=index,
        clip_id=row.clip_id,
        media_id=None,
        label=None,
        label_index=None,
        split=split,
        start_seconds=None,
        end_seconds=None,
        annotation_file=row.file,
        annotation_line=row.line,
        refusal_reason=row.error.reason,
        refusal_message=str(row.error),
    )


def _unknown_label(row: ReadableRow, labels: LabelMap) -> UnknownLabel | None:
    try:
        if row.annotation.label is not None:
            labels.index(row.annotation.label)
    except UnknownLabel as error:
        return UnknownLabel(f"{row.file}:{row.line}: {error}")
    return None


def _duplicate(row: ReadableRow, first: ReadableRow) -> DuplicateRow:
    return DuplicateRow(f"{row.file}:{row.line}: the same video and times stand in {first.file}:{first.line}")
