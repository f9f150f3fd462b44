"""Files in the cache that turned out to be of no use: who is asked again, how often, and what stays."""

import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import re
import subprocess
from pathlib import Path

import loopback
import numpy as np
import pytest
from conftest import number_of, numbered_frames, plan_row, write_video

from kinetics_prep.cli import OK, main
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.errors import ClipOutOfRange, DecodeTimeout
from kinetics_prep.media import ffmpeg, video
from kinetics_prep.media.clip import Video
from kinetics_prep.records.record import Record
from kinetics_prep.runs.clip import prepare_row
from kinetics_prep.runs.context import RunContext
from kinetics_prep.sources import Fetching, Politeness, open_sources
from kinetics_prep.sources.cache import Cache
from kinetics_prep.sources.entry import Entry
from kinetics_prep.storage import tables

AT_ONCE = Politeness(backoff_seconds=0, pause_seconds=0)
EARLY, LATE = plan_row("abc", 1.0, 2.0), plan_row("abc", 5.0, 6.0)


@pytest.fixture(scope="module")
def bodies(tmp_path_factory) -> dict[str, bytes]:
    """Videos: one that serves both rows, and some that do not serve the late one, by the reason why."""
    folder, frames = tmp_path_factory.mktemp("bodies"), numbered_frames(175)
    wide = np.ascontiguousarray(np.tile(frames, (1, 1, 8, 1)))

    def rendered(name: str, frames: np.ndarray) -> bytes:
        return write_video(folder / f"{name}.mp4", frames).read_bytes()

    return {
        "good": rendered("whole", frames),
        "clip_out_of_range": rendered("short", frames[:75]),
        "too_short": rendered("cut", frames[:130]),
        "odd_geometry": rendered("wide", np.ascontiguousarray(wide[:, :40])),
        "decode_timeout": rendered("again", frames[1:]),
        "tiny": rendered("tiny", frames[:3]),
    }


@pytest.fixture
def fetching(server, tmp_path):
    """Where videos are: the mirrors of the given names."""

    def make(*mirrors: str, **settings) -> Fetching:
        videos = tuple(f"{server.url}/{mirror}/{{id}}.mp4" for mirror in mirrors)
        return Fetching(videos, **({"cache": str(tmp_path / "cache"), "politeness": AT_ONCE} | settings))

    return make


@pytest.fixture
def prepare(tmp_path, quick_recipe):
    """Prepares a row in a run of its own, unless a run is given."""
    runs = itertools.count()

    def prepare(row, fetching: Fetching, run: str | None = None) -> LedgerRow:
        scratch = str(tmp_path / "scratch")
        context = RunContext(quick_recipe, "0" * 16, fetching, scratch, run_id=run or f"{tmp_path} {next(runs)}")
        ledger_row, data = prepare_row(row, context)
        if data is not None:
            assert number_of(Record.from_bytes(data).frame(0)) == int(row.start_seconds * 25)
        return ledger_row

    return prepare


def entries(tmp_path) -> list[dict]:
    """The entries of the one video in the cache, in their order."""
    (path,) = (tmp_path / "cache/entries").glob("*/*")
    content = json.loads(path.read_text("utf-8"))
    return [content, *content["others"]]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


trim = video.trim


def never_ends(source: Video, slow: str) -> None:
    """Refuses the file with that sha256 as if decoding it took too long."""
    if source.path.name == slow:
        raise DecodeTimeout("decoding took longer than 600 s")


# One source


