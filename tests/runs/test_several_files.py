"""Several files for one row: a damaged or short one must not hide a sound one, in a folder and in an archive."""

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from conftest import number_of, numbered_frames, plan_row, write_video

from kinetics_prep.cli import OK, main
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.records.record import Record
from kinetics_prep.runs.clip import prepare_row
from kinetics_prep.runs.context import RunContext
from kinetics_prep.sources import Fetching
from kinetics_prep.storage import tables

PIECE, WHOLE, COPY = "abc_000005_000006.mp4", "abc.mp4", "more/abc_000005_000006.mp4"
DAMAGED = b"no video at all"
ROW = plan_row("abc", 5.0, 6.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """Seven seconds of numbered frames."""
    return write_video(tmp_path_factory.mktemp("whole") / "whole.mp4", numbered_frames(175)).read_bytes()


@pytest.fixture(scope="module")
def piece(tmp_path_factory) -> bytes:
    """The sixth of those seconds."""
    return write_video(tmp_path_factory.mktemp("piece") / "piece.mp4", numbered_frames(175)[125:150]).read_bytes()


def as_folder(root: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        path = root / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(root / "videos")


def as_tar(root: Path, files: dict[str, bytes]) -> str:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    (root / "videos.tar").write_bytes(stream.getvalue())
    return str(root / "videos.tar")


def as_gzipped_tar(root: Path, files: dict[str, bytes]) -> str:
    path = Path(as_tar(root, files))
    path.with_suffix(".tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return str(path.with_suffix(".tar.gz"))


PLACES = [as_folder, as_tar, as_gzipped_tar]


@pytest.fixture
def prepared(tmp_path, quick_recipe):
    """Prepares the row from a place."""

    def prepare(videos: str) -> tuple[LedgerRow, bytes | None]:
        fetching = Fetching((videos,))
        return prepare_row(ROW, RunContext(quick_recipe, "0" * 16, fetching, str(tmp_path / "s/run")))

    return prepare


def check_used(row: LedgerRow, data: bytes | None, name: str, content: bytes) -> None:
    """Checks that a row was written from the file of that name, and shows the sixth second."""
    assert row.status == "written" and data is not None, row.message
    assert row.source.rsplit(": ", 1)[-1] == name
    assert (row.source_sha256, row.source_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert number_of(Record.from_bytes(data).frame(0)) == 125


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", ["damaged", "empty", "cut off", "too short"])
def test_a_bad_piece_does_not_hide_the_whole_video(place, fault, whole, piece, tmp_path, prepared):
    short = write_video(tmp_path / "short.mp4", numbered_frames(4)).read_bytes()
    bad = {"damaged": DAMAGED, "empty": b"", "cut off": piece[: len(piece) // 2], "too short": short}[fault]
    row, data = prepared(place(tmp_path, {PIECE: bad, WHOLE: whole}))
    check_used(row, data, WHOLE, whole)
    reason = "too_short" if fault == "too short" else "unreadable"
    assert row.notes.endswith(f"{PIECE} was refused: {reason}")


@pytest.mark.parametrize("place", PLACES)
def test_a_bad_piece_does_not_hide_another_copy_of_it(place, whole, piece, tmp_path, prepared):
    row, data = prepared(place(tmp_path, {PIECE: DAMAGED, COPY: piece, WHOLE: whole}))
    check_used(row, data, COPY, piece)


@pytest.mark.parametrize("place", PLACES)
def test_of_good_files_the_best_match_is_used_and_nothing_is_said(place, whole, piece, tmp_path, prepared):
    row, data = prepared(place(tmp_path, {WHOLE: whole, COPY: piece, PIECE: piece}))
    check_used(row, data, PIECE, piece)
    assert row.notes is None or "refused" not in row.notes


@pytest.mark.parametrize("place", PLACES)
def test_if_all_are_bad_the_best_is_reported_with_the_number_of_the_others(place, tmp_path, prepared):
    short = write_video(tmp_path / "short.mp4", numbered_frames(4)).read_bytes()
    row, _ = prepared(place(tmp_path, {PIECE: short, COPY: DAMAGED, WHOLE: DAMAGED}))
    assert (row.status, row.reason) == ("refused", "too_short")
    assert "(2 more files were refused there: unreadable)" in row.message
    assert row.source.rsplit(": ", 1)[-1] == PIECE
    assert row.source_sha256 == hashlib.sha256(short).hexdigest()


def test_a_member_that_cannot_be_read_does_not_hide_another_archive(whole, piece, tmp_path, quick_recipe):
    for number, (name, content) in enumerate({PIECE: piece, WHOLE: whole}.items()):
        Path(as_gzipped_tar(tmp_path, {name: content})).rename(tmp_path / f"part_{number}.tar.gz")
    fetching = Fetching((str(tmp_path / "part_*.tar.gz"),))
    context = RunContext(quick_recipe, "0" * 16, fetching, str(tmp_path / "s/run"))
    assert prepare_row(ROW, context)[0].source == f"part_0.tar.gz: {PIECE}"
    os.truncate(tmp_path / "part_0.tar.gz", 1000)
    row, data = prepare_row(ROW, context)
    check_used(row, data, WHOLE, whole)
    assert row.notes.startswith(f"a file was refused, unreadable_file: part_0.tar.gz: {PIECE}: ")


def test_the_command_line_writes_a_clip_whose_best_file_is_bad(whole, tmp_path, quick_recipe):
    (tmp_path / "rows.csv").write_text("label,youtube_id,time_start,time_end,split\nwaving,abc,5,6,train\n")
    videos, output = as_folder(tmp_path, {PIECE: DAMAGED, WHOLE: whole}), tmp_path / "out"
    command = ["flow", "--annotations", str(tmp_path / "rows.csv"), "--videos", videos, "--output", str(output)]
    command += ["--fps", "5", "--short-side", "32", "--clip-seconds", "1", "--min-seconds", "0.4", "--tvl1"]
    assert main([*command, "scales=2", "warps=1", "iterations=3"]) == OK
    (path,) = (output / "ledger").iterdir()
    (row,) = tables.read(path, "ledger")
    assert (row["status"], row["source"]) == ("written", WHOLE)
    assert f"{PIECE} was refused: unreadable" in row["notes"]
