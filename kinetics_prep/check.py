"""Looks over annotation files before a run: what `flow` would refuse, and what somebody should know of.

report = check.examine(job.read_annotations(("k400_val.csv",), None, None))
"""

import collections
import csv
import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetics_prep.annotations import Annotation, LabelMap
from kinetics_prep.atomic import atomic
from kinetics_prep.datasets import Row
from kinetics_prep.errors import BadOption
from kinetics_prep.job import AnnotationFile

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
    corrected: tuple[Annotation, ...]
    """Every clip once, under its label as the label map has it; what `flow` would still refuse is left out."""

    @property
    def refused_rows(self) -> int:
        return sum(finding.count for finding in self.findings if finding.is_refused)


def examine(files: Iterable[AnnotationFile], labels: LabelMap | None = None) -> Report:
    """Looks over files, those of one data set or of several.

    Args:
      labels: the label map that the run will use; None for the labels of the files.
    """
    files = list(files)
    rows = [row for file in files for row in file.rows]
    readable = [row for row in rows if row.annotation]
    firsts, duplicates = _by_clip(readable)
    known = _corrector(labels)
    unknown = [row for row in firsts if row.annotation.label is not None and known(row.annotation.label) is None]
    changed = [row for row in firsts if known(row.annotation.label) not in (None, row.annotation.label)]
    findings = [
        _rows_found("unreadable", [row for row in rows if row.error], lambda row: str(row.error), is_refused=True),
        _rows_found("duplicates: the same video and times", duplicates, _clip, is_refused=True),
        _rows_found("labels that the label map has not", unknown, _label, is_refused=True),
        _rows_found("labels that the label map writes otherwise", changed, _label, is_refused=True),
        _rows_found("without a label", [row for row in firsts if row.annotation.label is None], _clip),
        *_of_times(firsts),
        *_of_ids(readable, firsts),
        *_of_labels(firsts),
    ]
    corrected = []
    for row in firsts:
        label = row.annotation.label
        if label is None or known(label) is not None:
            corrected.append(dataclasses.replace(row.annotation, label=label and known(label)))
    return Report(
        files=tuple(map(str, files)),
        splits=dict(collections.Counter(row.annotation.split for row in readable)),
        classes=len({row.annotation.label for row in readable} - {None}),
        findings=tuple(finding for finding in findings if finding.count),
        corrected=tuple(corrected),
    )


def write_corrected(report: Report, path: Path) -> None:
    """Writes what is left of the annotations as a CSV file of Kinetics.

    Raises:
      BadOption: if there are whole videos, for which such a file has no words.
    """
    if any(one.end_seconds is None for one in report.corrected):
        raise BadOption(f"{path} is not written: Kinetics' CSV says when a clip ends, and these are whole videos")
    with atomic(path, path.parent) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        labelled = any(annotation.label is not None for annotation in report.corrected)
        writer.writerow(HEADER if labelled else HEADER[1:])
        for one in report.corrected:
            cells = (one.media_id, f"{one.start_seconds:.10g}", f"{one.end_seconds:.10g}", one.split)
            writer.writerow((one.label or "", *cells) if labelled else cells)


def _by_clip(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The first row of each clip in its split, and the others. A clip that is in two splits is no duplicate there."""
    seen, firsts, duplicates = set(), [], []
    for row in rows:
        key = (row.annotation.split, row.annotation.clip_id)
        (duplicates if key in seen else firsts).append(row)
        seen.add(key)
    return firsts, duplicates


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


def _rows_found(what: str, rows: list[Row], tell, is_refused: bool = False) -> Finding:
    return Finding(what, len(rows), tuple(tell(row) for row in rows[:EXAMPLES]), is_refused)


def _clip(row: Row) -> str:
    return f"{row.file}:{row.line}: {row.annotation.clip_id}"


def _label(row: Row) -> str:
    return f"{row.file}:{row.line}: {row.annotation.label!r}"


def _of_times(rows: list[Row]) -> Iterator[Finding]:
    rows = [row for row in rows if row.annotation.end_us is not None]

    def lasts(row: Row) -> float:
        return (row.annotation.end_us - row.annotation.start_us) / 1e6

    shorter = sorted((row for row in rows if lasts(row) < USUAL_SECONDS), key=lasts)
    longer = sorted((row for row in rows if lasts(row) > USUAL_SECONDS), key=lasts, reverse=True)
    late = [row for row in rows if row.annotation.start_seconds > LATE_SECONDS]
    late.sort(key=lambda row: row.annotation.start_seconds, reverse=True)
    broken = [row for row in rows if row.annotation.start_us % 1_000_000 or row.annotation.end_us % 1_000_000]
    for what, found in (
        (f"shorter than {USUAL_SECONDS:g} s", shorter),
        (f"longer than {USUAL_SECONDS:g} s", longer),
        (f"starts after {LATE_SECONDS:g} s", late),
        ("times that are no whole seconds", broken),
    ):
        yield _rows_found(what, found, _clip)


def _of_ids(rows: list[Row], firsts: list[Row]) -> Iterator[Finding]:
    splits, files = collections.defaultdict(set), collections.defaultdict(set)
    for row in rows:
        splits[row.annotation.media_id].add(row.annotation.split)
        files[row.annotation.media_id].add(row.file)
    # A clip that stands in two splits is one clip.
    clips = {row.annotation.clip_id: row.annotation.media_id for row in firsts}
    counts = collections.Counter(clips.values())
    several = [name for name, count in counts.items() if count > 1]
    yield _names_found("videos with several clips", several, lambda name: f"{name}: {counts[name]}")
    leaks = [name for name, found in splits.items() if len(found) > 1]
    yield _names_found("videos in several splits", leaks, lambda name: f"{name}: {', '.join(sorted(splits[name]))}")
    shared = [name for name, found in files.items() if len(found) > 1]
    yield _names_found("videos in several files", shared, lambda name: f"{name}: {', '.join(sorted(files[name]))}")
    dashed = [name for name in counts if name.startswith("-")]
    yield _names_found("ids that begin with a dash, which other tools take for an option", dashed, str)


def _of_labels(rows: list[Row]) -> Iterator[Finding]:
    alike = collections.defaultdict(set)
    for row in rows:
        if row.annotation.label is not None:
            alike[_bare(row.annotation.label)].add(row.annotation.label)
    variants = [sorted(labels) for labels in alike.values() if len(labels) > 1]
    what = "classes that differ in case, spaces or marks alone"
    yield Finding(what, len(variants), tuple(" and ".join(map(repr, labels)) for labels in variants[:EXAMPLES]))


def _names_found(what: str, names: list[str], tell) -> Finding:
    return Finding(what, len(names), tuple(tell(name) for name in names[:EXAMPLES]))
