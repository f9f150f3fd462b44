"""Looks over annotation files before a run: what `flow` would refuse, and what somebody should know of.

with RowStore() as rows:
    files = selection.read_annotations(rows, ("k400_val.csv",), None, None)
    report = check.examine(files, rows)
"""

import bisect
import collections
import csv
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kinetics_prep.annotations.annotation import Annotation, LabelMap
from kinetics_prep.annotations.row_store import RowStore, VideoRows
from kinetics_prep.annotations.rows import ReadableRow, UnreadableRow
from kinetics_prep.annotations.selection import AnnotationFile
from kinetics_prep.errors import BadOption
from kinetics_prep.storage.files import atomic

EXAMPLES = 5
"""Of a finding, shown at most."""

USUAL_SECONDS = 10.0
"""Of a Kinetics clip."""

LATE_SECONDS = 3600.0
"""A start after that is seldom and more often a mistake in the unit."""

HEADER = ("label", "youtube_id", "time_start", "time_end", "split")


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something about a number of rows, ids or labels."""

    what: str
    count: int
    examples: tuple[str, ...]
    is_refused: bool = False
    """Whether `flow` refuses such rows."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What some annotation files hold."""

    files: tuple[str, ...]
    """Each in words: name, format, rows."""
    splits: dict[str, int]
    """Readable rows of each."""
    classes: int
    findings: tuple[Finding, ...]

    @property
    def refused_rows(self) -> int:
        return sum(finding.count for finding in self.findings if finding.is_refused)


def examine(files: Iterable[AnnotationFile], rows: RowStore, labels: LabelMap | None = None) -> Report:
    """Looks over files, those of one data set or of several.

    Args:
      rows: what the files hold.
      labels: the label map that the run will use; None for the labels of the files.
    """
    known = _corrector(labels)
    unreadable = _Tally("unreadable", lambda row: str(row.error), is_refused=True)
    duplicates = _Tally("duplicates: the same video and times", _clip, is_refused=True)
    of_firsts = [*_of_labels(known), *_of_times()]
    splits, classes, of_clips = collections.Counter(), set(), {}
    for row, is_duplicate in rows.as_read():
        if isinstance(row, UnreadableRow):
            unreadable.add(row)
            continue
        splits[row.split] += 1
        classes.add(row.annotation.label)
        if is_duplicate:
            duplicates.add(row)
            continue
        of_clips[row.annotation.label] = None  # a set that keeps its order
        for tally in of_firsts:
            tally.look_at(row)
    tallies = (unreadable, duplicates, *of_firsts, *_of_videos(rows))
    findings = [*(tally.finding() for tally in tallies), _alike(of_clips)]
    return Report(
        files=tuple(map(str, files)),
        splits=dict(splits),
        classes=len(classes - {None}),
        findings=tuple(finding for finding in findings if finding.count),
    )


def corrected(rows: RowStore, labels: LabelMap | None = None) -> Iterator[Annotation]:
    """Every clip once, under its label as the label map has it; what `flow` would still refuse is left out."""
    known = _corrector(labels)
    for row, is_duplicate in rows.as_read():
        if isinstance(row, UnreadableRow) or is_duplicate:
            continue
        label = row.annotation.label
        if label is None or known(label) is not None:
            yield dataclasses.replace(row.annotation, label=label and known(label))


def write_corrected(rows: RowStore, path: Path, labels: LabelMap | None = None) -> int:
    """Writes what is left of the annotations as a CSV file of Kinetics, and says how many rows those are.

    Raises:
      BadOption: if there are whole videos, for which such a file has no words.
    """
    labelled = any(one.label is not None for one in corrected(rows, labels))
    count = 0
    with atomic(path, path.parent) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER if labelled else HEADER[1:])
        for one in corrected(rows, labels):
            if one.end_seconds is None:
                words = "Kinetics' CSV says when a clip ends, and these are whole videos"
                raise BadOption(f"{path} is not written: {words}")
            cells = (one.media_id, f"{one.start_seconds:.10g}", f"{one.end_seconds:.10g}", one.split)
            writer.writerow((one.label or "", *cells) if labelled else cells)
            count += 1
    return count


def _corrector(labels: LabelMap | None):
    """A function from a label to what the map calls it, None if it has nothing like it."""
    if labels is None:
        return lambda label: label
    alike = collections.defaultdict(list)
    for label in labels.labels:
        alike[_bare(label)].append(label)

    def known(label: str | None) -> str | None:
        if label is None or label in labels:
            return label
        candidates = alike.get(_bare(label), [])
        return candidates[0] if len(candidates) == 1 else None

    return known


