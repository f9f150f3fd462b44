"""Parquet tables whose columns are defined in `schemas/`: the plan, ledgers, predictions.

Columns are read by name, so that a table may have more of them, or lack optional ones: one that a newer kinetics-prep
added is passed over, one that an older one did not have yet is null.
"""

import contextlib
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kinetics_prep import schemas
from kinetics_prep.errors import CorruptShard, NewerFormat

VERSION_KEY = "kinetics_prep/version"
"""In the metadata of a file: the format's number. Files without it are of format 1."""

_ARROW_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "list<string>": pa.list_(pa.string()),
    "list<float32>": pa.list_(pa.float32()),
}


def arrow_schema(name: str) -> pa.Schema:
    """The Arrow schema of "plan", "ledger", "download" or "predictions"."""
    fields = schemas.load(name)["fields"]
    return pa.schema(
        [
            pa.field(field["name"], _ARROW_TYPES[field["type"]], field["nullable"], {"meaning": field["meaning"]})
            for field in fields
        ]
    )


def write(
    path: Path, name: str, row_groups: Iterable[list[dict[str, Any]]], metadata: dict[str, str] | None = None
) -> None:
    """Writes a table, one row group at a time, so that only one group must fit in memory.

    Args:
      path: written in place; use `atomic_write` around it.
      name: of the schema.
      row_groups: rows as dicts by column name; a missing column is null.
      metadata: of the whole file.
    """
    schema = arrow_schema(name).with_metadata({VERSION_KEY: str(schemas.load(name)["version"])} | (metadata or {}))
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for rows in row_groups:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def read(
    path: Path, name: str, row_group: int | None = None, columns: tuple[str, ...] | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the rows of a table as dicts.

    Args:
      path: the table.
      name: of its schema.
      row_group: the only row group to read; None for all.
      columns: the only columns to read; None for all of the schema.

    Raises:
      CorruptShard: if the file is not Parquet, is damaged, or lacks a column of the schema.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    wanted = columns or tuple(field["name"] for field in schemas.load(name)["fields"])
    with opened(path, name) as file:
        there = set(file.schema_arrow.names)
        groups = range(file.num_row_groups) if row_group is None else (row_group,)
        for group in groups:
            table = file.read_row_group(group, [column for column in wanted if column in there])
            yield from select(table, name, wanted, str(path)).to_pylist()


def select(table: pa.Table, name: str, columns: Iterable[str], where: str) -> pa.Table:
    """The columns of a schema in a table that was read: the missing ones are null, and no others are left.

    Args:
      name: of the schema.
      where: names the file in messages.

    Raises:
      CorruptShard: if a required column lacks a value.
    """
    schema, there = arrow_schema(name), set(table.column_names)
    fields = [schema.field(column) for column in columns]
    arrays = [table[field.name] if field.name in there else pa.nulls(len(table), field.type) for field in fields]
    for field, array in zip(fields, arrays, strict=True):
        if array.null_count and not field.nullable:
            raise CorruptShard(
                f"{where}: its column {field.name} lacks {array.null_count} values, expected {field.type} in each row"
            )
    return pa.table(arrays, names=[field.name for field in fields])


@contextlib.contextmanager
def opened(path: Path, name: str) -> Iterator[pq.ParquetFile]:
    """Opens a table of the schema `name`, to read it column by column.

    Raises:
      CorruptShard: if the file is not Parquet, is damaged, or lacks a column of the schema; Arrow's errors in the body
        become `CorruptShard` too.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    with (
        _raising_corrupt_shard(path),
        pq.ParquetFile(path, metadata=_footer(path), page_checksum_verification=True) as file,
    ):
        expect_columns(file.schema_arrow, arrow_schema(name), schemas.load(name)["version"], str(path))
        yield file


def expect_columns(found: pa.Schema, expected: pa.Schema, version: int, where: str) -> None:
    """Checks that a file has the columns of a schema, in any order; it may have more, and may lack optional ones.

    Args:
      version: the format's number that we write.
      where: names the file in messages.

    Raises:
      CorruptShard: if a required column is missing, a column has another type, or the version is none.
      NewerFormat: if the file says that its format is a newer one.
    """
    text = (found.metadata or {}).get(VERSION_KEY.encode(), b"1").decode("utf-8", "replace")
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise CorruptShard(f"{where} has format {text!r:.40}, expected a whole number from 1")
    if int(text) > version:
        raise NewerFormat(
            f"{where} has format {text}, this kinetics-prep reads formats 1 to {version}: upgrade kinetics-prep"
        )
    if found.names == expected.names and found.types == expected.types:  # as a rule; readers of single rows ask often
        return
    for field in expected:
        places = found.get_all_field_indices(field.name)
        if not places and not field.nullable:
            names = ", ".join(found.names)
            raise CorruptShard(
                f"{where} has no column {field.name}, expected one of type {field.type}; found {names:.200}"
            )
        if len(places) > 1 or (places and found.field(places[0]).type != field.type):
            types = ", ".join(str(found.field(place).type) for place in places)
            raise CorruptShard(f"{where}: its column {field.name} is of type {types}, expected {field.type}")


def highest(path: Path, column: str, row_group: int) -> Any:
    """The highest value of a column in a row group, from the table's footer; no row is read.

    Raises:
      CorruptShard: if the file is not Parquet, has no such column or row group, or its footer lacks the value.
    """
    with _raising_corrupt_shard(path):
        footer = _footer(path)
        names = [footer.schema.column(place).path for place in range(footer.num_columns)]
        if column not in names or row_group >= footer.num_row_groups:
            raise CorruptShard(f"{path} has no row group {row_group} with a column {column}")
        statistics = footer.row_group(row_group).column(names.index(column)).statistics
        if statistics is None or not statistics.has_min_max:
            raise CorruptShard(f"the footer of {path} does not say the highest value of its column {column}")
        return statistics.max


def _footer(path: Path) -> pq.FileMetaData:
    stat = path.stat()
    return _cached_footer(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)


@functools.lru_cache(maxsize=4)
def _cached_footer(path: Path, mtime_ns: int, size_bytes: int, inode: int) -> pq.FileMetaData:
    # Cached because a plan of a thousand row groups has a footer of megabytes, read again for each shard of the plan.
    # The last three arguments tell apart the files that stood at one path one after the other.
    return pq.read_metadata(path)


@contextlib.contextmanager
def _raising_corrupt_shard(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorruptShard(f"{path} is not a Parquet file: {error}") from None
