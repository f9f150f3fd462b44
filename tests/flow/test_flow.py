"""Every engine in `flow.ENGINES`: the right flow for motions that we rendered, and the same bytes every time."""

import concurrent.futures
import os
import re
import zlib

import cv2
import numpy as np
import pytest
from conftest import QUICK_TVL1

from kinetics_prep import flow
from kinetics_prep.flow import ENGINES, TVL1
from kinetics_prep.media import video
from kinetics_prep.sample import MOTIONS, VIDEOS, Motion, render

MARGIN = 16
"""Pixels at the border, where the motion points out of the picture."""

SIDEWAYS = Motion(dx=1.5, dy=-0.5)


@pytest.fixture(params=ENGINES)
def engine(request):
    missing = ENGINES[request.param].usable()
    if missing:
        skip_or_fail(request.param, missing)
    return flow.engine(request.param)


def skip_or_fail(name: str, missing: str) -> None:
    """Fails where KINETICS_PREP_REQUIRE_GPU=1 promises a GPU; for OpenCV's engine, only if OpenCV was built for one."""
    promised = os.environ.get("KINETICS_PREP_REQUIRE_GPU") == "1" and ENGINES[name].RUNS_ON_GPU
    if promised and not (name == "opencv-cuda" and not hasattr(cv2.cuda, "OpticalFlowDual_TVL1_create")):
        pytest.fail(f"{name}: {missing}; KINETICS_PREP_REQUIRE_GPU=1 promises a GPU")
    pytest.skip(f"{name}: {missing}")


def grey_of(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])


def moving(motion: Motion, number: int = 2, side: int = 96) -> np.ndarray:
    """uint8 [number, side, side], grey."""
    return grey_of(render.frames(motion, seed=1, number=number, side=side))


def error_px(field: np.ndarray, motion: Motion) -> np.ndarray:
    """How far each vector of a field is from the truth, without the border."""
    height, width = field.shape[:2]
    x, y = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    truth = np.stack(np.broadcast_arrays(*motion.flow(x, y)), axis=-1)
    return np.hypot(*np.moveaxis(field - truth, -1, 0))[MARGIN:-MARGIN, MARGIN:-MARGIN]


@pytest.mark.parametrize(
    "motion",
    [Motion(dx=2.0), Motion(dx=-2.0), Motion(dy=1.0), Motion(dy=-1.0), Motion(dx=1.5, dy=-0.5), Motion(zoom=0.02)],
    ids=["right", "left", "down", "up", "right and up", "zoom in"],
)
def test_flow_is_the_motion_from_each_frame_to_the_next(engine, motion):
    (field,) = engine.flows(moving(motion), TVL1())
    error = error_px(field, motion)
    assert np.median(error) < 0.15
    assert np.percentile(error, 95) < 0.5


@pytest.mark.parametrize("name", MOTIONS)
def test_flow_of_the_embedded_sample_is_the_motion_it_was_rendered_with(engine, name):
    clip = video.trim(video.probe(VIDEOS / f"{name}.mp4"), 1.0, 0.08, min_seconds=0.0)
    middle = grey_of(clip.frames)[:, 64:-64, 64:-64]
    (field,) = engine.flows(middle, TVL1())
    assert np.median(error_px(field, MOTIONS[name])) < 0.15


def test_nothing_moves_in_two_equal_frames(engine):
    frame = moving(SIDEWAYS)[0]
    (field,) = engine.flows(np.stack([frame, frame]), TVL1())
    assert np.abs(field).max() < 1e-3


def test_t_frames_give_t_minus_1_fields_in_order(engine):
    motion = Motion(dx=1.0)
    frames = moving(motion, number=4)
    frames[3] = frames[2]  # the motion stops
    fields = list(engine.flows(frames, TVL1()))
    assert [(field.dtype, field.shape) for field in fields] == [(np.float32, (96, 96, 2))] * 3
    assert [round(float(np.median(field[..., 0]))) for field in fields] == [1, 1, 0]


def test_one_frame_has_no_flow(engine):
    assert list(engine.flows(moving(SIDEWAYS)[:1], TVL1())) == []


