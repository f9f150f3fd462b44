"""Lease: one run at a time writes to a folder, and who was taken over does no harm.

Other machines are played by `Holder`s that say another machine; times are a fraction of a second.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kinetics_prep.errors import FolderInUse
from kinetics_prep.storage import lease
from kinetics_prep.storage.folder_store import FolderStore, remove_scratch
from kinetics_prep.storage.lease import Holder, LeaseFolder, hold_lease

WORK = ".work"
QUICK = {"beat_seconds": 0.02, "dead_after_seconds": 0.3}

HOLD = """
    import sys
    from pathlib import Path
    from kinetics_prep.errors import FolderInUse
    from kinetics_prep.storage.lease import hold_lease
    try:
        with hold_lease(Path(sys.argv[1]), ".work") as store:
            store.put("written by", store.scratch.name.encode())
            print("held", flush=True)
            sys.stdin.read()
    except FolderInUse as error:
        print(error, flush=True)
"""


def run_elsewhere(root: Path) -> subprocess.Popen:
    """A process that holds the lease until its input is closed, and says "held", or why it does not get it."""
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(root)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


def end(process: subprocess.Popen) -> None:
    process.stdin.close()
    process.wait()
    process.stdout.close()


def elsewhere() -> Holder:
    """A process on another machine."""
    return dataclasses.replace(Holder.here(), machine="another boot", host="far", pid=77)


def leave_lease(root: Path, holder: Holder, number: int = 1) -> FolderStore:
    """What a holder leaves that ends without a word: its lease, a beat and its scratch folder. Returns its store."""
    folder = LeaseFolder(root, WORK, holder)
    folder.store.scratch.mkdir(parents=True)
    folder.store.put(folder.key(number), json.dumps(dataclasses.asdict(holder)).encode())
    folder.beat(number, 1)
    return folder.store


@pytest.fixture
def root(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def names(root: Path) -> list[str]:
    """Every file and folder below a folder."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


# Holding ----------------------------------------------------------------------------------------


def test_the_holder_writes_and_nothing_but_its_objects_is_left(root):
    with hold_lease(root, WORK) as store:
        store.put("a", b"x")
        assert store.root == root
        assert ".work/lease/000001.json" in names(root)
        assert store.scratch.parent == root / ".work" / "tmp" and store.scratch.is_dir()
    assert names(root) == ["a"]


def test_unfinished_work_stays_in_the_work_folder(root):
    with hold_lease(root, WORK) as store:
        store.put(".work/objects/a", b"x")
    assert names(root) == [".work", ".work/objects", ".work/objects/a"]


def test_a_second_run_of_one_machine_is_refused_at_once_and_leaves_no_trace(root):
    with hold_lease(root, WORK, **QUICK) as store:
        before = [name for name in names(root) if not name.endswith(".beat")]
        with pytest.raises(FolderInUse, match=rf"another run \(process {os.getpid()} on .*\) is writing to .*out"):
            hold_lease(root, WORK).__enter__()
        assert [name for name in names(root) if not name.endswith(".beat")] == before
        store.put("a", b"x")
    with hold_lease(root, WORK) as store:
        store.put("a", b"y")


def test_an_error_in_the_run_gives_the_lease_back(root):
    with pytest.raises(ZeroDivisionError), hold_lease(root, WORK):
        raise ZeroDivisionError
    assert names(root) == []


def test_the_holder_beats_and_stops_at_the_end(root):
    path = root / ".work" / "lease" / "000001.beat"
    with hold_lease(root, WORK, beat_seconds=0.01):
        seen = set()
        deadline = time.monotonic() + 10
        while len(seen) < 3 and time.monotonic() < deadline:
            if path.exists():
                seen.add(path.read_bytes())
    assert len(seen) == 3
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]


