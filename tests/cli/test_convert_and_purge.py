"""The commands `convert` and `purge`: what they say, where, and with which exit code."""

import dataclasses

import prepared
import pytest

from kinetics_prep.cli import CANNOT_GO_ON, OK, main
from kinetics_prep.dataset import documents, state, validate
from kinetics_prep.storage.files import sha256_of
from kinetics_prep.storage.folder_store import FolderStore


@pytest.fixture
def folder(tmp_path):
    return prepared.copy(tmp_path)


def checksums(folder):
    return {path.relative_to(folder): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def write_ids(tmp_path, *lines):
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_convert_says_what_it_will_need_and_what_there_is_then(folder, capsys):
    assert main(["convert", str(folder), "--format", "parquet", "--clips-per-shard", "4", "--workers", "1"]) == OK
    out, err = capsys.readouterr()
    assert f"{folder}: 9 clips to parquet in shards of 4, from shards of 2; new files need " in err
    assert " at most, " in err and " are free" in err and "9/9 clips (9 converted)" in err
    assert out.startswith(f"{folder}: 9 clips in 3 shards as parquet; ") and out.count("\n") == 1
    assert not (folder / "tfrecord").exists()
    assert list(validate.problems(validate.open_folder(folder))) == []


def test_convert_to_what_there_is_says_so_and_writes_nothing(folder, capsys):
    before = times(folder)
    assert main(["convert", str(folder), "--format", "tfrecord,parquet", "--clips-per-shard", "2"]) == OK
    assert capsys.readouterr().out == f"{folder}: has these settings already; nothing was written\n"
    assert times(folder) == before


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "nothing to convert to: give --format, --clips-per-shard, or both"),
        (["--format", "zip"], "formats is zip, expected one or more of tfrecord, parquet"),
        (["--format", ","], "formats is , expected one or more of tfrecord, parquet"),
        (["--clips-per-shard", "-1"], "clips_per_shard is -1, expected 1 to 100000"),
        (["--format", "parquet", "--workers", "0"], "--workers is 0, expected at least 1"),
    ],
)
def test_convert_refuses_nonsense_in_one_line_and_touches_nothing(folder, capsys, flags, message):
    before = times(folder)
    assert main(["convert", str(folder), *flags]) == CANNOT_GO_ON
    assert capsys.readouterr().err == f"kinetics-prep: {message}\n"
    assert times(folder) == before


def test_convert_of_a_folder_that_is_not_finished_names_the_command_that_comes_first(folder, capsys):
    (folder / "markers/val-00001-of-00002.json").unlink()
    path = folder / "state.json"
    unfinished = dataclasses.replace(state.read(FolderStore(folder)), is_complete=False)
    path.write_bytes(documents.encode(unfinished.to_document()))
    before = times(folder)
    assert main(["convert", str(folder), "--format", "parquet"]) == CANNOT_GO_ON
    err = capsys.readouterr().err
    assert "is not finished: 1 of 5 shards are missing, such as val-00001-of-00002" in err
    assert "give its `kinetics-prep flow` command once more first" in err
    assert times(folder) == before


def test_purge_says_what_went_and_which_ids_are_in_no_row(folder, tmp_path, capsys):
    ids = write_ids(tmp_path, "zoom_in_1", "nowhere", "pan_right_1_000001_000002", "nor_here", "nowhere")
    assert main(["purge", str(folder), "--ids", ids, "--because", "asked by their owners"]) == OK
    out, err = capsys.readouterr()
    assert out.startswith(f"{folder}: 2 clips taken out of ")
    assert "2 of 4 ids are in no row; kept, so that they stay out\n" in out
    assert "caches of videos, archives, and copies of this folder elsewhere may still hold them" in err
    assert main(["status", str(folder)]) == OK
    assert "2  purged\n" in capsys.readouterr().out
    before = checksums(folder)
    assert main(["purge", str(folder), "--ids", ids, "--because", "once more"]) == OK
    assert f"{folder}: all of them were purged before; nothing was changed" in capsys.readouterr().out
    assert checksums(folder) == before


def test_purge_refuses_a_bad_list_or_reason_in_one_line_and_touches_nothing(folder, tmp_path, capsys):
    before, ids = times(folder), write_ids(tmp_path, "zoom_in_1", "x" * 300)
    missing, sound = str(tmp_path / "missing.txt"), tmp_path / "sound.txt"
    sound.write_text("zoom_in_1\n")
    for path, because, message in (
        (ids, "asked", "ids.txt:2: an id of 300 characters, expected 255 at most"),
        (missing, "asked", f"{missing}: No such file or directory"),
        (str(sound), "", "--because is '', expected why the clips go"),
    ):
        assert main(["purge", str(folder), "--ids", path, "--because", because]) == CANNOT_GO_ON
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    assert times(folder) == before


def test_purge_of_a_folder_of_others_touches_nothing(tmp_path, capsys):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/labels.txt").write_text("mine\n")
    before = times(tmp_path / "theirs")
    for command in (
        ["purge", "--because", "asked", "--ids", write_ids(tmp_path, "a")],
        ["convert", "--format=parquet"],
    ):
        assert main([command[0], str(tmp_path / "theirs"), *command[1:]]) == CANNOT_GO_ON
        assert capsys.readouterr().err.count("\n") == 1
    assert times(tmp_path / "theirs") == before
