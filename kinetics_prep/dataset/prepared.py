"""A prepared data set, open for reading: its labels, shards, records and ledger."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kinetics_prep.dataset import ledger, manifest
from kinetics_prep.dataset.labels import read_labels
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.errors import BadOption, CorruptShard, IncompleteShard
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record
from kinetics_prep.storage.files import sha256_of
from kinetics_prep.storage.folder_store import FolderStore


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """What `kinetics-prep flow` wrote to a folder."""

    folder: Path
    labels: tuple[str, ...]
    """In the order of their class ids; empty for an unlabelled test set."""
    manifest: dict[str, Any]
    """The content of dataset.json, described by `schemas/dataset.json`."""

    @property
    def store(self) -> FolderStore:
        """The folder, for reading."""
        return FolderStore(self.folder)

    @property
    def splits(self) -> tuple[str, ...]:
        """The complete splits."""
        return tuple(self.manifest["splits"])

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats that each shard is written in, names of `SHARD_FORMATS`."""
        return tuple(self.manifest["recipe"]["formats"])

    def shards(self, split: str, format: str | None = None) -> tuple[Path, ...]:
        """The files of a split, in the order of the plan. Shards of which every row was refused have none.

        Args:
          format: one of `formats`; None for the first.

        Raises:
          BadOption: if the data set has no such split or format.
          CorruptShard: if dataset.json lacks a file of that format.
        """
        format = self._format(format)
        files = [entry["files"] for entry in self._split(split)["shards"] if entry["files"]]
        if any(format not in each for each in files):
            raise CorruptShard(f"{self.folder}: dataset.json lacks a file of split {split} as {format}")
        return tuple(self.folder / each[format]["path"] for each in files)

    def records(self, split: str, format: str | None = None) -> Iterator[Record]:
        """The records of a split, one at a time, with their checksums checked.

        Raises:
          BadOption: if the data set has no such split or format.
          CorruptShard: where a file does not read back as written.
          IncompleteShard: if a file is missing.
        """
        module = SHARD_FORMATS[self._format(format)]
        for path in self.shards(split, format):
            if not path.is_file():
                raise IncompleteShard(f"{path} is missing; copy the whole folder")
            yield from module.read_shard(path)

    def ledger(self, split: str) -> Iterator[LedgerRow]:
        """What became of each annotation row of a split.

        Raises:
          BadOption: if the data set has no such split.
          CorruptShard: if a ledger is damaged.
        """
        for entry in self._split(split)["shards"]:
            yield from ledger.read(self.store, entry["ledger"])

    def _format(self, format: str | None) -> str:
        format = self.formats[0] if format is None else format
        if format not in self.formats:
            raise BadOption(f"{self.folder} was prepared as {', '.join(self.formats)}, not as {format}")
        return format

    def _split(self, split: str) -> dict[str, Any]:
        if split not in self.manifest["splits"]:
            raise BadOption(f"{self.folder} holds no split {split!r}, only {', '.join(self.splits) or 'none'}")
        return self.manifest["splits"][split]


def open_dataset(folder: str | Path) -> PreparedDataset:
    """Opens a prepared data set for reading.

    Raises:
      CorruptShard: if the folder holds none, if it is not finished, or if dataset.json and labels.txt disagree.
    """
    layout = Layout(Path(folder))
    content, labels = manifest.read(layout.store), read_labels(layout.store)
    if sha256_of(layout.labels) != content["labels"]["sha256"]:
        raise CorruptShard(f"{layout.labels} is not the file that dataset.json knows; class ids may be wrong")
    formats = content["recipe"].get("formats")
    if not isinstance(formats, list) or not formats or not all(name in tuple(SHARD_FORMATS) for name in formats):
        raise CorruptShard(
            f"{layout.manifest} names formats {formats!r:.100}, expected some of {', '.join(SHARD_FORMATS)}"
        )
    return PreparedDataset(layout.output, labels.labels, content)