def test_fields_come_one_at_a_time_and_are_not_written_to_again(engine):
    fields = engine.flows(moving(SIDEWAYS, number=4), QUICK_TVL1)
    first = next(fields)
    kept = first.copy()
    assert next(fields) is not first
    list(fields)
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("height, width", [(16, 16), (17, 31), (256, 40), (33, 100)])
def test_any_size_of_picture_has_a_flow(engine, height, width):
    grey = moving(SIDEWAYS, side=256)[:, :height, :width]
    for frames in (grey, np.ascontiguousarray(grey)):
        (field,) = engine.flows(frames, TVL1())
        assert field.shape == (height, width, 2) and np.isfinite(field).all()
        assert np.median(field, axis=(0, 1)) == pytest.approx((SIDEWAYS.dx, SIDEWAYS.dy), abs=0.1)


def test_the_same_frames_give_the_same_bytes(engine):
    frames = moving(SIDEWAYS, number=3)
    assert checksums(engine, frames) == checksums(engine, frames)


def test_two_threads_give_the_bytes_of_one(engine):
    clips = [moving(SIDEWAYS, number=5), moving(Motion(dx=-2.0), number=5)] * 2
    expected = [checksums(engine, clip) for clip in clips]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda clip: checksums(engine, clip), clips)) == expected


def test_clips_in_turn_do_not_disturb_each_other(engine):
    """Two generators of one engine, a step of each in turn."""
    first, second = moving(SIDEWAYS, number=4), moving(Motion(dx=-2.0), number=4, side=80)
    steps = list(zip(engine.flows(first, QUICK_TVL1), engine.flows(second, QUICK_TVL1)))
    assert [zlib.crc32(field) for field, _ in steps] == checksums(engine, first, QUICK_TVL1)
    assert [zlib.crc32(field) for _, field in steps] == checksums(engine, second, QUICK_TVL1)


def checksums(engine, grey: np.ndarray, tvl1: TVL1 = QUICK_TVL1) -> list[int]:
    return [zlib.crc32(field) for field in engine.flows(grey, tvl1)]


@pytest.mark.parametrize(
    "assignment",
    ["tau=0.1", "lambda=0.05", "theta=0.1", "scales=1", "scale_step=0.5", "warps=1", "epsilon=0.3", "iterations=2"],
)
def test_every_parameter_reaches_the_engine(engine, assignment):
    frames = moving(SIDEWAYS)
    (usual,), (changed,) = (list(engine.flows(frames, tvl1)) for tvl1 in (TVL1(), TVL1.parse([assignment])))
    assert not np.array_equal(usual, changed)


def test_an_engine_says_its_version(engine):
    assert re.fullmatch(r"version \d+( without fma)?|opencv(-cuda)? " + re.escape(cv2.__version__), engine.version())


# The CPU class stands for the CUDA class


@pytest.fixture
def cpu():
    if missing := ENGINES["opencv-cpu"].usable():
        pytest.skip(missing)
    return flow.engine("opencv-cpu")


def opencv(grey: np.ndarray, **parameters) -> np.ndarray:
    """The flow by OpenCV's class, at its own defaults except for these parameters."""
    return cv2.optflow.DualTVL1OpticalFlow_create(**parameters).calc(grey[0], grey[1], None)


def test_outer_1_inner_300_is_outer_10_inner_30_without_the_median(cpu, shared_data):
    """OpenCV's CPU class nests its 300 iterations as 10 x 30 only to filter between; the rest is the same loop."""
    grey = np.stack(
        [read_grey(shared_data / f"flow_truth/RubberWhale/frame1{k}.png")[100:196, 200:328] for k in (0, 1)]
    )
    (field,) = cpu.flows(grey, TVL1())
    assert np.array_equal(field, opencv(grey, outerIterations=10, innnerIterations=30, medianFiltering=1))
    assert not np.array_equal(field, opencv(grey))  # which filters


def test_the_defaults_are_opencvs_own_but_for_the_median(cpu):
    grey = moving(SIDEWAYS)
    (field,) = cpu.flows(grey, TVL1())
    assert np.array_equal(field, opencv(grey, medianFiltering=1))


@pytest.mark.parametrize("name, most_px", [("RubberWhale", 0.35), ("Dimetrodon", 0.35)])
def test_flow_of_real_pictures_is_near_the_measured_truth(engine, shared_data, name, most_px):
    folder, part = shared_data / "flow_truth" / name, np.s_[100:292, 200:456]
    grey = np.stack([read_grey(folder / f"frame{k}.png")[part] for k in (10, 11)])
    (field,) = engine.flows(grey, TVL1())
    truth = cv2.readOpticalFlow(str(folder / "flow10.flo"))[part]
    known = (np.abs(truth) < 1e9).all(axis=-1)
    assert np.hypot(*np.moveaxis(field - truth, -1, 0))[known].mean() < most_px


def read_grey(path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
