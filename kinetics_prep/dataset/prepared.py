"""A prepared data set, open for reading: its labels, shards, records and ledger."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kinetics_prep.dataset import ledger, manifest
from kinetics_prep.dataset.labels import read_labels
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.errors import BadOption
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """What `kinetics-prep flow` wrote to a folder."""

    folder: Path
    labels: tuple[str, ...]
    """In the order of their class ids; empty for an unlabelled test set."""
    manifest: dict[str, Any]
    """The content of dataset.json, described by `schemas/dataset.json`."""

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
        """
        chosen = self.formats[0] if format is None else format
        if chosen not in self.formats:
            raise BadOption(f"{self.folder} was prepared as {', '.join(self.formats)}, not as {chosen}")
        entries = self._split(split)["shards"]
        return tuple(self.folder / entry["files"][chosen]["path"] for entry in entries if entry["files"])

    def records(self, split: str, format: str | None = None) -> Iterator[Record]:
        """The records of a split, one at a time, with their checksums checked.

        Raises:
          BadOption: if the data set has no such split or format.
          CorruptShard: where a file does not read back as written.
        """
        for path in self.shards(split, format):
            yield from SHARD_FORMATS[path.suffix.removeprefix(".")].read_shard(path)

    def ledger(self, split: str) -> Iterator[LedgerRow]:
        """What became of each annotation row of a split.

        Raises:
          BadOption: if the data set has no such split.
          CorruptShard: if a ledger is damaged.
        """
        for entry in self._split(split)["shards"]:
            yield from ledger.read(self.folder / entry["ledger"])

    def _split(self, split: str) -> dict[str, Any]:
        if split not in self.manifest["splits"]:
            raise BadOption(f"{self.folder} holds no split {split!r}, only {', '.join(self.splits) or 'none'}")
        return self.manifest["splits"][split]


def open_dataset(folder: str | Path) -> PreparedDataset:
    """Opens a prepared data set for reading.

    Raises:
      CorruptShard: if the folder holds none, or it is not finished.
    """
    layout = Layout(Path(folder))
    return PreparedDataset(layout.output, read_labels(layout).labels, manifest.read(layout))
