"""Findings about labels: which are missing from the label map, spelled differently, or similar to each other."""

import collections
import re
from collections.abc import Iterable

from kinetics_prep.annotations.check.rows import describe_clip
from kinetics_prep.annotations.check.tally import EXAMPLES, Finding, Tally
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.rows import ReadableRow


class LabelMatcher:
    """Finds the label of a label map that is meant by another spelling of it.

    Args:
      labels: the label map; None accepts every label as it is.
    """

    def __init__(self, labels: LabelMap | None) -> None:
        self._labels = labels
        self._spellings = _by_bare_label(labels.labels if labels else ())

    def match(self, label: str) -> str | None:
        """Returns the label as the label map spells it; None if no label, or more than one, is similar."""
        if self._labels is None or label in self._labels:
            return label
        candidates = self._spellings.get(_bare(label), [])
        return candidates[0] if len(candidates) == 1 else None

    def is_unknown(self, row: ReadableRow) -> bool:
        """Whether the row has a label that does not match."""
        return row.annotation.label is not None and self.match(row.annotation.label) is None

    def is_respelled(self, row: ReadableRow) -> bool:
        """Whether the row has a label that the label map spells differently."""
        return row.annotation.label is not None and self.match(row.annotation.label) not in (None, row.annotation.label)


def label_tallies(matcher: LabelMatcher) -> list[Tally[ReadableRow]]:
    """Tallies of rows whose label is missing or not that of the label map."""
    return [
        Tally("labels missing from the label map", _describe_label, matcher.is_unknown, is_refused=True),
        Tally("labels that the label map spells differently", _describe_label, matcher.is_respelled, is_refused=True),
        Tally("without a label", describe_clip, lambda row: row.annotation.label is None),
    ]


def similar_labels(labels: Iterable[str | None]) -> Finding:
    """Finds classes whose labels differ only in case, spaces or marks, in the order of the first of each."""
    groups = _by_bare_label(label for label in labels if label is not None)
    variants = [sorted(group) for group in groups.values() if len(group) > 1]
    examples = tuple(" and ".join(map(repr, group)) for group in variants[:EXAMPLES])
    return Finding("classes that differ only in case, spaces or marks", len(variants), examples)


def _describe_label(row: ReadableRow) -> str:
    return f"{row.file}:{row.line}: {row.annotation.label!r}"


def _by_bare_label(labels: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for label in labels:
        groups[_bare(label)].append(label)
    return groups


def _bare(label: str) -> str:
    """A label without the parts that people change: case, spaces, underscores and other marks."""
    return re.sub(r"[\W_]+", "", label).casefold()
