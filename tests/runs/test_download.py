"""`kinetics-prep download`: every row in one ledger row, nobody asked for what is there, and `flow` reads the cache."""

import collections
import os
import re

import pytest
from conftest import numbered_frames, write_video

from kinetics_prep.cli import CANNOT_GO_ON, OK, TOO_MANY_REFUSED, main
from kinetics_prep.storage import tables

IDS = [f"video{number}" for number in range(6)]


@pytest.fixture
def rows(tmp_path):
    """Two clips each of some videos; one row that cannot be read, one that stands twice."""
    lines = ["label,youtube_id,time_start,time_end,split"]
    lines += [f"waving,{media_id},{start},{start + 1},train" for media_id in IDS for start in (0, 1)]
    lines += ["waving,video0,0,1,train", "waving,video1,soon,later,train"]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def video(tmp_path) -> bytes:
    return write_video(tmp_path / "video.mp4", numbered_frames(75)).read_bytes()


@pytest.fixture
def command(rows, server, tmp_path):
    place = server.url + "/{id}.mp4"
    return ["download", "--annotations", str(rows), "--cache", str(tmp_path / "cache"), "--videos", place]


def ledger(tmp_path) -> list[dict]:
    return list(tables.read(tmp_path / "cache/ledger/rows-train.parquet", "download"))


def test_every_row_ends_in_one_row_of_the_ledger(command, server, video, tmp_path, capsys):
    for media_id in IDS[:4]:
        server.says(f"/{media_id}.mp4", (200, {}, video))
    assert main(command) == OK
    found = ledger(tmp_path)
    assert len(found) == 14
    assert len({(row["clip_id"], row["annotation_line"]) for row in found}) == 14
    statuses = collections.Counter((row["status"], row["reason"]) for row in found)
    assert statuses[("refused", "not_found")] == 4
    assert statuses[("refused", "duplicate_row")] == statuses[("refused", "malformed_row")] == 1
    assert statuses[("downloaded", None)] == statuses[("at_hand", None)] == 4  # a video has two clips
    assert {row["again"] for row in found if row["reason"] == "not_found"} == {
        "when there is another source, or the same one has changed"
    }
    assert collections.Counter(server.requested) == dict.fromkeys((f"/{media_id}.mp4" for media_id in IDS), 1)
    said = capsys.readouterr()
    assert "14 rows, 4 at hand, 4 downloaded, 6 refused (4 not_found, " in said.out
    assert "rows.csv: kinetics-csv, 14 rows" in said.err and "cache/ledger" in said.err


def test_nobody_is_asked_again_for_what_is_there_or_was_not(command, server, video, tmp_path):
    server.otherwise = (200, {}, video)
    server.says("/video5.mp4", (404, {}, b""))
    assert main(command) == OK
    asked = len(server.requests)
    assert main(command) == OK
    assert len(server.requests) == asked
    statuses = collections.Counter(row["status"] for row in ledger(tmp_path))
    assert statuses == {"at_hand": 10, "refused": 4}
    server.says("/video5.mp4", (200, {}, video))
    assert main([*command, "--again", "not_found"]) == OK
    assert server.requested[asked:] == ["/video5.mp4"]


def test_a_cache_is_not_read_through_to_see_what_is_missing(command, server, video, tmp_path):
    server.otherwise = (200, {}, video)
    assert main(command) == OK
    (path,) = (tmp_path / "cache/videos").glob("*/*")
    os.utime(path, ns=(0, 0))
    assert main(command) == OK
    if path.stat().st_atime_ns:
        pytest.skip("this file system notes no access times, or others read here")
    path.write_bytes(path.read_bytes()[:-1])  # but a file that is cut short is missing
    asked = len(server.requests)
    assert main(command) == OK
    assert len(server.requests) > asked


