"""What was downloaded stays, and what was refused is not requested again."""

import concurrent.futures
import hashlib
import json

import loopback
import pytest
from conftest import numbered_frames, plan_row, write_video
from test_http import AT_ONCE

from kinetics_prep.errors import BadOption, ClipError, NotFound, Truncated
from kinetics_prep.runs.clip import prepare_row
from kinetics_prep.runs.context import RunContext
from kinetics_prep.sources import Fetching, open_sources
from kinetics_prep.sources.cache import Cache
from kinetics_prep.sources.entry import Entry
from kinetics_prep.sources.fetched import Fetched

VIDEO = OTHER = b""


@pytest.fixture(scope="module", autouse=True)
def real_video(tmp_path_factory):
    """Only what ffmpeg can read comes into a cache."""
    global VIDEO, OTHER
    folder = tmp_path_factory.mktemp("videos")
    VIDEO = write_video(folder / "video.mp4", numbered_frames(75)).read_bytes()
    OTHER = write_video(folder / "other.mp4", numbered_frames(50)).read_bytes()


@pytest.fixture
def sources(server, tmp_path):
    """Opens sources with a cache: the server's mirrors under the given names."""

    def make(*mirrors: str, **settings):
        videos = tuple(f"{server.url}/{mirror}/{{id}}.mp4" for mirror in mirrors)
        fetching = Fetching(videos, **({"cache": str(tmp_path / "cache"), "politeness": AT_ONCE} | settings))
        return open_sources(fetching, tmp_path / "scratch")

    return make


def content(sources, row=None) -> bytes:
    return sources.first_usable(row or plan_row(), lambda fetched: fetched.path.read_bytes())


def refusal(sources, row=None) -> ClipError:
    with pytest.raises(ClipError) as caught:
        content(sources, row)
    return caught.value


def test_a_file_is_requested_once_and_stands_under_its_sha256(server, sources, tmp_path):
    server.says("/a/abc.mp4", loopback.file(VIDEO))
    assert [content(sources("a")) for _ in range(3)] == [VIDEO] * 3
    assert server.requested == ["/a/abc.mp4"]
    sha256 = hashlib.sha256(VIDEO).hexdigest()
    assert (tmp_path / "cache/videos" / sha256[:2] / sha256).read_bytes() == VIDEO
    assert not list((tmp_path / "cache/partial").iterdir())


def test_what_came_from_one_place_is_known_whatever_the_places(server, sources):
    server.says("/a/abc.mp4", loopback.file(VIDEO))
    content(sources("a"))
    fetched = sources("b").first_usable(plan_row(), lambda fetched: fetched)
    assert (fetched.name, fetched.origin) == ("abc.mp4", f"{server.url}/a/abc.mp4")
    assert (fetched.source, fetched.attempts) == ("http", 1)
    assert content(sources()) == VIDEO  # no place but the cache
    assert server.requested == ["/a/abc.mp4"]


def test_without_a_place_what_is_not_there_is_not_found(sources):
    assert isinstance(refusal(sources()), NotFound)


def test_all_clips_of_a_video_share_its_file(server, sources):
    server.says("/a/abc.mp4", loopback.file(VIDEO))
    rows = [plan_row("abc", start, start + 10.0) for start in (0.0, 10.0, 20.0, 30.0)]
    places = sources("a")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda row: content(places, row), rows)) == [VIDEO] * 4
    assert len(server.requests) == 1


def test_pieces_of_a_video_are_files_of_their_own(server, tmp_path):
    server.says("/abc_0.mp4", (200, {}, VIDEO))
    server.says("/abc_10.mp4", (200, {}, OTHER))
    fetching = Fetching((server.url + "/{id}_{start}.mp4",), cache=str(tmp_path / "cache"), politeness=AT_ONCE)
    for _ in range(2):
        places = open_sources(fetching, tmp_path / "scratch")
        for start, body in ((0.0, VIDEO), (10.0, OTHER)):
            piece = places.first_usable(
                plan_row("abc", start, start + 10), lambda f: (f.path.read_bytes(), f.begins_seconds)
            )
            assert piece == (body, start)
    assert len(server.requests) == 2


