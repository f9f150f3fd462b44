"""Whatever goes wrong at whichever write: the next undisturbed run gives what a clean run gives.

By default each write of each command is struck by a kill, and some by the other faults. All faults at all writes, and
all commands after all kills:

    KINETICS_PREP_ALL_FAULTS=1 pytest tests/runs/test_kills.py
"""

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import small_run
from faulty_store import FAILURES, KILLS, KINDS, Died, Fault, faulty_folder

from kinetics_prep.dataset import state
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.dataset.status import read_status
from kinetics_prep.errors import BadOption, NoRoom

ALL_FAULTS = bool(os.environ.get("KINETICS_PREP_ALL_FAULTS"))

BASES: dict[str, Callable[[Path], Path]] = {
    "new": lambda output: output,
    "begun": small_run.begun,
    "finished": small_run.finished,
}

COMMANDS: dict[str, Callable[[Path], object]] = {
    "flow": small_run.flow,
    "flow --retry": small_run.flow_retry,
    "retry": small_run.retry,
    "refresh": small_run.refresh,
}

CASES = [("new", "flow"), ("begun", "flow --retry"), ("begun", "retry"), ("finished", "refresh"), ("finished", "retry")]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """A killed process leaves what it has written to the system."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> Path:
    """The folders that the commands begin with."""
    folder = tmp_path_factory.mktemp("bases")
    for name, make in BASES.items():
        make(folder / name)
    return folder


@pytest.fixture
def start(bases, tmp_path) -> Callable[[str], Path]:
    """Makes the output folder anew."""

    def start(base: str) -> Path:
        output = tmp_path / "out"
        shutil.rmtree(output, ignore_errors=True)
        if (bases / base).exists():
            shutil.copytree(bases / base, output)
        return output

    return start


def strike(command: str, output: Path, fault: Fault) -> None:
    """Runs a command that a fault may strike, and checks how it ends."""
    expected: type[BaseException] = Died if fault.kind in KILLS else OSError
    if fault.kind.startswith("disk full"):
        expected = NoRoom
    with faulty_folder(fault):
        try:
            COMMANDS[command](output)
        except expected:
            assert fault.has_struck
            return
    assert not fault.has_struck, f"{fault.where}: nobody noticed that it failed"


@pytest.mark.parametrize("base, command", CASES)
@pytest.mark.parametrize("kind", KINDS if ALL_FAULTS else ["dies before"])
def test_a_command_that_fails_at_any_write_goes_on(base, command, kind, start):
    output = start(base)
    COMMANDS[command](output)
    small_run.expect_as_clean(output)
    undisturbed = small_run.tree(output)
    for nth in itertools.count(1):
        output, fault = start(base), Fault(kind, nth)
        strike(command, output, fault)
        if not fault.has_struck:
            break
        COMMANDS[command](output)
        assert small_run.tree(output) == undisturbed, fault.where
        assert state.read(Layout(output).store).name == state.COMPLETE, fault.where
    assert nth > 5


@pytest.mark.skipif(ALL_FAULTS, reason="the test above strikes each write with every kind of fault")
@pytest.mark.parametrize("base, command", CASES)
def test_a_command_goes_on_after_other_faults_at_some_of_its_writes(base, command, start):
    output = start(base)
    COMMANDS[command](output)
    undisturbed = small_run.tree(output)
    for first, kind in enumerate(KINDS[1:], 1):
        for nth in itertools.count(first, 15):
            output, fault = start(base), Fault(kind, nth)
            strike(command, output, fault)
            if not fault.has_struck:
                break
            COMMANDS[command](output)
            assert small_run.tree(output) == undisturbed, f"{kind}, {fault.where}"


def test_faults_that_follow_each_other_do_no_harm(start):
    output = start("finished")
    small_run.refresh(output)
    expected = small_run.tree(output)
    output = start("finished")
    for number, kind in enumerate(2 * KINDS):
        strike("refresh", output, Fault(kind, number % 7 + 1))
    small_run.refresh(output)
    assert small_run.tree(output) == expected


@pytest.mark.parametrize("other", COMMANDS)
@pytest.mark.parametrize("base, command", CASES)
def test_any_command_may_follow_any_kill(base, command, other, start):
    step = 1 if ALL_FAULTS else 16
    for nth in itertools.count(1 + len(other) % step, step):
        output, fault = start(base), Fault("dies before", nth)
        strike(command, output, fault)
        if not fault.has_struck:
            break
        if (output / "state.json").exists():
            expect_counted_once(output)
            run_if_finished(other, output)
            expect_counted_once(output)
        for last in (small_run.flow, small_run.refresh):
            last(output)
            small_run.expect_sound(output)
        small_run.expect_as_clean(output)


def run_if_finished(command: str, output: Path) -> None:
    """A refresh needs a finished folder, and says so; the others go on."""
    try:
        COMMANDS[command](output)
    except BadOption as error:
        assert "kinetics-prep flow` command once more first" in str(error)


def expect_counted_once(output: Path) -> None:
    """Checks what `status` says of a folder in any state."""
    if state.read(Layout(output).store).plans:
        for split in read_status(output):
            assert split.written + split.refused + split.to_go == split.rows
            assert min(split.written, split.refused, split.to_go) >= 0


# The store that fails ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_store_fails_at_the_write_that_it_is_told(kind, start):
    output, fault = start("new"), Fault(kind, 3)
    strike("flow", output, fault)
    assert fault.has_struck and fault.writes >= 3
    assert fault.where.startswith("write 3: ")
    scratch = list((output / ".work" / "tmp").glob("*")) if (output / ".work").exists() else []
    leases = list((output / ".work" / "lease").glob("*")) if (output / ".work").exists() else []
    assert (len(scratch), len(leases)) == ((1, 1) if kind in KILLS else (0, 0))


@pytest.mark.parametrize("kind", [kind for kind in FAILURES if not kind.endswith("once")])
def test_a_disk_that_fails_goes_on_failing(kind, start):
    fault = Fault(kind, 1)
    strike("flow", start("new"), fault)
    assert fault.strikes("put", "any") and fault.strikes("create", "any")
