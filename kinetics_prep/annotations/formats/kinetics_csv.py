"""The CSV files of Kinetics-400/600/700 and their mirrors, in all their variants.

If there is a header, its names decide: the columns may have any order, and other columns are ignored:

    label,youtube_id,time_start,time_end,split,is_cc      Kinetics-400 train and val
    youtube_id,time_start,time_end,split                  test sets without labels
    label,youtube_id,time_start,time_end,split            Kinetics-600/700, CVDF ("validate")

If there is none, the number of columns decides which of the three orders they have.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.annotation import Annotation, parse_split
from kinetics_prep.annotations.formats import json_entries, lines
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import BadAnnotations, MalformedRow

_REQUIRED = ("youtube_id", "time_start", "time_end")
_WITHOUT_HEADER = {
    4: ("youtube_id", "time_start", "time_end", "split"),
    5: ("label", "youtube_id", "time_start", "time_end", "split"),
    6: ("label", "youtube_id", "time_start", "time_end", "split", "is_cc"),
}


def recognises(path: Path) -> bool:
    """Whether a file is not JSON. Any other content is accepted, since `read` has the best messages."""
    return not json_entries.is_json(path)


def read(path: Path, default_split: str | None = None) -> Iterator[Row]:
    """Yields a row for every line of a file that is not blank.

    Args:
      default_split: the split of files that have no split column.

    Raises:
      BadAnnotations: if it is not clear what the columns are; the message names the file and line.
    """
    columns: tuple[str, ...] | None = None
    first_error: MalformedRow | None = None
    for number, line in lines.numbered(path):
        try:
            cells = _cells(line)
        except MalformedRow as error:
            error = lines.located(path, number, error)
            first_error = first_error or error
            yield UnreadableRow(path.name, number, error)
            continue
        if columns is None:
            columns, is_header = _columns(path, number, cells)
            _expect_split(path, number, columns, default_split)
            if is_header:
                continue
        yield _row(path, number, columns, cells, default_split)
    if columns is None:
        raise BadAnnotations(f"{path} holds no annotation row" + (f": {first_error}" if first_error else ""))


def _cells(line: bytes) -> list[str]:
    # One line at a time: otherwise a stray quote would swallow the rows after it.
    try:
        return [cell.strip() for cell in next(csv.reader([lines.decode(line)], strict=True))]
    except csv.Error as error:
        raise MalformedRow(f"not a row of CSV: {error}") from None


def _columns(path: Path, number: int, cells: list[str]) -> tuple[tuple[str, ...], bool]:
    """The names of the columns, given the cells of the first row, and whether this row is a header."""
    names = tuple(cell.lower() for cell in cells)
    if any(name in names for name in _REQUIRED):
        missing = [name for name in _REQUIRED if name not in names]
        if missing:
            raise BadAnnotations(f"{path}:{number}: header {','.join(cells)} lacks {', '.join(missing)}")
        return names, True
    if len(cells) in _WITHOUT_HEADER:
        return _WITHOUT_HEADER[len(cells)], False
    raise BadAnnotations(
        f"{path}:{number}: expected a header with {', '.join(_REQUIRED)}, or rows of 4, 5 or 6 columns; "
        f"found {len(cells)} columns"
    )


def _expect_split(path: Path, number: int, columns: tuple[str, ...], default_split: str | None) -> None:
    if "split" not in columns and default_split is None:
        raise BadAnnotations(f"{path}:{number}: there is no split column; say which it is with --split")


def _row(path: Path, number: int, columns: tuple[str, ...], cells: list[str], default_split: str | None) -> Row:
    values = dict(zip(columns, cells))
    split = None if "split" in values else default_split
    try:
        if len(cells) != len(columns):
            raise MalformedRow(f"expected {len(columns)} columns, found {len(cells)}")
        split = split or parse_split(values["split"])
        annotation = Annotation(
            media_id=values["youtube_id"],
            start_seconds=_seconds(values["time_start"], "time_start"),
            end_seconds=_seconds(values["time_end"], "time_end"),
            split=split,
            label=values.get("label"),
        )
    except MalformedRow as error:
        return UnreadableRow(path.name, number, lines.located(path, number, error), split)
    return ReadableRow(path.name, number, annotation)


def _seconds(text: str, name: str) -> float:
    try:
        if "_" in text:  # Python's float takes 1_0 for 10
            raise ValueError
        return float(text)
    except ValueError:
        raise MalformedRow(f"{name} is {text!r}, expected a number of seconds") from None