def _bare(label: str) -> str:
    """A label without what people change in one: case, spaces, underscores and other marks."""
    return re.sub(r"[\W_]+", "", label).casefold()


def _clip(row: ReadableRow) -> str:
    return f"{row.file}:{row.line}: {row.annotation.clip_id}"


def _label(row: ReadableRow) -> str:
    return f"{row.file}:{row.line}: {row.annotation.label!r}"


class _Tally:
    """A finding in the making: how many there are, and which come first."""

    def __init__(
        self,
        what: str,
        tell: Callable[[object], str],
        concerns: Callable[[object], bool] | None = None,
        order: Callable[[object], float] | None = None,
        is_refused: bool = False,
    ):
        self._what, self._tell, self._concerns, self._is_refused = what, tell, concerns, is_refused
        self._order = order or (lambda _: 0)
        self._count = 0
        self._examples = []

    def look_at(self, one: ReadableRow | UnreadableRow | VideoRows) -> None:
        if self._concerns(one):
            self.add(one)

    def add(self, one: ReadableRow | UnreadableRow | VideoRows) -> None:
        self._count += 1
        place = self._order(one)
        if len(self._examples) < EXAMPLES or place < self._examples[-1][0]:
            # To the right of its equals: of those the first that was read comes first.
            bisect.insort(self._examples, (place, one), key=lambda example: example[0])
            del self._examples[EXAMPLES:]

    def finding(self) -> Finding:
        examples = tuple(self._tell(one) for _, one in self._examples)
        return Finding(self._what, self._count, examples, self._is_refused)


def _of_labels(known: Callable[[str | None], str | None]) -> Iterator[_Tally]:
    def is_unknown(row: ReadableRow) -> bool:
        return row.annotation.label is not None and known(row.annotation.label) is None

    def is_changed(row: ReadableRow) -> bool:
        return known(row.annotation.label) not in (None, row.annotation.label)

    yield _Tally("labels that the label map has not", _label, is_unknown, is_refused=True)
    yield _Tally("labels that the label map writes otherwise", _label, is_changed, is_refused=True)
    yield _Tally("without a label", _clip, lambda row: row.annotation.label is None)


def _of_times() -> Iterator[_Tally]:
    def lasts(row: ReadableRow) -> float:
        """Seconds; those of a whole video are not known, and are taken for usual."""
        one = row.annotation
        return USUAL_SECONDS if one.end_us is None else (one.end_us - one.start_us) / 1e6

    def starts(row: ReadableRow) -> float:
        return 0.0 if row.annotation.end_us is None else row.annotation.start_seconds

    def is_broken(row: ReadableRow) -> bool:
        one = row.annotation
        return one.end_us is not None and bool(one.start_us % 1_000_000 or one.end_us % 1_000_000)

    usual, late = f"{USUAL_SECONDS:g} s", f"starts after {LATE_SECONDS:g} s"
    yield _Tally(f"shorter than {usual}", _clip, lambda row: lasts(row) < USUAL_SECONDS, lasts)
    yield _Tally(f"longer than {usual}", _clip, lambda row: lasts(row) > USUAL_SECONDS, lambda row: -lasts(row))
    yield _Tally(late, _clip, lambda row: starts(row) > LATE_SECONDS, lambda row: -starts(row))
    yield _Tally("times that are no whole seconds", _clip, is_broken)


def _of_videos(rows: RowStore) -> list[_Tally]:
    def first(video: VideoRows) -> int:
        return video.first

    dashed = "ids that begin with a dash, which other tools take for an option"
    tallies = [
        _Tally(
            "videos with several clips", lambda one: f"{one.media_id}: {one.clips}", lambda one: one.clips > 1, first
        ),
        _Tally("videos in several splits", _splits, lambda one: len(one.splits) > 1, first),
        _Tally("videos in several files", _files, lambda one: len(one.files) > 1, first),
        _Tally(dashed, lambda one: one.media_id, lambda one: one.media_id.startswith("-"), first),
    ]
    for video in rows.videos():
        for tally in tallies:
            tally.look_at(video)
    return tallies


def _splits(video: VideoRows) -> str:
    return f"{video.media_id}: {', '.join(video.splits)}"


def _files(video: VideoRows) -> str:
    return f"{video.media_id}: {', '.join(video.files)}"


def _alike(labels: Iterable[str | None]) -> Finding:
    alike = collections.defaultdict(set)
    for label in labels:
        if label is not None:
            alike[_bare(label)].add(label)
    variants = [sorted(labels) for labels in alike.values() if len(labels) > 1]
    what = "classes that differ in case, spaces or marks alone"
    return Finding(what, len(variants), tuple(" and ".join(map(repr, labels)) for labels in variants[:EXAMPLES]))
