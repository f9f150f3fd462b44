"""The table of engines: which of them a machine can run, which one is chosen, and what a run may use of a machine."""

import subprocess
import sys

import pytest

from kinetics_prep import flow
from kinetics_prep.errors import BadOption, MissingTool
from kinetics_prep.flow import ANY_HARDWARE, ENGINES, Hardware

# On this machine


def test_auto_is_the_first_engine_that_can_run_here():
    usable = [name for name, kind in ENGINES.items() if kind.usable() is None]
    assert flow.choose() == flow.choose("auto") == usable[0]


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_can_be_chosen_by_name_or_says_what_is_missing(name):
    if missing := ENGINES[name].usable():
        for look_up in (flow.choose, flow.engine):
            with pytest.raises(MissingTool) as caught:
                look_up(name)
            assert str(caught.value) == f"engine {name} cannot run here: {missing}"
    else:
        assert flow.choose(name) == name
        assert type(flow.engine(name)) is ENGINES[name]


def test_an_unknown_engine_is_refused_with_the_known_ones():
    for look_up in (flow.engine, flow.choose):
        with pytest.raises(
            BadOption, match="'fastest', expected auto or one of tvl1-cuda, tvl1, opencv-cuda, opencv-cpu"
        ):
            look_up("fastest")


# On other machines


def kind(missing: str | None, gives: str = "own", on_gpu: bool = False) -> type:
    """A class of engines that can run, or lack something; it keeps the hardware it is made with."""

    class Engine:
        GIVES = gives
        RUNS_ON_GPU = on_gpu

        def __init__(self, hardware: Hardware = ANY_HARDWARE):
            self.hardware = hardware

        @staticmethod
        def usable() -> str | None:
            return missing

    return Engine


@pytest.fixture
def table(monkeypatch) -> dict[str, type]:
    engines = {
        "gpu": kind("no driver", gives="ours", on_gpu=True),
        "cpu": kind(None, gives="ours"),
        "other-gpu": kind("no GPU", gives="theirs", on_gpu=True),
        "other-cpu": kind(None, gives="other-cpu"),
    }
    monkeypatch.setattr(flow, "ENGINES", engines)
    return engines


def test_auto_passes_over_engines_that_lack_something(table):
    assert flow.choose() == "cpu"
    table["cpu"] = kind("no numba")
    assert flow.choose() == "other-cpu"
    table["gpu"] = kind(None)
    assert flow.choose() == "gpu"


def test_auto_says_what_each_engine_lacks_where_none_can_run(table):
    table["cpu"], table["other-cpu"] = kind("no numba"), kind("no optflow module")
    with pytest.raises(MissingTool) as caught:
        flow.choose("auto")
    assert str(caught.value) == (
        "engine gpu cannot run here: no driver; engine cpu cannot run here: no numba; "
        "engine other-gpu cannot run here: no GPU; engine other-cpu cannot run here: no optflow module"
    )


def test_why_says_what_the_faster_engines_lack(table):
    assert flow.why("cpu") == "no gpu: no driver"
    assert flow.why("gpu") == "the fastest there is"


def test_another_engine_may_give_the_same_flow(table):
    assert flow.giving("ours") == "cpu"
    table["gpu"] = kind(None, gives="ours")
    assert flow.giving("ours") == "gpu"
    assert flow.giving("other-cpu") == "other-cpu"


def test_where_no_engine_gives_a_flow_it_says_what_is_missing(table):
    with pytest.raises(MissingTool, match="flow of 'theirs' can run here: .*other-gpu.*no GPU"):
        flow.giving("theirs")
    with pytest.raises(MissingTool, match="flow of 'unheard of'"):
        flow.giving("unheard of")


def test_an_engine_is_made_with_the_hardware_it_may_use(table):
    table["gpu"] = kind(None, on_gpu=True)
    hardware = Hardware(gpus=(1,))
    assert flow.engine("gpu", hardware).hardware is hardware
    assert flow.engine("gpu").hardware == Hardware()


# Hardware


@pytest.mark.parametrize("gpus", [(0, 0), (-1,), (1, 2, 1)])
def test_gpus_that_make_no_sense_are_refused(gpus):
    with pytest.raises(BadOption, match="--gpus .*expected each index once, from 0 on"):
        Hardware(gpus)


@pytest.mark.parametrize("gpu_memory_bytes", [0, -1])
def test_no_memory_at_all_is_refused(gpu_memory_bytes):
    with pytest.raises(BadOption, match=f"gpu_memory_bytes is {gpu_memory_bytes}, expected more than 0"):
        Hardware(gpu_memory_bytes=gpu_memory_bytes)
    assert Hardware(gpu_memory_bytes=1).gpu_memory_bytes == 1


def test_gpus_are_all_or_those_requested():
    assert list(Hardware().gpu_indices(3)) == [0, 1, 2]
    assert list(Hardware().gpu_indices(0)) == []
    assert list(Hardware((2, 0)).gpu_indices(3)) == [2, 0]
    with pytest.raises(MissingTool, match="--gpus 0,3: there are 3, counted from 0"):
        Hardware((0, 3)).gpu_indices(3)


# What importing costs


def printed(program: str) -> str:
    """What a Python of its own prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_table_imports_no_library_that_an_engine_needs():
    program = (
        "import sys, kinetics_prep.flow; "
        "print([name for name in ('numba', 'llvmlite', 'cupy', 'cv2') if name in sys.modules])"
    )
    assert printed(program) == "[]"


def test_parameters_and_table_can_be_imported_without_opencv_and_its_engines_say_what_is_missing():
    program = """
import sys
sys.modules["cv2"] = None
from kinetics_prep.flow.parameters import TVL1
from kinetics_prep.flow import ENGINES
print(TVL1().warps)
for name in ("opencv-cuda", "opencv-cpu"):
    print(ENGINES[name].usable())
"""
    warps, *missing = printed(program).splitlines()
    assert warps == "5"
    assert len(missing) == 2
    assert all("cv2" in line and line.endswith("; pip install opencv-contrib-python-headless") for line in missing)
