"""Remote, around a source whose outcomes a test has prepared: attempts, pauses, the cache. Nothing sleeps."""

import concurrent.futures
import dataclasses
import hashlib
import threading
from types import SimpleNamespace

import pytest
from conftest import numbered_frames, plan_row, write_video

from kinetics_prep import errors
from kinetics_prep.errors import Again, ClipError, Forbidden, Network, NoRoom, NotFound, RateLimited, ServerError
from kinetics_prep.sources import remote as remote_module
from kinetics_prep.sources.cache import Cache
from kinetics_prep.sources.fetching import Fetching, Politeness
from kinetics_prep.sources.pace import Paces
from kinetics_prep.sources.remote import Remote
from kinetics_prep.sources.source import Download, RemoteSource

AT_ONCE = Politeness(backoff_seconds=0, pause_seconds=0)


class Scripted:
    """A source whose downloads end as a test has prepared: with bytes, or with an error; the last outcome for ever."""

    host = "host"

    def __init__(self, *outcomes: bytes | Exception, gives_pieces: bool = False, attempts_if_forbidden: int = 2):
        self.outcomes, self.requests = list(outcomes), 0
        self.gives_pieces, self.attempts_if_forbidden = gives_pieces, attempts_if_forbidden

    def origin(self, row) -> str:
        return f"http://host/{row.media_id}"

    def download(self, row, path, before_request) -> Download:
        before_request(self.host)
        self.requests += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        path.write_bytes(outcome)
        return Download("abc.mp4", ("a note",))


@pytest.fixture
def remote_of(tmp_path):
    def make(source: RemoteSource, cache: Cache | None = None, politeness: Politeness = AT_ONCE, **settings) -> Remote:
        fetching = Fetching(("http://host/{id}",), politeness=politeness, **settings)
        paces = Paces(politeness, tmp_path / "hosts")
        return Remote(source, "http", "http://host/{id}", fetching, paces, tmp_path / "scratch", cache)

    return make


