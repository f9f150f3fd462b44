"""`retry` and `refresh` from the command line, through Beam; `test_again.py` has more of their rules."""

import collections
import hashlib
import json
import shutil

import duckdb
import pytest
from conftest import QUICK_TVL1, numbered_frames, write_video

from kinetics_prep.cli import CANNOT_GO_ON, OK, main
from kinetics_prep.dataset import documents
from kinetics_prep.records import tfrecord
from kinetics_prep.storage import tables

IDS = [f"video{number}" for number in range(8)]
QUICK = ["--fps", "5", "--short-side", "32", "--clip-seconds", "1", "--clips-per-shard", "3"]
QUICK += ["--format", "tfrecord,parquet"]
QUICK += ["--tvl1", *(f"{name}={getattr(QUICK_TVL1, name)}" for name in ("scales", "warps", "iterations"))]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "video.mp4", numbered_frames(75))


@pytest.fixture
def videos(tmp_path, video):
    """A folder that lacks most videos; one is no video."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for media_id in IDS[:2]:
        shutil.copy(video, folder / f"{media_id}.mp4")
    (folder / "broken.mp4").write_bytes(b"no video at all")
    return folder


@pytest.fixture
def output(tmp_path, videos):
    """A finished folder: of 8 videos with two clips each 2 are there; a row stands twice, a file is broken."""
    lines = ["label,youtube_id,time_start,time_end,split"]
    for media_id in (*IDS, "broken"):
        lines += [f"waving,{media_id},{start},{start + 1},train" for start in (0, 1)]
    lines += ["waving,video7,0,1,train", "waving,gone,0,1,val", "waving,video0,0,1,val"]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    assert main(flow_command(tmp_path)) == OK
    return tmp_path / "out"


def flow_command(tmp_path) -> list[str]:
    places = ["--videos", str(tmp_path / "videos"), "--output", str(tmp_path / "out")]
    return ["flow", "--annotations", str(tmp_path / "rows.csv"), *places, *QUICK]


def add(videos, video, *media_ids):
    for media_id in media_ids:
        shutil.copy(video, videos / f"{media_id}.mp4")


def ledger(output) -> dict:
    """Ledger rows; each annotation row must be in one ledger, once."""
    rows = [row for path in sorted(output.glob("ledger/*.parquet")) for row in tables.read(path, "ledger")]
    found = {(row["split"], row["clip_id"], row["annotation_line"]): row for row in rows}
    assert len(found) == len(rows) == 21
    return found


def reasons(output) -> dict:
    return dict(collections.Counter(row["reason"] for row in ledger(output).values()))


def data(output) -> dict[str, str]:
    """The shards' bytes."""
    paths = [*output.glob("tfrecord/*"), *output.glob("parquet/*")]
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def clips(output) -> list[str]:
    paths = sorted(output.glob("tfrecord/*"))
    return sorted(f"{path.name[:3]} {record['example/id']}" for path in paths for record in tfrecord.read_shard(path))


def expect_sound(output) -> None:
    """Validated, and the manifest says what the ledgers say."""
    assert main(["validate", str(output)]) == OK
    content = json.loads((output / "dataset.json").read_text())
    for split, part in content["splits"].items():
        rows = [row for row in ledger(output).values() if row["split"] == split]
        assert part["rows"] == len(rows)
        assert part["written"] == sum(row["status"] == "written" for row in rows)
        assert sum(part["refused"].values()) == part["rows"] - part["written"]
    assert not (output / ".work").exists()


# Refresh ----------------------------------------------------------------------------------------


