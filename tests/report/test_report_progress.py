import io
import logging
import os
import re
import struct
import threading

import pytest

from kinetics_prep.report import progress
from kinetics_prep.report.progress import Progress, State


class Clock:
    """Stands still unless a test moves it."""

    seconds = 0.0

    def __call__(self):
        return self.seconds


class Terminal:
    """A real terminal: what was written to `stream`, `read` returns."""

    def __init__(self, columns=100):
        pty, fcntl, termios = map(pytest.importorskip, ("pty", "fcntl", "termios"))
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
        self.stream = os.fdopen(theirs, "w", encoding="utf-8")

    def read(self):
        """All of it, up to a mark, as one os.read may return a part."""
        print(end="\f", file=self.stream, flush=True)
        text = b""
        while not text.endswith(b"\f"):
            text += os.read(self._ours, 65536)
        return text.decode()

    def close(self):
        self.stream.close()
        os.close(self._ours)


@pytest.fixture
def terminal():
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def clock():
    return Clock()


def lines(stream):
    return stream.getvalue().splitlines()


def test_a_log_gets_counts_rate_and_time_left(clock):
    counts, log = {"written": 0, "refused": 0}, io.StringIO()
    display = Progress(1200, 0, counts.copy, log, clock=clock)
    counts |= {"written": 118, "refused": 2}
    clock.seconds = 40
    display.poll()
    assert lines(log) == ["kinetics-prep: 120/1200 clips (118 written, 2 refused), 3.0 clips/s, 6 min 00 s left"]


def test_a_log_gets_a_line_every_thirty_seconds_at_most(clock):
    log = io.StringIO()
    display = Progress(10, 0, lambda: {"written": 1}, log, clock=clock)
    seen = []
    for clock.seconds in (0, 1, 29, 30, 31, 59, 75, 104, 105):
        display.poll()
        seen.append(len(lines(log)))
    assert seen == [1, 1, 1, 2, 2, 2, 3, 3, 4]


def test_clips_of_earlier_runs_count_as_done_but_not_as_speed():
    state = State(total=1000, done_already=500, counts={"written": 600}, elapsed_seconds=50)
    assert state.clips_per_second == 2
    assert state.seconds_left == 200
    assert progress.describe(state) == "kinetics-prep: 600/1000 clips (600 written), 2.0 clips/s, 3 min 20 s left"


def test_there_is_no_speed_before_the_first_clip():
    state = State(total=1000, done_already=500, counts={"written": 500}, elapsed_seconds=50)
    assert state.seconds_left is None
    assert progress.describe(state) == "kinetics-prep: 500/1000 clips (500 written)"


def test_the_last_line_is_exact(clock):
    counts, log = {"written": 0}, io.StringIO()
    with Progress(2, 0, counts.copy, log, clock=clock):
        counts["written"] = 2
        clock.seconds = 4
    assert lines(log)[-1] == "kinetics-prep: 2/2 clips (2 written), 0.5 clips/s, ended after 4 s"


def test_the_thread_polls_while_the_body_works():
    polled = threading.Event()

    def count():
        polled.set()
        return {"written": 0}

    with Progress(1, 0, count, io.StringIO()):
        assert polled.wait(timeout=60)


def test_the_thread_polls_again_and_again():
    enough = threading.Event()
    calls = []

    def count():
        calls.append(1)
        if len(calls) == 5:
            enough.set()
        return {"written": 0}

    with Progress(1, 0, count, io.StringIO(), every_seconds=0.001):
        assert enough.wait(timeout=60)


def test_the_end_does_not_wait_for_the_next_poll():
    with Progress(1, 0, lambda: {"written": 0}, io.StringIO(), every_seconds=1_000_000):
        pass
    assert "progress" not in [thread.name for thread in threading.enumerate()]


def test_the_error_of_the_body_comes_through_after_a_last_count():
    counts, log = {"written": 0}, io.StringIO()
    with pytest.raises(KeyError, match="mine"), Progress(2, 0, counts.copy, log):
        counts["written"] = 1
        raise KeyError("mine")
    assert "1/2 clips (1 written)" in lines(log)[-1]


