"""The ledger of downloads: what became of each annotation row, in CACHE/ledger."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetics_prep import schemas
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import atomic_write

AT_HAND, DOWNLOADED, REFUSED = "at_hand", "downloaded", "refused"
STATUSES = (AT_HAND, DOWNLOADED, REFUSED)

ROWS_PER_GROUP = 4096
"""Of Parquet."""


@dataclasses.dataclass(frozen=True)
class DownloadRow:
    """What became of a row; `schemas/download.json` says what each field means."""

    clip_id: str
    media_id: str | None
    label: str | None
    split: str
    start_seconds: float | None
    end_seconds: float | None
    annotation_file: str
    annotation_line: int
    status: str
    reason: str | None = None
    message: str | None = None
    again: str | None = None
    attempts: int = 0
    source: str | None = None
    source_kind: str | None = None
    source_sha256: str | None = None
    source_bytes: int | None = None
    begins_seconds: float | None = None
    notes: str | None = None
    seconds: float = 0.0

    def as_dict(self) -> dict[str, object]:
        """In the order of the schema's columns."""
        return {field["name"]: getattr(self, field["name"]) for field in schemas.load("download")["fields"]}


def _no_counts() -> collections.Counter[str]:
    return collections.Counter()


@dataclasses.dataclass
class DownloadTally:
    """Rows done so far, counted."""

    counts: collections.Counter[str] = dataclasses.field(
        default_factory=lambda: collections.Counter(dict.fromkeys(STATUSES, 0))
    )
    """By status."""
    reasons: collections.Counter[str] = dataclasses.field(default_factory=_no_counts)
    """Refused rows by reason."""
    new_bytes: int = 0

    @property
    def rows(self) -> int:
        """Rows done."""
        return self.counts.total()

    @property
    def refused(self) -> int:
        """Rows refused."""
        return self.counts[REFUSED]

    def add(self, row: DownloadRow) -> None:
        """Counts a row."""
        self.counts[row.status] += 1
        if row.reason is not None:
            self.reasons[row.reason] += 1
        elif row.status == DOWNLOADED:
            self.new_bytes += row.source_bytes or 0

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common())
        got = f"{self.counts[AT_HAND]} at hand, {self.counts[DOWNLOADED]} downloaded"
        return f"{self.rows} rows, {got}, {self.refused} refused" + (reasons and f" ({reasons})")


def ledger_path(cache: Path, annotations: Iterable[str], split: str) -> Path:
    """Where the ledger of some annotation files is."""
    names = "+".join(Path(path).stem for path in annotations)
    return cache / "ledger" / f"{names[:150]}-{split}.parquet"


def write(path: Path, rows: Iterable[DownloadRow], scratch: Path) -> None:
    """Writes a ledger of downloads, whole or not at all."""
    with atomic_write(path, scratch) as temporary:
        tables.write(temporary, "download", _groups(rows))


def _groups(rows: Iterable[DownloadRow]) -> Iterator[list[dict]]:
    rows = iter(rows)
    while group := [row.as_dict() for row in itertools.islice(rows, ROWS_PER_GROUP)]:
        yield group
