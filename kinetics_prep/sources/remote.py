"""Remote: adds further attempts, the host's pace and the cache to a source that downloads a video in one attempt."""

import contextlib
import hashlib
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import Again, BotCheck, ClipError, Forbidden, Internal, RateLimited
from kinetics_prep.media import video
from kinetics_prep.sources.cache import Cache, Entry
from kinetics_prep.sources.fetched import Fetched, with_source_name
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.sources.pace import HostPaused, Pace, Paces
from kinetics_prep.sources.source import Candidate, Download, RemoteSource
from kinetics_prep.storage.files import reporting_full_disk, sha256_of


class Remote:
    """Downloads the videos of a remote source, and keeps them if there is a cache.

    Args:
      kind: the source's name in `SOURCES`.
      name: the text after --videos, without passwords. Refusals in the cache are filed under it.
      scratch: the folder for downloads if there is no cache.
    """

    def __init__(
        self,
        source: RemoteSource,
        kind: str,
        name: str,
        fetching: Fetching,
        paces: Paces,
        scratch: Path,
        cache: Cache | None,
    ):
        self.source, self.kind, self.name, self.fetching = source, kind, name, fetching
        self.paces, self.scratch, self.cache = paces, scratch, cache

    def candidates(self, row: PlannedRow) -> Iterator[Candidate]:
        """Yields the video of a row, or its clip. Without a cache the file is deleted when the context ends.

        Raises:
          ClipError: the reason why there is none.
        """
        if self.cache is None:
            yield self._fetch_to_scratch(row)
        else:
            yield contextlib.nullcontext(self._fetch_to_cache(row, self.cache))

    @contextlib.contextmanager
    def _fetch_to_scratch(self, row: PlannedRow) -> Iterator[Fetched]:
        self.scratch.mkdir(parents=True, exist_ok=True)
        path = self.scratch / uuid.uuid4().hex
        try:
            with reporting_full_disk(path):
                download, attempts = self._download(row, path)
            yield Fetched(
                path=path,
                name=download.name,
                origin=self.source.origin(row),
                begins_seconds=self._begins_seconds(row),
                attempts=attempts,
                source=self.kind,
                notes=download.notes,
                is_new=True,
            )
        finally:
            for leftover in self.scratch.glob(f"{path.name}*"):
                leftover.unlink(missing_ok=True)

    def _fetch_to_cache(self, row: PlannedRow, cache: Cache) -> Fetched:
        key = self.key(row)
        with cache.locked(key):  # two clips of a video are one download
            if fetched := cache.find_key(key):
                return fetched
            refusal = cache.refusals.find(key, self.name, self.fetching)
            if refusal is not None:
                raise refusal
            path = cache.partial(hashlib.sha256(f"{key} {self.name}".encode()).hexdigest()[:40])
            try:
                with reporting_full_disk(path):
                    download, attempts = self._download(row, path)
                _expect_video(path, download.name, attempts)
            except ClipError as error:
                if error.attempts:
                    cache.refusals.note(key, self.name, error, self.fetching)
                raise
            return cache.keep(self._entry(row, path, download, attempts), path)

    def _entry(self, row: PlannedRow, path: Path, download: Download, attempts: int) -> Entry:
        return Entry(
            key=self.key(row),
            name=download.name,
            origin=self.source.origin(row),
            source=self.kind,
            begins_seconds=self._begins_seconds(row),
            attempts=attempts,
            sha256=sha256_of(path),
            bytes=path.stat().st_size,
            notes=download.notes,
        )

    def key(self, row: PlannedRow) -> str:
        """The key of the row's file in the cache."""
        return Cache.key(row, is_piece=self.source.gives_pieces)

    def remembers(self, row: PlannedRow) -> bool:
        """Whether the source refused the row's video in an earlier run, so that it would get no request."""
        return self.cache is not None and self.cache.refusals.find(self.key(row), self.name, self.fetching) is not None

    def _begins_seconds(self, row: PlannedRow) -> float | None:
        return row.start_seconds if self.source.gives_pieces else None

    def _download(self, row: PlannedRow, path: Path) -> tuple[Download, int]:
        """Downloads to `path`, with further attempts after failures that may pass.

        Returns:
          (download, number of attempts).
        """
        pace, attempt = self.paces.of(self.source.host), 0
        while True:
            attempt += 1
            try:
                with pace.connection():
                    return self._attempt(row, path, pace), attempt
            except HostPaused as paused:
                paused.error.attempts = attempt - 1
                raise paused.error from None
            except ClipError as error:
                if error.attempts == 0:  # nothing was requested
                    raise
                error.attempts = attempt
                if attempt >= self._most_attempts(error):
                    if attempt > 1:
                        raise type(error)(f"{error}, {attempt} attempts", attempts=attempt) from None
                    raise
            time.sleep(self.fetching.politeness.backoff_seconds * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))

    def _attempt(self, row: PlannedRow, path: Path, pace: Pace) -> Download:
        """Makes one attempt and notes its outcome for the host's pace, before the connection is free for others."""
        try:
            download = self.source.download(row, path, self.paces.wait)
        except ClipError as error:
            if error.attempts:
                pace.note_failure(error)
            raise
        pace.note_answer()
        return download

    def _most_attempts(self, error: ClipError) -> int:
        """How many attempts a video gets that was refused with this error."""
        politeness = self.fetching.politeness
        if isinstance(error, Forbidden):
            return min(self.source.attempts_if_forbidden, politeness.attempts)
        if isinstance(error, Internal) or error.again not in (Again.AT_ONCE, Again.AFTER_A_PAUSE):
            return 1
        if isinstance(error, RateLimited | BotCheck):
            return max(politeness.attempts, 2)
        return politeness.attempts


def _expect_video(path: Path, name: str, attempts: int) -> None:
    """Deletes a file that ffmpeg cannot read, so that it does not enter the cache, and raises the reason."""
    try:
        video.probe(path)
    except ClipError as error:
        path.unlink(missing_ok=True)
        raise with_source_name(error, path, name, attempts) from None
