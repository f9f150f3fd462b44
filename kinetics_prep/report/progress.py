"""Progress of a run, shown while other threads and processes do the work."""

import contextlib
import dataclasses
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, TextIO

from tqdm import tqdm

from kinetics_prep.report.units import format_duration, format_rate


class Progress:
    """Shows how far a run is, until the block ends.

    A daemon thread calls `count`, as the work may happen in processes that cannot report back. A terminal gets a bar,
    anything else (a log file, a scheduler) a plain line now and then. A display that fails says so once and never
    stops the run.

        with Progress(total=len(plan), done_already=len(committed), count=work_folder.count):
            run()

    Args:
      total: clips in the plan.
      done_already: clips that an earlier run committed. Speed and time left leave them out.
      count: returns how many clips ended in what way, such as {"written": 118, "refused": 2}, including those of
        earlier runs. It is called from another thread.
      stream: where to show it, by default standard error.
      every_seconds: between two polls.
      plain_every_seconds: between two lines if the stream is not a terminal.
      clock: returns seconds that never run backwards.
    """

    def __init__(
        self,
        total: int,
        done_already: int,
        count: Callable[[], dict[str, int]],
        stream: TextIO | None = None,
        every_seconds: float = 1.0,
        plain_every_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._done_already = done_already
        self._count = count
        self._every_seconds = every_seconds
        self._clock = clock
        self._started = clock()
        # Looked up now and not at import: tests and notebooks replace sys.stderr.
        self._stream = sys.stderr if stream is None else stream
        self._display: _Display = (
            _Bar(self._stream) if is_terminal(self._stream) else _Lines(self._stream, plain_every_seconds)
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll_until_stopped, name="progress", daemon=True)
        self._complained = False

    def __enter__(self) -> "Progress":
        self._started = self._clock()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        # Once more: the thread may have counted before the last clip was committed.
        self._never_raise(lambda: self._display.close(self._state()))

    def poll(self) -> None:
        """Counts, and shows the state."""
        self._display.show(self._state())

    def _state(self) -> "State":
        return State(self._total, self._done_already, self._count(), self._clock() - self._started)

    def _poll_until_stopped(self) -> None:
        self._never_raise(self.poll)
        while not self._stop.wait(self._every_seconds):
            self._never_raise(self.poll)

    def _never_raise(self, show: Callable[[], None]) -> None:
        """Calls `show`. Its first error becomes one line: raised, it would hide the error of the run itself."""
        try:
            show()
        except Exception as error:
            if not self._complained:
                self._complained = True
                # The stream itself may be what failed: its reader has gone, or it is closed.
                with contextlib.suppress(OSError, ValueError):
                    tqdm.write(f"kinetics-prep: progress cannot be shown: {error!r}", file=self._stream)


@dataclasses.dataclass(frozen=True)
class State:
    """What is done at a moment."""

    total: int
    done_already: int
    counts: dict[str, int]
    elapsed_seconds: float

    @property
    def done(self) -> int:
        return sum(self.counts.values())

    @property
    def clips_per_second(self) -> float:
        """The speed of this run alone; 0 before its first clip."""
        done_now = max(0, self.done - self.done_already)
        return done_now / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The time that the rest will take; None before the first clip, when nothing is known."""
        return max(0, self.total - self.done) / self.clips_per_second if self.clips_per_second else None


def describe(state: State, ended: bool = False) -> str:
    """Returns the state as a plain line, with the time left, or once the run has ended, the time it took."""
    endings = ", ".join(f"{n} {name}" for name, n in state.counts.items())
    parts = [f"{state.done}/{state.total} clips" + (f" ({endings})" if endings else "")]
    if state.clips_per_second:
        parts.append(format_rate(state.clips_per_second))
    if ended:
        parts.append(f"ended after {format_duration(state.elapsed_seconds)}")
    elif state.seconds_left is not None:
        parts.append(f"{format_duration(state.seconds_left)} left")
    return "kinetics-prep: " + ", ".join(parts)


class Notices(logging.Handler):
    """Shows what is logged, above a progress bar if there is a bar."""

    def emit(self, record: logging.LogRecord) -> None:
        # The stream may have gone; that is no reason to stop.
        with contextlib.suppress(OSError, ValueError):
            tqdm.write(f"kinetics-prep: {self.format(record)}", file=sys.stderr)


def is_terminal(stream: TextIO) -> bool:
    """Returns whether a bar can be drawn there: not in a terminal without a width, as under `docker run -t` in CI."""
    try:
        return hasattr(stream, "isatty") and stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except OSError:
        return False


def wants_colour(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Returns whether to colour text there. By https://no-color.org, a NO_COLOR that is not empty means no."""
    return is_terminal(stream) and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


class _Display(Protocol):
    """Shows states, and the last one when the run has ended."""

    def show(self, state: State) -> None: ...

    def close(self, state: State) -> None: ...


class _Bar:
    """For a terminal: a tqdm bar."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: tqdm | None = None

    def show(self, state: State) -> None:
        self._updated(state)

    def close(self, state: State) -> None:
        self._updated(state).close()

    def _updated(self, state: State) -> tqdm:
        if self._bar is None:
            self._bar = tqdm(
                total=state.total,
                initial=state.done_already,
                unit=" clips",
                file=self._stream,
                dynamic_ncols=True,
                position=0,  # the first bar: moving the cursor up would write over lines of others
                colour="green" if wants_colour(self._stream) else None,
            )
        # Set rather than updated: tqdm then takes the rate as the mean over this run, and a count may also fall.
        self._bar.n, self._bar.initial = state.done, min(state.done_already, state.done)
        self._bar.set_postfix(state.counts, refresh=False)
        self._bar.refresh()
        return self._bar


class _Lines:
    """For a log: a line at once, a line now and then, and a line at the end."""

    def __init__(self, stream: TextIO, every_seconds: float) -> None:
        self._stream = stream
        self._every_seconds = every_seconds
        self._next_seconds = 0.0

    def show(self, state: State) -> None:
        if state.elapsed_seconds >= self._next_seconds:
            self._next_seconds = state.elapsed_seconds + self._every_seconds
            print(describe(state), file=self._stream, flush=True)

    def close(self, state: State) -> None:
        print(describe(state, ended=True), file=self._stream, flush=True)
