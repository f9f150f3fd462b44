"""Runs on a handful of tiny videos, in this thread and without Beam: for tests that need many of them.

A clip is prepared once a session and then remembered, so a run costs what its files cost.
"""

import atexit
import collections
import dataclasses
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import QUICK_TVL1, write_video

from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset import objects, shards
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.part import Part, rows_of
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.dataset.status import read_status
from kinetics_prep.dataset.validate import open_folder, problems
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.runs import clip as clips_module
from kinetics_prep.runs.context import RunContext
from kinetics_prep.runs.job import Job, Resumption
from kinetics_prep.runs.prepare import PrepareRun, Summary, finish, open_run, resume_run
from kinetics_prep.sources import Fetching
from kinetics_prep.storage import tables

RECIPE = Recipe(
    engine="tvl1",
    fps=Fraction(5),
    short_side=16,
    clip_seconds=1.0,
    min_seconds=0.4,
    tvl1=QUICK_TVL1,
    clips_per_shard=2,
    formats=("tfrecord", "parquet"),
)

IDS = ("video0", "video1", "video2", "video3", "video4")

ROWS = (
    *(f"waving,{media_id},0,1,train" for media_id in IDS),
    "waving,nothing,0,1,train",
    "waving,video1,0,1,train",  # a duplicate
    "waving,video0,1,2,val",
    "waving,gone,0,1,val",
)

NOT_FOUND = ("not_found",)


class Stopped(Exception):
    """A run was stopped by its user."""