def test_a_beat_that_cannot_be_written_does_not_end_the_run(root, monkeypatch, caplog):
    caplog.set_level("WARNING", logger="kinetics_prep")  # whatever ran before in this process
    beats = []

    def beat(folder, number, count):
        beats.append(count)
        if count < 3:
            raise OSError(28, "No space left on device")
        done.set()

    done = threading.Event()
    monkeypatch.setattr(LeaseFolder, "beat", beat)
    with hold_lease(root, WORK, beat_seconds=0.001) as store:
        assert done.wait(10)
        store.put("a", b"x")
    assert beats[:3] == [1, 2, 3]
    assert "the sign of life of this run could not be written: [Errno 28] No space left on device" in caplog.text


def test_the_beat_of_a_run_that_was_taken_over_ends(root):
    with hold_lease(root, WORK, beat_seconds=0.001) as store:
        threads = [thread for thread in threading.enumerate() if thread.name == "lease"]
        remove_scratch(store.scratch)
        assert len(threads) == 1
        threads[0].join(10)
        assert not threads[0].is_alive()
        with pytest.raises(FolderInUse):
            store.put("a", b"x")


# Processes of one machine -----------------------------------------------------------------------


def test_of_processes_started_at_once_one_goes_on(root):
    processes = [run_elsewhere(root) for _ in range(3)]
    said = [first_line(process) for process in processes]
    try:
        assert said.count("held") == 1
        assert sum("is writing to" in line for line in said) == 2
        (winner,) = list((root / ".work" / "tmp").iterdir())
        assert (root / "written by").read_text() == winner.name
    finally:
        for process in processes:
            end(process)
    assert names(root) == ["written by"]


def test_of_threads_started_at_once_one_goes_on(root):
    barrier, over = threading.Barrier(8), threading.Barrier(8)

    def hold(number: int) -> bool:
        barrier.wait()
        try:
            with hold_lease(root, WORK, **QUICK) as store:
                store.put("a", str(number).encode())
                over.wait()
                store.put("b", str(number).encode())
                return True
        except FolderInUse:
            over.wait()
            return False

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(hold, range(8)))
    assert won.count(True) == 1
    assert (root / "a").read_text() == (root / "b").read_text() == str(won.index(True))


def test_runs_that_come_and_go_never_write_at_the_same_time(root):
    inside = threading.Lock()

    def hold(number: int) -> int:
        held = 0
        while held < 3:
            try:
                with hold_lease(root, WORK) as store:
                    assert inside.acquire(blocking=False)
                    store.put(f"{number}-{held}", b"x")
                    held += 1
                    inside.release()
            except FolderInUse:
                pass
        return held

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(hold, range(4))) == [3] * 4
    assert len(names(root)) == 12


def test_a_killed_run_of_this_machine_is_taken_over_at_once(root, caplog):
    process = run_elsewhere(root)
    assert first_line(process) == "held"
    process.kill()
    process.wait()
    before = set((root / ".work" / "tmp").iterdir())
    began = time.monotonic()
    with hold_lease(root, WORK) as store:
        assert time.monotonic() - began < 10
        assert [name for name in names(root / ".work" / "lease") if not name.endswith(".beat")] == ["000002.json"]
        assert list((root / ".work" / "tmp").iterdir()) == [store.scratch] and store.scratch not in before
    assert caplog.text == ""
    assert names(root) == ["written by"]
    end(process)


def test_a_killed_run_that_its_parent_has_not_collected_is_dead_too(root):
    process = run_elsewhere(root)
    assert first_line(process) == "held"
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table of processes
    assert Path(f"/proc/{process.pid}").exists()
    with hold_lease(root, WORK) as store:
        store.put("a", b"x")
    end(process)


def test_a_stopped_run_of_this_machine_is_not_taken_over(root):
    process = run_elsewhere(root)
    assert first_line(process) == "held"
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(FolderInUse):
            hold_lease(root, WORK, **QUICK).__enter__()
    finally:
        os.kill(process.pid, signal.SIGCONT)
        end(process)


