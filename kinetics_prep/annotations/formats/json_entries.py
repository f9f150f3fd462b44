"""What the JSON formats share: a map from video ids to what is said of each, read entry by entry.

    "-3B32lodo2M": {"annotations": {"label": "abseiling", "segment": [59.0, 69.0]}, "subset": "train", ...}

`annotations` is one or a list of them. Such files have half a million entries, so they are never in memory whole; and a
key that stands there twice is read twice, where Python's own reader would silently keep the second.
"""

import codecs
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import ijson

from kinetics_prep.annotations.annotation import Annotation, split_named
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import BadAnnotations, MalformedRow

_BEGINNING_BYTES = 4096


def read(path: Path, place: str, default_split: str | None) -> Iterator[Row]:
    """A row for each annotation of each entry of the map at `place` in the file, "" for the whole.

    A row's line is its number in the file, counted from 1.

    Raises:
      BadAnnotations: if the file is not JSON, or holds no entry; or no split and there is no default.
    """
    number = 0
    for media_id, entry in _entries(path, place):
        for row in _rows(path, number, media_id, entry, default_split):
            number += 1
            yield row
    if number == 0:
        raise BadAnnotations(f"{path} holds no annotation row")


def is_json(path: Path) -> bool:
    """Whether a file begins as JSON does."""
    with _opened(path) as file:
        return file.read(_BEGINNING_BYTES).lstrip()[:1] in (b"{", b"[")


def keys(path: Path) -> Iterator[tuple[str, ...]]:
    """The keys at the top of a file, and behind each, with it before them, those of the map that it leads to."""
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


def _not_json(path: Path, last: str | None, error: Exception) -> BadAnnotations:
    where = "at its beginning" if last is None else f"behind {last!r:.220}"
    return BadAnnotations(f"{path} is not JSON {where}: {str(error).splitlines()[0]}")


def _rows(path: Path, number: int, media_id: str, entry: object, default_split: str | None) -> Iterator[Row]:
    split = default_split
    try:
        entry = _expected(entry, dict, "an entry")
        if "subset" in entry:
            split = split_named(_expected(entry["subset"], str, "subset"))
        elif default_split is None:
            raise MalformedRow("there is no subset; say which split it is with --split")
        found = entry.get("annotations")
        found = found if isinstance(found, list) else [found]
        if found in ([], [None]):
            raise MalformedRow("there is no annotation, so no time")
    except MalformedRow as error:
        yield UnreadableRow(path.name, number + 1, _located(path, number + 1, media_id, error), split)
        return
    for further, said in enumerate(found, number + 1):
        try:
            yield ReadableRow(path.name, further, _annotation(media_id, said, split))
        except MalformedRow as error:
            yield UnreadableRow(path.name, further, _located(path, further, media_id, error), split)


def _annotation(media_id: str, said: object, split: str) -> Annotation:
    said = _expected(said, dict, "an annotation")
    segment = said.get("segment")
    is_pair = isinstance(segment, list) and len(segment) == 2
    if not is_pair or not all(isinstance(value, float | int) and not isinstance(value, bool) for value in segment):
        raise MalformedRow(f"segment is {segment!r:.100}, expected two numbers of seconds")
    label = said.get("label")
    if label is not None:
        label = _expected(label, str, "label").strip()
    return Annotation(media_id, float(segment[0]), float(segment[1]), split, label)


def _expected(value: object, kind: type, what: str):
    if not isinstance(value, kind):
        words = {dict: "a map", str: "a text"}
        raise MalformedRow(f"{what} is {value!r:.100}, expected {words[kind]}")
    return value


def _located(path: Path, number: int, media_id: str, error: MalformedRow) -> MalformedRow:
    return MalformedRow(f"{path.name}: annotation {number}, of {media_id!r:.220}: {error}")
