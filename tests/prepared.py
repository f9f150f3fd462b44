"""Tiny prepared folders for the trainer's tests, made by the package itself, from its sample, once a session."""

import atexit
import dataclasses
import functools
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

from conftest import QUICK_TVL1

from kinetics_prep import sample
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset import objects, shards
from kinetics_prep.dataset.part import rows_of
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.runs.clip import prepare_and_commit
from kinetics_prep.runs.job import Job
from kinetics_prep.runs.prepare import PrepareRun, finish, open_run
from kinetics_prep.sources import Fetching

RECIPE = Recipe(
    engine="tvl1",
    fps=Fraction(8),
    short_side=32,
    clip_seconds=1.0,
    min_seconds=0.4,
    tvl1=QUICK_TVL1,
    clips_per_shard=2,
    formats=("tfrecord", "parquet"),
)
"""Clips of eight frames, of 32x32 and 56x32 pixels."""

LABELS = ("inspecting telescope", "moving left", "moving right", "zooming in")


@functools.cache
def folder(**settings) -> Path:
    """A folder of the sample's five training and four validation clips, by `RECIPE` but for some settings.

    Tests share it: those that change it take a `copy`.
    """
    output = Path(tempfile.mkdtemp(prefix="kinetics-prep-test-")) / "data"
    atexit.register(shutil.rmtree, output.parent, ignore_errors=True)
    make(output, (str(sample.ANNOTATIONS),), dataclasses.replace(RECIPE, **settings))
    return output


def make(output: Path, annotations: tuple[str, ...], recipe: Recipe, videos: Path = sample.VIDEOS) -> None:
    """Prepares a folder in this thread, without Beam."""
    job = Job(Selection(annotations), Fetching((str(videos),)), output, recipe)
    with open_run(job) as run:
        prepare_clips(run)
        finish(run)


def prepare_clips(run: PrepareRun) -> None:
    """Does what Beam's graph does, in this thread."""
    for part, shard, keys in run.pending():
        sound = objects.remove_damaged(part.store, keys)
        missing = [row for row in rows_of(part, shard) if part.object_key(row) not in sound]
        for row in missing:
            prepare_and_commit(row, part, run.context)
        if not missing:
            shards.assemble(part, shard)


def copy(tmp_path: Path, **settings) -> Path:
    """A folder that may be changed."""
    return Path(shutil.copytree(folder(**settings), tmp_path / "copy"))