def test_what_came_back_goes_into_new_shards_and_the_old_ones_stay_as_they_are(output, videos, video, capsys):
    before = data(output)
    add(videos, video, "video2", "video3", "gone")
    assert main(["refresh", str(output)]) == OK
    after = data(output)
    assert {name: after[name] for name in before} == before
    new = sorted(set(after) - set(before))
    assert [name for name in new if name.startswith("tfrecord")] == [
        "tfrecord/train-refresh1-00000-of-00002.tfrecord",
        "tfrecord/train-refresh1-00001-of-00002.tfrecord",
        "tfrecord/val-refresh1-00000-of-00001.tfrecord",
    ]
    assert len(clips(output)) == len(set(clips(output))) == 5 + 5
    assert reasons(output) == {None: 10, "not_found": 8, "unreadable": 2, "duplicate_row": 1}
    said = capsys.readouterr().out
    assert "looked for 13 rows again: 5 found, in 3 new shards; still refused: 8 not_found" in said
    assert "21 rows, 10 written, 11 refused" in said
    expect_sound(output)


def test_a_refresh_that_finds_nothing_writes_nothing(output, capsys):
    before = data(output)
    assert main(["refresh", str(output)]) == OK
    assert data(output) == before
    assert "0 found; still refused: 13 not_found" in capsys.readouterr().out
    expect_sound(output)


def test_only_the_reasons_asked_for_are_looked_at(output, videos, video, capsys):
    add(videos, video, "video2", "broken")
    assert main(["refresh", str(output), "--reason", "unreadable"]) == OK
    assert "looked for 2 rows again: 2 found, in 1 new shard" in capsys.readouterr().out
    assert reasons(output) == {None: 7, "not_found": 13, "duplicate_row": 1}
    expect_sound(output)


def test_status_and_sql_count_each_row_once(output, videos, video, capsys):
    add(videos, video, "video2", "gone")
    assert main(["refresh", str(output)]) == OK
    capsys.readouterr()
    assert main(["status", str(output)]) == OK
    said = capsys.readouterr().out
    assert "train: 19 rows, 6 written (31.6%), 13 refused, 0 to go" in said
    assert "val: 2 rows, 2 written (100.0%), 0 refused, 0 to go" in said
    query = f"select status, count(*) from '{output}/ledger/*.parquet' group by status order by status"
    assert duckdb.sql(query).fetchall() == [("refused", 13), ("written", 8)]


def test_an_unfinished_folder_is_finished_first(output, capsys):
    next((output / "markers").iterdir()).unlink()
    assert main(["refresh", str(output)]) == CANNOT_GO_ON
    assert "is not finished: 1 shards are missing" in capsys.readouterr().err


# Retry ------------------------------------------------------------------------------------------


def test_retry_needs_neither_annotations_nor_places(output, videos, video, tmp_path):
    add(videos, video, *IDS, "gone")
    (tmp_path / "rows.csv").unlink()
    assert main(["retry", str(output), "--reason", "not_found"]) == OK
    assert reasons(output) == {None: 18, "unreadable": 2, "duplicate_row": 1}
    found = sorted(path.name for path in output.glob("tfrecord/*refresh*"))
    assert len(found) == 5 and found[-1] == "val-refresh1-00000-of-00001.tfrecord"
    expect_sound(output)


def test_retry_takes_no_shard_apart(output, videos, video):
    """It once wrote every shard anew in which a row was refused: some 2.8 TB of Kinetics-400."""
    paths = [*output.glob("tfrecord/*"), *output.glob("parquet/*")]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}
    add(videos, video, "video2")
    assert main(["retry", str(output), "--reason", "not_found"]) == OK
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in paths} == before
    assert main([*flow_command(videos.parent), "--retry", "not_found"]) == OK
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in paths} == before
    assert reasons(output)[None] == 7
    expect_sound(output)


def test_retry_takes_places_of_its_own(output, server, video, capsys):
    server.says("/video2.mp4", (200, {}, video.read_bytes()))
    place = server.url + "/{id}.mp4"
    assert main(["retry", str(output), "--reason", "not_found", "--videos", place, "--attempts", "1"]) == OK
    assert reasons(output)[None] == 7
    assert "/video0.mp4" not in server.requested
    expect_sound(output)


