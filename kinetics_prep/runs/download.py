"""A run of `download`: gets videos into the cache, or the reason why not, for every annotation row.

with open_download(DownloadJob(Selection(("k400_val.csv",)), fetching, workers=8)) as run:
    print(download_all(run))
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlanRow, RefusedRow, annotation_columns
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.annotations.selection import SelectedRows, Selection, select_rows
from kinetics_prep.errors import BY_REASON, BadOption, ClipError, UnreadableFile
from kinetics_prep.media import video
from kinetics_prep.runs import download_ledger
from kinetics_prep.runs.download_ledger import (
    AT_HAND,
    DOWNLOADED,
    REFUSED,
    ROWS_PER_GROUP,
    DownloadJournal,
    DownloadRow,
    DownloadTally,
)
from kinetics_prep.sources import Fetched, Fetching, Sources, open_sources
from kinetics_prep.sources.fetched import with_source_name

_WAITING_ROWS = 1024
"""Rows that may be done before an earlier row: the ledger keeps the order of the plan."""


_SEEN_BY_PROBE = frozenset(("unreadable", "no_video_stream", "decode_timeout"))
"""Reasons for which a file at hand is looked at; a clip is not decoded here."""


def download_row(row: PlanRow, sources: Sources, ask_again: tuple[str, ...] = ()) -> DownloadRow:
    """Gets the video of a row, or refuses the row.

    Args:
      ask_again: reasons; a file in the cache that `flow` refused for one of them is requested again.
    """
    start = time.monotonic()
    facts: dict[str, Any]
    try:
        if isinstance(row, RefusedRow):
            raise BY_REASON[row.refusal_reason](row.refusal_message, attempts=0)
        facts = sources.first_usable(row, functools.partial(_facts, ask_again))
    except ClipError as error:
        facts = {"status": REFUSED, "reason": error.reason, "message": str(error)}
        facts |= {"again": error.again.value, "attempts": error.attempts}
    return DownloadRow(**annotation_columns(row), seconds=time.monotonic() - start, **facts)


def _facts(ask_again: tuple[str, ...], fetched: Fetched) -> dict[str, Any]:
    if fetched.doubt is not None:
        raise fetched.doubt
    if not fetched.is_new and _SEEN_BY_PROBE.intersection(ask_again):
        _probe(fetched, ask_again)
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


def _probe(fetched: Fetched, ask_again: tuple[str, ...]) -> None:
    """Raises what ffmpeg finds wrong with the beginning of a file, if it is one of the reasons."""
    try:
        video.probe(fetched.path)
    except OSError as error:  # no right to read it, or removed since it was listed
        raise UnreadableFile(f"{fetched.origin} cannot be read: {error.strerror}") from None
    except ClipError as error:
        if error.reason in ask_again:
            raise with_source_name(error, fetched.path, fetched.name, fetched.attempts) from None


@dataclasses.dataclass(frozen=True)
class DownloadJob:
    """What the user asks for."""

    selection: Selection
    fetching: Fetching
    workers: int
    """Rows at a time."""

    def __post_init__(self) -> None:
        if self.fetching.cache is None:
            raise BadOption("--cache is missing: where downloads are to stay")

    @property
    def cache(self) -> Path:
        """The folder in which downloads stay."""
        return Path(self.fetching.cache or "")


@dataclasses.dataclass(frozen=True)
class DownloadRun:
    """A job whose annotations have been read and whose places have been checked."""

    job: DownloadJob
    chosen: SelectedRows
    labels: LabelMap
    sources: Sources
    rows: int
    """All splits together."""
    tally: DownloadTally

    def arranged(self, split: str) -> Iterator[PlanRow]:
        """The rows of a split in the order of a plan, so that --limit means the same as in `flow`."""
        return self.chosen.plan_rows(split, self.labels, clips_per_shard=ROWS_PER_GROUP)


@contextlib.contextmanager
def open_download(job: DownloadJob) -> Iterator[DownloadRun]:
    """Reads annotations and checks places, without any request.

    Raises:
      BadAnnotations, BadOption: if something in them makes no sense.
    """
    with RowStore() as rows:
        chosen = select_rows(job.selection, rows)
        # A cache of terabytes is not read through to see whether something is missing; `flow` reads what it uses.
        sources = open_sources(job.fetching, job.cache / "partial", reads_cache=False)
        count = sum(map(chosen.count, chosen.splits))
        yield DownloadRun(job, chosen, chosen.labels, sources, count, DownloadTally())


def download_all(run: DownloadRun) -> DownloadTally:
    """Gets every missing video, and writes a ledger for each split; until then its rows are in a `DownloadJournal`."""
    for split in run.chosen.splits:
        _download_split(run, split)
    return run.tally


def _download_split(run: DownloadRun, split: str) -> None:
    job, scratch = run.job, run.job.cache / "partial"
    path = download_ledger.ledger_path(job.cache, job.selection, split)

    def done(row: DownloadRow) -> None:
        run.tally.add(row)
        journal.add(row)

    with DownloadJournal(path, scratch) as journal:
        rows = download_rows(run.arranged(split), run.sources, job.workers, done, job.fetching.ask_again)
        download_ledger.write(path, rows, scratch)


def download_rows(
    rows: Iterable[PlanRow],
    sources: Sources,
    workers: int,
    done: Callable[[DownloadRow], None] = lambda row: None,
    ask_again: tuple[str, ...] = (),
) -> Iterator[DownloadRow]:
    """Downloads rows, `workers` at a time; yields what became of them, in their order.

    Args:
      done: called with each result at once, in no order, but never twice at the same time.
      ask_again: as for `download_row`.
    """
    lock = threading.Lock()
    running: collections.deque[concurrent.futures.Future[DownloadRow]] = collections.deque()

    def download(row: PlanRow) -> DownloadRow:
        result = download_row(row, sources, ask_again)
        with lock:
            done(result)
        return result

    pool = concurrent.futures.ThreadPoolExecutor(workers, "download")
    try:
        for row in rows:
            running.append(pool.submit(download, row))
            if len(running) >= _WAITING_ROWS:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
