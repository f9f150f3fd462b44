"""The part that the formats of one clip per line share."""

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import BadAnnotations, MalformedRow

LONGEST_LINE_BYTES = 10_000
_FIRST_LINES = 50


def numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields every line that is not blank, with its number, from 1.

    Raises:
      OSError: if the file cannot be read.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if line.strip():
                yield number, line


def decode(line: bytes) -> str:
    """Returns the text of a line, without the end of the line.

    Raises:
      MalformedRow: if the line is too long, or is not UTF-8 text.
    """
    if len(line) > LONGEST_LINE_BYTES:
        raise MalformedRow(f"line is {len(line)} bytes long, expected at most {LONGEST_LINE_BYTES}")
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise MalformedRow(f"text is not UTF-8: {error}") from None
    if "\0" in text:  # the csv module of Python 3.10 refuses these, later ones accept them
        raise MalformedRow("line holds NUL bytes")
    return text


def located(path: Path, number: int, error: MalformedRow) -> MalformedRow:
    """Returns the same error with the file's name and the line's number before its message."""
    return MalformedRow(f"{path.name}:{number}: {error}")


def first_lines_match(path: Path, pattern: re.Pattern[str]) -> bool:
    """Whether the first lines of a file, at most `_FIRST_LINES` and at least one, all match a pattern."""
    is_empty = True
    for _, line in itertools.islice(numbered(path), _FIRST_LINES):
        is_empty = False
        if len(line) > LONGEST_LINE_BYTES or not pattern.fullmatch(line.decode("utf-8", "replace").strip()):
            return False
    return not is_empty


def rows(path: Path, split: str | None, parse: Callable[[str], Annotation | None]) -> Iterator[Row]:
    """Yields a row for each line of a file.

    Args:
      split: the split of unreadable rows.
      parse: makes an annotation from a line. It may return None for a line that is not a row, or raise MalformedRow.

    Raises:
      BadAnnotations: if there is no row.
    """
    is_empty = True
    for number, line in numbered(path):
        try:
            annotation = parse(decode(line).strip())
            if annotation is None:
                continue
            yield ReadableRow(path.name, number, annotation)
        except MalformedRow as error:
            yield UnreadableRow(path.name, number, located(path, number, error), split)
        is_empty = False
    if is_empty:
        raise BadAnnotations(f"{path} holds no annotation row")
