"""Files are whole or absent, whatever happens while they are written."""

import errno
import hashlib
import os
import resource
import subprocess
import sys

import pytest

from kinetics_prep.errors import NoRoom
from kinetics_prep.storage import files
from kinetics_prep.storage.files import atomic_write, is_full, room_needed, sha256_of, write_json


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_file_gets_its_name_when_it_is_whole(tmp_path):
    path, scratch = tmp_path / "deep" / "er" / "file", tmp_path / "scratch"
    with atomic_write(path, scratch) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists()
        assert temporary.parent == scratch
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert names(scratch) == []


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), OSError(errno.EIO, "broken disk")])
@pytest.mark.parametrize("before", [None, b"before"])
def test_an_error_leaves_what_was_there_and_no_temporary(error, before, tmp_path):
    path, scratch = tmp_path / "file", tmp_path / "scratch"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(type(error)), atomic_write(path, scratch) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert (path.read_bytes() if path.exists() else None) == before
    assert names(scratch) == []


def test_a_body_that_writes_nothing_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "file", tmp_path / "scratch"):
        pass
    assert names(tmp_path / "scratch") == [] and not (tmp_path / "file").exists()


def test_a_file_that_is_written_again_is_replaced(tmp_path):
    for content in (b"one", b"two"):
        with atomic_write(tmp_path / "file", tmp_path) as temporary:
            temporary.write_bytes(content)
    assert (tmp_path / "file").read_bytes() == b"two"
    assert names(tmp_path) == ["file"]


def test_two_writers_at_once_do_not_share_a_temporary(tmp_path):
    with atomic_write(tmp_path / "file", tmp_path / "scratch") as one:
        one.write_bytes(b"one")
        with atomic_write(tmp_path / "file", tmp_path / "scratch") as two:
            two.write_bytes(b"two")
            assert one != two
        assert (tmp_path / "file").read_bytes() == b"two"
    assert (tmp_path / "file").read_bytes() == b"one"


@pytest.mark.parametrize("durable", [True, False])
def test_only_what_must_survive_a_power_cut_is_forced_to_disk(durable, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    with atomic_write(tmp_path / "file", tmp_path / "scratch", durable) as temporary:
        temporary.write_bytes(b"x")
    assert synced == ([str(temporary)] if durable else [])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_with_the_file(number, tmp_path):
    assert is_full(OSError(number, "full"))
    with (
        pytest.raises(
            NoRoom, match=r"^no room to write .*/file: .*\. Nothing is lost: make room and run the same comm"
        ),
        atomic_write(tmp_path / "file", tmp_path / "scratch") as temporary,
    ):
        temporary.write_bytes(b"half")
        raise OSError(number, "full")
    assert names(tmp_path / "scratch") == []


def test_other_errors_are_passed_on_as_they_are(tmp_path):
    for error in (OSError(errno.EIO, "broken"), OSError("without a number"), ValueError("bug")):
        assert not is_full(error)
        with pytest.raises(type(error)) as raised, room_needed(tmp_path):
            raise error
        assert raised.value is error


def test_a_real_limit_of_the_system_is_seen(tmp_path):
    """RLIMIT_FSIZE stands for a full disk: the write itself fails, in a process of its own."""
    program = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from kinetics_prep.errors import NoRoom\nfrom kinetics_prep.storage.files import atomic_write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\nfolder = Path(sys.argv[1])\n"
        "try:\n with atomic_write(folder / 'file', folder / 'scratch') as path: path.write_bytes(b'x' * 5000)\n"
        "except NoRoom as error: print(error, sorted(path.name for path in folder.rglob('*')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert "no room to write" in done.stdout and "File too large" in done.stdout, done.stderr
    assert done.stdout.rstrip().endswith("['scratch']")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_json_is_written_for_people_and_the_same_each_time(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, {"c": None}], "a": "é…"}, tmp_path / "scratch")
    expected = '{\n "b": [\n  1,\n  {\n   "c": null\n  }\n ],\n "a": "é…"\n}\n'
    assert (tmp_path / "a.json").read_bytes() == expected.encode("utf-8")
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"b": object()}, tmp_path / "scratch")
    assert (tmp_path / "a.json").read_bytes() == expected.encode("utf-8")
    assert names(tmp_path / "scratch") == []


@pytest.mark.parametrize("size", [0, 1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000])
def test_a_checksum_is_of_every_byte(size, tmp_path):
    data = bytes(k * 7 % 251 for k in range(1000)) * (size // 1000 + 1)
    (tmp_path / "file").write_bytes(data[:size])
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data[:size]).hexdigest()


def test_a_checksum_takes_a_block_of_memory_and_no_more(tmp_path):
    import tracemalloc

    with open(tmp_path / "file", "wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    sha256_of(tmp_path / "file")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * files._BLOCK_BYTES
