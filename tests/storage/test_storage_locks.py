"""Locks: one holder at a time, among threads and processes, and none left by a process that was killed."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from kinetics_prep.errors import FolderInUse
from kinetics_prep.storage import locks
from kinetics_prep.storage.locks import exclusive_folder, locked_file

HOLD = """
    import sys
    from pathlib import Path
    from kinetics_prep.storage import locks
    with getattr(locks, sys.argv[1])(Path(sys.argv[2])):
        print("held", flush=True)
        sys.stdin.read()
"""


def holder(lock: str, path) -> subprocess.Popen:
    """A process that holds a lock until its input is closed."""
    command = [sys.executable, "-c", textwrap.dedent(HOLD), lock, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


# Files


def test_a_locked_file_is_created_with_its_folder_and_keeps_what_is_written(tmp_path):
    path = tmp_path / "deep/er/state.json"
    with locked_file(path) as file:
        assert file.read() == ""
        file.write("first")
    with locked_file(path) as file:
        assert file.read() == "first"
    assert path.read_text() == "first"


def test_bytes_that_are_not_utf8_are_read_all_the_same(tmp_path):
    (tmp_path / "state").write_bytes(b"\xff{}")
    with locked_file(tmp_path / "state") as file:
        assert file.read() == "\ufffd{}"


@pytest.mark.parametrize("platform", [sys.platform, "win32"])
def test_threads_that_count_in_a_file_lose_nothing(tmp_path, monkeypatch, platform):
    """Also where the system has no locks of files."""
    monkeypatch.setattr(locks, "sys", types.SimpleNamespace(platform=platform))
    path = tmp_path / "count"

    def count(_):
        with locked_file(path) as file:
            number = int(file.read() or 0)
            file.seek(0)
            file.write(str(number + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(200)))
    assert path.read_text() == "200"


def test_a_process_waits_for_another_and_not_for_one_that_was_killed(tmp_path):
    path = tmp_path / "state"
    process = holder("locked_file", path)
    entered = threading.Event()

    def enter():
        with locked_file(path):
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    assert not entered.wait(0.2)
    process.send_signal(signal.SIGKILL)
    assert entered.wait(20)
    thread.join()
    process.communicate()


def test_an_error_in_the_body_releases_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), locked_file(tmp_path / "state"):
        raise ZeroDivisionError
    with locked_file(tmp_path / "state") as file:
        assert file.read() == ""


# Folders


def test_a_folder_is_held_by_one_at_a_time_and_nothing_is_written_to_it(tmp_path):
    with exclusive_folder(tmp_path):
        with pytest.raises(FolderInUse, match=f"another run is writing to {tmp_path}"), exclusive_folder(tmp_path):
            raise AssertionError("entered a folder that another holds")
        assert list(tmp_path.iterdir()) == []
    with exclusive_folder(tmp_path):
        pass


def test_a_folder_held_by_another_process_is_refused_until_that_is_killed(tmp_path):
    process = holder("exclusive_folder", tmp_path)
    with pytest.raises(FolderInUse), exclusive_folder(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with exclusive_folder(tmp_path):
        pass


def test_an_error_in_the_body_frees_the_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive_folder(tmp_path):
        raise ZeroDivisionError
    with exclusive_folder(tmp_path):
        pass


def test_folders_beside_each_other_are_held_at_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with exclusive_folder(tmp_path / "a"), exclusive_folder(tmp_path / "b"), exclusive_folder(tmp_path):
        for folder in (tmp_path / "a", tmp_path / "b", tmp_path):
            with pytest.raises(FolderInUse), exclusive_folder(folder):
                pytest.fail("a held folder was given away")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files cannot be counted here")
def test_no_descriptor_is_left_open(tmp_path):
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    for _ in range(3):
        with (
            locked_file(tmp_path / "state"),
            exclusive_folder(tmp_path),
            pytest.raises(FolderInUse),
            exclusive_folder(tmp_path),
        ):
            pass
    assert open_files() == before
