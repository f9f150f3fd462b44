"""Progress of a run, shown while other threads and processes do the work."""

import contextlib
import dataclasses
import logging
import math
import os
import sys
import threading
import time

from tqdm import tqdm


class Progress:
    """Shows how far a run is, until the block ends.

    A daemon thread asks `count` what there is, as the work may happen in processes that cannot report back. A terminal
    gets a bar, anything else (a log file, a scheduler) a plain line now and then. A display that fails says so once
    and never stops the run.

        with Progress(total=len(plan), done_already=len(found), count=work_folder.count):
            run()

    Args:
      total: clips in the plan.
      done_already: clips that were found committed. Rate and time left leave them out.
      count: returns how many clips ended in what way, such as {"written": 118, "refused": 2}, those found committed
        included. It is called from another thread.
      stream: where to show it, by default standard error.
      every_seconds: between two polls.
      plain_every_seconds: between two lines where the stream is no terminal.
      clock: seconds that never run backwards.
    """

    def __init__(
        self,
        total,
        done_already,
        count,
        stream=None,
        every_seconds=1.0,
        plain_every_seconds=30.0,
        clock=time.monotonic,
    ):
        self._total = total
        self._done_already = done_already
        self._count = count
        self._every_seconds = every_seconds
        self._clock = clock
        self._started = clock()
        # Looked up now and not at import: tests and notebooks replace sys.stderr.
        self._stream = sys.stderr if stream is None else stream
        self._display = _Bar(self._stream) if is_terminal(self._stream) else _Lines(self._stream, plain_every_seconds)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll_until_stopped, name="progress", daemon=True)
        self._complained = False

    def __enter__(self):
        self._started = self._clock()
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        self._thread.join()
        # Once more, for the thread may have looked before the last clip was committed.
        self._never_raise(lambda: self._display.close(self._state()))

    def poll(self):
        """Counts and shows what it found."""
        self._display.show(self._state())

    def _state(self):
        return State(self._total, self._done_already, self._count(), self._clock() - self._started)

    def _poll_until_stopped(self):
        self._never_raise(self.poll)
        while not self._stop.wait(self._every_seconds):
            self._never_raise(self.poll)

    def _never_raise(self, show):
        """Runs it. An error becomes one line: raised, it would hide the error of the run itself."""
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
    """What is done at one moment."""

    total: int
    done_already: int
    counts: dict[str, int]
    elapsed_seconds: float

    @property
    def done(self):
        return sum(self.counts.values())

    @property
    def clips_per_second(self):
        """Of this run alone; 0 before its first clip."""
        done_now = max(0, self.done - self.done_already)
        return done_now / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0

    @property
    def seconds_left(self):
        """None before the first clip, as nothing is known then."""
        return max(0, self.total - self.done) / self.clips_per_second if self.clips_per_second else None


def describe(state, ended=False):
    """The state as one plain line, with the time left, or once the run has ended, the time it took."""
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
    """Shows what is logged, above a progress bar if there is one."""

    def emit(self, record):
        # The stream may have gone; that is no reason to stop.
        with contextlib.suppress(OSError, ValueError):
            tqdm.write(f"kinetics-prep: {self.format(record)}", file=sys.stderr)


def format_duration(seconds):
    """The two largest units that matter: 45 s, 3 min 05 s, 2 h 10 min, 5 d 3 h."""
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"a duration is finite and not negative, not {seconds}")
    minutes, s = divmod(round(seconds), 60)
    hours, min_ = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h} h"
    if hours:
        return f"{hours} h {min_:02} min"
    return f"{minutes} min {s:02} s" if minutes else f"{s} s"


def format_bytes(n):
    """In units of 1000, as disks are sold and clouds bill: 999 B, 1.5 kB, 2.0 TB."""
    if n < 0:
        raise ValueError(f"a size is not negative, not {n}")
    if n < 1000:
        return f"{n:.0f} B"
    units, power = ("kB", "MB", "GB", "TB", "PB"), 1
    while power < len(units) and round(n / 1000**power, 1) >= 1000:
        power += 1
    return f"{n / 1000**power:.1f} {units[power - 1]}"


def format_rate(clips_per_second):
    """3.2 clips/s, or per hour where that would read as nearly none."""
    if clips_per_second < 0.1:
        return f"{clips_per_second * 3600:.1f} clips/h"
    return f"{clips_per_second:.1f} clips/s"


def is_terminal(stream):
    """Whether a bar can be drawn there. A terminal that has no width, as `docker run -t` gives in CI, is a log."""
    try:
        return hasattr(stream, "isatty") and stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except OSError:
        return False


def wants_colour(stream, environment=os.environ):
    """Whether to colour text there. See https://no-color.org: set to anything but nothing means no."""
    return is_terminal(stream) and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


class _Bar:
    """For a terminal: a tqdm bar."""

    def __init__(self, stream):
        self._stream = stream
        self._bar = None

    def show(self, state):
        if self._bar is None:
            self._bar = tqdm(
                total=state.total,
                initial=state.done_already,
                unit=" clips",
                file=self._stream,
                dynamic_ncols=True,
                position=0,  # below no other bar: moving the cursor up would write over the lines of other people
                colour="green" if wants_colour(self._stream) else None,
            )
        # Set rather than updated: tqdm then takes the rate as the mean over this run, and a count may also fall.
        self._bar.n, self._bar.initial = state.done, min(state.done_already, state.done)
        self._bar.set_postfix(state.counts, refresh=False)
        self._bar.refresh()

    def close(self, state):
        self.show(state)
        self._bar.close()


class _Lines:
    """For a log: a line at once, a line now and then, and a line at the end."""

    def __init__(self, stream, every_seconds):
        self._stream = stream
        self._every_seconds = every_seconds
        self._next_seconds = 0.0

    def show(self, state):
        if state.elapsed_seconds >= self._next_seconds:
            self._next_seconds = state.elapsed_seconds + self._every_seconds
            print(describe(state), file=self._stream, flush=True)

    def close(self, state):
        print(describe(state, ended=True), file=self._stream, flush=True)