@pytest.mark.parametrize("reason", ["clip_out_of_range", "too_short", "odd_geometry", "decode_timeout"])
def test_a_file_that_was_bad_is_requested_again_for_that_reason_alone(
    reason, server, fetching, prepare, bodies, tmp_path, monkeypatch
):
    if reason == "decode_timeout":
        slow = sha256(bodies[reason])
        monkeypatch.setattr(video, "trim", lambda source, **how: never_ends(source, slow) or trim(source, **how))
    server.says("/a/abc.mp4", (200, {}, bodies[reason]), (200, {}, bodies["good"]))
    assert prepare(LATE, fetching("a")).reason == reason
    assert prepare(LATE, fetching("a")).reason == reason
    assert prepare(LATE, fetching("a", ask_again=("not_found", "network"))).reason == reason
    assert len(server.requests) == 1
    row = prepare(LATE, fetching("a", ask_again=("network", reason)))
    assert (row.status, row.source_sha256, row.attempts) == ("written", sha256(bodies["good"]), 1)
    assert row.notes.endswith(f"{server.url}/a/abc.mp4 was refused: {reason}")
    assert len(server.requests) == 2
    assert prepare(LATE, fetching("a")).source_sha256 == sha256(bodies["good"])
    assert len(server.requests) == 2


@pytest.mark.parametrize("reason", ["unreadable", "no_video_stream"])
def test_a_file_that_no_version_would_keep_today_is_requested_again(
    reason, server, fetching, prepare, bodies, tmp_path
):
    path, origin = tmp_path / "sound.mp4", f"{server.url}/a/abc.mp4"
    if reason == "unreadable":
        path.write_bytes(b"no video at all")
    else:
        command = (ffmpeg.locate().path, "-v", "error", "-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", str(path))
        subprocess.run(command, check=True)
    body = path.read_bytes()
    entry = Entry("video abc", "abc.mp4", origin, "http", None, 1, sha256(body), len(body))
    Cache(tmp_path / "cache").keep(entry, path)
    server.says("/a/abc.mp4", (200, {}, bodies["good"]))
    assert prepare(LATE, fetching("a")).reason == reason
    assert not server.requests
    assert prepare(LATE, fetching("a", ask_again=(reason,))).status == "written"
    assert len(server.requests) == 1


def test_the_entry_says_why_the_file_is_there_and_what_was_wrong_with_the_one_before(
    server, fetching, prepare, bodies, tmp_path
):
    server.says("/a/abc.mp4", (200, {}, bodies["too_short"]), (200, {}, bodies["good"]))
    first = prepare(LATE, fetching("a"))
    (old,) = entries(tmp_path)
    assert (old["source"], old["place"], old["asked_for"]) == ("http", f"{server.url}/a/{{id}}.mp4", None)
    (finding,) = old["found"].values()
    assert list(old["found"]) == ["abc_000005_000006"]
    assert (finding["reason"], finding["message"]) == ("too_short", first.message)
    prepare(LATE, fetching("a", ask_again=("too_short",)))
    new, before = entries(tmp_path)
    assert (new["sha256"], new["asked_for"], new["found"]) == (sha256(bodies["good"]), "too_short", {})
    assert old["seconds_since_1970"] <= finding["seconds_since_1970"] <= new["seconds_since_1970"]
    assert before == {name: value for name, value in old.items() if name != "others"}


def test_the_same_bytes_leave_the_refusal_and_are_remembered(server, fetching, prepare, bodies, tmp_path):
    server.says("/a/abc.mp4", (200, {}, bodies["too_short"]))
    first = prepare(LATE, fetching("a"))
    assert "requested again" not in first.message
    second = prepare(LATE, fetching("a", ask_again=("too_short",)))
    assert (second.reason, second.source_sha256) == ("too_short", sha256(bodies["too_short"]))
    expected = (
        rf"{re.escape(first.message)}; {server.url}/a/abc\.mp4: requested again on 20\d\d-\d\d-\d\d: the same file"
    )
    assert re.fullmatch(expected, second.message)
    assert len(server.requests) == 2
    third = prepare(LATE, fetching("a"))
    assert (third.reason, third.message) == (second.reason, second.message)
    assert len(server.requests) == 2
    assert prepare(LATE, fetching("a", ask_again=("too_short",))).reason == "too_short"
    assert len(server.requests) == 3
    assert len(list((tmp_path / "cache/videos").glob("*/*"))) == 1
    assert not list((tmp_path / "cache/partial").iterdir())


