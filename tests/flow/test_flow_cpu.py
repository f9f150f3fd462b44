"""The engine around the kernels: where it runs, where its code is kept, and which workspace a clip gets."""

import concurrent.futures
import os
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest

from kinetics_prep import flow
from kinetics_prep.flow import TVL1, numba_kernels
from kinetics_prep.flow.cpu import TVL1CPU

QUICK = TVL1(scales=1, warps=1, iterations=2)


def noise(frames: int, height: int = 20, width: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width), np.uint8)


def printed(program: str, **environment: str) -> str:
    """What a program prints in a Python process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


CHOSEN = "from kinetics_prep import flow; print(flow.choose(), '|', flow.ENGINES['tvl1'].usable())"


def test_it_is_the_default():
    assert flow.choose("auto") == "tvl1"


def test_without_numba_opencv_takes_over_and_it_says_what_is_missing():
    chosen, missing = printed(f"import sys; sys.modules['numba'] = None; {CHOSEN}").split(" | ")
    assert chosen != "tvl1"
    assert "numba" in missing and missing.endswith("pip install numba")


def test_where_numba_must_not_compile_opencv_takes_over():
    chosen, missing = printed(CHOSEN, NUMBA_DISABLE_JIT="1").split(" | ")
    assert chosen != "tvl1"
    assert missing == "NUMBA_DISABLE_JIT is set"


FLOW_OF_NOISE = """
import hashlib
import numpy as np
from kinetics_prep import flow
from kinetics_prep.flow import TVL1, numba_kernels
frames = np.random.default_rng(0).integers(0, 256, (2, 20, 30), np.uint8)
(field,) = flow.engine("tvl1").flows(frames, TVL1(scales=1, warps=1, iterations=2))
print(hashlib.sha256(field).hexdigest(), type(numba_kernels.flow_between._cache).__name__)
"""


def test_compiled_code_is_kept_and_found_again(tmp_path):
    first = printed(FLOW_OF_NOISE, NUMBA_CACHE_DIR=str(tmp_path))
    kept = sorted(tmp_path.rglob("*.nbc"))
    times = [path.stat().st_mtime_ns for path in kept]
    assert len(kept) == 2  # the pyramid and the flow
    assert printed(FLOW_OF_NOISE, NUMBA_CACHE_DIR=str(tmp_path)) == first
    assert sorted(tmp_path.rglob("*.nbc")) == kept
    assert [path.stat().st_mtime_ns for path in kept] == times


@pytest.mark.parametrize("suffix", [".nbc", ".nbi"])
@pytest.mark.parametrize("length", [0, 100])
def test_what_was_kept_and_is_damaged_is_compiled_anew(tmp_path, suffix, length):
    first = printed(FLOW_OF_NOISE, NUMBA_CACHE_DIR=str(tmp_path))
    for path in tmp_path.rglob(f"*{suffix}"):
        path.write_bytes(path.read_bytes()[:length])
    assert printed(FLOW_OF_NOISE, NUMBA_CACHE_DIR=str(tmp_path)) == first
    assert min(path.stat().st_size for path in tmp_path.rglob(f"*{suffix}")) > 100


def test_where_nothing_can_be_kept_it_compiles_anew(tmp_path):
    """A read-only installation without a home folder, imitated by letting Numba keep code for IPython only."""
    if not hasattr(numba.config, "CACHE_LOCATOR_CLASSES"):
        pytest.skip("this Numba has no setting for where code may be kept")
    kept, nowhere = printed(FLOW_OF_NOISE, NUMBA_CACHE_LOCATOR_CLASSES="IPythonCacheLocator").split()
    assert nowhere == "NullCache"
    assert kept == printed(FLOW_OF_NOISE).split()[0]


# Workspaces


def test_a_workspace_is_reused_by_the_next_clip_of_the_same_size():
    engine = TVL1CPU()
    list(engine.flows(noise(3), QUICK))
    (first,) = engine._idle
    list(engine.flows(noise(3, seed=1), QUICK))
    assert list(engine._idle) == [first]


def test_a_clip_with_other_parameters_gets_a_workspace_of_its_own():
    engine, frames = TVL1CPU(), noise(2)
    (few,), (more,) = (list(engine.flows(frames, TVL1(scales=1, warps=1, iterations=k))) for k in (2, 9))
    assert not np.array_equal(few, more)
    assert {workspace.key[2].iterations for workspace in engine._idle} == {2, 9}


def test_frames_cut_out_of_larger_ones_are_computed_by_the_same_code():
    large = noise(2, 24, 40)
    (cut,), (copied,) = (
        list(TVL1CPU().flows(frames, QUICK)) for frames in (large[:, 2:22, 5:35], large[:, 2:22, 5:35].copy())
    )
    assert np.array_equal(cut, copied)
    assert len(numba_kernels.fill_pyramid.signatures) == 1  # each layout of arrays would be compiled for seconds


def test_two_clips_at_a_time_have_a_workspace_each():
    engine = TVL1CPU()
    first, second = engine.flows(noise(3), QUICK), engine.flows(noise(3), QUICK)
    next(first), next(second)
    assert not engine._idle
    del first, second  # both abandoned half way
    assert len(set(map(id, engine._idle))) == 2


def test_no_more_workspaces_are_kept_than_there_are_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    engine = TVL1CPU()
    for height in range(16, 21):
        list(engine.flows(noise(2, height), QUICK))
    assert [workspace.key[0] for workspace in engine._idle] == [20, 19]


def test_no_workspace_is_ever_given_to_two_clips():
    engine, given, all_half_way = TVL1CPU(), [], threading.Barrier(8)
    take = engine._take_workspace

    def watched(*key):
        given.append(take(*key))
        return given[-1]

    engine._take_workspace = watched

    def clip(seed):
        fields = engine.flows(noise(3, seed=seed), QUICK)
        next(fields)
        all_half_way.wait(timeout=60)
        return len(list(fields))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            given.clear()
            assert list(pool.map(clip, range(8))) == [1] * 8
            assert len(set(map(id, given))) == 8


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_bytes_do_not_depend_on_threads_or_on_how_a_clip_is_split(workers):
    frames = noise(9, 40, 50)
    whole = list(flow.engine("tvl1").flows(frames, TVL1()))
    engine = flow.engine("tvl1")
    pieces = [frames[k : k + size + 1] for k, size in ((0, 3), (3, 1), (4, 4))]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        split = [
            field for fields in pool.map(lambda piece: list(engine.flows(piece, TVL1())), pieces) for field in fields
        ]
    assert all(np.array_equal(a, b) for a, b in zip(whole, split, strict=True))