def test_a_new_process_with_the_number_of_a_dead_one_is_not_taken_for_it(root):
    leave_lease(root, dataclasses.replace(Holder.here(), started="1"))
    with hold_lease(root, WORK) as store:
        store.put("a", b"x")
    assert names(root) == ["a"]


# Other machines ---------------------------------------------------------------------------------


def test_a_silent_run_of_another_machine_is_taken_over_after_a_while(root, caplog):
    caplog.set_level("WARNING", logger="kinetics_prep")
    leave_lease(root, elsewhere())
    began = time.monotonic()
    with hold_lease(root, WORK, **QUICK) as store:
        assert time.monotonic() - began >= QUICK["dead_after_seconds"]
        store.put("a", b"x")
        assert list((root / ".work" / "tmp").iterdir()) == [store.scratch]
    assert "another run (process 77 on far) has not ended; waiting up to 0 s" in caplog.text
    assert names(root) == ["a"]


def test_a_beating_run_of_another_machine_keeps_others_out(root):
    with hold_lease(root, WORK, beat_seconds=0.01, here=elsewhere) as store:
        with pytest.raises(FolderInUse, match=r"another run \(process 77 on far\) is writing to"):
            hold_lease(root, WORK, beat_seconds=0.01, dead_after_seconds=30).__enter__()
        store.put("a", b"x")
        assert list((root / ".work" / "tmp").iterdir()) == [store.scratch]


def test_a_run_that_has_not_beaten_yet_is_not_taken_over_before_its_first_beat_could_be_seen(root):
    folder = LeaseFolder(root, WORK, elsewhere())
    leave_lease(root, folder.holder).delete(folder.beat_key(1))
    thread = threading.Timer(0.1, folder.beat, (1, 1))
    thread.start()
    with pytest.raises(FolderInUse):
        hold_lease(root, WORK, dead_after_seconds=5).__enter__()
    thread.join()


def test_who_waits_goes_on_when_the_other_gives_its_lease_back(root):
    holder = elsewhere()
    folder = LeaseFolder(root, WORK, holder)
    leave_lease(root, holder)
    thread = threading.Timer(0.1, folder.release, (1,))
    thread.start()
    began = time.monotonic()
    with hold_lease(root, WORK, dead_after_seconds=20) as store:
        assert time.monotonic() - began < 10
        store.put("a", b"x")
    thread.join()
    assert names(root) == ["a"]


def test_two_runs_that_wait_for_the_same_silent_one_do_not_both_go_on(root):
    leave_lease(root, elsewhere())
    over = threading.Barrier(2)

    def hold(_) -> bool:
        try:
            with hold_lease(root, WORK, **QUICK):
                over.wait(20)
                return True
        except FolderInUse:
            over.wait(20)
            return False

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(hold, range(2))) == [False, True]


def test_a_sleeper_that_wakes_up_after_it_was_taken_over_does_no_harm(root):
    with hold_lease(root, WORK, beat_seconds=60, here=elsewhere) as sleeper:
        sleeper.put("a", b"before")
        while not (root / WORK / "lease" / "000001.beat").exists():  # its one beat, in another thread
            time.sleep(0.01)
        with hold_lease(root, WORK, **QUICK) as store:
            store.put("a", b"after")
            with pytest.raises(FolderInUse):
                sleeper.put("a", b"too late")
            with pytest.raises(FolderInUse):
                sleeper.create("b", b"too late")
            with pytest.raises(FolderInUse):
                sleeper.delete("a")
            assert not sleeper.scratch.exists()
            held = names(root)
            LeaseFolder(root, WORK, Holder(sleeper.scratch.name, "far", "another boot", 77, "1")).release(2)
            assert [name for name in names(root) if not name.endswith(".beat")] == [
                name for name in held if not name.endswith(".beat")
            ]
            store.put("c", b"x")
    assert names(root) == ["a", "c"]
    assert (root / "a").read_bytes() == b"after"


