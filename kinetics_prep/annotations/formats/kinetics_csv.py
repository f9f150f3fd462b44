"""The CSV files of Kinetics-400/600/700 and their mirrors, in all their variants.

With a header its names decide; the columns may stand in any order and others are ignored:

    label,youtube_id,time_start,time_end,split,is_cc      Kinetics-400 train and val
    youtube_id,time_start,time_end,split                  test sets without labels
    label,youtube_id,time_start,time_end,split            Kinetics-600/700, CVDF ("validate")

Without a header the number of columns decides, in the same three orders.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.annotation import Annotation, split_named
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
    """Whether a file is text of some kind; what is wrong with it otherwise, `read` says best."""
    return not json_entries.is_json(path)


def read(path: Path, default_split: str | None = None) -> Iterator[Row]:
    """Reads every row of a file; blank lines are no rows.

    Args:
      default_split: for files that have no split column.

    Raises:
      BadAnnotations: if the columns cannot be told; the message names the file and line.
    """
    columns, first_error = None, None
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
        yield _row(path, number, dict(zip(columns, cells)), len(cells), len(columns), default_split)
    if columns is None:
        raise BadAnnotations(f"{path} holds no annotation row" + (f": {first_error}" if first_error else ""))


def _cells(line: bytes) -> list[str]:
    # Line by line: a stray quote would otherwise swallow the rows after it.
    try:
        return [cell.strip() for cell in next(csv.reader([lines.text_of(line)], strict=True))]
    except csv.Error as error:
        raise MalformedRow(f"not a row of CSV: {error}") from None


def _columns(path: Path, number: int, cells: list[str]) -> tuple[tuple[str, ...], bool]:
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


def _row(path, number, values: dict[str, str], found: int, expected: int, default_split) -> Row:
    split = None if "split" in values else default_split
    try:
        if found != expected:
            raise MalformedRow(f"expected {expected} columns, found {found}")
        split = split_named(values["split"]) if "split" in values else default_split
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
