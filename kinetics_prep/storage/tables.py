"""Parquet tables whose columns stand in `schemas/`: the plan, ledgers, predictions."""

import contextlib
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

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


def write(path: Path, name: str, row_groups: Iterable[list[dict]], metadata: dict[str, str] | None = None) -> None:
    """Writes rows, one row group at a time, as a table of the schema `name`, with metadata of the whole file."""
    schema = arrow_schema(name).with_metadata(metadata)
    with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
        for rows in row_groups:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


@functools.lru_cache(maxsize=4)
def _metadata(path: Path, *stamp: int) -> pq.FileMetaData:
    # A plan of a thousand row groups has a footer of megabytes, and is asked for each shard of it.
    return pq.read_metadata(path)


def highest(path: Path, column: str, row_group: int) -> int:
    """The highest value of a column in a row group, as the table's footer has it.

    Raises:
      CorruptShard: if the file is no Parquet, or its footer does not say.
    """
    with _expecting_parquet(path):
        metadata = _footer(path)
        place = metadata.schema.names.index(column) if column in metadata.schema.names else None
        if place is None or row_group >= metadata.num_row_groups:
            raise CorruptShard(f"{path} has no row group {row_group} with a column {column}")
        statistics = metadata.row_group(row_group).column(place).statistics
        if statistics is None or not statistics.has_min_max:
            raise CorruptShard(f"{path} does not say what is highest in its column {column}")
        return statistics.max


def read(path: Path, name: str, row_group: int | None = None, columns: tuple[str, ...] | None = None) -> Iterator[dict]:
    """Rows of a table, whole or of one row group, with all of its columns or some.

    Raises:
      CorruptShard: if the file is no Parquet, or its columns are not those of the schema.
    """
    with opened(path, name) as file:
        groups = range(file.num_row_groups) if row_group is None else (row_group,)
        for group in groups:
            yield from file.read_row_group(group, columns).to_pylist()


@contextlib.contextmanager
def opened(path: Path, name: str) -> Iterator[pq.ParquetFile]:
    """A table of the schema `name`, to be read column by column; what Arrow complains of is a `CorruptShard`.

    Raises:
      CorruptShard: if the file is no Parquet, or its columns are not those of the schema.
    """
    with (
        _expecting_parquet(path),
        pq.ParquetFile(path, metadata=_footer(path), page_checksum_verification=True) as file,
    ):
        expected = arrow_schema(name)
        if (file.schema_arrow.names, file.schema_arrow.types) != (expected.names, expected.types):
            raise CorruptShard(f"{path} has other columns than schemas/{name}.json")
        yield file


def _footer(path: Path) -> pq.FileMetaData:
    stat = path.stat()
    return _metadata(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)


@contextlib.contextmanager
def _expecting_parquet(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorruptShard(f"{path} is not a Parquet file: {error}") from None
