"""The ledger: what became of each annotation row, and why."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kinetics_prep import schemas
from kinetics_prep.errors import REASONS, CorruptShard
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import sha256_of
from kinetics_prep.storage.store import Store

STATUSES = WRITTEN, REFUSED = "written", "refused"


@dataclasses.dataclass(frozen=True)
class LedgerRow:
    """One row of the ledger; `schemas/ledger.json` says what each field means."""

    clip_id: str
    media_id: str | None
    label: str | None
    split: str
    start_seconds: float | None
    end_seconds: float | None
    annotation_file: str
    annotation_line: int
    shard: int
    status: str
    engine: str
    recipe: str
    versions: str
    reason: str | None = None
    message: str | None = None
    notes: str | None = None
    attempts: int = 0
    source: str | None = None
    source_kind: str | None = None
    source_sha256: str | None = None
    source_bytes: int | None = None
    taken_as_trimmed: bool | None = None
    ends_early: bool | None = None
    frames: int | None = None
    width: int | None = None
    height: int | None = None
    saturated_share: float | None = None
    record_bytes: int | None = None
    seconds: float = 0.0
    seconds_fetch: float = 0.0
    seconds_decode: float = 0.0
    seconds_flow: float = 0.0
    seconds_encode: float = 0.0
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        expected: dict[str, tuple[str | None, ...]] = {WRITTEN: (None,), REFUSED: REASONS}
        if self.reason not in expected.get(self.status, ()):
            raise ValueError(f"a row is written, or refused for a reason; got {self.status!r}, {self.reason!r}")

    @classmethod
    def from_cells(cls, cells: Mapping[str, Any]) -> "LedgerRow":
        """The row of some cells; those of columns that a newer version added are passed over.

        Raises:
          TypeError, ValueError: if they are not a row.
        """
        return cls(**{name: cells[name] for name in cells.keys() & _NAMES})

    def as_dict(self) -> dict[str, object]:
        """In the order of the schema's columns."""
        return {field["name"]: getattr(self, field["name"]) for field in schemas.load("ledger")["fields"]}


_NAMES = frozenset(field.name for field in dataclasses.fields(LedgerRow))


def refusals(rows: Iterable[LedgerRow]) -> dict[str, int]:
    """Refused rows by reason, the most frequent first."""
    counts = collections.Counter(row.reason for row in rows if row.reason is not None)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def read_columns(store: Store, key: str, *columns: str) -> Iterator[dict[str, Any]]:
    """Reads some columns of a ledger, one row at a time; much faster than `read`, and without its checks of values.

    Raises:
      CorruptShard: if the file is missing or not a ledger.
    """
    try:
        with store.local(key) as path:
            yield from tables.read(path, "ledger", columns=columns)
    except FileNotFoundError:
        raise CorruptShard(f"{store.place}/{key} is missing") from None


def read(store: Store, key: str) -> Iterator[LedgerRow]:
    """Reads a ledger, one row at a time.

    Raises:
      CorruptShard: if the file is missing or not a ledger.
    """
    try:
        with store.local(key) as path:
            for cells in tables.read(path, "ledger"):
                yield LedgerRow.from_cells(cells)
    except FileNotFoundError:
        raise CorruptShard(f"{store.place}/{key} is missing") from None
    except ValueError as error:
        raise CorruptShard(f"{store.place}/{key} is not a ledger: {error}") from None


def write(store: Store, key: str, rows: Iterable[LedgerRow]) -> dict[str, Any]:
    """Writes a ledger, or replaces it; returns what a marker says of it."""
    with store.temporary("ledger.parquet") as path:
        tables.write(path, "ledger", [[row.as_dict() for row in rows]])
        description = _describe(key, path)
        store.put(key, path)
    return description


def describe(store: Store, key: str) -> dict[str, Any]:
    """What a marker says of a ledger that is there."""
    with store.local(key) as path:
        return _describe(key, path)


def _describe(key: str, path: Path) -> dict[str, Any]:
    return {"ledger": key, "ledger_sha256": sha256_of(path), "ledger_bytes": path.stat().st_size}
