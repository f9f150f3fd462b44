"""What the formats of one clip a line share."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import BadAnnotations, MalformedRow

LONGEST_LINE_BYTES = 10_000
_LOOKED_AT = 50


def numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """Every line that is not blank, with its number, from 1."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield number, line


def text_of(line: bytes) -> str:
    """A line without its end.

    Raises:
      MalformedRow: if it is too long, or no text.
    """
    if len(line) > LONGEST_LINE_BYTES:
        raise MalformedRow(f"line is {len(line)} bytes long, expected at most {LONGEST_LINE_BYTES}")
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise MalformedRow(f"text is not UTF-8: {error}") from None
    if "\0" in text:  # which the csv module of Python 3.10 refuses, and later ones take
        raise MalformedRow("line holds NUL bytes")
    return text


def located(path: Path, number: int, error: MalformedRow) -> MalformedRow:
    return MalformedRow(f"{path.name}:{number}: {error}")


def are_like(path: Path, pattern: re.Pattern) -> bool:
    """Whether the first lines of a file all match."""
    looked_at = 0
    for _, line in numbered(path):
        if len(line) > LONGEST_LINE_BYTES or not pattern.fullmatch(line.decode("utf-8", "replace").strip()):
            return False
        looked_at += 1
        if looked_at == _LOOKED_AT:
            break
    return looked_at > 0


def rows(path: Path, split: str | None, read: Callable[[str], Annotation | None]) -> Iterator[Row]:
    """A row for each line that `read` makes an annotation of, or fails to; none where it gives None."""
    found = False
    for number, line in numbered(path):
        try:
            annotation = read(text_of(line).strip())
            if annotation is None:
                continue
            yield ReadableRow(path.name, number, annotation)
        except MalformedRow as error:
            yield UnreadableRow(path.name, number, located(path, number, error), split)
        found = True
    if not found:
        raise BadAnnotations(f"{path} holds no annotation row")