@pytest.mark.parametrize(
    "answer, words",
    [((404, {}, b""), "not_found: "), ((500, {}, b""), "server_error: "), ((200, {}, b"no video"), "unreadable: ")],
)
def test_if_the_source_refuses_now_the_old_file_and_the_old_reason_stay(
    answer, words, server, fetching, prepare, bodies, tmp_path
):
    body = bodies["clip_out_of_range"]
    server.says("/a/abc.mp4", (200, {}, body), answer)
    prepare(LATE, fetching("a"))
    row = prepare(LATE, fetching("a", ask_again=("clip_out_of_range",)))
    assert (row.reason, row.source_sha256) == ("clip_out_of_range", sha256(body))
    assert "requested again on 20" in row.message and words in row.message
    asked = len(server.requests)
    assert prepare(EARLY, fetching("a")).status == "written"  # another clip of the old file
    assert len(server.requests) == asked
    server.says("/a/abc.mp4", (200, {}, bodies["good"]))
    assert prepare(LATE, fetching("a", ask_again=("clip_out_of_range",))).status == "written"


def test_a_worse_file_in_its_place_does_no_harm_to_other_clips(server, fetching, prepare, bodies):
    server.says("/a/abc.mp4", (200, {}, bodies["clip_out_of_range"]), (200, {}, bodies["tiny"]))
    prepare(LATE, fetching("a"))
    row = prepare(LATE, fetching("a", ask_again=("clip_out_of_range",)))
    assert row.reason == "clip_out_of_range" and len(server.requests) == 2
    row = prepare(EARLY, fetching("a"))
    assert (row.status, row.source_sha256) == ("written", sha256(bodies["clip_out_of_range"]))
    assert len(server.requests) == 2


def test_a_source_that_gives_an_earlier_file_again_is_told_so(server, fetching, prepare, bodies, tmp_path):
    first, second = bodies["clip_out_of_range"], bodies["tiny"]
    server.says("/a/abc.mp4", *((200, {}, body) for body in (first, second, first)))
    for _ in range(3):
        row = prepare(LATE, fetching("a", ask_again=("clip_out_of_range",)))
    assert row.reason == "clip_out_of_range" and "the same file as one before" in row.message
    assert [entry["sha256"] for entry in entries(tmp_path)] == [sha256(first), sha256(second)]
    assert prepare(EARLY, fetching("a")).source_sha256 == sha256(first)


def test_within_a_run_the_source_is_asked_once_for_all_rows_of_a_video(server, fetching, prepare, bodies, tmp_path):
    rows = [plan_row("abc", start, start + 1.0) for start in (4.0, 4.5, 5.0, 5.5)]
    server.says("/a/abc.mp4", (200, {}, bodies["tiny"]))
    for row in rows:
        prepare(row, fetching("a"), "first")
    assert len(server.requests) == 1
    again = fetching("a", ask_again=("clip_out_of_range",))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        refused = list(pool.map(lambda row: prepare(row, again, "second"), rows))
    assert len(server.requests) == 2
    assert {row.reason for row in refused} == {"clip_out_of_range"}
    assert all("requested again on 20" in row.message for row in refused)
    server.says("/a/abc.mp4", (200, {}, bodies["good"]))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda row: prepare(row, again, "third"), rows))
    assert len(server.requests) == 3
    assert {row.source_sha256 for row in written} == {sha256(bodies["good"])}


def test_processes_of_one_run_count_as_one(server, fetching, bodies, prepare, tmp_path):
    server.says("/a/abc.mp4", (200, {}, bodies["tiny"]))
    prepare(LATE, fetching("a"))
    again = fetching("a", ask_again=("clip_out_of_range",))

    def refuse(fetched):
        raise ClipOutOfRange("begins after the end")

    for run in ("x", "x", "y"):  # opened anew each time, as each process does
        with pytest.raises(ClipOutOfRange, match="requested again"):
            open_sources(again, tmp_path / "scratch", run=run).first_usable(LATE, refuse)
    assert len(server.requests) == 3


