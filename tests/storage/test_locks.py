"""Locks keep processes apart, and end with them."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from kinetics_prep.errors import OtherRecipe
from kinetics_prep.storage.locks import exclusive_folder, locked_file

HOLDS = """
import sys
from pathlib import Path
from kinetics_prep.storage.locks import exclusive_folder, locked_file
with {lock}(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(lock: str, path) -> subprocess.Popen:
    """A process that holds a lock until it gets a line."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLDS.format(lock=lock), str(path)], **pipes)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("ending", ["it lets go", "it is killed"])
def test_a_folder_is_for_one_process_until_it_ends(ending, tmp_path):
    process = holder("exclusive_folder", tmp_path)
    expected = f"^another run is writing to {tmp_path}; wait, or choose another --output$"
    with pytest.raises(OtherRecipe, match=expected), exclusive_folder(tmp_path):
        pass
    if ending == "it is killed":
        process.send_signal(signal.SIGKILL)
    process.communicate("go\n" if ending == "it lets go" else None, timeout=20)
    with exclusive_folder(tmp_path):
        pass


def test_a_folder_is_refused_within_one_process_too_and_free_after_an_error(tmp_path):
    with exclusive_folder(tmp_path), pytest.raises(OtherRecipe), exclusive_folder(tmp_path):
        pass
    with pytest.raises(ZeroDivisionError), exclusive_folder(tmp_path):
        raise ZeroDivisionError
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with exclusive_folder(tmp_path):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_is_for_one_process_at_a_time(tmp_path):
    path = tmp_path / "deep" / "state"
    process = holder("locked_file", path)
    entered = threading.Event()

    def enter() -> None:
        with locked_file(path) as file:
            entered.set()
            file.write("ours")

    thread = threading.Thread(target=enter)
    thread.start()
    assert not entered.wait(0.3)
    process.communicate("go\n", timeout=20)
    assert entered.wait(20)
    thread.join()
    assert path.read_text() == "ours"


def test_what_is_written_under_the_lock_is_there_for_the_next(tmp_path):
    path = tmp_path / "count"
    counts = """
import sys
from pathlib import Path
from kinetics_prep.storage.locks import locked_file
for _ in range(100):
    with locked_file(Path(sys.argv[1])) as file:
        number = int(file.read() or 0) + 1
        file.seek(0)
        file.truncate()
        file.write(str(number))
"""
    processes = [subprocess.Popen([sys.executable, "-c", counts, str(path)]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert path.read_text() == "300"


def test_a_file_keeps_its_content_and_strange_bytes_do_no_harm(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(b"ab\xffc")
    with locked_file(path) as file:
        assert file.read() == "ab\ufffdc"
    assert path.read_bytes() == b"ab\xffc"
