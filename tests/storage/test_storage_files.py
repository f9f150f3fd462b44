"""Files are written whole or not at all, and a full disk is reported with the name of the file."""

import errno
import hashlib
import io
import json
import os
import stat

import pytest
from small_disk import disk_with_room_for

from kinetics_prep.errors import NoRoom
from kinetics_prep.storage import files
from kinetics_prep.storage.files import atomic_write, is_disk_full, reporting_full_disk, sha256_of, write_json

# Atomic writes


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_gets_its_name_only_when_the_body_is_over(tmp_path, durable):
    path, scratch = tmp_path / "deep/er/final.bin", tmp_path / "scratch/run"
    with atomic_write(path, scratch, durable) as temporary:
        temporary.write_bytes(b"whole")
        assert temporary.parent == scratch and temporary.name.endswith("-final.bin")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, GeneratorExit, OSError])
def test_a_body_that_raises_changes_nothing_and_leaves_nothing(tmp_path, error):
    path = tmp_path / "final"
    path.write_bytes(b"before")
    with pytest.raises(error), atomic_write(path, tmp_path / "scratch") as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"before"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_body_that_raises_before_it_writes_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "final", tmp_path / "scratch"):
        raise ZeroDivisionError
    assert not (tmp_path / "final").exists() and list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("durable", [True, False])
def test_a_body_that_writes_nothing_is_an_error(tmp_path, durable):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "final", tmp_path / "scratch", durable):
        pass
    assert not (tmp_path / "final").exists()


def test_a_rename_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "final/with a file in it").mkdir(parents=True)
    with pytest.raises(OSError), atomic_write(tmp_path / "final", tmp_path / "scratch") as temporary:
        temporary.write_bytes(b"whole")
    assert (tmp_path / "final").is_dir() and list((tmp_path / "scratch").iterdir()) == []


def test_an_existing_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "final"
    path.write_bytes(b"a longer file from before")
    with open(path, "rb") as opened_before:
        with atomic_write(path, tmp_path) as temporary:
            temporary.write_bytes(b"new")
        assert opened_before.read() == b"a longer file from before"  # not written over in place
    assert path.read_bytes() == b"new"


def test_two_writers_of_one_name_do_not_share_a_temporary_file(tmp_path):
    path = tmp_path / "final"
    with atomic_write(path, tmp_path) as first, atomic_write(path, tmp_path) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
        assert first != second
    assert path.read_bytes() == b"first"  # whose body ended last


def test_a_full_disk_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "final"
    path.write_bytes(b"before")
    with (
        disk_with_room_for(1000),
        pytest.raises(NoRoom, match=f"no room to write {path}: "),
        atomic_write(path, tmp_path / "scratch") as temporary,
    ):
        temporary.write_bytes(bytes(5000))
    assert path.read_bytes() == b"before" and list((tmp_path / "scratch").iterdir()) == []


# A full disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_reported_with_the_file_and_in_the_systems_words(tmp_path, number):
    path = tmp_path / "video"
    with pytest.raises(NoRoom) as caught, reporting_full_disk(path):
        raise OSError(number, "words of a library")
    assert str(caught.value).startswith(f"no room to write {path}: {os.strerror(number)}. Nothing is lost")
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "no"), OSError("no number"), ValueError("no")])
def test_other_errors_stay_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, reporting_full_disk(tmp_path):
        raise error
    assert caught.value is error


def test_only_errors_of_the_system_can_mean_a_full_disk():
    assert is_disk_full(OSError(errno.ENOSPC, ""))
    error = ValueError()
    error.errno = errno.ENOSPC
    assert not is_disk_full(error) and not is_disk_full(OSError(errno.EIO, "")) and not is_disk_full(OSError())


@pytest.mark.parametrize("durable", [True, False])
def test_only_what_must_survive_a_power_cut_is_flushed_and_before_it_gets_its_name(tmp_path, monkeypatch, durable):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(os.fstat(descriptor).st_ino) or fsync(descriptor))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("replace") or replace(*paths))
    with atomic_write(tmp_path / "final", tmp_path / "scratch", durable) as temporary:
        temporary.write_bytes(b"x")
        inode = temporary.stat().st_ino
    assert calls == ([inode, "replace"] if durable else ["replace"])


# JSON, sha256


def test_json_is_indented_readable_and_ends_with_a_line_feed(tmp_path):
    content = {"of": [1, None, 2.5], "label": "crème brûlée"}  # in this order
    write_json(tmp_path / "a/dataset.json", content, tmp_path / "scratch")
    text = (tmp_path / "a/dataset.json").read_bytes().decode("utf-8")
    assert text == '{\n "of": [\n  1,\n  null,\n  2.5\n ],\n "label": "crème brûlée"\n}\n'
    assert json.loads(text) == content


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"k": 1}, tmp_path)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"k": {1, 2}}, tmp_path)
    assert json.loads((tmp_path / "a.json").read_text()) == {"k": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("size_bytes", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_sha256_is_that_of_all_bytes(tmp_path, size_bytes):
    data = os.urandom(size_bytes)
    (tmp_path / "file").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert sha256_of(tmp_path / "file") == expected
    assert files._sha256(io.BytesIO(data)) == expected  # as Python 3.10 computes it


def test_a_temporary_file_is_readable_as_any_file_of_the_user(tmp_path):
    """As open() makes it: a data set that others read must not get the mode of a private temporary file."""
    mask = os.umask(0o022)
    try:
        write_json(tmp_path / "a.json", {}, tmp_path)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644