def test_the_cache_of_a_run_knows_the_run_whose_id_its_processes_share(fetching, quick_recipe, tmp_path):
    context = RunContext(quick_recipe, "0" * 16, fetching("a"), str(tmp_path / "scratch"))
    assert context.sources.cache.run == context.run_id


def test_a_file_that_was_downloaded_in_this_run_is_not_requested_again(server, fetching, prepare, bodies):
    server.says("/a/abc.mp4", (200, {}, bodies["tiny"]))
    for row in (LATE, plan_row("abc", 4.0, 5.0)):
        assert prepare(row, fetching("a", ask_again=("clip_out_of_range",)), "one run").reason == "clip_out_of_range"
    assert len(server.requests) == 1


def test_what_ffmpeg_cannot_read_at_all_is_requested_once_a_run(server, fetching, prepare):
    server.says("/a/abc.mp4", (200, {}, b"no video at all"))
    for count, run in enumerate(("1", "2"), 1):
        for row in (EARLY, LATE):
            assert prepare(row, fetching("a", ask_again=("unreadable",)), run).reason == "unreadable"
        assert len(server.requests) == count


def test_a_paused_host_is_not_asked_and_the_old_reason_stays(server, fetching, prepare, bodies):
    server.says("/a/abc.mp4", (200, {}, bodies["tiny"]))
    server.says("/a/def.mp4", (429, {"Retry-After": "7200"}, b""))
    prepare(LATE, fetching("a"))
    prepare(plan_row("def", 1.0, 2.0), fetching("a"))
    asked = len(server.requests)
    row = prepare(LATE, fetching("a", ask_again=("clip_out_of_range",)))
    assert row.reason == "clip_out_of_range" and "not requested again: " in row.message
    assert len(server.requests) == asked


def test_a_read_only_cache_takes_no_notes_and_stops_nothing(server, fetching, prepare, bodies, tmp_path, monkeypatch):
    server.says("/a/abc.mp4", (200, {}, bodies["clip_out_of_range"]))
    assert prepare(EARLY, fetching("a")).status == "written"

    def locked(self, key):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Cache, "locked", locked)
    assert prepare(LATE, fetching()).reason == "clip_out_of_range"
    assert entries(tmp_path)[0]["found"] == {}


# Several places


def test_a_bad_file_in_the_cache_does_not_hide_a_good_one_of_another_server(server, fetching, prepare, bodies):
    server.says("/a/abc.mp4", (200, {}, bodies["too_short"]))
    server.says("/b/abc.mp4", (200, {}, bodies["good"]))
    assert prepare(LATE, fetching("a")).reason == "too_short"
    row = prepare(LATE, fetching("a", "b", ask_again=("too_short",)))
    assert (row.status, row.source) == ("written", f"{server.url}/b/abc.mp4")
    assert server.requested == ["/a/abc.mp4", "/a/abc.mp4", "/b/abc.mp4"]
    row = prepare(LATE, fetching("a", "b"))
    assert (row.status, row.source) == ("written", f"{server.url}/b/abc.mp4")
    assert row.notes.endswith(f"{server.url}/a/abc.mp4 was refused: too_short")
    assert prepare(EARLY, fetching("a", "b")).source == f"{server.url}/a/abc.mp4"
    assert len(server.requests) == 3


def test_a_bad_file_from_one_server_is_looked_for_at_the_next_at_once_as_without_a_cache(
    server, fetching, prepare, bodies
):
    server.says("/a/abc.mp4", (200, {}, bodies["too_short"]))
    server.says("/b/abc.mp4", (200, {}, bodies["good"]))
    with_cache = prepare(LATE, fetching("a", "b"))
    assert server.requested == ["/a/abc.mp4", "/b/abc.mp4"]
    without = prepare(LATE, fetching("a", "b", cache=None))
    for row in (with_cache, without):
        assert (row.status, row.source) == ("written", f"{server.url}/b/abc.mp4")
    assert with_cache.notes == without.notes


