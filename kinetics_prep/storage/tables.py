"""Parquet tables whose columns are defined in `schemas/`: the plan, ledgers, predictions."""

import contextlib
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kinetics_prep import schemas
from kinetics_prep.errors import CorruptShard

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
    schema = arrow_schema(name).with_metadata(metadata)
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
      columns: the only columns to read; None for all.

    Raises:
      CorruptShard: if the file is not Parquet, is damaged, or has other columns than the schema.
    """
    with opened(path, name) as file:
        groups = range(file.num_row_groups) if row_group is None else (row_group,)
        for group in groups:
            yield from file.read_row_group(group, columns).to_pylist()


@contextlib.contextmanager
def opened(path: Path, name: str) -> Iterator[pq.ParquetFile]:
    """Opens a table of the schema `name`, to read it column by column.

    Raises:
      CorruptShard: if the file is not Parquet, is damaged, or has other columns than the schema; Arrow's errors in
        the body become `CorruptShard` too.
    """
    with (
        _raising_corrupt_shard(path),
        pq.ParquetFile(path, metadata=_footer(path), page_checksum_verification=True) as file,
    ):
        expected = arrow_schema(name)
        if (file.schema_arrow.names, file.schema_arrow.types) != (expected.names, expected.types):
            raise CorruptShard(f"{path} has other columns than schemas/{name}.json")
        yield file


def highest(path: Path, column: str, row_group: int) -> Any:
    """The highest value of a column in a row group, from the table's footer; no row is read.

    Raises:
      CorruptShard: if the file is not Parquet, has no such column or row group, or its footer lacks the value.
    """
    with _raising_corrupt_shard(path):
        footer = _footer(path)
        names = footer.schema.names
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
