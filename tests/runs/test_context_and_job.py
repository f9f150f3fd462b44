"""What a run shares, what the user may ask for, how long each step took, how many clips at a time."""

import json
import os
import pickle
import threading
from fractions import Fraction
from pathlib import Path

import pytest

from kinetics_prep import flow
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import REASONS, RETRYABLE, BadOption, OtherTools
from kinetics_prep.flow import Hardware
from kinetics_prep.runs import context as contexts
from kinetics_prep.runs import stopwatch as stopwatches
from kinetics_prep.runs.context import RunContext
from kinetics_prep.runs.fingerprint import fingerprint
from kinetics_prep.runs.job import Job, Resumption, check_gpu, check_retryable
from kinetics_prep.runs.stopwatch import Stopwatch
from kinetics_prep.runs.workers import worker_count
from kinetics_prep.sources import Fetching

RECIPE = Recipe("tvl1", fps=Fraction(5))


def context(folder: Path) -> RunContext:
    (folder / "a.mp4").touch()
    return RunContext(
        RECIPE, "digest", Fetching((str(folder),)), str(folder / "scratch"), frozenset({fingerprint(RECIPE)})
    )


# The context ------------------------------------------------------------------------------------


def test_a_folder_is_listed_once_a_run_whatever_the_threads(tmp_path, monkeypatch):
    opened = []
    real = contexts.open_sources
    monkeypatch.setattr(contexts, "open_sources", lambda *places, **run: opened.append(places) or real(*places, **run))
    ours = context(tmp_path)
    threads = [threading.Thread(target=lambda: ours.sources) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    assert pickle.loads(pickle.dumps(ours)).sources is ours.sources  # as a stage gets it
    assert len(opened) == 1
    assert context(tmp_path).sources.places  # another run looks anew
    assert len(opened) == 2


def test_the_engine_is_opened_once(tmp_path):
    ours = context(tmp_path)
    assert ours.engine is ours.engine
    assert type(ours.engine) is flow.ENGINES["tvl1"]


def test_the_record_says_whose_flow_it_is_and_the_ledger_which_engine_computed_it(tmp_path, monkeypatch):
    import dataclasses

    class OnGPU:
        def version(self) -> str:
            return "version 1"

    monkeypatch.setattr(contexts, "_engine", lambda name, hardware: OnGPU())
    gpu = dataclasses.replace(context(tmp_path), recipe=dataclasses.replace(RECIPE, engine="tvl1-cuda"))
    assert gpu.engine_version == "tvl1-cuda: version 1"
    assert gpu.flow_by == "tvl1: version 1"


def test_a_context_crosses_processes_without_what_is_open(tmp_path):
    ours = context(tmp_path)
    assert ours.sources and ours.engine
    assert len(pickle.dumps(ours)) < 5_000


def test_a_context_says_what_makes_its_records(tmp_path):
    ours = context(tmp_path)
    assert ours.fingerprint == fingerprint(RECIPE)
    assert json.loads(ours.versions).keys() >= {"kinetics-prep", "ffmpeg", "engine"}
    ours.expect_tools()


def test_a_process_with_other_tools_is_refused_in_words(tmp_path):
    import dataclasses

    other = dataclasses.replace(context(tmp_path), fingerprints=frozenset({"0" * 64, "1" * 64}))
    with pytest.raises(OtherTools, match="give other bytes than those that started this run: .*ffmpeg"):
        other.expect_tools()


# Jobs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", RETRYABLE)
def test_what_may_pass_can_be_tried_again(reason):
    check_retryable("--retry", (reason,))
    Job(Selection(("a.csv",)), Fetching(("v",)), Path("out"), RECIPE, retry=(reason,))


@pytest.mark.parametrize("reason", sorted(set(REASONS) - set(RETRYABLE)) + ["bad_luck"])
def test_what_the_annotations_say_cannot_be_tried_again(reason):
    with pytest.raises(BadOption, match=f"^--retry {reason}: expected one or more of "):
        Job(Selection(("a.csv",)), Fetching(("v",)), Path("out"), RECIPE, retry=("network", reason))
    with pytest.raises(BadOption, match=f"^--reason {reason}: expected one or more of "):
        Resumption(Path("out"), (reason, "network"), Fetching(()))


@pytest.mark.parametrize("hardware", [Hardware((0,)), Hardware(gpu_memory_bytes=1 << 30)])
def test_a_gpu_is_chosen_only_for_an_engine_that_uses_one(hardware):
    check_gpu(hardware, "tvl1-cuda")
    check_gpu(Hardware(), "tvl1")
    with pytest.raises(BadOption, match="--gpus and --gpu-memory: engine tvl1 .* does not run on a GPU"):
        Job(Selection(("a.csv",)), Fetching(("v",)), Path("out"), RECIPE, hardware=hardware)


@pytest.mark.parametrize("url", ["gs://bucket/secret", Path("s3://bucket/secret"), "https://user:secret@host/x"])
def test_a_url_is_no_path(url):
    with pytest.raises(BadOption, match="^--output: expected a path, found a URL, ") as refusal:
        Job(Selection(("a.csv",)), Fetching(("v",)), Path(url), RECIPE)
    assert "secret" not in str(refusal.value)
    with pytest.raises(BadOption, match="^the folder: expected a path, found a URL, "):
        Resumption(Path(url), ("network",), Fetching(()))
    for option in ("cache", "cookies"):
        with pytest.raises(BadOption, match=f"^--{option}: expected a path, found a URL, "):
            Fetching(("v",), **{option: str(url)})
    for option in ("labels", "ids"):
        with pytest.raises(BadOption, match=f"^--{option}: expected a path, found a URL, "):
            Selection(("a.csv",), **{option: Path(url)})
    with pytest.raises(BadOption, match="^--annotations: expected a path, found a URL, "):
        Selection(("a.csv", str(url)))


# Workers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, 2, 7])
def test_a_clip_a_core_and_two_where_a_gpu_computes_the_flow(cores, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    assert worker_count(None) == worker_count(None, "tvl1") == cores
    assert worker_count(None, "tvl1-cuda") == 2 * cores


def test_without_affinity_the_cores_of_the_machine_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert worker_count(None) == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert worker_count(None) == 1


def test_as_many_as_requested_but_at_least_one():
    assert worker_count(3, "tvl1-cuda") == worker_count(3) == 3
    for none in (0, -1):
        with pytest.raises(BadOption, match=f"--workers is {none}, expected at least 1"):
            worker_count(none)


# Seconds ----------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""

    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(stopwatches, "time", clock)
    return clock


def test_seconds_of_a_block_within_another_count_there_alone(clock):
    stopwatch = Stopwatch()
    clock.now += 1
    with stopwatch("fetch"):
        clock.now += 2
        with stopwatch("decode"):
            clock.now += 4
            with stopwatch("deeper"):
                clock.now += 8
        clock.now += 16
        with stopwatch("decode"):
            clock.now += 32
    with stopwatch("fetch"):
        clock.now += 64
    clock.now += 128
    assert stopwatch.reading() == {"seconds": 255, "fetch": 2 + 16 + 64, "decode": 4 + 32, "deeper": 8}


def test_a_block_that_fails_counts_too(clock):
    stopwatch = Stopwatch()
    with pytest.raises(ZeroDivisionError), stopwatch("fetch"):
        clock.now += 3
        raise ZeroDivisionError
    clock.now += 1
    assert stopwatch.reading() == {"seconds": 4, "fetch": 3}