def refuse():
    raise OSError("work folder not reachable")


def test_a_count_that_fails_is_reported_once_and_stops_nothing():
    log = io.StringIO()
    with Progress(2, 0, refuse, log):
        pass
    assert lines(log) == ["kinetics-prep: progress cannot be shown: OSError('work folder not reachable')"]


def test_a_count_that_fails_does_not_hide_the_error_of_the_body():
    with pytest.raises(KeyError, match="mine"), Progress(2, 0, refuse, io.StringIO()):
        raise KeyError("mine")


def test_a_log_that_was_closed_stops_nothing():
    log = io.StringIO()
    with Progress(2, 0, lambda: {"written": 2}, log):
        log.close()


def test_the_stream_is_standard_error_of_the_moment(capsys):
    with Progress(1, 0, lambda: {"written": 1}):
        pass
    assert "1/1 clips" in capsys.readouterr().err


def test_a_log_has_no_escape_codes():
    log = io.StringIO()
    with Progress(1, 0, lambda: {"written": 1}, log):
        pass
    assert "\x1b" not in log.getvalue() and "\r" not in log.getvalue()


def test_a_terminal_gets_a_bar(terminal):
    with Progress(1200, 20, lambda: {"written": 118, "refused": 2}, terminal.stream):
        pass
    last = terminal.read().split("\r")[-2]
    assert re.search(r" 10%\|.*120/1200 \[\d\d:\d\d<.* clips/s, written=118, refused=2\]", last)


def test_a_terminal_without_a_width_gets_lines():
    terminal = Terminal(columns=0)
    with Progress(1, 0, lambda: {"written": 1}, terminal.stream):
        pass
    assert "1/1 clips" in terminal.read()
    terminal.close()


def test_a_bar_has_no_speed_if_less_is_done_than_at_the_start(terminal):
    with Progress(10, 5, lambda: {"written": 3}, terminal.stream):
        pass
    assert "-" not in terminal.read()


def test_a_bar_for_no_clips_at_all_is_no_error(terminal):
    with Progress(0, 0, lambda: {"written": 0}, terminal.stream):
        pass
    assert "cannot be shown" not in terminal.read()


def test_no_color_is_honoured(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    with Progress(2, 0, lambda: {"written": 1}, terminal.stream):
        pass
    assert "\x1b" not in terminal.read()


def test_colour_is_for_terminals_that_want_it(terminal):
    assert progress.wants_colour(terminal.stream, {"TERM": "xterm", "NO_COLOR": ""})
    assert not progress.wants_colour(terminal.stream, {"TERM": "xterm", "NO_COLOR": "1"})
    assert not progress.wants_colour(terminal.stream, {"TERM": "dumb"})
    assert not progress.wants_colour(io.StringIO(), {"TERM": "xterm"})


def test_log_messages_are_shown_with_our_name(capsys):
    log = logging.getLogger("test of notices")
    log.setLevel(logging.WARNING)  # a command in an earlier test may have left the root logger at another level
    log.addHandler(progress.Notices())
    log.warning("%s is damaged", "shard 3")
    assert capsys.readouterr().err == "kinetics-prep: shard 3 is damaged\n"


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_a_message_to_a_stream_that_has_gone_stops_nothing(monkeypatch, error):
    tried = []

    def write(text):
        tried.append(text)
        raise error("gone")

    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr("sys.stderr.write", write)
    progress.Notices().emit(logging.LogRecord("name", logging.WARNING, "path", 1, "message", (), None))
    assert "message" in tried[0]


def test_a_state_has_no_negative_speed_or_time_left():
    state = State(total=10, done_already=5, counts={"written": 3}, elapsed_seconds=2)
    assert (state.clips_per_second, state.seconds_left) == (0, None)
    assert State(total=3, done_already=0, counts={"written": 5}, elapsed_seconds=1).seconds_left == 0
    assert State(total=3, done_already=0, counts={"written": 3}, elapsed_seconds=0).clips_per_second == 0


def test_the_bar_stands_at_the_clips_that_are_done(terminal):
    with Progress(100, 40, lambda: {"written": 50}, terminal.stream):
        pass
    assert " 50%|" in terminal.read()
