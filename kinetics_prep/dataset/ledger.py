"""The ledger: what became of each annotation row, and why."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kinetics_prep import schemas
from kinetics_prep.errors import REASONS, CorruptShard
from kinetics_prep.storage import tables

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

    def __post_init__(self) -> None:
        expected: dict[str, tuple[str | None, ...]] = {WRITTEN: (None,), REFUSED: REASONS}
        if self.reason not in expected.get(self.status, ()):
            raise ValueError(f"a row is written, or refused for a reason; got {self.status!r}, {self.reason!r}")

    def as_dict(self) -> dict[str, object]:
        """In the order of the schema's columns."""
        return {field["name"]: getattr(self, field["name"]) for field in schemas.load("ledger")["fields"]}


def refusals(rows: Iterable[LedgerRow]) -> dict[str, int]:
    """Refused rows by reason, the most frequent first."""
    counts = collections.Counter(row.reason for row in rows if row.reason is not None)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def read_columns(path: Path, *columns: str) -> Iterator[dict[str, Any]]:
    """Reads some columns of a ledger, one row at a time; much faster than `read`, and without its checks of values.

    Raises:
      CorruptShard: if the file is not a ledger.
    """
    return tables.read(path, "ledger", columns=columns)


def read(path: Path) -> Iterator[LedgerRow]:
    """Reads a ledger, one row at a time.

    Raises:
      CorruptShard: if the file is not a ledger.
    """
    for cells in tables.read(path, "ledger"):
        try:
            yield LedgerRow(**cells)
        except ValueError as error:
            raise CorruptShard(f"{path} is not a ledger: {error}") from None
