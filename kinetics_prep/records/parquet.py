"""Parquet: one row a clip, one column a feature, readable by DuckDB and Hugging Face datasets.

Images are in list<binary> columns, uncompressed (they are compressed already), without dictionary and
statistics (which would copy whole images into the footer). Each clip has a row group of its own, so
that a reader of one clip reads no other.
"""

import bisect
import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kinetics_prep.errors import CorruptShard
from kinetics_prep.records.features import FEATURES, VERSION, Feature
from kinetics_prep.records.record import Record
from kinetics_prep.storage.tables import VERSION_KEY, expect_columns

SUFFIX = "parquet"

CLIPS_PER_ROW_GROUP = 1
"""A trainer reads clips in any order. With four in a group it would read all four to get one."""

_ARROW_TYPES = {
    "text": pa.string(),
    "bytes": pa.binary(),
    "int64": pa.int64(),
    "float": pa.float32(),
}


def _arrow_type(feature: Feature) -> pa.DataType:
    item = _ARROW_TYPES[feature.type]
    return pa.list_(item) if feature.is_list else item


SCHEMA = pa.schema(
    [
        pa.field(feature.column, _arrow_type(feature), not feature.required, {"feature": feature.name})
        for feature in FEATURES.values()
    ],
    {VERSION_KEY: str(VERSION)},
)
"""Arrow schema of a shard; each field names its MediaSequence feature."""

_SMALL_COLUMNS = [feature.column for feature in FEATURES.values() if not feature.is_list]


def write_shard(path: Path, records: Iterable[Record]) -> list[int]:
    """Writes records, one at a time; returns the row number of each."""
    records, count = iter(records), 0
    with pq.ParquetWriter(
        path,
        SCHEMA,
        compression="none",
        use_dictionary=_SMALL_COLUMNS,
        write_statistics=_SMALL_COLUMNS,
        write_page_checksum=True,  # a flipped bit in an image would decode as another image
    ) as writer:
        while group := list(itertools.islice(records, CLIPS_PER_ROW_GROUP)):
            rows = [{FEATURES[name].column: value for name, value in record.features.items()} for record in group]
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            count += len(rows)
    return list(range(count))


def read_row(path: Path, row: int, columns: list[str], verify: bool = True) -> pa.Table:
    """Reads some columns of one row; nothing else is read but the footer.

    Args:
      row: from 0, over all row groups.
      columns: names of columns, see `Feature.column`.
      verify: whether to check checksums.

    Returns:
      A table of one row.

    Raises:
      CorruptShard: if the file is not Parquet, is damaged there, or lacks the row or a required column.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    with _errors_as_corrupt(path), pq.ParquetFile(path, page_checksum_verification=verify) as file:
        names = set(_expect_schema(file, path).names)
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row < rows:
                there = [column for column in columns if column in names]
                table = file.read_row_group(group, there, use_threads=False).slice(row, 1)
                return table if len(there) == len(columns) else _with_nulls(table, set(columns) - names)
            row -= rows
    raise CorruptShard(f"{path} has fewer rows than dataset.json says")


def read_shard(path: Path) -> Iterator[Record]:
    """Yields the records of a file, a row group at a time.

    Raises:
      CorruptShard: if the file is not Parquet, is damaged, or lacks a required column.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    with _errors_as_corrupt(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        _expect_schema(file, path)
        for group in range(file.num_row_groups):
            yield from _records(file, group)


def read_sound(path: Path, places: Sequence[int]) -> Iterator[Record]:
    """Yields the records of a damaged file that are sound by their own checksums; none if its footer is damaged.

    Args:
      places: not needed: the footer has them.
    """
    with (
        contextlib.suppress(CorruptShard),
        _errors_as_corrupt(path),
        pq.ParquetFile(path, page_checksum_verification=True) as file,
    ):
        _expect_schema(file, path)
        for group in range(file.num_row_groups):
            with contextlib.suppress(CorruptShard), _errors_as_corrupt(path):
                yield from _records(file, group)


def read_places(path: Path, places: Iterable[int]) -> Iterator[Record]:
    """Yields the records in some rows of a file; no other row group is read.

    Raises:
      CorruptShard: if the file is not Parquet, is damaged there, lacks a row, or has other columns.
    """
    with _errors_as_corrupt(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        _expect_schema(file, path)
        metadata = file.metadata
        ends = list(itertools.accumulate(metadata.row_group(group).num_rows for group in range(file.num_row_groups)))
        for row in places:
            group = bisect.bisect_right(ends, row)
            if group == len(ends):
                raise CorruptShard(f"{path} has fewer rows than its marker says")
            yield _records(file, group)[row - (ends[group - 1] if group else 0)]


def _records(file: pq.ParquetFile, group: int) -> list[Record]:
    names = {feature.column: name for name, feature in FEATURES.items()}
    columns = [column for column in file.schema_arrow.names if column in names]
    rows = file.read_row_group(group, columns).to_pylist()
    return [Record({names[column]: value for column, value in row.items() if value is not None}) for row in rows]


def _expect_schema(file: pq.ParquetFile, path: Path) -> pa.Schema:
    """The schema of a file, which has the columns of a shard. Kept by callers: Arrow makes it anew each time."""
    found = file.schema_arrow
    expect_columns(found, SCHEMA, VERSION, str(path))
    return found


def _with_nulls(table: pa.Table, columns: Iterable[str]) -> pa.Table:
    for column in columns:
        field = SCHEMA.field(column)
        table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


@contextlib.contextmanager
def _errors_as_corrupt(path: Path) -> Iterator[None]:
    """Turns an error of Arrow into a `CorruptShard`."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorruptShard(f"{path} does not read as Parquet: {error}") from None