@functools.cache
def world() -> Path:
    """A folder with `rows.csv`; `some`, a folder with two of the videos and a broken one; and `all`."""
    folder = Path(tempfile.mkdtemp(prefix="kinetics-prep-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "rows.csv").write_text("label,youtube_id,time_start,time_end,split\n" + "\n".join(ROWS) + "\n")
    for number, media_id in enumerate(IDS):
        frames = np.random.default_rng(number).integers(0, 256, (30, 24, 32, 3), np.uint8)
        write_video(_made(folder / "all") / f"{media_id}.mp4", frames, Fraction(10))
    (folder / "all" / "nothing.mp4").write_bytes(b"this is no video")
    for name in ("video0", "video1", "nothing"):
        shutil.copy(folder / "all" / f"{name}.mp4", _made(folder / "some"))
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


# Commands ---------------------------------------------------------------------------------------


def job(output: Path, videos: str = "all", **changes: Any) -> Job:
    """`kinetics-prep flow` with one of the folders of videos."""
    fetching = Fetching((str(world() / videos),))
    return dataclasses.replace(Job(Selection((str(world() / "rows.csv"),)), fetching, output, RECIPE), **changes)


def flow(output: Path, videos: str = "all", stop_after: int | None = None, **changes: Any) -> Summary:
    """Runs `kinetics-prep flow`.

    Args:
      stop_after: rows after which the user stops it; None for never.

    Raises:
      Stopped: if so.
    """
    with open_run(job(output, videos, **changes)) as run:
        return _carry_out(run, stop_after)


def flow_retry(output: Path, videos: str = "all", stop_after: int | None = None) -> Summary:
    """Runs `kinetics-prep flow --retry not_found`."""
    return flow(output, videos, stop_after, retry=NOT_FOUND)


def retry(
    output: Path, videos: str = "all", stop_after: int | None = None, reasons: tuple[str, ...] = NOT_FOUND
) -> Summary:
    """Runs `kinetics-prep retry --reason not_found`."""
    with resume_run(_resumption(output, videos, reasons)) as run:
        return _carry_out(run, stop_after)


def refresh(
    output: Path, videos: str = "all", stop_after: int | None = None, reasons: tuple[str, ...] = NOT_FOUND
) -> Summary:
    """Runs `kinetics-prep refresh --reason not_found`."""
    with resume_run(_resumption(output, videos, reasons), needs_complete=True) as run:
        return _carry_out(run, stop_after)


def _resumption(output: Path, videos: str, reasons: tuple[str, ...]) -> Resumption:
    return Resumption(output, reasons, Fetching((str(world() / videos),)))


def _carry_out(run: PrepareRun, stop_after: int | None) -> Summary:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips_module, "prepare_row", _remembered)
        for done, (part, row) in enumerate(_missing_rows(run)):
            if done == stop_after:
                raise Stopped
            clips_module.prepare_and_commit(row, part, run.context)
        return finish(run)


def _missing_rows(run: PrepareRun) -> list[tuple[Part, PlanRow]]:
    """The rows to prepare: the first of each shard first, so that a run that is stopped leaves several shards begun."""
    rows: list[tuple[Part, PlanRow]] = []
    for part, shard, keys in list(run.pending()):
        sound = objects.remove_damaged(part.store, keys)
        missing = [(part, row) for row in rows_of(part, shard) if part.object_key(row) not in sound]
        rows += missing
        if not missing:
            shards.assemble(part, shard)
    return sorted(rows, key=lambda element: element[1].index)


_prepare_row = clips_module.prepare_row
_memory: dict[tuple[Any, ...], tuple[LedgerRow, bytes | None]] = {}


def _remembered(row: PlanRow, context: RunContext) -> tuple[LedgerRow, bytes | None]:
    """What `prepare_row` gives; videos do not change within a session."""
    key = (row.clip_id, row.annotation_line, context.fetching.videos, context.digest, context.versions)
    if key not in _memory:
        _memory[key] = _prepare_row(row, context)
    ledger_row, data = _memory[key]
    return dataclasses.replace(ledger_row, shard=row.shard), data


# What is on disk --------------------------------------------------------------------------------


def begun(output: Path) -> Path:
    """Makes a folder whose flow was stopped. Rows are refused in shards that are committed, and in one that is not."""
    with pytest.raises(Stopped):
        flow(output, "some", stop_after=7)
    return output


def finished(output: Path) -> Path:
    """Makes a folder of which three of five videos were missing."""
    flow(output, "some")
    return output


def ledger_rows(output: Path) -> list[dict[str, Any]]:
    """The rows of all ledgers."""
    return [row for path in sorted(output.glob("ledger/*.parquet")) for row in tables.read(path, "ledger")]


def outcomes(output: Path) -> dict[tuple[str, str, int], str | None]:
    """(split, clip, line) -> reason of every row. Each must be in one ledger."""
    rows = ledger_rows(output)
    found = {(row["split"], row["clip_id"], row["annotation_line"]): row["reason"] for row in rows}
    assert len(found) == len(rows), "a row is in two ledgers"
    return found


def reasons(output: Path) -> dict[str | None, int]:
    """How many rows were refused for which reason; None: written."""
    return dict(collections.Counter(outcomes(output).values()))


def clips(output: Path, form: str = "tfrecord") -> dict[tuple[str, str], bytes]:
    """The record of every clip in the shards of one format, by split and id. Each must be there once."""
    found: dict[tuple[str, str], bytes] = {}
    for split, record in _records(output, form):
        key = (split, record.text("example/id"))
        assert key not in found, f"{key} is there twice"
        found[key] = record.to_bytes()
    return found


def _records(output: Path, form: str) -> Iterator[tuple[str, Any]]:
    for path in sorted((output / form).iterdir()) if (output / form).is_dir() else ():
        for record in SHARD_FORMATS[form].read_shard(path):
            yield path.name.partition("-")[0], record


def data(output: Path) -> dict[str, str]:
    """The sha256 of every file of data."""
    paths = [path for form in SHARD_FORMATS for path in output.glob(f"{form}/*")]
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def expect_sound(output: Path) -> None:
    """Checks that a folder is complete, that `validate` finds nothing, and that `status` counts each row once."""
    assert [str(problem) for problem in problems(open_folder(output))] == []
    status = read_status(output)
    assert [(split.rows, split.to_go) for split in status] == [(7, 0), (2, 0)]
    assert len(outcomes(output)) == len(ROWS)
    assert not (output / ".work").exists()


@functools.cache
def clean() -> Path:
    """The folder of an undisturbed run that had all videos from the beginning. Shared: not to be changed."""
    output = world() / "clean"
    flow(output)
    return output


def expect_as_clean(output: Path) -> None:
    """Checks that a folder holds what an undisturbed run gives: each row's outcome, each clip's bytes."""
    expect_sound(output)
    assert outcomes(output) == outcomes(clean())
    for form in RECIPE.formats:
        assert clips(output, form) == clips(clean(), form)


def tree(output: Path) -> dict[str, str]:
    """The sha256 of every file but state.json, which counts searches and epochs."""
    paths = [path for path in output.rglob("*") if path.is_file() and path.name != "state.json"]
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
