"""Shard formats. A format is one module here and one row in `SHARD_FORMATS`; the tests find it by its row."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from kinetics_prep.records import parquet, tfrecord
from kinetics_prep.records.record import Record


class ShardFormat(Protocol):
    """The members of a module for a shard format. Records pass one at a time: memory never holds a whole shard."""

    SUFFIX: str
    """The ending of its files' names, without the dot."""

    def write_shard(self, path: Path, records: Iterable[Record]) -> list[int]:
        """Writes records; returns the place of each in the file: a byte or a row, as the format defines it."""

    def read_shard(self, path: Path) -> Iterator[Record]:
        """Yields the records of a file in order.

        Raises:
          CorruptShard: if the file does not read back as written.
        """


SHARD_FORMATS: dict[str, ShardFormat] = {
    "tfrecord": tfrecord,
    "parquet": parquet,
}