def test_the_end_of_a_sleeper_leaves_the_lease_of_its_follower(root):
    """Both had number 1: the follower came when the sleeper's lease was gone already."""
    sleeper = LeaseFolder(root, WORK, elsewhere())
    number = sleeper.acquire()
    with hold_lease(root, WORK, **QUICK):
        pass
    with hold_lease(root, WORK, **QUICK) as store:
        assert (root / ".work" / "lease" / "000001.json").exists() and number == 1
        sleeper.release(number)
        assert (root / ".work" / "lease" / "000001.json").exists()
        store.put("a", b"x")


# Races of acquiring -----------------------------------------------------------------------------


def test_who_finds_a_later_lease_than_its_own_withdraws(root, monkeypatch):
    """It had seen no lease; meanwhile another one was taken, and taken over with the number 2."""
    mine = LeaseFolder(root, WORK, Holder.here())
    other = LeaseFolder(root, WORK, Holder.here())
    create = FolderStore.create
    taken = []

    def create_late(store, key, content):
        if not taken and store == mine.store:
            taken.append(leave_lease(root, other.holder, 2))
        return create(store, key, content)

    monkeypatch.setattr(FolderStore, "create", create_late)
    with pytest.raises(FolderInUse):
        mine.acquire()
    assert not (root / ".work" / "lease" / "000001.json").exists()
    taken[0].put("a", b"x")


def test_who_loses_its_scratch_folder_while_it_acquires_looks_again(root, monkeypatch):
    mine = LeaseFolder(root, WORK, Holder.here())
    create, removed = FolderStore.create, []

    def lose_scratch_first(store, key, content):
        if not removed:
            removed.append(key)
            remove_scratch(store.scratch)
        return create(store, key, content)

    monkeypatch.setattr(FolderStore, "create", lose_scratch_first)
    monkeypatch.setattr(lease.random, "uniform", lambda least, most: 0.0)
    assert mine.acquire() == 1
    mine.store.put("a", b"x")


# Hostile files ----------------------------------------------------------------------------------

DAMAGED = {
    "empty": b"",
    "not JSON": b"{",
    "not text": b"\xff\xfe\x00",
    "a list": b"[]",
    "without a field": b'{"token": "a"}',
    "nested without end": b"[" * 100_000,
    "a number of a process that is none": json.dumps(dataclasses.asdict(Holder.here()) | {"pid": "../self"}).encode(),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_lease_counts_as_one_of_another_machine(content, root):
    (root / ".work" / "lease").mkdir(parents=True)
    (root / ".work" / "lease" / "000001.json").write_bytes(content)
    with hold_lease(root, WORK, dead_after_seconds=0.05) as store:
        store.put("a", b"x")
    assert names(root) == ["a"]


@pytest.mark.parametrize("field", ["machine", "started"])
def test_a_lease_that_does_not_say_which_process_is_not_alive_for_ever(field, root):
    nobody = dataclasses.replace(Holder.here(), pid=2**22 + 1, **{field: ""})
    assert nobody.is_alive(Holder.here().machine) is None
    leave_lease(root, nobody)
    with hold_lease(root, WORK, dead_after_seconds=0.05) as store:
        store.put("a", b"x")


def test_where_nothing_is_known_of_processes_silence_decides(monkeypatch):
    monkeypatch.setattr(lease, "_machine", lambda: "")
    assert Holder.here().is_alive(Holder.here().machine) is None


def test_other_files_among_the_leases_are_none(root):
    (root / ".work" / "lease").mkdir(parents=True)
    for name in ("notes.md", "first.json", "000001.beat", ".json"):
        (root / ".work" / "lease" / name).write_bytes(b"x")
    with hold_lease(root, WORK) as store:
        store.put("a", b"x")
        assert (root / ".work" / "lease" / "000001.json").exists()


def test_this_process_is_alive_and_says_so_in_words():
    here = Holder.here()
    assert here.is_alive(here.machine) is True
    assert here.is_alive("another boot") is None
    assert dataclasses.replace(here, started="1").is_alive(here.machine) is False
    assert str(elsewhere()) == "process 77 on far"
    assert here.token != Holder.here().token
