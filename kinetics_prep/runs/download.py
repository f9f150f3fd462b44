"""Getting videos and nothing else: into the cache, or the reason why not, for every annotation row.

with download.prepared(DownloadJob(Selection(("k400_val.csv",)), fetching, workers=8)) as ready:
    print(download.carry_out(ready))
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kinetics_prep import schemas
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlannedRow, PlanRow, RefusedRow, annotation_columns
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.annotations.selection import SelectedRows, Selection, select_rows
from kinetics_prep.errors import BY_REASON, BadOption, ClipError
from kinetics_prep.sources import Fetched, Fetching, Remote, Sources, open_sources
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import atomic

AT_HAND, DOWNLOADED, REFUSED = "at_hand", "downloaded", "refused"
STATUSES = (AT_HAND, DOWNLOADED, REFUSED)

_WAITING_ROWS = 1024
"""Rows that may be done before one that stands before them: the ledger keeps the order of the plan."""

_ROWS_PER_GROUP = 4096


@dataclasses.dataclass(frozen=True)
class DownloadRow:
    """What became of a row; the meaning of each field stands in `schemas/download.json`."""

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

    def as_dict(self) -> dict:
        """In the order of the schema's columns."""
        return {field["name"]: getattr(self, field["name"]) for field in schemas.load("download")["fields"]}


def settle(row: PlanRow, sources: Sources) -> DownloadRow:
    """Gets the video of a row, or says why there is none."""
    begun = time.monotonic()
    try:
        if isinstance(row, RefusedRow):
            raise BY_REASON[row.refusal_reason](row.refusal_message, attempts=0)
        facts = sources.bring(row, _facts)
    except ClipError as error:
        facts = {"status": REFUSED, "reason": error.reason, "message": str(error)}
        facts |= {"again": error.again.value, "attempts": error.attempts}
    return DownloadRow(
        **annotation_columns(row),
        seconds=time.monotonic() - begun,
        **facts,
    )


def _facts(fetched: Fetched) -> dict:
    return {
        "status": DOWNLOADED if fetched.is_new else AT_HAND,
        "attempts": fetched.attempts,
        "source": fetched.origin,
        "source_kind": fetched.source,
        "source_sha256": fetched.sha256,
        "source_bytes": fetched.path.stat().st_size,
        "begins_seconds": fetched.begins_seconds,
        "notes": "; ".join(fetched.notes) or None,
    }


@dataclasses.dataclass(frozen=True)
class DownloadJob:
    """What the user asks for."""

    selection: Selection
    fetching: Fetching
    workers: int
    """Rows at a time."""

    def __post_init__(self):
        if self.fetching.cache is None:
            raise BadOption("--cache is missing: where downloads are to stay")


@dataclasses.dataclass
class Tally:
    """What came of a run, so far."""

    counts: collections.Counter = dataclasses.field(
        default_factory=lambda: collections.Counter(dict.fromkeys(STATUSES, 0))
    )
    reasons: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    new_bytes: int = 0

    @property
    def rows(self) -> int:
        return self.counts.total()

    @property
    def refused(self) -> int:
        return self.counts[REFUSED]

    def add(self, row: DownloadRow) -> None:
        self.counts[row.status] += 1
        if row.status == REFUSED:
            self.reasons[row.reason] += 1
        elif row.status == DOWNLOADED:
            self.new_bytes += row.source_bytes

    def __str__(self):
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common())
        had = f"{self.counts[AT_HAND]} at hand, {self.counts[DOWNLOADED]} downloaded"
        return f"{self.rows} rows, {had}, {self.refused} refused" + (reasons and f" ({reasons})")


@dataclasses.dataclass(frozen=True)
class Ready:
    """A job whose annotations have been read and whose places have been looked at."""

    job: DownloadJob
    chosen: SelectedRows
    labels: LabelMap
    sources: Sources
    rows: int
    """All splits together."""
    tally: Tally

    def arranged(self, split: str) -> Iterator[PlanRow]:
        """The rows of a split in the order of a plan, so that --limit means the same as in `flow`."""
        return self.chosen.plan_rows(split, self.labels, clips_per_shard=_ROWS_PER_GROUP)


@contextlib.contextmanager
def prepared(job: DownloadJob) -> Iterator[Ready]:
    """Reads annotations and looks at places, whatever needs no request.

    Raises:
      BadAnnotations, BadOption: if something in them makes no sense.
    """
    cache = Path(job.fetching.cache)
    with RowStore() as spool:
        chosen = select_rows(job.selection, spool)
        # A cache of terabytes is not read through to see whether something is missing; `flow` reads what it uses.
        sources = open_sources(job.fetching, cache / "partial", reads_cache=False)
        ready = Ready(job, chosen, chosen.labels, sources, 0, Tally())
        yield dataclasses.replace(ready, rows=sum(map(chosen.count, chosen.splits)))


