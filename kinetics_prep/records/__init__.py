"""Shard formats. A format is one module here and one row in `SHARD_FORMATS`; the tests find it by its row."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from kinetics_prep.errors import BadOption
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

    def read_sound(self, path: Path, places: Sequence[int]) -> Iterator[Record]:
        """Yields the records of a damaged file that are sound by their own checksums.

        Args:
          places: of all records, as `write_shard` returned them; empty if unknown.
        """

    def read_places(self, path: Path, places: Iterable[int]) -> Iterator[Record]:
        """Yields the records at some places of a file, as `write_shard` returned them, and reads no others.

        Raises:
          CorruptShard: if there are none, or they do not read back as written.
        """


SHARD_FORMATS: dict[str, ShardFormat] = {
    "tfrecord": tfrecord,
    "parquet": parquet,
}


def read_shard(path: str | Path) -> Iterator[Record]:
    """Yields the records of a shard, in the format that the end of its name says.

    Raises:
      BadOption: if the file is missing, or its name ends like no format.
      CorruptShard: if the file does not read back as written.
    """
    path = Path(path)
    if not path.is_file():
        raise BadOption(f"{path} is not a file")
    for module in SHARD_FORMATS.values():
        if path.name.endswith(f".{module.SUFFIX}"):
            return module.read_shard(path)
    suffixes = " or ".join(f".{module.SUFFIX}" for module in SHARD_FORMATS.values())
    raise BadOption(f"{path}: expected a file that ends in {suffixes}")
