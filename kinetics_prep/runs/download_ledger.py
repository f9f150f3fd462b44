"""The ledger of downloads: what became of each annotation row, in CACHE/ledger."""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetics_prep import schemas
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.errors import NoRoom
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import atomic_write, sha256_of

AT_HAND, DOWNLOADED, REFUSED = "at_hand", "downloaded", "refused"
STATUSES = (AT_HAND, DOWNLOADED, REFUSED)

ROWS_PER_GROUP = 4096
"""Of Parquet; so many rows are in memory, at most."""

FLUSH_SECONDS = 60.0
"""How long a row that is done may be missing on the disk."""

_LONGEST_NAME_BYTES = 150


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
        """In the order of the schema's columns, with bytes of file names that are not Unicode as `\\udcff`."""
        return {field["name"]: _unicode(getattr(self, field["name"])) for field in schemas.load("download")["fields"]}


def _unicode(value: object) -> object:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


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


def ledger_path(cache: Path, selection: Selection, split: str) -> Path:
    """Where the ledger of a selection is: `<names of the annotation files>-<digest>-<split>.parquet`.

    The digest is of all that decides which rows there are; of files it takes the content. So the same command has the
    same ledger, from whatever folder it is given; and the ledger of `k1/val.csv` is replaced neither by that of
    `k2/val.csv` nor by that of its first ten rows.

    Raises:
      OSError: if a file cannot be read.
    """
    names = "+".join(Path(path).stem for path in selection.annotations)
    names = names.encode("utf-8", "ignore")[:_LONGEST_NAME_BYTES].decode("utf-8", "ignore")
    return cache / "ledger" / f"{names}-{_digest(selection)[:8]}-{split}.parquet"


def _digest(selection: Selection) -> str:
    files = (*map(Path, selection.annotations), selection.labels, selection.ids)
    contents = [path and sha256_of(path) for path in files]
    what = [contents, selection.only, selection.limit, selection.format_name]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def write(path: Path, rows: Iterable[DownloadRow], scratch: Path) -> None:
    """Writes a ledger of downloads, whole or not at all."""
    with atomic_write(path, scratch) as temporary:
        tables.write(temporary, "download", _groups(rows))


def _groups(rows: Iterable[DownloadRow]) -> Iterator[list[dict]]:
    rows = iter(rows)
    while group := [row.as_dict() for row in itertools.islice(rows, ROWS_PER_GROUP)]:
        yield group


class DownloadJournal(contextlib.AbstractContextManager["DownloadJournal"]):
    """The rows of a run that goes on, on disk before its ledger is: in `<ledger>.part/`, as they are done.

    They are in files of `ROWS_PER_GROUP` rows; the last is written again every `FLUSH_SECONDS`. So whatever kills the
    run, all but the rows of the last minute can be read. Begins with removing what an earlier run left there; ends with
    removing its own files, unless the body ends with an error.

    Args:
      path: of the ledger.
      scratch: a folder on the same disk, for files that are not complete yet.

    Raises:
      NoRoom, OSError: by `add` and `write`, if a file cannot be written.
    """

    def __init__(self, path: Path, scratch: Path):
        self.folder = path.with_suffix(".part")
        self._scratch = scratch
        # Another run of the same command may be under way; each keeps to its own files.
        self._run, self._files = uuid.uuid4().hex[:8], 0
        self._rows: list[DownloadRow] = []
        self._unwritten = False
        self._error: Exception | None = None
        self._lock, self._end = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._write_regularly, name="download-journal", daemon=True)

    def __enter__(self) -> "DownloadJournal":
        self._remove("*.parquet")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._end.set()
        self._thread.join()
        if kind is None:  # the ledger is complete
            self._remove(f"{self._run}-*.parquet")
        else:
            with contextlib.suppress(OSError, NoRoom):  # the error that ends the run is the one to report
                self.write()

    def add(self, row: DownloadRow) -> None:
        """Takes in a row that is done; any thread may call this."""
        with self._lock:
            if self._error is not None:
                raise self._error
            self._rows.append(row)
            self._unwritten = True
            if len(self._rows) >= ROWS_PER_GROUP:
                self._write()
                self._rows, self._files = [], self._files + 1

    def write(self) -> None:
        """Writes the rows that are not on disk yet."""
        with self._lock:
            if self._unwritten:
                self._write()

    def _write(self) -> None:
        path = self.folder / f"{self._run}-{self._files:05d}.parquet"
        try:
            write(path, self._rows, self._scratch)
        except FileNotFoundError:  # another run has just removed the folder, when it was empty
            write(path, self._rows, self._scratch)
        self._unwritten = False

    def _write_regularly(self) -> None:
        while not self._end.wait(FLUSH_SECONDS):
            try:
                self.write()
            except Exception as error:  # raised by the next `add`
                self._error = error
                return

    def _remove(self, pattern: str) -> None:
        for path in self.folder.glob(pattern):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is missing, or another run has files there
            self.folder.rmdir()
