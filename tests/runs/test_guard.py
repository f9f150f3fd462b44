"""The guard: settings are hard, tools are judged by what they do, and versions are written down and decide nothing."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import other_ffmpeg
import pytest
from prepared import RECIPE, make, prepare_clips

from kinetics_prep import sample
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset import ledger, recipe_file, tools
from kinetics_prep.errors import OtherRecipe, OtherTools
from kinetics_prep.runs import context
from kinetics_prep.runs.job import Job
from kinetics_prep.runs.prepare import finish, open_run
from kinetics_prep.sources import Fetching
from kinetics_prep.storage.folder_store import FolderStore

FLAGS = ["--fps", "8", "--short-side", "32", "--clip-seconds", "1", "--min-seconds", "0.4", "--clips-per-shard", "2"]
FLAGS += ["--format", "tfrecord,parquet", "--tvl1", "scales=2", "warps=1", "iterations=3"]


@pytest.fixture
def shim(tmp_path) -> dict[str, str]:
    """An environment with an ffmpeg that says the same version and scales in another way."""
    program = other_ffmpeg.write_shim(tmp_path / "bin")
    return {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def train(tmp_path) -> Path:
    """A folder with the training clips of the sample."""
    with open_run(job(tmp_path / "out", "train")) as run:
        prepare_clips(run)
        finish(run)
    return tmp_path / "out"


def job(output: Path, *splits: str) -> Job:
    return Job(Selection((str(sample.ANNOTATIONS),), splits), Fetching((str(sample.VIDEOS),)), output, RECIPE)


def flow(output: Path, environment: dict[str, str], *flags: str) -> subprocess.CompletedProcess:
    places = ["--annotations", str(sample.ANNOTATIONS), "--videos", str(sample.VIDEOS), "--output", str(output)]
    command = [sys.executable, "-m", "kinetics_prep", "flow", *places, *FLAGS, *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def rows(output: Path, split: str) -> list[ledger.LedgerRow]:
    store = FolderStore(output)
    return [row for entry in store.list("ledger/") for row in ledger.read(store, entry.key) if row.split == split]


def test_other_tools_are_refused_until_they_are_accepted(train, shim):
    before = recipe_file.read(FolderStore(train))
    refused = flow(train, shim)
    assert refused.returncode == 2
    assert "tools that give other bytes" in refused.stderr
    assert "--accept-tools" in refused.stderr
    assert recipe_file.read(FolderStore(train)) == before
    accepted = flow(train, shim, "--accept-tools")
    assert accepted.returncode == 0, accepted.stderr
    after = recipe_file.read(FolderStore(train))
    assert after.tools[:1] == before.tools
    assert len(after.tools) == 2
    assert {row.fingerprint for row in rows(train, "train")} == {after.tools[0].fingerprint}
    assert {row.fingerprint for row in rows(train, "val")} == {after.tools[1].fingerprint}
    assert flow(train, dict(os.environ)).returncode == 0  # both are accepted from now on


def test_a_worker_with_another_ffmpeg_is_refused_before_it_writes(tmp_path, shim):
    with open_run(job(tmp_path / "out")) as run:
        (tmp_path / "run").write_bytes(pickle.dumps(run))
        script = "import pickle, sys, prepared; prepared.prepare_clips(pickle.load(open(sys.argv[1], 'rb')))"
        tests = str(Path(__file__).parents[1])
        shim["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), tests)))
        worker = [sys.executable, "-c", script, str(tmp_path / "run")]
        failed = subprocess.run(worker, env=shim, capture_output=True, text=True)
        assert failed.returncode == 1
        assert "OtherTools: programs or libraries on" in failed.stderr
        assert run.count_rows() == {"written": 0, "refused": 0}
        subprocess.run(worker, env={**shim, "PATH": os.environ["PATH"]}, check=True)
        assert run.count_rows()["written"] == 9


def test_another_version_that_gives_the_same_bytes_goes_on(train, monkeypatch, request):
    versions = tools.versions

    def newer(recipe):
        return versions(recipe) | {"pillow": "99.0", "ffmpeg": "7.1.1-1ubuntu1.3"}

    monkeypatch.setattr(tools, "versions", newer)
    context._versions.cache_clear()  # else those of this process are known already
    request.addfinalizer(context._versions.cache_clear)
    with open_run(job(train)) as run:
        prepare_clips(run)
        assert finish(run).written == 9
    assert len(recipe_file.read(FolderStore(train)).tools) == 1
    assert all('"pillow": "99.0"' in row.versions for row in rows(train, "val"))
    assert all('"pillow": "99.0"' not in row.versions for row in rows(train, "train"))


def test_each_row_says_what_made_it(train):
    for row in rows(train, "train"):
        assert row.fingerprint == recipe_file.read(FolderStore(train)).tools[0].fingerprint
        assert set(tools.versions(RECIPE)) < set(json.loads(row.versions))


def test_what_cannot_change_a_frame_is_no_part_of_the_digest():
    digest = recipe_file.digest(RECIPE)
    for settings in ({"formats": ("parquet",)}, {"clips_per_shard": 7}):
        assert recipe_file.digest(dataclasses.replace(RECIPE, **settings)) == digest
    for settings in ({"fps": Fraction(9)}, {"jpeg_quality": 94}, {"short_side": 34}):
        assert recipe_file.digest(dataclasses.replace(RECIPE, **settings)) != digest


def test_another_shape_is_refused_with_the_command_that_changes_it(train):
    recipe = dataclasses.replace(RECIPE, formats=("tfrecord",), clips_per_shard=4)
    opened = open_run(dataclasses.replace(job(train), recipe=recipe))
    advice = "kinetics-prep convert .* --format tfrecord --clips-per-shard 4"
    with pytest.raises(OtherRecipe, match=advice), opened:
        pass


def test_a_folder_of_unknown_tools_is_taken_if_no_version_differs(tmp_path):
    make(tmp_path / "out", (str(sample.ANNOTATIONS),), RECIPE)
    store = FolderStore(tmp_path / "out")
    there = recipe_file.read(store)
    versions = dict(there.tools[0].versions)
    unknown = recipe_file.RecipeFile(there.settings, there.digest, (recipe_file.Tools("", versions),))
    assert len(recipe_file.with_tools(store, unknown, there.tools[0], accept=False).tools) == 2
    older = recipe_file.Tools("", versions | {"pillow": "11.0"})
    unknown = recipe_file.RecipeFile(there.settings, there.digest, (older,))
    with pytest.raises(OtherTools, match="pillow is 11.0 there"):
        recipe_file.with_tools(store, unknown, there.tools[0], accept=False)