def test_flow_reads_the_cache_and_asks_nobody(command, server, video, rows, tmp_path):
    server.otherwise = (200, {}, video)
    assert main(command) == OK
    asked = len(server.requests)
    flow = ["flow", "--annotations", str(rows), "--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "out")]
    flow += ["--fps", "5", "--short-side", "32", "--clip-seconds", "1", "--tvl1", "scales=2", "warps=1", "iterations=3"]
    assert main(flow) == OK
    assert len(server.requests) == asked
    (path,) = (tmp_path / "out/ledger").iterdir()
    written = [row for row in tables.read(path, "ledger") if row["status"] == "written"]
    assert len(written) == 12
    assert {row["source_kind"] for row in written} == {"http"}
    assert {row["source"] for row in written} == {f"{server.url}/{media_id}.mp4" for media_id in IDS}


def test_flow_fetches_what_the_cache_lacks_and_keeps_it(command, server, video, rows, tmp_path):
    server.otherwise = (200, {}, video)
    assert main([*command, "--limit", "3"]) == OK
    flow = ["flow", *command[1:], "--output", str(tmp_path / "out"), "--limit", "6"]
    flow += ["--fps", "5", "--short-side", "32", "--clip-seconds", "1", "--tvl1", "scales=2", "warps=1", "iterations=3"]
    assert main(flow) == OK
    assert max(collections.Counter(server.requested).values()) == 1
    asked = len(server.requests)
    assert main([*command, "--limit", "6"]) == OK
    assert len(server.requests) == asked


def test_a_dry_run_asks_nobody_and_says_how_long_it_would_take(command, server, video, tmp_path, capsys):
    server.otherwise = (200, {}, video)
    server.says("/video5.mp4", (404, {}, b""))
    assert main([*command, "--limit", "4"]) == OK
    asked, have = len(server.requests), len(list((tmp_path / "cache/entries").glob("*/*")))
    assert main([*command, "youtube", "--rate", "127.0.0.1=360/h", "--dry-run"]) == OK
    said = capsys.readouterr().out
    assert len(server.requests) == asked
    left = 6 - have
    assert re.search(rf"127.0.0.1: {left} videos to ask for; at 0.1/s that takes {left * 10} s, or longer", said), said
    assert re.search(rf"www.youtube.com: {left} videos more, if no host before has them; at 300/h", said), said
    assert "2 that the annotations make unusable" in said


def test_what_a_folder_has_is_not_asked_for(command, server, video, tmp_path):
    (tmp_path / "videos").mkdir()
    for media_id in IDS[:5]:
        (tmp_path / f"videos/{media_id}.mp4").write_bytes(video)
    server.otherwise = (200, {}, video)
    place = command.index("--videos") + 1
    assert main([*command[:place], str(tmp_path / "videos"), *command[place:]]) == OK
    assert server.requested == ["/video5.mp4"]
    kinds = collections.Counter(row["source_kind"] for row in ledger(tmp_path))
    assert kinds == {"folder": 10, "http": 2, None: 2}


def test_more_refused_than_allowed_is_exit_code_3(command, server):
    assert main([*command, "--max-refused", "13"]) == TOO_MANY_REFUSED
    assert main([*command, "--max-refused", "14"]) == OK


def test_a_pause_is_told_while_it_lasts(command, server, video, capsys):
    server.otherwise = (200, {}, video)
    server.says("/video3.mp4", (429, {"Retry-After": "7200"}, b""))
    assert main([*command, "--connections", "1"]) == OK
    said = capsys.readouterr()
    assert "HTTP 429" in said.err and "it gets no requests until" in said.err
    assert "rate_limited" in said.out


@pytest.mark.parametrize(
    "change, message",
    [
        ((), "--cache is missing"),
        (("--cache", os.devnull), "--cache /dev/null cannot be made"),
        (("--cache", "cache", "--again", "bad_luck"), "--again bad_luck: expected one or more of"),
        (("--cache", "cache", "--workers", "0"), "--workers is 0"),
        (("--cache", "cache", "--split", "test"), "no readable row of split 'test'"),
    ],
)
def test_what_the_user_must_mend_is_one_line(command, change, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = command.index("--cache")
    assert main([*command[:place], *command[place + 2 :], *change]) == CANNOT_GO_ON
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_without_annotations_there_is_nothing_to_get(capsys, tmp_path):
    assert main(["download", "--cache", str(tmp_path), "--videos", "youtube"]) == CANNOT_GO_ON
    assert "--annotations is missing" in capsys.readouterr().err