def test_a_later_run_continues_a_download_that_broke_off(server, sources):
    server.says("/a/abc.mp4", loopback.file(VIDEO, break_after=300))
    once = sources("a", politeness=type(AT_ONCE)(attempts=1, pause_seconds=0))
    assert isinstance(refusal(once), Truncated)
    server.says("/a/abc.mp4", loopback.file(VIDEO))
    assert content(sources("a")) == VIDEO
    assert [request.headers.get("Range") for request in server.requests] == [None, "bytes=300-"]


@pytest.mark.parametrize("damage", ["part", "json"])
def test_what_is_left_of_a_download_is_not_trusted_beyond_what_it_says(server, sources, tmp_path, damage):
    server.says("/a/abc.mp4", loopback.file(VIDEO, break_after=300))
    refusal(sources("a", politeness=type(AT_ONCE)(attempts=1, pause_seconds=0)))
    (path,) = (tmp_path / "cache/partial").glob(f"*.{damage}")
    path.write_bytes(bytes(len(VIDEO) + 5) if damage == "part" else b'{"address": 1}')
    server.says("/a/abc.mp4", loopback.file(VIDEO))
    assert content(sources("a")) == VIDEO


@pytest.mark.parametrize("damage", ["changed", "shorter", "gone", "no entry"])
def test_a_file_that_is_not_what_came_is_fetched_again(server, sources, tmp_path, damage):
    server.says("/a/abc.mp4", loopback.file(VIDEO))
    content(sources("a"))
    (video,) = (tmp_path / "cache/videos").glob("*/*")
    (entry,) = (tmp_path / "cache/entries").glob("*/*")
    if damage == "changed":
        video.write_bytes(bytes(len(VIDEO)))
    elif damage == "shorter":
        video.write_bytes(VIDEO[:-1])
    elif damage == "gone":
        video.unlink()
    else:
        entry.write_text("{")
    assert content(sources("a")) == VIDEO
    assert len(server.requests) == 2


@pytest.mark.parametrize("sha256", ["../../../etc/passwd", "x" * 64, 5])
def test_a_hostile_entry_reaches_no_other_file(server, sources, tmp_path, sha256):
    server.says("/a/abc.mp4", loopback.file(VIDEO))
    content(sources("a"))
    (entry,) = (tmp_path / "cache/entries").glob("*/*")
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"sha256": sha256}))
    assert isinstance(refusal(sources()), NotFound)


def test_a_file_that_is_no_video_is_not_kept_and_not_requested_again(server, sources, tmp_path):
    server.says("/a/abc.mp4", (200, {}, b"no video at all"))
    server.says("/b/abc.mp4", (200, {}, VIDEO))
    error = refusal(sources("a"))
    assert (error.reason, error.attempts) == ("unreadable", 1) and "no frame of abc.mp4" in str(error)
    assert not list((tmp_path / "cache").glob("videos/*/*"))
    assert content(sources("a", "b")) == VIDEO
    assert server.requested == ["/a/abc.mp4", "/b/abc.mp4"]


def test_what_is_on_disk(tmp_path):
    cache = Cache(tmp_path / "cache")
    more = {"place": "http://h/{id}", "seconds_since_1970": 1700000000.25, "asked_for": "too_short", "run": "run 1"}
    kept = entry("clip abc", b"video", name="a.mp4", begins_seconds=5.0, notes=("note",), **more)
    cache.keep(kept, new(tmp_path, b"video"))
    name = hashlib.sha256(b"clip abc").hexdigest()
    assert (tmp_path / "cache/entries" / name[:2] / f"{name}.json").read_text("utf-8") == (
        '{\n "key": "clip abc",\n "name": "a.mp4",\n "origin": "http://h/\u00e9",\n "source": "http",\n'
        ' "begins_seconds": 5.0,\n "attempts": 2,\n'
        ' "sha256": "0cab1c9617404faf2b24e221e189ca5945813e14d3f766345b09ca13bbe28ffc",\n "bytes": 5,\n'
        ' "notes": [\n  "note"\n ],\n "place": "http://h/{id}",\n "seconds_since_1970": 1700000000.25,\n'
        ' "asked_for": "too_short",\n "run": "run 1",\n "answer": null,\n "found": {},\n "others": []\n}\n'
    )
    with cache.locked("video abc"):
        assert [path.name for path in (tmp_path / "cache/locks").iterdir()] == ["1038"]