def carry_out(ready: Ready) -> Tally:
    """Gets whatever is missing, and writes a ledger for each split."""
    cache = Path(ready.job.fetching.cache)
    for split in ready.chosen.splits:
        settled = run(ready.arranged(split), ready.sources, ready.job.workers, ready.tally.add)
        write_ledger(ledger_path(cache, ready.job.selection.annotations, split), settled, cache / "partial")
    return ready.tally


def run(
    rows: Iterable[PlanRow], sources: Sources, workers: int, done: Callable[[DownloadRow], None] = lambda row: None
) -> Iterator[DownloadRow]:
    """Settles rows, `workers` at a time.

    Args:
      done: called with each as soon as it is settled, in no order, but never twice at once.

    Returns:
      What became of them, in their order.
    """
    lock, flying = threading.Lock(), collections.deque()

    def settle_one(row: PlanRow) -> DownloadRow:
        settled = settle(row, sources)
        with lock:
            done(settled)
        return settled

    pool = concurrent.futures.ThreadPoolExecutor(workers, "download")
    try:
        for row in rows:
            flying.append(pool.submit(settle_one, row))
            if len(flying) >= _WAITING_ROWS:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def write_ledger(path: Path, rows: Iterable[DownloadRow], scratch: Path) -> None:
    """Writes a ledger of downloads, whole or not at all."""
    with atomic(path, scratch) as temporary:
        tables.write(temporary, "download", _groups(rows))


def _groups(rows: Iterable[DownloadRow]) -> Iterator[list[dict]]:
    rows = iter(rows)
    while group := [row.as_dict() for row in itertools.islice(rows, _ROWS_PER_GROUP)]:
        yield group


# How long it will take ---------------------------------------------------------------------------


@dataclasses.dataclass
class Forecast:
    """What a run would have to ask for."""

    rows: int = 0
    unusable: int = 0
    """Rows that are refused for what the annotations say."""
    at_hand: int = 0
    remembered: int = 0
    """Rows that every place has refused before, so that none is asked."""
    to_ask: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    """Videos by the host that is asked first."""
    perhaps: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    """Videos by host, of those that are asked where the ones before have nothing."""

    def in_words(self, fetching: Fetching, duration: Callable[[float], str]) -> Iterator[str]:
        """The lines to print.

        Args:
          duration: seconds -> words.
        """
        parts = [f"{self.rows} rows", f"{self.at_hand} at hand"]
        parts += [f"{self.unusable} that the annotations make unusable"] if self.unusable else []
        parts += [f"{self.remembered} that nobody has, as was found before"] if self.remembered else []
        yield ", ".join(parts)
        for words, counts in (("to ask for", self.to_ask), ("more, if nobody before it has them", self.perhaps)):
            for host, count in counts.items():
                yield f"{host}: {count} videos {words}; {_time_needed(count, host, fetching, duration)}"


def forecast(ready: Ready) -> Forecast:
    """Looks at what is at hand, and asks nobody."""
    found, asked = Forecast(), set()
    for row in itertools.chain.from_iterable(map(ready.arranged, ready.chosen.splits)):
        found.rows += 1
        if isinstance(row, RefusedRow):
            found.unusable += 1
        elif any(place.has(row) for place in ready.sources.places if not isinstance(place, Remote)):
            found.at_hand += 1
        else:
            _count_requests(found, row, ready.sources, asked)
    return found


def _count_requests(found: Forecast, row: PlannedRow, sources: Sources, asked: set) -> None:
    remote = [place for place in sources.places if isinstance(place, Remote) and not place.remembers(row)]
    if not remote:
        found.remembered += 1
    for number, place in enumerate(remote):
        request = hash((place.name, place.key(row)))
        if request not in asked:  # else it is another clip of a video that is asked for already
            asked.add(request)
            (found.perhaps if number else found.to_ask)[place.source.host] += 1


def _time_needed(count: int, host: str, fetching: Fetching, duration: Callable[[float], str]) -> str:
    politeness = fetching.politeness
    per_second = politeness.per_second(host)
    spacing_seconds = max(1 / per_second if per_second else 0.0, politeness.rest_seconds / politeness.connections)
    if not spacing_seconds:
        return "as fast as it answers, as no --rate is set"
    rate = f"{1 / spacing_seconds:.3g}/s" if spacing_seconds <= 10 else f"{3600 / spacing_seconds:.3g}/h"
    return f"at {rate} that takes {duration(count * spacing_seconds)}, or longer"


def ledger_path(cache: Path, annotations: Iterable[str], split: str) -> Path:
    """Where the ledger of some annotation files stands."""
    names = "+".join(Path(path).stem for path in annotations)
    return cache / "ledger" / f"{names[:150]}-{split}.parquet"
