"""Remote: adds further attempts, the host's pace and the cache to a source that downloads a video in one attempt."""

import contextlib
import dataclasses
import hashlib
import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import Again, BotCheck, ClipError, Forbidden, Internal, RateLimited
from kinetics_prep.media import video
from kinetics_prep.sources.cache import Cache
from kinetics_prep.sources.entry import Answer, Entry, without_half_characters
from kinetics_prep.sources.fetched import Fetched, Refused, with_source_name
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

    def candidates(self, row: PlannedRow, refused: Sequence[Refused] = ()) -> Iterator[Candidate]:
        """Yields the video of a row, or its clip. Without a cache the file is deleted when the context ends.

        With a cache, yields nothing if all that it holds from this source was refused, unless the source is to be asked
        again.

        Args:
          refused: files that are no use for the row.

        Raises:
          ClipError: the reason why there is no file, or no other file.
        """
        if self.cache is None:
            yield self._fetch_to_scratch(row)
        elif fetched := self._fetch_to_cache(row, self.cache, refused):
            yield contextlib.nullcontext(fetched)

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

    def _fetch_to_cache(self, row: PlannedRow, cache: Cache, refused: Sequence[Refused]) -> Fetched | None:
        key = self.key(row)
        with cache.locked(key):  # two clips of a video are one download
            tried = {file.fetched.sha256: file.error for file in refused if file.fetched.key == key}
            known = [entry for entry in cache.entries(key) if entry.sha256 in tried or cache.is_sound(entry)]
            untried = next((entry for entry in known if entry.sha256 not in tried), None)
            if untried:
                return cache.fetched(untried, row)
            reason = _reason_to_ask(refused, self.fetching.ask_again)
            ours = next((entry for entry in known if self._gave(entry, row)), None)
            if ours is None:
                return self._request_first(row, cache, reason, tried)
            if ours.run == cache.run or reason not in self.fetching.ask_again:
                if ours.answer:
                    raise _same_reason(tried[ours.sha256], f"{ours.origin}: {ours.answer}", attempts=0)
                return None
            return self._request_again(row, cache, reason, tried, ours)

    def _gave(self, entry: Entry, row: PlannedRow) -> bool:
        """Whether an entry's file came from here; earlier versions did not note the place."""
        if entry.place is None:
            return (entry.source, entry.origin) == (self.kind, self.source.origin(row))
        return entry.place == self.name

    def _request_first(
        self, row: PlannedRow, cache: Cache, reason: str | None, tried: Mapping[str | None, ClipError]
    ) -> Fetched:
        """Requests a video that did not come from here yet, unless the source refused it in an earlier run."""
        key = self.key(row)
        refusal = cache.refusals.find(key, self.name, self.fetching)
        if refusal is not None:
            raise refusal
        try:
            new, path = self._request(row, cache, reason)
        except ClipError as error:
            if error.attempts:
                cache.refusals.note(key, self.name, error, self.fetching)
            raise
        fetched = cache.keep(new, path)
        if new.sha256 in tried:
            raise _same_reason(tried[new.sha256], f"{new.origin}: the same file", new.attempts)
        return fetched

    def _request_again(
        self, row: PlannedRow, cache: Cache, reason: str | None, tried: Mapping[str | None, ClipError], ours: Entry
    ) -> Fetched:
        """Requests a video whose file was refused. If there is no other file, the refusal has the same reason again."""
        try:
            new, path = self._request(row, cache, reason)
        except ClipError as error:
            if not error.attempts:
                raise _same_reason(tried[ours.sha256], f"{ours.origin}: not requested again: {error}", 0) from None
            answer = Answer(without_half_characters(f"{error.reason}: {error}"), time.time())
            cache.amend(ours, dataclasses.replace(ours, run=cache.run, answer=answer))
            raise _same_reason(tried[ours.sha256], f"{ours.origin}: {answer}", error.attempts) from None
        if new.sha256 == ours.sha256 and cache.is_sound(ours, reads_bytes=True):
            path.unlink()
            answer = Answer("the same file", time.time())
            cache.amend(ours, dataclasses.replace(ours, run=cache.run, answer=answer))
            raise _same_reason(tried[ours.sha256], f"{ours.origin}: {answer}", new.attempts)
        fetched = cache.keep(new, path, instead_of=ours)
        if new.sha256 in tried and new.sha256 != ours.sha256:  # that of another place, or one that it gave before
            raise _same_reason(tried[new.sha256], f"{new.origin}: the same file as one before", new.attempts)
        return fetched

    def _request(self, row: PlannedRow, cache: Cache, reason: str | None) -> tuple[Entry, Path]:
        """Downloads a video beside the cache.

        Returns:
          (its entry, where the file is).
        """
        path = cache.partial(hashlib.sha256(f"{self.key(row)} {self.name}".encode()).hexdigest()[:40])
        with reporting_full_disk(path):
            download, attempts = self._download(row, path)
        _expect_video(path, download.name, attempts)
        entry = Entry(
            key=self.key(row),
            name=download.name,
            origin=self.source.origin(row),
            source=self.kind,
            begins_seconds=self._begins_seconds(row),
            attempts=attempts,
            sha256=sha256_of(path),
            bytes=path.stat().st_size,
            notes=download.notes,
            place=self.name,
            seconds_since_1970=time.time(),
            asked_for=reason,
            run=cache.run,
        )
        return entry, path

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


def _reason_to_ask(refused: Sequence[Refused], ask_again: Sequence[str]) -> str | None:
    """The reason why another file is wanted: one for which it is to be requested again, if there is one."""
    reasons = [file.error.reason for file in refused]
    return next((reason for reason in reasons if reason in ask_again), reasons[0] if reasons else None)


def _same_reason(refusal: ClipError, message: str, attempts: int) -> ClipError:
    return type(refusal)(message, attempts)
