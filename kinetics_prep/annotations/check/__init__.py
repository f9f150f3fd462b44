"""Checks annotation files before a run: which rows `flow` would refuse, and what else looks odd.

with RowStore() as store:
    files = selection.read_annotations(store, ("k400_val.csv",), None, None)
    report = check.examine(files, store)
"""

import collections
import dataclasses
from collections.abc import Iterable

from kinetics_prep.annotations.check.corrected import write_corrected
from kinetics_prep.annotations.check.labels import LabelMatcher, label_tallies, similar_labels
from kinetics_prep.annotations.check.rows import duplicates_tally, time_tallies, unreadable_tally
from kinetics_prep.annotations.check.tally import Finding
from kinetics_prep.annotations.check.videos import video_findings
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.annotations.rows import UnreadableRow
from kinetics_prep.annotations.selection import AnnotationFile

__all__ = ["Finding", "Report", "examine", "write_corrected"]


@dataclasses.dataclass(frozen=True)
class Report:
    """The content of annotation files, and the findings about it."""

    files: tuple[str, ...]
    """The name, format and number of rows of each file, as a text."""
    splits: dict[str, int]
    """Readable rows of each split."""
    classes: int
    findings: tuple[Finding, ...]

    @property
    def refused_rows(self) -> int:
        """How many rows `flow` would refuse."""
        return sum(finding.count for finding in self.findings if finding.is_refused)


def examine(files: Iterable[AnnotationFile], store: RowStore, labels: LabelMap | None = None) -> Report:
    """Examines annotation files, of one data set or of several.

    Args:
      store: holds the rows of the files.
      labels: the label map of the run to come; None for the labels of the files.
    """
    unreadable, duplicates = unreadable_tally(), duplicates_tally()
    tallies = [*label_tallies(LabelMatcher(labels)), *time_tallies()]
    splits: collections.Counter[str] = collections.Counter()
    row_labels: set[str | None] = set()
    clip_labels: dict[str | None, None] = {}  # a set that keeps its order
    for row, is_duplicate in store.as_read():
        if isinstance(row, UnreadableRow):
            unreadable.add(row)
            continue
        splits[row.split] += 1
        row_labels.add(row.annotation.label)
        if is_duplicate:
            duplicates.add(row)
            continue
        clip_labels[row.annotation.label] = None
        for tally in tallies:
            tally.add(row)
    row_findings = [unreadable.finding(), duplicates.finding(), *(tally.finding() for tally in tallies)]
    findings = [*row_findings, *video_findings(store.videos()), similar_labels(clip_labels)]
    return Report(
        files=tuple(map(str, files)),
        splits=dict(splits),
        classes=len(row_labels - {None}),
        findings=tuple(finding for finding in findings if finding.count),
    )