def test_each_of_several_servers_is_asked_once_a_run(server, fetching, prepare, bodies, tmp_path):
    for mirror, reason in (("a", "too_short"), ("b", "clip_out_of_range"), ("c", "too_short")):
        server.says(f"/{mirror}/abc.mp4", (200, {}, bodies[reason]))
    rows, mirrors = (LATE, plan_row("abc", 5.1, 6.0)), ("a", "b", "c", "d")
    for row in rows:
        assert prepare(row, fetching(*mirrors), "first").reason == "too_short"
    assert server.requested == [f"/{mirror}/abc.mp4" for mirror in "abcd"]
    prepare(LATE, fetching(*mirrors), "second")
    assert len(server.requests) == 4
    for row in rows:
        assert prepare(row, fetching(*mirrors, ask_again=("too_short",)), "third").reason == "too_short"
    assert server.requested[4:] == [f"/{mirror}/abc.mp4" for mirror in "abc"]  # not d, which never had it
    assert len(entries(tmp_path)) == 3


def test_a_server_that_refused_a_video_is_not_asked_again_because_the_next_one_gave_a_bad_file(
    server, fetching, prepare, bodies
):
    server.says("/b/abc.mp4", (200, {}, bodies["too_short"]))
    for row in (LATE, plan_row("abc", 5.1, 6.0), LATE):
        assert prepare(row, fetching("a", "b")).reason == "too_short"
    assert server.requested == ["/a/abc.mp4", "/b/abc.mp4"]


def test_a_server_that_gives_the_file_that_another_one_gave_is_told_so(server, fetching, prepare, bodies):
    for mirror in "ab":
        server.says(f"/{mirror}/abc.mp4", (200, {}, bodies["too_short"]))
    row = prepare(LATE, fetching("a", "b"))
    assert row.reason == "too_short" and row.message.endswith(f"{server.url}/b/abc.mp4: the same file")
    prepare(LATE, fetching("a", "b"))
    assert len(server.requests) == 2


def test_a_bad_file_in_the_cache_does_not_hide_a_good_one_in_a_folder(server, fetching, prepare, bodies, tmp_path):
    server.says("/a/abc.mp4", (200, {}, bodies["too_short"]))
    prepare(LATE, fetching("a"))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/abc.mp4").write_bytes(bodies["good"])
    places = dataclasses.replace(fetching("a"), videos=(*fetching("a").videos, str(tmp_path / "videos")))
    row = prepare(LATE, places)
    assert (row.status, row.source, len(server.requests)) == ("written", "abc.mp4", 1)


def test_a_bad_piece_in_the_cache_does_not_hide_the_whole_video_there(server, fetching, prepare, bodies):
    server.says("/a/abc.mp4", (200, {}, bodies["good"]))
    server.says("/p/abc_5.mp4", (200, {}, bodies["tiny"]))
    pieces = dataclasses.replace(fetching(), videos=(f"{server.url}/p/{{id}}_{{start}}.mp4",))
    assert prepare(LATE, pieces).reason == "too_short"
    assert prepare(EARLY, fetching("a")).status == "written"
    row = prepare(LATE, fetching())
    assert (row.status, row.source) == ("written", f"{server.url}/a/abc.mp4")
    assert row.notes.endswith(f"{server.url}/p/abc_5.mp4 was refused: too_short")
    assert len(server.requests) == 2


# Entries of other versions, and damaged ones

OLD = ("key", "name", "origin", "source", "begins_seconds", "attempts", "sha256", "bytes", "notes")


def change_entry(tmp_path, change) -> None:
    (path,) = (tmp_path / "cache/entries").glob("*/*")
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), "utf-8")