def entry(key: str, body: bytes, **more) -> Entry:
    facts = {"name": "abc.mp4", "origin": "http://h/\u00e9", "source": "http", "begins_seconds": None, "attempts": 2}
    return Entry(key=key, sha256=hashlib.sha256(body).hexdigest(), bytes=len(body), **(facts | more))


def found(cache: Cache, row=None) -> Fetched | None:
    """The first file of a row in a cache."""
    try:
        with next(cache.candidates(row or plan_row())) as fetched:
            return fetched
    except NotFound:
        return None


def new(tmp_path, body: bytes):
    path = tmp_path / "new"
    path.write_bytes(body)
    return path


def test_keeping_a_file_forgets_the_refusals_of_that_video_alone(tmp_path):
    cache, fetching = Cache(tmp_path / "cache"), Fetching(("x",))
    for key in ("video abc", "video def"):
        cache.refusals.note(key, "x", NotFound("why"), fetching)
    cache.keep(entry("video abc", b"video"), new(tmp_path, b"video"))
    assert cache.refusals.find("video abc", "x", fetching) is None
    assert cache.refusals.find("video def", "x", fetching) is not None


@pytest.mark.parametrize("reads_bytes", [True, False])
def test_a_file_whose_bytes_have_changed_is_found_only_if_they_are_not_read(tmp_path, reads_bytes):
    cache = Cache(tmp_path / "cache", reads_bytes)
    kept = cache.keep(entry("video abc", b"video"), new(tmp_path, b"video"))
    assert found(cache).path == kept.path
    kept.path.write_bytes(b"vide0")
    assert (found(cache) is None) == reads_bytes
    kept.path.write_bytes(b"vide")
    assert found(cache) is None


def test_the_clip_itself_comes_before_the_whole_video(tmp_path):
    cache, row = Cache(tmp_path / "cache"), plan_row()
    assert not cache.has(row)
    cache.keep(entry(Cache.key(row, is_piece=False), b"whole"), new(tmp_path, b"whole"))
    assert cache.has(row) and found(cache, row).path.read_bytes() == b"whole"
    cache.keep(entry(Cache.key(row, is_piece=True), b"piece", begins_seconds=5.0), new(tmp_path, b"piece"))
    assert found(cache, row).path.read_bytes() == b"piece"
    assert cache.has(plan_row("abc", 20.0, 30.0)) and not cache.has(plan_row("def"))
    assert found(cache, plan_row("abc", 20.0, 30.0)).path.read_bytes() == b"whole"


def test_a_file_that_is_a_piece_and_the_whole_video_is_tried_as_both(tmp_path):
    cache, row = Cache(tmp_path / "cache"), plan_row()
    for is_piece in (True, False):
        begins_seconds = 5.0 if is_piece else None
        kept = entry(Cache.key(row, is_piece), b"video", begins_seconds=begins_seconds)
        cache.keep(kept, new(tmp_path, b"video"))
    found_files = [candidate.__enter__() for candidate in cache.candidates(row)]
    assert [fetched.begins_seconds for fetched in found_files] == [5.0, None]


def test_an_entry_that_leads_out_of_the_cache_is_not_followed(tmp_path):
    cache = Cache(tmp_path / "cache", reads_bytes=False)
    cache.keep(entry("video abc", b"video"), new(tmp_path, b"video"))
    (tmp_path / "secret").write_bytes(b"words")
    way_out = "../" + "./" * 27 + "/secret"
    assert len(way_out) == 64 and (tmp_path / "cache/videos" / way_out[:2] / way_out).read_bytes() == b"words"
    (path,) = (tmp_path / "cache/entries").glob("*/*")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": way_out}))
    assert found(cache) is None


def test_an_entry_of_another_video_is_not_taken(tmp_path):
    cache = Cache(tmp_path / "cache")
    cache.keep(entry("video abc", b"video"), new(tmp_path, b"video"))
    (path,) = (tmp_path / "cache/entries").glob("*/*")
    path.write_text(path.read_text().replace("video abc", "video def"))
    assert found(cache) is None


