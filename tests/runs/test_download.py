"""`kinetics-prep download`: every row in one ledger row, nobody asked for what is there, and `flow` reads the cache."""

import collections
import os
import re
import subprocess
import sys
import threading

import pyarrow.parquet as pq
import pytest
from conftest import numbered_frames, write_video
from small_disk import disk_with_room_for

from kinetics_prep.annotations.selection import Selection
from kinetics_prep.cli import CANNOT_GO_ON, OK, TOO_MANY_REFUSED, main
from kinetics_prep.errors import NoRoom
from kinetics_prep.runs import download_ledger
from kinetics_prep.runs.download_ledger import DownloadJournal, DownloadRow, ledger_path
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
    (path,) = (tmp_path / "cache/ledger").iterdir()
    assert re.fullmatch(r"rows-[0-9a-f]{8}-train\.parquet", path.name)
    return list(tables.read(path, "download"))


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


# The ledger while a run goes on


def test_rows_that_are_done_can_be_read_after_a_kill(command, server, video, tmp_path):
    end = threading.Event()
    server.otherwise = (200, {}, video)
    for media_id in IDS[3:]:
        server.says(f"/{media_id}.mp4", lambda handler: end.wait(20))
    program = (
        "import sys\nfrom kinetics_prep.cli import entry\nfrom kinetics_prep.runs import download_ledger\n"
        "class Journal(download_ledger.DownloadJournal):\n"
        " def _write(self):\n  super()._write()\n  print(len(self._rows), flush=True)\n"
        "download_ledger.FLUSH_SECONDS, download_ledger.DownloadJournal = 0.01, Journal\n"
        "from kinetics_prep.runs import download\ndownload.DownloadJournal = Journal\n"
        "entry()\n"
    )
    words = [sys.executable, "-c", program, *command, "--connections", "9", "--workers", "20", "--attempts", "1"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert any(int(line) == 8 for line in process.stdout)  # two clips of three videos, two unusable rows
    finally:
        process.kill()
        process.wait()
        end.set()
    (folder,) = (tmp_path / "cache/ledger").iterdir()
    assert re.fullmatch(r"rows-[0-9a-f]{8}-train\.part", folder.name)
    before = pq.read_table(folder).to_pylist()
    assert collections.Counter(row["status"] for row in before) == {"downloaded": 3, "at_hand": 3, "refused": 2}
    server.answers.clear()
    assert main(command) == OK
    assert len(ledger(tmp_path)) == 14  # and nothing beside it


def row(number: int, **more) -> DownloadRow:
    return DownloadRow(f"clip{number}", "a", None, "train", 0.0, 1.0, "rows.csv", number, "at_hand", **more)


def lines(journal: DownloadJournal) -> list[list[int]]:
    """The lines of annotations whose rows are in each file of a journal."""
    paths = sorted(journal.folder.glob("*.parquet"))
    return [[cells["annotation_line"] for cells in tables.read(path, "download")] for path in paths]


def test_a_file_of_the_journal_is_written_when_it_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(download_ledger, "ROWS_PER_GROUP", 3)
    with DownloadJournal(tmp_path / "a.parquet", tmp_path) as journal:
        for number in range(8):
            journal.add(row(number))
        assert lines(journal) == [[0, 1, 2], [3, 4, 5]]
        journal.write()
        assert lines(journal) == [[0, 1, 2], [3, 4, 5], [6, 7]]
        journal.add(row(8))
        assert lines(journal) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ends_with_an_error_leaves_its_rows_for_the_next_run_to_replace(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(ZeroDivisionError), DownloadJournal(path, tmp_path) as journal:
        journal.add(row(1))
        raise ZeroDivisionError
    assert lines(journal) == [[1]]
    with DownloadJournal(path, tmp_path) as journal:
        assert lines(journal) == []
        journal.add(row(2))
        journal.write()
        assert lines(journal) == [[2]]
    assert list(tmp_path.iterdir()) == []


def test_two_runs_of_a_command_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.parquet"
    with DownloadJournal(path, tmp_path) as one, DownloadJournal(path, tmp_path) as other:
        for number, journal in enumerate((one, other)):
            journal.add(row(number))
            journal.write()
        assert sorted(lines(one)) == [[0], [1]]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_run_with_the_next_row(tmp_path, monkeypatch):
    monkeypatch.setattr(download_ledger, "FLUSH_SECONDS", 0.001)
    long = row(1, message="".join(map(chr, range(0x4E00, 0x9000))))
    with disk_with_room_for(1000), pytest.raises(NoRoom, match="no room to write"):  # noqa: SIM117
        with DownloadJournal(tmp_path / "a.parquet", tmp_path) as journal:
            journal.add(long)
            journal._thread.join()
            journal.add(row(2))


def test_a_ledger_is_named_by_what_decides_its_rows(tmp_path):
    ids = tmp_path / "ids"
    ids.write_text("x")

    def name(folder: str = "k1", content: str = "a", **more) -> str:
        path = tmp_path / folder / "val.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return ledger_path(tmp_path, Selection((str(path),), **more), "val").name

    assert re.fullmatch("val-[0-9a-f]{8}-val.parquet", name())
    assert name() == name("k2") == name(splits=("val",))
    others = [name(content="b"), name(limit=3), name(only=("x",)), name(ids=ids), name(labels=ids)]
    assert len({name(), name(format_name="kinetics-csv"), *others}) == 7


def test_the_ledgers_of_two_files_of_one_name_are_two(command, server, video, tmp_path):
    server.otherwise = (200, {}, video)
    place = command.index("--annotations") + 1
    for number, folder in enumerate(("k1", "k2")):
        path = tmp_path / folder / "val.csv"
        path.parent.mkdir()
        path.write_text(f"waving,video{number},0,1,val\n")
        assert main([*command[:place], str(path), *command[place + 1 :]]) == OK
    found = [tables.read(path, "download") for path in (tmp_path / "cache/ledger").iterdir()]
    assert sorted(row["media_id"] for rows in found for row in rows) == ["video0", "video1"]


@pytest.mark.parametrize("stem", ["\u00e4" * 120, "\U0001f600" * 60, "a" * 240, "\udcff", ".a.b"])
def test_a_name_of_any_length_and_letters_makes_a_ledger(stem, tmp_path):
    (tmp_path / f"{stem}.csv").write_text("a")
    path = ledger_path(tmp_path, Selection((str(tmp_path / f"{stem}.csv"),)), "train")
    download_ledger.write(path, [row(1, message=f"{stem}.csv:1 is odd")], tmp_path)
    (cells,) = tables.read(path, "download")
    assert cells["message"] == f"{stem}.csv:1 is odd".replace("\udcff", r"\udcff")
