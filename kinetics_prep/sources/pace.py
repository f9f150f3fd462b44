"""Pace: how often a host gets requests, and when it gets none for a while."""

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kinetics_prep.errors import BY_REASON, BotCheck, ClipError, Network, RateLimited, ServerError, Truncated
from kinetics_prep.sources.fetching import Politeness
from kinetics_prep.sources.host_state import host_file, locked_state

_LOG = logging.getLogger("kinetics_prep.sources")

_WANT_A_PAUSE = (RateLimited, BotCheck)
_FAILURES = (Network, ServerError, Truncated)
_LONGEST_PAUSE_SECONDS = 24 * 3600.0
_MOST_SLOTS_AHEAD = 10_000
"""If the next slot is farther ahead, the clock was set back since the file was written."""


class HostPaused(Exception):
    """Raised instead of making a request while the host's pause is longer than `patience_seconds`."""

    def __init__(self, error: ClipError):
        super().__init__(str(error))
        self.error = error


class Pace:
    """The pace of a host. Its state is in a file; see `HostState`.

    Args:
      folder: holds the files of all hosts.
      now, sleep: the clock, in seconds since 1970; tests pass their own.
    """

    def __init__(
        self,
        host: str,
        politeness: Politeness,
        folder: Path,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.host, self.politeness = host, politeness
        per_second = politeness.per_second(host)
        self.interval_seconds = 1 / per_second if per_second else 0.0
        self._path = host_file(folder, host)
        self._connections = threading.BoundedSemaphore(politeness.connections)
        self._now, self._sleep = now, sleep

    @contextlib.contextmanager
    def connection(self) -> Iterator[None]:
        """Waits for one of the host's `politeness.connections`; it rests for a while when the context ends."""
        with self._connections:
            try:
                yield
            finally:
                if self.politeness.rest_seconds:
                    self._sleep(self.politeness.rest_seconds * random.uniform(0.5, 1.5))

    def wait(self) -> None:
        """Returns when the host may get a request.

        A pause may begin at any moment, by another thread or process. So it is checked before a slot is taken, while it
        is taken, and once more after waiting for it.

        Raises:
          HostPaused: if the host is paused for longer than `politeness.patience_seconds`.
        """
        seconds = None
        while seconds is None:
            self._wait_for_end_of_pause()
            seconds = self._take_slot()
        if seconds:
            self._sleep(seconds)
            self._wait_for_end_of_pause()

    def note_answer(self) -> None:
        """Notes that the host works. An answer such as "no such video" counts."""
        with locked_state(self._path) as state:
            state.pauses_in_a_row = state.failures_in_a_row = 0

    def note_failure(self, error: ClipError) -> None:
        """Notes why there was no video; pauses the host if it wants a pause, or fails again and again."""
        if isinstance(error, _WANT_A_PAUSE):
            self._pause(error, getattr(error, "retry_after_seconds", None))
        elif isinstance(error, _FAILURES):
            with locked_state(self._path) as state:
                state.failures_in_a_row += 1
                is_down = state.failures_in_a_row >= self.politeness.failures_in_a_row
            if is_down:
                self._pause(error, None)
        else:
            self.note_answer()

    def _pause(self, error: ClipError, wanted_seconds: float | None) -> None:
        """Pauses the host, for at least as long as it wants."""
        with locked_state(self._path) as state:
            now, before = self._now(), state.paused_until
            if before <= now:  # else this is the same refusal, on another connection
                state.pauses_in_a_row += 1
            seconds = self.politeness.pause_seconds * 2 ** min(state.pauses_in_a_row - 1, 20)
            seconds = min(max(seconds * random.uniform(1, 1.1), wanted_seconds or 0), _LONGEST_PAUSE_SECONDS)
            if before > now and not (wanted_seconds and now + wanted_seconds > before):
                return
            state.paused_until, state.failures_in_a_row = now + seconds, 0
            state.reason, state.why = error.reason, str(error)[:300]
            until = state.paused_until
        if seconds >= 1:
            _LOG.warning("%s: %s; it gets no requests until %s", self.host, error, clock_time(until))

    def _wait_for_end_of_pause(self) -> None:
        while True:
            with locked_state(self._path) as state:
                seconds, until = state.paused_until - self._now(), state.paused_until
                reason, why = state.reason, state.why
            if seconds <= 0:
                return
            if seconds > self.politeness.patience_seconds:
                message = f"{self.host} gets no requests until {clock_time(until)}, because it said: {why}"
                raise HostPaused(BY_REASON[reason](message, attempts=0))
            self._sleep(seconds)

    def _take_slot(self) -> float | None:
        """Reserves the next slot for a request.

        Returns:
          Seconds until the slot; None, and nothing is reserved, if the host has just been paused.
        """
        with locked_state(self._path) as state:
            now = self._now()
            if state.paused_until > now:
                return None
            slot = max(now, state.next_slot)
            if slot - now > _MOST_SLOTS_AHEAD * self.interval_seconds:
                slot = now
            state.next_slot = slot + self.interval_seconds
            return slot - now


class Paces:
    """The paces of all hosts."""

    def __init__(self, politeness: Politeness, folder: Path):
        self.politeness, self.folder = politeness, folder
        self._paces: dict[str, Pace] = {}
        self._lock = threading.Lock()

    def of(self, host: str) -> Pace:
        """The pace of a host; the same object each time, as it counts connections."""
        with self._lock:
            if host not in self._paces:
                self._paces[host] = Pace(host, self.politeness, self.folder)
            return self._paces[host]

    def wait(self, host: str) -> None:
        """Returns when a host may get a request; see `Pace.wait`."""
        self.of(host).wait()


def clock_time(seconds: float) -> str:
    """A time since 1970 for people: 14:32:05, with the day unless it is today's."""
    moment, today = time.localtime(seconds), time.localtime()
    is_today = moment[:3] == today[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", moment)