# What was refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [(404, {}, b""), (451, {}, b""), (200, {"Content-Type": "text/html"}, b"<html>")])
def test_a_refusal_that_does_not_pass_is_not_requested_again(server, sources, answer):
    server.says("/a/abc.mp4", answer)
    first, second = refusal(sources("a")), refusal(sources("a"))
    assert len(server.requests) == 1
    assert (second.reason, second.attempts) == (first.reason, 0)
    assert str(first) in str(second) and " (on 20" in str(second)


@pytest.mark.parametrize("answer", [(500, {}, b""), (429, {}, b""), (403, {}, b"")])
def test_a_refusal_that_may_pass_is_requested_again(server, sources, answer):
    server.says("/a/abc.mp4", answer)
    refusal(sources("a"))
    server.says("/a/abc.mp4", loopback.file(VIDEO))
    assert content(sources("a")) == VIDEO


def test_another_place_is_tried_all_the_same(server, sources):
    server.says("/b/abc.mp4", loopback.file(VIDEO))
    refusal(sources("a"))
    assert content(sources("a", "b")) == VIDEO
    assert server.requested == ["/a/abc.mp4", "/b/abc.mp4"]


def test_a_refusal_is_requested_again_if_its_reason_is_in_ask_again(server, sources):
    refusal(sources("a"))
    server.says("/a/abc.mp4", loopback.file(VIDEO))
    refusal(sources("a", ask_again=("removed",)))
    assert content(sources("a", ask_again=("not_found",))) == VIDEO


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_note_is_as_none(server, sources, tmp_path, text):
    refusal(sources("a"))
    (note,) = (tmp_path / "cache/refusals").glob("*/*")
    note.write_text(text)
    refusal(sources("a"))
    assert len(server.requests) == 2


def test_a_cache_that_cannot_be_made_is_a_mistake(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadOption, match="--cache"):
        open_sources(Fetching((), cache=str(tmp_path / "file" / "cache")), tmp_path / "scratch")


# Several places ---------------------------------------------------------------------------------


def test_places_are_tried_in_the_order_given(server, sources):
    for mirror in "ab":
        server.says(f"/{mirror}/abc.mp4", (200, {}, mirror.encode()))
    assert content(sources("b", "a", cache=None)) == b"b"
    assert server.requested == ["/b/abc.mp4"]


def test_a_file_that_is_no_use_is_looked_for_elsewhere(server, tmp_path, quick_recipe):
    video = write_video(tmp_path / "served.mp4", numbered_frames(75)).read_bytes()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/abc.mp4").write_bytes(b"no video at all")
    server.says("/html/abc.mp4", (200, {}, b"<html>no video either"))
    server.says("/good/abc.mp4", (200, {}, video))
    places = (str(tmp_path / "videos"), server.url + "/html/{id}.mp4", server.url + "/good/{id}.mp4")
    context = RunContext(quick_recipe, "0" * 16, Fetching(places), str(tmp_path / "scratch"))
    row, _ = prepare_row(plan_row("abc", 1.0, 2.0), context)
    assert (row.status, row.source, row.source_kind) == ("written", server.url + "/good/abc.mp4", "http")


@pytest.mark.parametrize(
    "answers, reason",
    [
        ([(404, {}, b""), (403, {}, b"")], "forbidden"),
        ([(451, {}, b""), (404, {}, b"")], "policy"),
        ([(451, {}, b""), (500, {}, b"")], "server_error"),
        ([(500, {}, b""), (451, {}, b"")], "server_error"),
        ([(404, {}, b""), (410, {}, b"")], "not_found"),
    ],
)
def test_of_several_refusals_the_one_that_may_pass_comes_first_and_not_found_last(server, sources, answers, reason):
    for mirror, answer in zip("ab", answers):
        server.says(f"/{mirror}/abc.mp4", answer)
    error = refusal(sources("a", "b", cache=None))
    assert error.reason == reason
    assert all(f"/{mirror}/abc.mp4" in str(error) for mirror in "ab")
    assert error.attempts == len(server.requests)