def test_retry_without_a_reason_tries_what_passes_by_itself(tmp_path, server, video, capsys):
    (tmp_path / "rows.csv").write_text("waving,a,0,1,train\nwaving,b,0,1,train\n")
    server.says("/a.mp4", (500, {}, b""))
    output = tmp_path / "out"
    places = ["--videos", server.url + "/{id}.mp4", "--attempts", "1", "--output", str(output)]
    assert main(["flow", "--annotations", str(tmp_path / "rows.csv"), *places, *QUICK]) == OK
    server.says("/a.mp4", (200, {}, video.read_bytes()))
    server.requests.clear()
    assert main(["retry", str(output)]) == OK
    assert server.requested == ["/a.mp4"]
    assert "2 rows, 1 written, 1 refused (1 not_found)" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["retry", "refresh"])
def test_what_the_user_must_mend_is_one_line(output, command, capsys, tmp_path):
    for arguments, message in (
        ([str(output), "--reason", "bad_luck"], "--reason bad_luck: expected one or more of"),
        ([str(output), "--reason", "malformed_row"], "--reason malformed_row: expected one or more of"),
        ([str(output), "--nonsense"], "--nonsense: known neither to kinetics-prep nor to Apache Beam"),
        ([str(output), "--gpus", "0"], "--gpus and --gpu-memory: engine tvl1"),
        ([str(tmp_path / "nowhere")], "nothing was begun here"),
        ([str(tmp_path)], "holds files that kinetics-prep did not write, such as out; nothing in it was touched"),
    ):
        assert main([command, *arguments]) == CANNOT_GO_ON
        assert message in capsys.readouterr().err.splitlines()[-1]
    (output / "sources.json").unlink()
    assert main([command, str(output)]) == CANNOT_GO_ON
    assert "does not say where its videos are: give --videos or --cache" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["flow", "download"])
def test_no_secret_of_an_address_is_on_disk_or_on_the_screen(command, tmp_path, server, video, capfd):
    (tmp_path / "rows.csv").write_text("waving,a,0,1,train\nwaving,b,0,1,train\nwaving,c,0,1,train\n")
    server.says("/a.mp4?token=hush-hush&v=a", (200, {}, video.read_bytes()))
    server.says("/b.mp4?token=hush-hush&v=b", (429, {"Retry-After": "5000"}, b""))
    place = server.url.replace("http://", "http://me:hush-hush@") + "/{id}.mp4?token=hush-hush&v={id}"
    common = ["--annotations", str(tmp_path / "rows.csv"), "--videos", place, "--cache", str(tmp_path / "cache")]
    again = ["--attempts", "1", "--patience", "0"]
    if command == "flow":
        assert main(["flow", *common, *again, "--output", str(tmp_path / "out"), *QUICK]) == OK
        for resume in ("retry", "refresh"):
            assert main([resume, str(tmp_path / "out")]) == CANNOT_GO_ON
        words = f"--videos 'http://***@{server.url.removeprefix('http://')}/{{id}}.mp4?token=***&v={{id}}'"
        captured = capfd.readouterr()
        assert captured.err.count(words) == 2
    else:
        assert main(["download", *common, *again]) == OK
        captured = capfd.readouterr()
    assert len(server.requests) >= 2
    assert "hush" not in captured.out + captured.err
    assert not any(b"hush" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_tools_that_give_other_bytes_are_refused_unless_accepted(output, capsys):
    content = documents.decode((output / "recipe.json").read_bytes(), "recipe.json")
    content["tools"][0]["versions"]["ffmpeg"] = "another"
    content["tools"][0]["fingerprint"] = "0" * 64
    (output / "recipe.json").write_bytes(documents.encode(content))
    assert main(["refresh", str(output)]) == CANNOT_GO_ON
    said = capsys.readouterr().err.splitlines()[-1]
    assert "was prepared by tools that give other bytes, by others (ffmpeg is another there" in said
    assert "give --accept-tools" in said
    assert main(["refresh", str(output), "--accept-tools"]) == OK
    assert main(["refresh", str(output)]) == OK
    expect_sound(output)