def test_an_entry_of_an_earlier_version_is_read_and_its_source_asked_again(server, fetching, prepare, bodies, tmp_path):
    server.says("/a/abc.mp4", (200, {}, bodies["too_short"]), (200, {}, bodies["good"]))
    prepare(LATE, fetching("a"))
    change_entry(tmp_path, lambda entry: {name: entry[name] for name in OLD})
    assert prepare(EARLY, fetching("a")).status == "written"
    assert prepare(LATE, fetching("a")).reason == "too_short"
    assert len(server.requests) == 1
    assert prepare(LATE, fetching("a", ask_again=("too_short",))).status == "written"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "more",
    [
        {"colour": "blue", "answer": {"outcome": "x", "seconds_since_1970": 1.0, "mood": 5}},
        {"others": 5},
        {"others": [5, None, {"key": "video abc"}, {"sha256": ["a"] * 64}]},
        {"answer": "x"},
        {"answer": {"outcome": 5}},
        {"found": []},
        {"found": {"\ud800": {"reason": "too_short", "message": "", "seconds_since_1970": 1}}},
        {"found": {"abc_000005_000006": 5, "x": {"reason": [], "message": "", "seconds_since_1970": 1}}},
        {"found": {"abc_000005_000006": {"reason": "of_tomorrow", "message": "", "seconds_since_1970": 1}}},
        {"found": {"abc_000005_000006": {"reason": "too_short", "message": "\ud800", "seconds_since_1970": 1}}},
        {"found": {"abc_000005_000006": {"reason": "too_short", "message": "", "seconds_since_1970": 1e300}}},
    ],
)
def test_what_this_version_does_not_know_in_an_entry_is_passed_over(more, server, fetching, prepare, bodies, tmp_path):
    server.says("/a/abc.mp4", (200, {}, bodies["too_short"]), (200, {}, bodies["good"]))
    prepare(LATE, fetching("a"))
    change_entry(tmp_path, lambda entry: entry | more)
    assert prepare(EARLY, fetching("a")).status == "written"
    assert prepare(LATE, fetching("a", ask_again=("x",))).reason == "too_short"
    assert len(server.requests) == 1
    assert prepare(LATE, fetching("a", ask_again=("too_short",))).status == "written"


@pytest.mark.parametrize(
    "more",
    [
        {"begins_seconds": "x"},
        {"begins_seconds": float("nan")},
        {"begins_seconds": -1.0},
        {"begins_seconds": 10**400},
        {"attempts": True},
        {"attempts": "1"},
        {"bytes": 1.5},
        {"bytes": 1 << 80},
        {"notes": "abc"},
        {"notes": [5]},
        {"origin": None},
        {"name": "\udcff"},
        {"place": 5},
        {"run": []},
        {"seconds_since_1970": float("inf")},
        {"sha256": ["0"] * 64},
    ],
)
def test_a_forged_entry_counts_as_none(more, server, fetching, prepare, bodies, tmp_path):
    server.says("/a/abc.mp4", (200, {}, bodies["good"]))
    prepare(EARLY, fetching("a"))
    change_entry(tmp_path, lambda entry: entry | more)
    assert prepare(EARLY, fetching()).reason == "not_found"
    assert prepare(EARLY, fetching("a")).status == "written"
    assert len(server.requests) == 2


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "5", "{", "\x00", '{"key": {}}'])
def test_an_entry_that_is_no_entry_counts_as_none(text, server, fetching, prepare, bodies, tmp_path):
    server.says("/a/abc.mp4", (200, {}, bodies["good"]))
    prepare(EARLY, fetching("a"))
    (path,) = (tmp_path / "cache/entries").glob("*/*")
    path.write_text(text)
    assert prepare(EARLY, fetching()).reason == "not_found"


# The command line

RECIPE = ("--fps", "5", "--short-side", "32", "--clip-seconds", "1", "--min-seconds", "0.4", "--clips-per-shard", "3")
TVL1 = ("--tvl1", "scales=2", "warps=1", "iterations=3")


@pytest.fixture
def places(server, tmp_path) -> list[str]:
    """Flags for the annotations of both rows, the server and the cache."""
    (tmp_path / "rows.csv").write_text("label,youtube_id,time_start,time_end,split\nw,abc,1,2,train\nw,abc,5,6,train\n")
    template = server.url + "/a/{id}.mp4"
    return ["--annotations", str(tmp_path / "rows.csv"), "--videos", template, "--cache", str(tmp_path / "cache")]


