"""The corrected annotations: every clip once, with its label as the label map spells it, as a CSV file of Kinetics."""

import csv
import dataclasses
import decimal
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.check.labels import LabelMatcher
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.annotations.rows import UnreadableRow
from kinetics_prep.errors import BadOption
from kinetics_prep.storage.files import atomic_write

HEADER = ("label", "youtube_id", "time_start", "time_end", "split")


def corrected(store: RowStore, labels: LabelMap | None = None) -> Iterator[Annotation]:
    """Yields every clip once, with its label as the label map spells it, without the rows that `flow` would refuse."""
    matcher = LabelMatcher(labels)
    for row, is_duplicate in store.as_read():
        if isinstance(row, UnreadableRow) or is_duplicate or matcher.is_unknown(row):
            continue
        label = row.annotation.label
        yield dataclasses.replace(row.annotation, label=None if label is None else matcher.match(label))


def write_corrected(store: RowStore, path: Path, labels: LabelMap | None = None) -> int:
    """Writes the corrected annotations as a CSV file of Kinetics, and returns the number of rows.

    The file has a column of labels if any row has a label.

    Raises:
      BadOption: if there are whole videos, which such a file cannot express.
    """
    has_labels = any(annotation.label is not None for annotation in corrected(store, labels))
    count = 0
    with atomic_write(path, path.parent) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER if has_labels else HEADER[1:])
        for annotation in corrected(store, labels):
            if annotation.end_seconds is None:
                reason = "Kinetics' CSV says when a clip ends, and these are whole videos"
                raise BadOption(f"{path} is not written: {reason}")
            times = _exact(annotation.start_seconds), _exact(annotation.end_seconds)
            cells = (annotation.media_id, *times, annotation.split)
            writer.writerow((annotation.label or "", *cells) if has_labels else cells)
            count += 1
    return count


def _exact(seconds: float) -> str:
    """A number of seconds in the fewest digits that read back as the same number, without an exponent."""
    return f"{decimal.Decimal(repr(float(seconds))):f}".removesuffix(".0")
