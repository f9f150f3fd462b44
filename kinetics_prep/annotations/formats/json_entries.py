"""The part that the JSON formats share: a map from video ids to entries, read entry by entry.

    "-3B32lodo2M": {"annotations": {"label": "abseiling", "segment": [59.0, 69.0]}, "subset": "train", ...}

The value of `annotations` is one annotation or a list of them. Such files have half a million entries, so they are
never in memory as a whole. A key that occurs twice is read twice, where Python's own reader silently keeps only the
second.
"""

import codecs
import contextlib
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import ijson

from kinetics_prep.annotations.annotation import Annotation, parse_split
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import BadAnnotations, MalformedRow

_BEGINNING_BYTES = 4096
_JSON_NAMES = {dict: "a map", str: "a text"}
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxlong = _BRIEF.maxother = 100

_Value = TypeVar("_Value", dict, str)


def read(path: Path, place: str, default_split: str | None) -> Iterator[Row]:
    """Yields a row for each annotation of each entry.

    A row's `line` is the number of its annotation in the file, from 1.

    Args:
      place: the key whose value is the map of entries; "" if the whole file is the map.
      default_split: the split of entries without a subset.

    Raises:
      BadAnnotations: if the file is not JSON, or holds no entry.
    """
    count = 0
    for media_id, entry in _entries(path, place):
        for row in _rows(path, count + 1, media_id, entry, default_split):
            count += 1
            yield row
    if count == 0:
        raise BadAnnotations(f"{path} holds no annotation row")


def is_json(path: Path) -> bool:
    """Whether a file begins like JSON."""
    with _opened(path) as file:
        return file.read(_BEGINNING_BYTES).lstrip()[:1] in (b"{", b"[")


def keys(path: Path) -> Iterator[tuple[str, ...]]:
    """Yields each key at the top of a file as `(key,)`, then the keys of the map that is its value as `(key, inner)`.

    Raises:
      BadAnnotations: if the file is not JSON.
    """
    top = None
    with _opened(path) as file:
        try:
            for place, event, value in ijson.parse(file):
                if event == "map_key" and place == "":
                    top = value
                    yield (top,)
                elif event == "map_key" and place == top:
                    yield (top, value)
        except ijson.JSONError as error:
            raise _not_json(path, top, error) from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a file behind its byte order mark, if it has one."""
    with open(path, "rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        yield file


def _entries(path: Path, place: str) -> Iterator[tuple[str, object]]:
    media_id = None
    with _opened(path) as file:
        try:
            for media_id, entry in ijson.kvitems(file, place, use_float=True):
                yield media_id, entry
        except ijson.JSONError as error:
            raise _not_json(path, media_id, error) from None


def _not_json(path: Path, last_key: str | None, error: Exception) -> BadAnnotations:
    where = "at its beginning" if last_key is None else f"behind {last_key!r:.220}"
    return BadAnnotations(f"{path} is not JSON {where}: {str(error).splitlines()[0]}")


def _rows(path: Path, number: int, media_id: str, entry: object, default_split: str | None) -> Iterator[Row]:
    """Yields the rows of an entry, of which the first has the given number."""
    split = default_split
    try:
        entry = _expect(entry, dict, "an entry")
        split = _split(entry, default_split)
        annotations = _annotations(entry)
    except MalformedRow as error:
        yield UnreadableRow(path.name, number, _located(path, number, media_id, error), split)
        return
    for line, annotation in enumerate(annotations, number):
        try:
            yield ReadableRow(path.name, line, _annotation(media_id, annotation, split))
        except MalformedRow as error:
            yield UnreadableRow(path.name, line, _located(path, line, media_id, error), split)


def _split(entry: dict, default_split: str | None) -> str:
    if "subset" in entry:
        return parse_split(_expect(entry["subset"], str, "subset"))
    if default_split is None:
        raise MalformedRow("there is no subset; say which split it is with --split")
    return default_split


def _annotations(entry: dict) -> list[object]:
    annotations = entry.get("annotations")
    if annotations in (None, [], [None]):
        raise MalformedRow("there is no annotation, so no time")
    return annotations if isinstance(annotations, list) else [annotations]


def _annotation(media_id: str, value: object, split: str) -> Annotation:
    annotation = _expect(value, dict, "an annotation")
    start_seconds, end_seconds = _segment(annotation.get("segment"))
    label = annotation.get("label")
    if label is not None:
        label = _expect(label, str, "label").strip()
    return Annotation(media_id, start_seconds, end_seconds, split, label)


def _segment(value: object) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)):
        raise MalformedRow(f"segment is {_brief(value)}, expected two numbers of seconds")
    try:
        return float(value[0]), float(value[1])
    except OverflowError:  # ijson without its C library reads integers of any length
        raise MalformedRow("segment holds a number of seconds that is too large") from None


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _expect(value: object, kind: type[_Value], name: str) -> _Value:
    if not isinstance(value, kind):
        raise MalformedRow(f"{name} is {_brief(value)}, expected {_JSON_NAMES[kind]}")
    return value


def _brief(value: object) -> str:
    """The beginning of a value. Python's own repr fails if lists are nested more deeply than calls can be."""
    return f"{_BRIEF.repr(value):.100}"


def _located(path: Path, number: int, media_id: str, error: MalformedRow) -> MalformedRow:
    return MalformedRow(f"{path.name}: annotation {number}, of {media_id!r:.220}: {error}")
