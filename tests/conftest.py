"""What tests share: real data where it is at hand, videos we render ourselves, a recipe that is quick."""

import os
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import loopback
import numpy as np
import pytest

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.flow import TVL1
from kinetics_prep.media import ffmpeg

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

QUICK_TVL1 = TVL1(scales=2, warps=1, iterations=3)
"""The true engine, stopped early: for tests that do not look at the flow's quality."""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Third-party videos and annotation files, which are not part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder shared/data with third-party test data is not here")
    return SHARED_DATA


@pytest.fixture
def quick_recipe() -> Recipe:
    """Small pictures, few frames, hasty flow."""
    return Recipe(
        engine="tvl1",
        fps=Fraction(5),
        short_side=32,
        clip_seconds=1.0,
        min_seconds=0.4,
        tvl1=QUICK_TVL1,
        clips_per_shard=3,
    )


def write_video(path: Path, frames: np.ndarray, fps: Fraction = Fraction(25), options: tuple[str, ...] = ()) -> Path:
    """Encodes uint8 [T, H, W, 3] RGB frames, without loss unless `options` say else."""
    height, width = frames.shape[1:3]
    codec = ("-c:v", "libx264rgb", "-qp", "0", "-preset", "ultrafast", "-pix_fmt", "rgb24")
    command = (ffmpeg.locate().path, "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24")
    size = ("-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:")
    subprocess.run([*command, *size, *(options or codec), str(path)], input=frames.tobytes(), check=True)
    return path


def numbered_frames(count: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Frames that say their number in black and white bars; see `number_of`. uint8 [count, H, W, 3]."""
    bits = (np.arange(count)[:, None] >> np.arange(16)) & 1
    bars = np.repeat(bits, width // 16, axis=1).astype(np.uint8) * 255
    return np.ascontiguousarray(np.broadcast_to(bars[:, None, :, None], (count, height, width, 3)))


def number_of(frame: np.ndarray) -> int:
    """The number that a frame of `numbered_frames` says, at any size."""
    width = frame.shape[1]
    centres = ((np.arange(16) + 0.5) * width / 16).astype(int)
    return int(((frame[frame.shape[0] // 2, centres, 1] > 127) << np.arange(16)).sum())


def plan_row(media_id="abc", start=5.0, end=15.0, split="train", label="using segway") -> PlannedRow:
    return PlannedRow(
        shard=0,
        index=0,
        clip_id=f"{media_id}_{start}_{end}",
        media_id=media_id,
        label=label,
        label_index=0,
        split=split,
        start_seconds=start,
        end_seconds=end,
        annotation_file="rows.csv",
        annotation_line=2,
    )


@pytest.fixture
def server(monkeypatch) -> Iterator[loopback.Server]:
    """An HTTP server on loopback."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with loopback.running() as server:
        yield server


@pytest.fixture(scope="session")
def moving_data(tmp_path_factory) -> Path:
    """A prepared folder, in both formats: of each of two classes six clips to train on and three of val, 12 frames of
    56x40 at 10 fps."""
    pytest.importorskip("keras", reason="the extra `train` is not installed")
    import small

    from kinetics_prep.cli import OK, main

    folder = tmp_path_factory.mktemp("moving")
    annotations = small.write_clips(folder)
    command = ("flow", "--annotations", str(annotations), "--videos", str(folder), "--output", str(folder / "data"))
    recipe = ("--fps", "10", "--short-side", "40", "--clip-seconds", "1.2", "--min-seconds", "1", "--clips-per-shard")
    assert main([*command, *recipe, "5", "--format", "tfrecord,parquet"]) == OK
    return folder / "data"


@pytest.fixture
def small_model(monkeypatch) -> None:
    """Makes the model of `small.py` one of the models."""
    import small

    from kinetics_prep.models import MODELS

    monkeypatch.setitem(MODELS, "small", small)


@pytest.fixture
def unflushed(monkeypatch):
    """Nothing is flushed to the disk: that takes most of the time, and matters only where the power fails."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
