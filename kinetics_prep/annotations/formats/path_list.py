"""Lists of `path label`, as mmaction2 and many others have them: `abseiling/-3B32lodo2M_000059_000069.mp4 0`.

A label is the number of a line in the label map, from 0, or a text; before a text the path has no space. Of the path
only the name counts. A name that ends in two times is that piece of a video, any other a whole video.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from kinetics_prep.annotations.annotation import TIMED_NAME, Annotation, LabelMap
from kinetics_prep.annotations.formats import lines
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import BadAnnotations, MalformedRow

_VIDEO = r"\.(?:mp4|mkv|webm|avi|mov|m4v|flv|mpg|mpeg)"
_LINE = re.compile(rf"(?P<path>.+{_VIDEO})\s+(?P<number>\d{{1,5}})|(?P<path_>\S+{_VIDEO})\s+(?P<text>\S.*)", re.I)
_SPLIT = re.compile(r"(?:^|[^a-z])(train|val|test)(?:[^a-z]|list|$)", re.I)


def recognises(path: Path) -> bool:
    """Whether the first lines look like it."""
    return lines.are_like(path, _LINE)


def read(path: Path, default_split: str | None = None) -> Iterator[Row]:
    """A row for each line. The split is `default_split` or, without it, the one in the file's name.

    Raises:
      BadAnnotations: if neither says which split it is; if there is no line.
    """
    named = _SPLIT.search(path.name)
    split = default_split or (named and named[1].lower())
    if split is None:
        raise BadAnnotations(f"{path}: its name does not say which split it is; say so with --split")

    def annotation(text: str) -> Annotation:
        match = _LINE.fullmatch(text)
        if not match:
            raise MalformedRow(f"line is {text!r:.200}, expected a video's path and a label")
        label = match["number"] or match["text"]
        return _annotation(PurePosixPath(match["path"] or match["path_"]).stem, split, label)

    return lines.rows(path, split, annotation)


def _annotation(stem: str, split: str, label: str) -> Annotation:
    if timed := TIMED_NAME.match(stem):
        return Annotation(timed["id"], float(timed["start"]), float(timed["end"]), split, label)
    return Annotation(stem, 0.0, None, split, label)


def with_names(path: Path, rows: Iterable[Row], labels: LabelMap | None) -> Iterator[Row]:
    """The rows with labels in the place of numbers.

    Raises:
      BadAnnotations: if there are numbers and no label map.
    """
    for row in rows:
        if isinstance(row, UnreadableRow) or row.annotation.label is None or not row.annotation.label.isdecimal():
            yield row
        elif labels is None:
            raise BadAnnotations(f"{path}: its labels are numbers; say with --labels which labels they stand for")
        else:
            yield _with_name(path, row, int(row.annotation.label), labels)


def _with_name(path: Path, row: ReadableRow, number: int, labels: LabelMap) -> Row:
    if number >= len(labels):
        error = MalformedRow(f"label is {number}, expected 0 to {len(labels) - 1}, the last of the label map")
        return UnreadableRow(row.file, row.line, lines.located(path, row.line, error), row.split)
    return dataclasses.replace(row, annotation=dataclasses.replace(row.annotation, label=labels.labels[number]))
