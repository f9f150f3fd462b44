"""How often a host is asked: its pace, and the pauses that it is given.

A host's state lies in a file, so that all threads, all processes on one output folder, and the next run keep to it.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kinetics_prep.errors import BY_REASON, BotCheck, ClipError, Network, RateLimited, ServerError, Truncated
from kinetics_prep.sources.fetching import Politeness
from kinetics_prep.storage.files import locked_file

_LOG = logging.getLogger("kinetics_prep.sources")

_ASKS_FOR_A_PAUSE = (RateLimited, BotCheck)
_FAILS = (Network, ServerError, Truncated)
_LONGEST_PAUSE_SECONDS = 24 * 3600.0
_MOST_SLOTS_AHEAD = 10_000
"""A file that says more was written by a clock that has been set back since."""


class LeftAlone(Exception):
    """The host is paused for longer than anybody waits. Nothing was asked of it."""

    def __init__(self, error: ClipError):
        super().__init__(str(error))
        self.error = error


@dataclasses.dataclass
class _State:
    """What is known of a host, in seconds since 1970."""

    next_slot: float = 0.0
    paused_until: float = 0.0
    pauses_in_a_row: int = 0
    failures_in_a_row: int = 0
    reason: str = RateLimited.reason
    why: str = ""

    @classmethod
    def parse(cls, text: str) -> "_State":
        """What a file says; of one that is empty or damaged, nothing."""
        try:
            state = cls(**json.loads(text))
            numbers = (state.next_slot, state.paused_until, state.pauses_in_a_row, state.failures_in_a_row)
            if all(math.isfinite(number) for number in numbers) and state.reason in BY_REASON:
                return state
        except (ValueError, TypeError):
            pass
        return cls()


class Pace:
    """One host's pace.

    Args:
      now, sleep: the clock, in seconds since 1970; tests have their own.
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
        tail = hashlib.sha256(host.encode()).hexdigest()[:12]
        self._path = folder / f"{re.sub('[^A-Za-z0-9.-]', '_', host)[:80]}-{tail}.json"
        self._connections = threading.BoundedSemaphore(politeness.connections)
        self._now, self._sleep = now, sleep

    @contextlib.contextmanager
    def connection(self) -> Iterator[None]:
        """One of the connections that the host may have at a time; it rests a little after use."""
        with self._connections:
            try:
                yield
            finally:
                if self.politeness.rest_seconds:
                    self._sleep(self.politeness.rest_seconds * random.uniform(0.5, 1.5))

    def wait(self) -> None:
        """Returns when the host may be asked once.

        Raises:
          LeftAlone: if it is paused for longer than `politeness.patience_seconds`.
        """
        while True:
            self._wait_for_the_pause()
            seconds = self._take_slot()
            if seconds is not None:
                break
        if seconds:
            self._sleep(seconds)
            self._wait_for_the_pause()  # it may have been paused meanwhile

    def answered(self) -> None:
        """Notes that the host has answered, be it that it has no such video."""
        with self._state() as state:
            state.pauses_in_a_row = state.failures_in_a_row = 0

    def failed(self, error: ClipError) -> None:
        """Notes why the host gave no video; pauses it if it asked for that, or fails again and again."""
        if isinstance(error, _ASKS_FOR_A_PAUSE):
            self._pause(error, getattr(error, "retry_after_seconds", None))
        elif isinstance(error, _FAILS):
            with self._state() as state:
                state.failures_in_a_row += 1
                down = state.failures_in_a_row >= self.politeness.failures_in_a_row
            if down:
                self._pause(error, None)
        else:
            self.answered()

    def paused_until(self) -> float:
        """In seconds since 1970; in the past if it is not paused."""
        with self._state() as state:
            return state.paused_until

    def _pause(self, error: ClipError, asked_seconds: float | None) -> None:
        with self._state() as state:
            now, before = self._now(), state.paused_until
            if before <= now:  # else it answered so to several connections at once
                state.pauses_in_a_row += 1
            seconds = self.politeness.pause_seconds * 2 ** min(state.pauses_in_a_row - 1, 20)
            seconds = min(max(seconds * random.uniform(1, 1.1), asked_seconds or 0), _LONGEST_PAUSE_SECONDS)
            if before > now and not (asked_seconds and now + asked_seconds > before):
                return
            state.paused_until, state.failures_in_a_row = now + seconds, 0
            state.reason, state.why = error.reason, str(error)[:300]
            until = state.paused_until
        if seconds >= 1:
            _LOG.warning("%s: %s; nothing is asked of it until %s", self.host, error, clock_time(until))

    def _wait_for_the_pause(self) -> None:
        while True:
            with self._state() as state:
                seconds, reason, why = state.paused_until - self._now(), state.reason, state.why
                until = state.paused_until
            if seconds <= 0:
                return
            if seconds > self.politeness.patience_seconds:
                said = f"{self.host} is left alone until {clock_time(until)}, for it said: {why}"
                raise LeftAlone(BY_REASON[reason](said, attempts=0))
            self._sleep(seconds)

    def _take_slot(self) -> float | None:
        """Seconds until this caller's turn; None if the host was paused this very moment."""
        with self._state() as state:
            now = self._now()
            if state.paused_until > now:
                return None
            slot = max(now, state.next_slot)
            if slot - now > _MOST_SLOTS_AHEAD * self.interval_seconds:
                slot = now
            state.next_slot = slot + self.interval_seconds
            return slot - now

    @contextlib.contextmanager
    def _state(self) -> Iterator[_State]:
        """The state, with everybody else kept out, written back if it was changed."""
        with locked_file(self._path) as file:
            text = file.read()
            state = _State.parse(text)
            yield state
            changed = json.dumps(dataclasses.asdict(state))
            if changed != text:
                file.seek(0)
                file.truncate()
                file.write(changed)


class Paces:
    """The paces of all hosts, each made when first asked for."""

    def __init__(self, politeness: Politeness, folder: Path):
        self.politeness, self.folder = politeness, folder
        self._paces: dict[str, Pace] = {}
        self._lock = threading.Lock()

    def of(self, host: str) -> Pace:
        with self._lock:
            if host not in self._paces:
                self._paces[host] = Pace(host, self.politeness, self.folder)
            return self._paces[host]

    def wait(self, host: str) -> None:
        """Returns when a host may be asked once; see `Pace.wait`."""
        self.of(host).wait()


def clock_time(seconds: float) -> str:
    """A moment as people read it: 14:32:05, with the day if it is not today's."""
    moment, today = time.localtime(seconds), time.localtime()
    same_day = moment[:3] == today[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", moment)