def ledger(output: Path) -> dict[float, dict]:
    """The ledger's rows by their starts."""
    rows = itertools.chain(*(tables.read(path, "ledger") for path in sorted((output / "ledger").iterdir())))
    return {row["start_seconds"]: row for row in rows}


@pytest.mark.parametrize("command", ["flow", "retry", "refresh"])
def test_each_command_that_tries_again_requests_a_bad_file_again(command, server, places, bodies, tmp_path, capsys):
    server.says("/a/abc.mp4", (200, {}, bodies["clip_out_of_range"]))
    flow = ["flow", *places, "--output", str(tmp_path / "out"), *RECIPE, *TVL1]
    assert main(flow) == OK and main(flow) == OK
    first = ledger(tmp_path / "out")
    assert [first[start]["reason"] for start in (1.0, 5.0)] == [None, "clip_out_of_range"]
    assert len(server.requests) == 1
    again = {
        "flow": [*flow, "--retry", "clip_out_of_range"],
        "retry": ["retry", str(tmp_path / "out"), "--reason", "clip_out_of_range"],
        "refresh": ["refresh", str(tmp_path / "out"), "--reason", "clip_out_of_range"],
    }[command]
    assert main(again) == OK
    assert len(server.requests) == 2 and "requested again" in ledger(tmp_path / "out")[5.0]["message"]
    server.says("/a/abc.mp4", (200, {}, bodies["good"]))
    assert main(again) == OK
    assert len(server.requests) == 3
    rows = ledger(tmp_path / "out")
    assert [rows[start]["status"] for start in (1.0, 5.0)] == ["written", "written"]
    assert rows[1.0]["source_sha256"] == first[1.0]["source_sha256"] == sha256(bodies["clip_out_of_range"])
    assert rows[5.0]["source_sha256"] == sha256(bodies["good"])
    capsys.readouterr()


def test_download_requests_again_what_flow_found_to_be_bad(server, places, bodies, tmp_path, capsys):
    server.says("/a/abc.mp4", (200, {}, bodies["clip_out_of_range"]))
    flow = ["flow", *places, "--output", str(tmp_path / "out"), *RECIPE, *TVL1]
    assert main(flow) == OK
    download = ["download", *places]
    assert main(download) == OK and main([*download, "--again", "too_short"]) == OK
    assert len(server.requests) == 1
    capsys.readouterr()
    again = [*download, "--again", "clip_out_of_range"]
    assert main([*again, "--dry-run"]) == OK
    assert "2 rows, 1 at hand" in (said := capsys.readouterr().out) and "1 videos to ask for" in said
    assert main(again) == OK
    assert "1 at hand, 0 downloaded, 1 refused (1 clip_out_of_range)" in capsys.readouterr().out
    assert len(server.requests) == 2
    server.says("/a/abc.mp4", (200, {}, bodies["good"]))
    assert main(again) == OK
    assert "1 at hand, 1 downloaded, 0 refused" in capsys.readouterr().out
    assert len(server.requests) == 3
    assert main(again) == OK and len(server.requests) == 3
    assert main([*flow, "--retry", "clip_out_of_range"]) == OK and len(server.requests) == 3
    assert ledger(tmp_path / "out")[5.0]["source_sha256"] == sha256(bodies["good"])


def test_download_again_finds_files_whose_bytes_have_changed(server, places, bodies, tmp_path, capsys):
    server.says("/a/abc.mp4", loopback.file(bodies["good"]))
    download = ["download", *places]
    assert main(download) == OK
    (path,) = (tmp_path / "cache/videos").glob("*/*")
    path.write_bytes(bytes(len(bodies["good"])))
    assert main(download) == OK and main([*download, "--again", "not_found"]) == OK
    assert len(server.requests) == 1
    assert main([*download, "--again", "unreadable"]) == OK
    assert "1 at hand, 1 downloaded, 0 refused" in capsys.readouterr().out
    assert len(server.requests) == 2 and path.read_bytes() == bodies["good"]
