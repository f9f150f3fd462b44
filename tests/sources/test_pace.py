"""How often a host gets requests, and its pauses. The clock is the tests' own: no test sleeps."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import logging
import multiprocessing
import re
import threading
import time

import pytest
from conftest import plan_row

from kinetics_prep.errors import BadOption, BotCheck, Network, NotFound, RateLimited, ServerError, Truncated
from kinetics_prep.sources import Fetching, Politeness, open_sources
from kinetics_prep.sources.fetching import YOUTUBE_HOST
from kinetics_prep.sources.host_state import HostState, locked_state
from kinetics_prep.sources.pace import HostPaused, Pace, Paces, clock_time


class Clock:
    """Time that passes only in `sleep`."""

    def __init__(self):
        self.seconds = 1_000_000.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.seconds += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace_of(tmp_path, clock):
    """Makes the pace of a host."""

    def make(host: str = "host", **settings) -> Pace:
        return Pace(host, Politeness(**settings), tmp_path / "hosts", clock.now, clock.sleep)

    return make


def spent(clock: Clock, action) -> float:
    before = clock.seconds
    action()
    return clock.seconds - before


# Rates ------------------------------------------------------------------------------------------


def test_requests_come_at_most_at_the_rate(pace_of, clock):
    pace = pace_of(rates=(("", 2.0),))
    assert spent(clock, lambda: [pace.wait() for _ in range(11)]) == pytest.approx(5.0)


def test_time_that_nobody_used_is_not_made_up_for(pace_of, clock):
    pace = pace_of(rates=(("", 2.0),))
    pace.wait()
    clock.sleep(100)
    assert spent(clock, lambda: [pace.wait() for _ in range(3)]) == pytest.approx(1.0)


def test_without_a_rate_nobody_waits(pace_of, clock):
    pace = pace_of()
    assert spent(clock, lambda: [pace.wait() for _ in range(100)]) == 0


def test_a_second_process_or_a_later_run_keeps_to_the_same_rate(pace_of, clock):
    first, second = pace_of(rates=(("", 1.0),)), pace_of(rates=(("", 1.0),))
    assert spent(clock, lambda: [pace.wait() for pace in (first, second, first, second)]) == pytest.approx(3.0)


def test_hosts_do_not_wait_for_each_other(pace_of, clock):
    rates = (("slow", 0.1), ("", 1000.0))
    slow, other = pace_of("slow", rates=rates), pace_of("other", rates=rates)
    slow.wait()
    assert spent(clock, lambda: [other.wait() for _ in range(10)]) < 0.1


def test_youtube_has_a_rate_of_its_own():
    assert Politeness().per_second(YOUTUBE_HOST) == pytest.approx(300 / 3600)
    assert Politeness(rates=(("", 5.0),)).per_second(YOUTUBE_HOST) == pytest.approx(300 / 3600)
    assert Politeness(rates=((YOUTUBE_HOST, 0.5),)).per_second(YOUTUBE_HOST) == 0.5


@pytest.mark.parametrize(
    "settings",
    [
        {"rates": (("", 0.0),)},
        {"rates": (("", float("nan")),)},
        {"connections": 0},
        {"attempts": 0},
        {"rest_seconds": -1.0},
        {"patience_seconds": float("nan")},
    ],
)
def test_a_pace_that_makes_no_sense_is_refused(settings):
    with pytest.raises(BadOption):
        Politeness(**settings)


def _many_slots(folder, number, taken):
    pace = Pace("host", Politeness(rates=(("", 400.0),)), folder)
    for _ in range(20):
        pace.wait()
        taken.put(time.monotonic())


def test_the_rate_holds_over_processes(tmp_path):
    context = multiprocessing.get_context("spawn")
    taken = context.Queue()
    workers = [context.Process(target=_many_slots, args=(tmp_path, number, taken)) for number in range(3)]
    for worker in workers:
        worker.start()
    moments = sorted(taken.get(timeout=60) for _ in range(60))
    for worker in workers:
        worker.join()
    assert moments[-1] - moments[0] >= 59 / 400 - 0.02  # sleeping is not exact


# Pauses -----------------------------------------------------------------------------------------


def rate_limited(retry_after_seconds=None) -> RateLimited:
    error = RateLimited("HTTP 429")
    error.retry_after_seconds = retry_after_seconds
    return error


@pytest.mark.parametrize("error", [RateLimited("HTTP 429"), BotCheck("confirm you're not a bot")])
def test_a_host_that_wants_a_pause_gets_it(pace_of, clock, error, caplog):
    pace = pace_of()
    with caplog.at_level(logging.WARNING, "kinetics_prep.sources"):
        pace.note_failure(error)
    assert "it gets no requests until" in caplog.text and str(error) in caplog.text
    assert 60 <= spent(clock, pace.wait) <= 66
    assert spent(clock, pace.wait) == 0


def test_pauses_grow_until_it_answers(pace_of, clock):
    pace = pace_of(patience_seconds=1e6)
    waits = []
    for _ in range(4):
        pace.note_failure(RateLimited("HTTP 429"))
        waits.append(spent(clock, pace.wait))
    assert [round(wait / 66 + 0.49) for wait in waits] == [1, 2, 4, 8]
    pace.note_answer()
    pace.note_failure(RateLimited("HTTP 429"))
    assert spent(clock, pace.wait) <= 66


def test_answers_that_were_under_way_count_as_one(pace_of, clock):
    pace = pace_of()
    for _ in range(4):
        pace.note_failure(RateLimited("HTTP 429"))
    assert 60 <= spent(clock, pace.wait) <= 66
    pace.note_failure(RateLimited("HTTP 429"))
    assert 120 <= spent(clock, pace.wait) <= 132  # the second pause, not the fifth


def test_the_server_may_say_how_long(pace_of, clock):
    pace = pace_of()
    pace.note_failure(rate_limited(retry_after_seconds=300.0))
    assert spent(clock, pace.wait) == pytest.approx(300)
    pace.note_failure(rate_limited(retry_after_seconds=0.0))
    assert spent(clock, pace.wait) >= 60  # at least as long as we would


def test_a_pause_beyond_all_patience_refuses_and_says_until_when(pace_of, clock):
    pace = pace_of()
    pace.note_failure(rate_limited(retry_after_seconds=7200.0))
    with pytest.raises(HostPaused, match="gets no requests until .*:.*HTTP 429") as caught:
        pace.wait()
    assert (caught.value.error.reason, caught.value.error.attempts) == ("rate_limited", 0)
    clock.sleep(7200)
    assert spent(clock, pace.wait) == 0


def test_a_later_run_remembers_the_pause(pace_of, clock):
    pace_of().note_failure(rate_limited(retry_after_seconds=600.0))
    assert spent(clock, pace_of().wait) == pytest.approx(600)


# A pause may begin by another thread or process at any moment of `wait`; `other` is its pace.


def test_a_pause_that_begins_after_the_first_check_is_kept_to(pace_of, clock, monkeypatch):
    pace, other = pace_of(), pace_of()
    take_slot = pace._take_slot

    def paused_then_take_slot():
        monkeypatch.setattr(pace, "_take_slot", take_slot)
        other.note_failure(rate_limited(retry_after_seconds=600.0))
        return take_slot()

    monkeypatch.setattr(pace, "_take_slot", paused_then_take_slot)
    assert spent(clock, pace.wait) == pytest.approx(600)


@pytest.mark.parametrize("seconds", [600.0, 7200.0])
def test_a_pause_that_begins_while_a_request_waits_for_its_slot_is_kept_to(pace_of, clock, monkeypatch, seconds):
    pace, other = pace_of(rates=(("", 0.1),)), pace_of()
    pace.wait()

    def sleep_and_be_paused(slept):
        monkeypatch.setattr(pace, "_sleep", clock.sleep)
        clock.sleep(slept)
        other.note_failure(rate_limited(retry_after_seconds=seconds))

    monkeypatch.setattr(pace, "_sleep", sleep_and_be_paused)
    if seconds > Politeness().patience_seconds:
        with pytest.raises(HostPaused):
            pace.wait()
    else:
        assert spent(clock, pace.wait) == pytest.approx(10 + seconds)


def test_a_pause_that_becomes_longer_is_waited_for_to_its_end(pace_of, clock, monkeypatch):
    pace, other = pace_of(), pace_of()
    pace.note_failure(rate_limited(retry_after_seconds=100.0))

    def sleep_and_be_paused(slept):
        monkeypatch.setattr(pace, "_sleep", clock.sleep)
        clock.sleep(slept / 2)
        other.note_failure(rate_limited(retry_after_seconds=500.0))
        clock.sleep(slept / 2)

    monkeypatch.setattr(pace, "_sleep", sleep_and_be_paused)
    assert spent(clock, pace.wait) == pytest.approx(50 + 500)


def test_a_slot_is_not_taken_from_a_paused_host(pace_of, clock):
    pace = pace_of(rates=(("", 0.1),))
    pace.note_failure(rate_limited(retry_after_seconds=100.0))
    assert pace._take_slot() is None
    clock.sleep(100)
    assert pace._take_slot() == 0.0
    assert pace._take_slot() == 10.0


def test_a_shorter_wish_does_not_shorten_a_pause(pace_of, clock):
    pace = pace_of()
    pace.note_failure(rate_limited(retry_after_seconds=500.0))
    pace.note_failure(rate_limited(retry_after_seconds=100.0))
    assert spent(clock, pace.wait) == pytest.approx(500)


def test_no_pause_is_longer_than_a_day(pace_of, clock):
    pace = pace_of(patience_seconds=1e6, pause_seconds=1e6)
    pace.note_failure(rate_limited(retry_after_seconds=1e8))
    assert spent(clock, pace.wait) == pytest.approx(24 * 3600)


def test_the_number_of_pauses_has_no_limit(pace_of, clock, tmp_path):
    pace = pace_of(patience_seconds=1e6)
    pace.wait()
    (path,) = (tmp_path / "hosts").iterdir()
    path.write_text('{"pauses_in_a_row": 5000}')
    pace.note_failure(RateLimited("HTTP 429"))
    assert spent(clock, pace.wait) == pytest.approx(24 * 3600)


def test_a_pause_just_as_long_as_patience_is_waited_for(pace_of, clock):
    pace = pace_of(patience_seconds=300.0)
    pace.note_failure(rate_limited(retry_after_seconds=300.0))
    assert spent(clock, pace.wait) == pytest.approx(300)


def test_what_is_on_disk(pace_of, tmp_path):
    pace = pace_of("Host:\u00e9.example", rates=(("", 2.0),), pause_seconds=0)
    pace.wait()
    pace.note_failure(rate_limited(retry_after_seconds=60.0))
    (path,) = (tmp_path / "hosts").iterdir()
    assert path.name == "Host__.example-b1161ece9854.json"
    assert path.read_text() == (
        '{"next_slot": 1000000.5, "paused_until": 1000060.0, "pauses_in_a_row": 1, "failures_in_a_row": 0, '
        '"reason": "rate_limited", "why": "HTTP 429"}'
    )


def test_a_file_of_an_earlier_run_counts(pace_of, clock, tmp_path):
    pace = pace_of()
    pace.wait()
    (path,) = (tmp_path / "hosts").iterdir()
    path.write_text('{"paused_until": 1000100.0, "reason": "bot_check", "why": "not a bot"}')
    assert spent(clock, pace.wait) == pytest.approx(100)


def test_an_unchanged_state_is_not_written(tmp_path):
    path = tmp_path / "host.json"
    for content in ("", '{"next_slot": 5.0}'):
        path.write_text(content)
        with locked_state(path) as state:
            pass
        assert HostState.parse(path.read_text()) == state
    before = path.stat().st_mtime_ns
    with locked_state(path):
        pass
    assert path.stat().st_mtime_ns == before


def test_a_time_of_another_day_says_the_day():
    assert re.fullmatch(r"\d\d:\d\d:\d\d", clock_time(time.time()))
    assert re.fullmatch(r"2001-09-0[89] \d\d:\d\d:\d\d", clock_time(1_000_000_000.0))


@pytest.mark.parametrize("error", [Network("no route"), ServerError("HTTP 500"), Truncated("broke off")])
def test_a_host_that_only_fails_gets_a_pause_too(pace_of, clock, error):
    pace = pace_of(failures_in_a_row=5)
    for _ in range(4):
        pace.note_failure(error)
    assert spent(clock, pace.wait) == 0
    pace.note_failure(error)
    assert 60 <= spent(clock, pace.wait) <= 66
    for _ in range(4):  # it gets as many chances again
        pace.note_failure(error)
    assert spent(clock, pace.wait) == 0
    pace.note_failure(error)
    assert 120 <= spent(clock, pace.wait) <= 132


@pytest.mark.parametrize("between", [None, NotFound("HTTP 404")])
def test_an_answer_now_and_then_keeps_it_going(pace_of, clock, between):
    pace = pace_of(failures_in_a_row=3)
    for _ in range(10):
        pace.note_failure(Network("no route"))
        pace.note_failure(Network("no route"))
        pace.note_answer() if between is None else pace.note_failure(between)
    assert spent(clock, pace.wait) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "x" * 1000,
        '{"next_slot": "x"}',
        '{"next_slot": NaN}',
        '{"paused_until": Infinity}',
        '{"paused_until": 1e17}',
        '{"paused_until": 1' + "0" * 400 + "}",
        '{"paused_until": 2e6, "reason": "x"}',
        '{"paused_until": 2e6, "a": 1}',
    ],
)
def test_a_damaged_file_is_replaced(pace_of, clock, tmp_path, text):
    pace = pace_of(rates=(("", 2.0),))
    pace.wait()
    (path,) = (tmp_path / "hosts").iterdir()
    path.write_text(text)
    assert spent(clock, lambda: [pace.wait() for _ in range(3)]) == pytest.approx(1.0)


def test_a_clock_that_was_set_back_does_not_hang_the_run(pace_of, clock):
    pace = pace_of(rates=(("", 10.0),))
    pace.wait()
    clock.seconds -= 1e6
    assert spent(clock, lambda: [pace.wait() for _ in range(3)]) < 1


# Connections ------------------------------------------------------------------------------------


def test_no_more_connections_than_allowed(pace_of):
    pace, entered = pace_of(connections=3), threading.Event()

    def use_a_fourth():
        with pace.connection():
            entered.set()

    with concurrent.futures.ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as others:
        first = others.enter_context(contextlib.ExitStack())
        first.enter_context(pace.connection())
        for _ in range(2):
            others.enter_context(pace.connection())
        fourth = pool.submit(use_a_fourth)
        assert not entered.wait(0.2)
        first.close()
        fourth.result(20)
    assert entered.is_set()


def test_a_connection_is_free_again_after_an_error(pace_of):
    pace = pace_of(connections=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), pace.connection():
            raise ZeroDivisionError
    assert pace._connections.acquire(blocking=False)


def test_all_requests_to_a_host_share_its_connections(tmp_path):
    paces = Paces(Politeness(), tmp_path / "hosts")
    assert paces.of("a") is paces.of("a") and paces.of("a") is not paces.of("b")


def test_a_connection_rests_after_each_request(pace_of, clock):
    pace = pace_of(rest_seconds=4.0)

    def use():
        with pace.connection():
            pass

    waits = [spent(clock, use) for _ in range(50)]
    assert min(waits) >= 2 and max(waits) <= 6 and len(set(waits)) > 10


# At the server ----------------------------------------------------------------------------------


def test_the_pace_holds_at_the_server_whatever_the_threads_and_redirections(server, tmp_path):
    for number in range(30):
        server.says(f"/{number}.mp4", (302, {"Location": f"/there/{number}.mp4"}, b""))
        server.says(f"/there/{number}.mp4", (200, {}, b"video"))
    politeness = Politeness(rates=(("127.0.0.1", 100.0),), connections=8)
    sources = open_sources(Fetching((server.url + "/{id}.mp4",), politeness=politeness), tmp_path / "scratch")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda n: sources.first_usable(plan_row(str(n)), lambda f: f.path.read_bytes()), range(30)))
    assert got == [b"video"] * 30
    moments = sorted(request.seconds for request in server.requests)
    assert len(moments) == 60
    assert moments[-1] - moments[0] >= 59 / 100 - 0.05
    in_tenths = collections.Counter(int((moment - moments[0]) * 10) for moment in moments)
    assert max(in_tenths.values()) <= 15  # 10, and what the scheduler held back


def test_after_429_there_is_no_request_until_the_pause_is_over(server, tmp_path):
    server.says("/a.mp4", (429, {"Retry-After": "1"}, b""), (200, {}, b"video"))
    server.says("/b.mp4", (200, {}, b"video"))
    politeness = dataclasses.replace(Politeness(), pause_seconds=0, backoff_seconds=0, connections=1)
    sources = open_sources(Fetching((server.url + "/{id}.mp4",), politeness=politeness), tmp_path / "scratch")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda media_id: sources.first_usable(plan_row(media_id), lambda _: None), "ab"))
    first, *others = sorted(request.seconds for request in server.requests[server.requested.index("/a.mp4") :])
    assert len(others) >= 1 and others[0] - first >= 0.95


def test_a_dead_server_does_not_get_requests_for_every_row(server, tmp_path):
    server.otherwise = (500, {}, b"")
    politeness = Politeness(backoff_seconds=0, attempts=2, failures_in_a_row=5, patience_seconds=30)
    sources = open_sources(Fetching((server.url + "/{id}.mp4",), politeness=politeness), tmp_path / "scratch")
    reasons = collections.Counter()
    for number in range(20):
        with pytest.raises(ServerError) as caught:
            sources.first_usable(plan_row(str(number)), lambda _: None)
        reasons[caught.value.attempts] += 1
    assert len(server.requests) == 5
    assert "gets no requests until" in str(caught.value)
    assert reasons == {2: 2, 1: 1, 0: 17}
