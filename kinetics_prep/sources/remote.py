"""A source elsewhere: attempts, pace and cache around what downloads one video once."""

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
from kinetics_prep.sources.cache import Cache, Kept
from kinetics_prep.sources.fetched import Fetched, with_source_name
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.sources.pace import LeftAlone, Pace, Paces
from kinetics_prep.sources.source import Download
from kinetics_prep.storage.files import room_needed, sha256_of


class Remote:
    """Brings the videos of a source that downloads, and keeps them if there is a cache.

    Args:
      source: has `host`, `gives_pieces`, `origin(row)`, `download(row, path, ask)` and `attempts_if_forbidden`.
      kind: its name in `SOURCES`.
      name: as after --videos, without passwords: what the cache remembers it by.
    """

    def __init__(
        self, source, kind: str, name: str, fetching: Fetching, paces: Paces, scratch: Path, cache: Cache | None
    ):
        self.source, self.kind, self.name, self.fetching = source, kind, name, fetching
        self.paces, self.scratch, self.cache = paces, scratch, cache

    @contextlib.contextmanager
    def fetch(self, row: PlannedRow) -> Iterator[Fetched]:
        """The video of a row, or its clip.

        Raises:
          ClipError: of the kind that says why there is none.
        """
        if self.cache is None:
            with self._downloaded(row) as fetched:
                yield fetched
        else:
            yield self._kept(row, self.cache)

    @contextlib.contextmanager
    def _downloaded(self, row: PlannedRow) -> Iterator[Fetched]:
        self.scratch.mkdir(parents=True, exist_ok=True)
        path = self.scratch / uuid.uuid4().hex
        try:
            with room_needed(path):
                arrived, attempts = self._arrive(row, path)
            origin, begins_seconds = self.source.origin(row), self._begins_seconds(row)
            told = {"source": self.kind, "notes": arrived.notes, "is_new": True}
            yield Fetched(path, arrived.name, origin, begins_seconds, attempts, **told)
        finally:
            for leftover in self.scratch.glob(f"{path.name}*"):
                leftover.unlink(missing_ok=True)

    def _kept(self, row: PlannedRow, cache: Cache) -> Fetched:
        key = self.key(row)
        with cache.turn(key):  # two clips of one video are one download
            if found := cache.find_key(key):
                return found
            if (error := cache.refusal(key, self.name, self.fetching)) is not None:
                raise error
            path = cache.partial(hashlib.sha256(f"{key} {self.name}".encode()).hexdigest()[:40])
            try:
                with room_needed(path):
                    arrived, attempts = self._arrive(row, path)
                _expect_video(path, arrived.name, attempts)
            except ClipError as error:
                if error.attempts:
                    cache.note_refusal(key, self.name, error, self.fetching)
                raise
            kept = Kept(
                key=key,
                name=arrived.name,
                origin=self.source.origin(row),
                source=self.kind,
                begins_seconds=self._begins_seconds(row),
                attempts=attempts,
                sha256=sha256_of(path),
                bytes=path.stat().st_size,
                notes=arrived.notes,
            )
            return cache.keep(kept, path)

    def key(self, row: PlannedRow) -> str:
        """What the cache knows the row's file by."""
        return Cache.key(row, is_piece=self.source.gives_pieces)

    def remembers(self, row: PlannedRow) -> bool:
        """Whether the source has refused the row's video before, and need not be asked."""
        return self.cache is not None and self.cache.refusal(self.key(row), self.name, self.fetching) is not None

    def _begins_seconds(self, row: PlannedRow) -> float | None:
        return row.start_seconds if self.source.gives_pieces else None

    def _arrive(self, row: PlannedRow, path: Path) -> tuple[Download, int]:
        """Downloads to `path`, if need be at several attempts; returns their number too."""
        pace, attempt = self.paces.of(self.source.host), 0
        while True:
            attempt += 1
            try:
                with pace.connection():
                    return self._arrive_now(row, path, pace), attempt
            except LeftAlone as paused:
                paused.error.attempts = attempt - 1
                raise paused.error from None
            except ClipError as error:
                if error.attempts == 0:  # it was not even asked
                    raise
                error.attempts = attempt
                if attempt >= self._attempts_at_most(error):
                    if attempt > 1:
                        raise type(error)(f"{error}, {attempt} attempts", attempts=attempt) from None
                    raise
            time.sleep(self.fetching.politeness.backoff_seconds * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))

    def _arrive_now(self, row: PlannedRow, path: Path, pace: Pace) -> Download:
        """One attempt; the host's pace hears of it before anybody else may have the connection."""
        try:
            arrived = self.source.download(row, path, self.paces.wait)
        except ClipError as error:
            if error.attempts:
                pace.failed(error)
            raise
        pace.answered()
        return arrived

    def _attempts_at_most(self, error: ClipError) -> int:
        """Of a video that was refused for this."""
        politeness = self.fetching.politeness
        if isinstance(error, Forbidden):
            return min(self.source.attempts_if_forbidden, politeness.attempts)
        if isinstance(error, Internal) or error.again not in (Again.AT_ONCE, Again.AFTER_A_PAUSE):
            return 1
        if isinstance(error, RateLimited | BotCheck):
            return max(politeness.attempts, 2)
        return politeness.attempts


def _expect_video(path: Path, name: str, attempts: int) -> None:
    """What no one can read should not stay; the one who sent it is noted as not having it."""
    try:
        video.probe(path)
    except ClipError as error:
        path.unlink(missing_ok=True)
        raise with_source_name(error, path, name, attempts) from None
