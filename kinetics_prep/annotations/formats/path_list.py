"""Lists of `path label`, as mmaction2 and many others use them: `abseiling/-3B32lodo2M_000059_000069.mp4 0`.

A label is a class id, from 0, or a text; a path before a text has no space. Only the file name of the path is used. A
name that ends in two times is a part of a video, any other name is a whole video.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from kinetics_prep.annotations.annotation import TIMED_NAME, Annotation
from kinetics_prep.annotations.formats import lines
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import BadAnnotations, MalformedRow

_VIDEO = r"\.(?:mp4|mkv|webm|avi|mov|m4v|flv|mpg|mpeg)"
_LINE = re.compile(rf"(?P<path>.+{_VIDEO})\s+(?P<number>\d{{1,5}})|(?P<path_>\S+{_VIDEO})\s+(?P<text>\S.*)", re.I)
_LONGEST_NUMBER = 20
_SPLIT = re.compile(r"(?:^|[^a-z])(train|val|test)(?:[^a-z]|list|$)", re.I)


def recognises(path: Path) -> bool:
    """Whether the first lines of a file look like this format."""
    return lines.first_lines_match(path, _LINE)


def read(path: Path, default_split: str | None = None) -> Iterator[Row]:
    """Yields a row for each line; its label may still be a class id, see `with_names`.

    Args:
      default_split: the split; None for the split in the file's name.

    Raises:
      BadAnnotations: if neither gives the split, or if there is no line.
    """
    named = _SPLIT.search(path.name)
    split = default_split or (named and named[1].lower())
    if split is None:
        raise BadAnnotations(f"{path}: its name does not say which split it is; say so with --split")

    def parse(text: str) -> Annotation:
        match = _LINE.fullmatch(text)
        if not match:
            raise MalformedRow(f"line is {text!r:.200}, expected a video's path and a label")
        label = match["number"] or match["text"]
        return _annotation(PurePosixPath(match["path"] or match["path_"]).stem, split, label)

    return lines.rows(path, split, parse)


def _annotation(stem: str, split: str, label: str) -> Annotation:
    if timed := TIMED_NAME.match(stem):
        return Annotation(timed["id"], float(timed["start"]), float(timed["end"]), split, label)
    return Annotation(stem, 0.0, None, split, label)


def with_names(path: Path, rows: Iterable[Row], labels: LabelMap | None) -> Iterator[Row]:
    """Yields the rows of a file with labels in place of class ids.

    Raises:
      BadAnnotations: if there are class ids and no label map.
    """
    for row in rows:
        if isinstance(row, UnreadableRow) or row.annotation.label is None or not row.annotation.label.isdecimal():
            yield row
        elif labels is None:
            raise BadAnnotations(f"{path}: its labels are numbers; say with --labels which labels they stand for")
        else:
            yield _with_name(path, row, row.annotation.label, labels)


def _with_name(path: Path, row: ReadableRow, number: str, labels: LabelMap) -> Row:
    class_id = int(number[:_LONGEST_NUMBER])  # Python refuses to convert numbers of thousands of digits
    if len(number) > _LONGEST_NUMBER or class_id >= len(labels):
        error = MalformedRow(f"label is {class_id}, expected 0 to {len(labels) - 1}, the last of the label map")
        return UnreadableRow(row.file, row.line, lines.located(path, row.line, error), row.split)
    return dataclasses.replace(row, annotation=dataclasses.replace(row.annotation, label=labels.labels[class_id]))