@pytest.fixture
def sleeps(monkeypatch) -> list[float]:
    """Seconds slept between attempts, which do not pass."""
    seconds: list[float] = []
    monkeypatch.setattr(remote_module, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


def refusal(remote: Remote, row=None) -> ClipError:
    with pytest.raises(ClipError) as caught, next(remote.candidates(row or plan_row())):
        pass
    return caught.value


def test_the_test_source_is_a_remote_source():
    assert isinstance(Scripted(b""), RemoteSource)


# Attempts


def test_a_download_is_a_file_with_its_facts_until_the_context_ends(remote_of, tmp_path):
    with next(remote_of(Scripted(b"video")).candidates(plan_row())) as fetched:
        assert fetched.path.read_bytes() == b"video"
        assert (fetched.name, fetched.origin, fetched.source) == ("abc.mp4", "http://host/abc", "http")
        assert (fetched.attempts, fetched.notes, fetched.is_new, fetched.begins_seconds) == (1, ("a note",), True, None)
    assert not list((tmp_path / "scratch").iterdir())


def test_a_piece_begins_where_the_row_begins(remote_of):
    with next(remote_of(Scripted(b"video", gives_pieces=True)).candidates(plan_row(start=7.0))) as fetched:
        assert fetched.begins_seconds == 7.0


@pytest.mark.parametrize("kind", errors.CLIP_ERRORS)
def test_each_reason_gets_its_number_of_attempts(remote_of, sleeps, kind):
    expected = {"forbidden": 2, "internal": 1}
    may_pass = kind.again in (Again.AT_ONCE, Again.AFTER_A_PAUSE)
    source = Scripted(kind("why"))
    error = refusal(remote_of(source))
    assert source.requests == error.attempts == expected.get(kind.reason, 3 if may_pass else 1)
    assert str(error) == ("why" if error.attempts == 1 else f"why, {error.attempts} attempts")
    assert len(sleeps) == error.attempts - 1


@pytest.mark.parametrize(
    "attempts, kind, expected",
    [(1, RateLimited, 2), (1, errors.BotCheck, 2), (1, Network, 1), (1, Forbidden, 1), (5, Forbidden, 2)],
)
def test_a_pause_is_worth_a_second_attempt_and_forbidden_no_third(remote_of, sleeps, attempts, kind, expected):
    source = Scripted(kind("why"))
    refusal(remote_of(source, politeness=dataclasses.replace(AT_ONCE, attempts=attempts)))
    assert source.requests == expected


def test_the_wait_before_an_attempt_doubles(remote_of, sleeps, monkeypatch):
    politeness = Politeness(backoff_seconds=2.0, pause_seconds=0, attempts=5)
    monkeypatch.setattr(remote_module, "random", SimpleNamespace(uniform=lambda least, most: (least, most)[1]))
    refusal(remote_of(Scripted(ServerError("HTTP 500")), politeness=politeness))
    assert sleeps == [3.0, 6.0, 12.0, 24.0]
    monkeypatch.setattr(remote_module, "random", SimpleNamespace(uniform=lambda least, most: (least, most)[0]))
    refusal(remote_of(Scripted(ServerError("HTTP 500")), politeness=politeness))
    assert sleeps[4:] == [1.0, 2.0, 4.0, 8.0]


def test_attempts_before_another_answer_count(remote_of, sleeps):
    assert refusal(remote_of(Scripted(Network("a"), Network("b"), NotFound("c")))).attempts == 3
    with next(remote_of(Scripted(Network("a"), Network("b"), b"video")).candidates(plan_row())) as fetched:
        assert fetched.attempts == 3


def test_what_is_refused_without_a_request_has_no_attempt(remote_of, sleeps):
    source = Scripted(errors.BadAddress("does not fit", attempts=0))
    assert refusal(remote_of(source)).attempts == 0
    assert source.requests == 1 and not sleeps


# Pauses


def with_retry_after(seconds: float) -> RateLimited:
    error = RateLimited("HTTP 429")
    error.retry_after_seconds = seconds
    return error


def test_a_host_paused_beyond_patience_gets_no_request(remote_of, sleeps):
    source = Scripted(with_retry_after(7200.0))
    remote = remote_of(source)
    first, second = refusal(remote), refusal(remote, plan_row("def"))
    assert (first.reason, first.attempts) == (second.reason, 1 + second.attempts) == ("rate_limited", 1)
    assert source.requests == 1 and "HTTP 429" in str(second)


def test_a_row_that_waited_for_the_connection_does_not_request_from_a_host_paused_meanwhile(remote_of, sleeps):
    started, go_on = threading.Event(), threading.Event()

    class Slow(Scripted):
        def download(self, row, path, before_request):
            before_request(self.host)
            self.requests += 1
            started.set()
            assert go_on.wait(20)
            raise with_retry_after(7200.0)

    source = Slow()
    remote = remote_of(source, politeness=dataclasses.replace(AT_ONCE, connections=1))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(refusal, remote)
        assert started.wait(20)
        second = pool.submit(refusal, remote, plan_row("def"))
        go_on.set()
        assert (first.result().attempts, second.result().attempts) == (1, 0)
    assert source.requests == 1


@pytest.mark.parametrize("outcome", [b"video", Network("no route")])
def test_an_outcome_is_noted_before_the_connection_is_free(remote_of, sleeps, outcome, monkeypatch):
    remote = remote_of(Scripted(outcome), politeness=dataclasses.replace(AT_ONCE, connections=1, attempts=1))
    pace = remote.paces.of("host")
    was_free = []
    for name in ("note_answer", "note_failure"):
        note = getattr(pace, name)

        def spy(*args, note=note):
            was_free.append(pace._connections.acquire(blocking=False))
            return note(*args)

        monkeypatch.setattr(pace, name, spy)
    try:
        with next(remote.candidates(plan_row())):
            pass
    except Network:
        pass
    assert was_free == [False]


def test_a_refusal_without_a_request_says_nothing_about_the_host(remote_of, sleeps):
    source = Scripted(Network("not sent", attempts=0))
    remote = remote_of(source, politeness=Politeness(failures_in_a_row=1, patience_seconds=30))
    assert [str(refusal(remote)) for _ in range(2)] == ["not sent"] * 2  # else the host would be paused for a minute
    assert source.requests == 2


def test_a_full_disk_stops_the_run(remote_of):
    with (
        pytest.raises(NoRoom, match="make room"),
        next(remote_of(Scripted(OSError(28, "No space left"))).candidates(plan_row())),
    ):
        pass


# Cache


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    """Only a file that ffmpeg can read enters a cache."""
    return write_video(tmp_path_factory.mktemp("videos") / "video.mp4", numbered_frames(5)).read_bytes()


def test_two_rows_of_a_video_are_one_download(remote_of, cache, video):
    source = Scripted(video)
    remote = remote_of(source, cache)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:

        def is_new(start: float) -> bool:
            with next(remote.candidates(plan_row(start=start, end=start + 10))) as fetched:
                return fetched.is_new

        assert sorted(pool.map(is_new, (0.0, 10.0, 20.0, 30.0))) == [False, False, False, True]
    assert source.requests == 1


def test_each_source_has_its_own_incomplete_download_of_a_video(remote_of, cache):
    paths = []

    class Noting(Scripted):
        def download(self, row, path, before_request):
            paths.append(path)
            raise NotFound("HTTP 404")

    remote = remote_of(Noting(), cache)
    refusal(remote)
    remote.name = "http://other/{id}"
    refusal(remote)
    texts = b"video abc http://host/{id}", b"video abc http://other/{id}"
    assert paths == [cache.folder / "partial" / hashlib.sha256(text).hexdigest()[:40] for text in texts]


def test_a_refusal_is_remembered_until_the_video_was_downloaded(remote_of, cache, video):
    remote = remote_of(Scripted(NotFound("HTTP 404")), cache)
    assert not remote.remembers(plan_row())
    refusal(remote)
    assert remote.remembers(plan_row()) and not remote.remembers(plan_row("def"))
    again = remote_of(Scripted(video), Cache(cache.folder), ask_again=("not_found",))
    assert not again.remembers(plan_row())
    with next(again.candidates(plan_row())) as fetched:
        assert fetched.is_new
    assert not remote.remembers(plan_row())
    assert not list((cache.folder / "refusals").glob("*/*.json"))


def test_what_was_refused_without_a_request_is_not_remembered(remote_of, cache):
    remote = remote_of(Scripted(errors.BadAddress("does not fit", attempts=0)), cache)
    refusal(remote)
    assert not remote.remembers(plan_row()) and not list((cache.folder / "refusals").glob("*/*.json"))


def test_without_a_cache_nothing_is_remembered(remote_of):
    remote = remote_of(Scripted(NotFound("HTTP 404")))
    refusal(remote)
    assert not remote.remembers(plan_row())


def test_a_file_that_is_no_video_is_refused_under_its_own_name_and_deleted(remote_of, cache):
    remote = remote_of(Scripted(Network("no route"), b"no video"), cache)
    error = refusal(remote)
    assert (error.reason, error.attempts) == ("unreadable", 2)
    assert "abc.mp4" in str(error)
    assert not list(cache.folder.glob("videos/*/*")) and not list((cache.folder / "partial").iterdir())
    assert remote.remembers(plan_row())


def test_pieces_and_whole_videos_have_different_keys(remote_of):
    assert remote_of(Scripted(b"")).key(plan_row("abc", 5.0, 15.0)) == "video abc"
    assert remote_of(Scripted(b"", gives_pieces=True)).key(plan_row("abc", 5.0, 15.0)).startswith("clip abc_")
