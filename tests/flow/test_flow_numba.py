"""The engine's kernels against the reference: the same flow at every size and motion, the same bits in every order."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numba
import numpy as np
import pytest

from kinetics_prep import flow
from kinetics_prep.flow import TVL1, numba_kernels, numpy_kernels, simd, tvl1
from kinetics_prep.flow.numba_kernels import LANES, Workspace
from kinetics_prep.flow.tvl1 import GO_ON, LEVEL, WARP
from kinetics_prep.sample import Motion, render

USUAL = TVL1()

MEAN_PX, ANYWHERE_PX = 0.002, 0.5
"""Between float32 and float64. At single pixels, an iteration more or less makes a larger difference."""


def moving(motion: Motion, height: int = 96, width: int = 96, seed: int = 1) -> np.ndarray:
    """uint8 [2, H, W]."""
    frames = render.frames(motion, seed=seed, number=2, side=max(height, width, 32))
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[:height, :width] for frame in frames])


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [2, H, W]: unrelated frames, as far from smooth motion as frames can be."""
    return np.random.default_rng(seed).integers(0, 256, (2, height, width), np.uint8)


def engine_flow(pair: np.ndarray, parameters: TVL1 = USUAL) -> np.ndarray:
    (field,) = flow.engine("tvl1").flows(pair, parameters)
    return field


def difference_px(pair: np.ndarray, parameters: TVL1 = USUAL) -> np.ndarray:
    """The distance between the engine's flow and the reference's at each pixel."""
    reference = numpy_kernels.flow_of_pair(*pair, parameters)
    return np.hypot(*np.moveaxis(engine_flow(pair, parameters) - reference, -1, 0))


def assert_same(pair: np.ndarray, parameters: TVL1 = USUAL) -> None:
    difference = difference_px(pair, parameters)
    assert difference.mean() < MEAN_PX
    assert difference.max() < ANYWHERE_PX


# Every size, every motion


@pytest.mark.parametrize(
    "height, width",
    [(1, 1), (1, 40), (40, 1), (2, 2), (3, 17), (16, 16), (17, 15), (31, 33), (33, 31), (64, 48), (97, 129), (20, 300)],
)
def test_at_any_size_the_flow_is_the_references(height, width):
    assert_same(moving(Motion(dx=1.5, dy=-0.5), height, width))


@pytest.mark.parametrize(
    "motion",
    [Motion(dx=0.1), Motion(dx=-3.7, dy=2.2), Motion(zoom=0.05), Motion(dx=5.0, dy=4.0)],
    ids=["slow", "aslant", "zoom", "fast"],
)
def test_at_any_speed_the_flow_is_the_references(motion):
    assert_same(moving(motion, 90, 110))


@pytest.mark.parametrize(
    "parameters",
    [
        TVL1(scale_step=0.5),
        TVL1(scale_step=0.3, scales=2),
        TVL1(scale_step=0.95, scales=3),
        TVL1(lambda_=0.05, theta=0.2, tau=0.1),
        TVL1(epsilon=0.001, iterations=40),
        TVL1(iterations=1),
        TVL1(warps=1, iterations=3),
    ],
    ids=str,
)
def test_with_any_parameters_the_flow_is_the_references(parameters):
    assert_same(moving(Motion(dx=1.5, dy=-0.5), 70, 90), parameters)


@pytest.mark.parametrize("height, width", [(24, 40), (61, 47)])
def test_between_unrelated_frames_the_flow_is_the_references(height, width):
    """With few iterations at one level, because flow between noise amplifies rounding without bound."""
    assert_same(noise(height, width), TVL1(scales=1, warps=2, iterations=5))


def test_real_pictures_have_the_references_flow(shared_data):
    folder = shared_data / "flow_truth/RubberWhale"
    pair = np.stack(
        [cv2.imread(str(folder / f"frame{k}.png"), cv2.IMREAD_GRAYSCALE)[90:240, 150:403] for k in (10, 11)]
    )
    assert_same(pair)


# Frames that say nothing


@pytest.mark.parametrize("level", [0, 128, 255])
def test_nothing_moves_in_frames_of_one_colour(level):
    assert not engine_flow(np.full((2, 50, 70), level, np.uint8)).any()


def test_nothing_moves_in_a_flat_frame_that_gets_brighter():
    pair = np.stack([np.full((40, 50), 10, np.uint8), np.full((40, 50), 200, np.uint8)])
    assert not engine_flow(pair).any()


@pytest.mark.parametrize("seed", range(4))
def test_no_frames_make_flow_that_is_not_finite(seed):
    pair = noise(45, 67, seed)
    pair[0, :, 30:] = 255 * (seed % 2)
    assert np.isfinite(engine_flow(pair)).all()


@pytest.mark.parametrize(
    "parameters",
    [
        TVL1(tau=1e6),
        TVL1(theta=1e-9),
        TVL1(theta=1e6),
        TVL1(lambda_=1e6),
        TVL1(lambda_=1e-9),
        TVL1(tau=1e6, theta=1e-9),
    ],
    ids=str,
)
def test_no_parameters_make_flow_that_is_not_finite(parameters):
    assert np.isfinite(engine_flow(moving(Motion(dx=1.5)), parameters)).all()


def test_frames_of_another_type_are_refused():
    engine = flow.engine("tvl1")
    for frames in (np.zeros((2, 20, 20), np.float32), np.zeros((2, 20, 20, 3), np.uint8), np.zeros((20, 20), np.uint8)):
        with pytest.raises(ValueError, match=r"uint8 \[T, H, W\], got"):
            list(engine.flows(frames, TVL1()))


# Nothing but the frames decides


def test_what_was_computed_before_does_not_matter():
    engine, pair = flow.engine("tvl1"), moving(Motion(dx=1.5))
    fresh = next(iter(engine.flows(pair, TVL1())))
    list(engine.flows(noise(96, 96), TVL1()))
    assert np.array_equal(next(iter(engine.flows(pair, TVL1()))), fresh)


def poisoned(workspace: Workspace) -> Workspace:
    """Puts NaN everywhere except in the margins and in the row above the first."""
    for height, width, _, at, *_ in workspace.plan.levels:
        line, row = numba_kernels.line_of(width), numba_kernels.row_of(width)
        rows = workspace._fields[at : at + (height + 1) * row].reshape(height + 1, row)[1:]
        lines = rows[:, : numba_kernels.LINES * line].reshape(height, numba_kernels.LINES, line)
        lines[..., LANES:] = np.nan
        rows[:, numba_kernels.LINES * line :] = np.nan
    workspace._row[:] = np.nan
    for pyramid in workspace._pyramids:
        pyramid[:] = np.nan
    return workspace


@pytest.mark.parametrize("height, width", [(40, 50), (33, 64), (64, 33)])
def test_nothing_is_read_that_was_not_written(height, width):
    pair = moving(Motion(dx=1.5, dy=-0.5), height, width)
    workspace = poisoned(Workspace(height, width, TVL1()))
    for frame in pair:
        workspace.add(np.ascontiguousarray(frame))
    assert np.array_equal(workspace.flow()[0], engine_flow(pair))


@numba.njit
def _iterated(pair, settings, counts):
    state, change, begin = numba_kernels.state_of(pair, 0), 0.0, LEVEL
    for count in counts:
        change = numba_kernels.iterate(state, settings, begin, count, True)
        begin = GO_ON
    return change


@pytest.mark.parametrize("height, width", [(40, 50), (3, 20), (1, 1), (120, 33)])
@pytest.mark.parametrize("counts", [(1,) * 12, (2, 10), (5, 7), (11, 1)])
def test_iterations_in_one_pass_give_the_bits_of_one_after_the_other(height, width, counts):
    states = []
    for split in ((12,), counts):
        workspace = Workspace(height, width, TVL1(scales=1))
        for frame in moving(Motion(dx=1.5, dy=-0.5), height, width):
            workspace.add(np.ascontiguousarray(frame))
        pair = numba_kernels.Pair(workspace.plan, workspace._fields, *workspace._pyramids, workspace._row)
        states.append((_iterated(pair, workspace.settings, split), workspace._fields.copy()))
    assert states[0][0] == states[1][0]
    assert np.array_equal(states[0][1], states[1][1])


def test_more_iterations_than_the_caches_hold_are_split_without_a_trace():
    """100 iterations of rows so wide that few go together."""
    pair = moving(Motion(dx=1.5), 20, 700)
    assert_same(pair, TVL1(epsilon=1e-6, iterations=100, warps=2, scales=1))


# Warping


@numba.njit
def _linearise_all(pair, settings):
    state = numba_kernels.state_of(pair, 0)
    for y in range(state.height):
        numba_kernels._linearise(state, settings, y)


def fields_of(workspace: Workspace) -> np.ndarray:
    """A view of the rows of the finest level, [H, row]."""
    height, width, _, at, *_ = workspace.plan.levels[0]
    row = numba_kernels.row_of(width)
    return workspace._fields[at : at + (height + 1) * row].reshape(height + 1, row)[1:]


def block_field(workspace: Workspace, field: int) -> np.ndarray:
    """A field that is stored in blocks, [H, W]."""
    height, width = workspace.plan.levels[0, :2]
    blocks = fields_of(workspace)[:, numba_kernels.LINES * numba_kernels.line_of(width) :]
    blocks = blocks.reshape(height, -1, numba_kernels.BLOCK)[..., field : field + LANES]
    return blocks.reshape(height, -1)[:, :width]


@pytest.mark.parametrize("spread_px", [0.0, 0.3, 2.0, 15.0, 400.0])
@pytest.mark.parametrize("height, width", [(37, 53), (5, 100), (2, 2)])
def test_pixels_are_warped_wherever_they_move(height, width, spread_px):
    """From sixteen that move alike to sixteen scattered far beyond the picture."""
    rng, pair = np.random.default_rng(0), noise(height, width)
    workspace = Workspace(height, width, TVL1(scales=1))
    for frame in pair:
        workspace.add(frame)
    u1, u2 = (rng.normal(1.3, spread_px + 1e-9, (2, height, width))).astype(np.float32)
    line = numba_kernels.line_of(width)
    for k, u in enumerate((u1, u2)):
        fields_of(workspace)[:, k * line + LANES : k * line + LANES + width] = u
    arrays = numba_kernels.Pair(workspace.plan, workspace._fields, *workspace._pyramids, workspace._row)
    _linearise_all(arrays, workspace.settings)

    I0, I1 = pair.astype(np.float64)
    state = numpy_kernels.State(
        numpy_kernels.CUDA_RULE, I0, I1, *numpy_kernels.centred_gradient(I1), u1.astype(float), u2.astype(float)
    )
    numpy_kernels.linearise(state)
    g = np.sqrt(state.grad)
    assert np.allclose(block_field(workspace, numba_kernels.BOUND), 0.15 * 0.3 * g, atol=1e-4)
    assert np.allclose(block_field(workspace, numba_kernels.NX) * g, state.I1wx, atol=2e-3)
    assert np.allclose(block_field(workspace, numba_kernels.NY) * g, state.I1wy, atol=2e-3)
    scale = 1 + np.abs(u1) + np.abs(u2)
    assert (np.abs(block_field(workspace, numba_kernels.RHO) * g - state.rho_c) < 1e-2 * scale).all()


def test_a_warp_without_clearing_keeps_the_dual_variable():
    pair = moving(Motion(dx=1.5), 30, 40)
    results = []
    for begin in (WARP, LEVEL):
        workspace = Workspace(30, 40, TVL1(scales=1))
        for frame in pair:
            workspace.add(np.ascontiguousarray(frame))
        workspace.flow()
        arrays = numba_kernels.Pair(workspace.plan, workspace._fields, *workspace._pyramids, workspace._row)

        @numba.njit
        def again(pair, settings, begin):
            return numba_kernels.iterate(numba_kernels.state_of(pair, 0), settings, begin, 4, True)

        results.append(again(arrays, workspace.settings, begin))
    assert results[0] < results[1]


# Every machine


def blurred_noise() -> np.ndarray:
    """uint8 [2, 60, 83], computed in whole numbers: the same on every machine. Moves by (1, 1)."""
    grains = np.random.default_rng(7).integers(0, 256, (80, 110), np.int64)
    sums = grains.cumsum(0).cumsum(1)
    boxes = (sums[9:, 9:] - sums[:-9, 9:] - sums[9:, :-9] + sums[:-9, :-9]) // 81
    wide = np.clip((boxes - 127) * 5 + 127, 0, 255).astype(np.uint8)
    return np.stack([wide[1:61, 1:84], wide[0:60, 0:83]])


CHECKSUM = "6d846e9cfbf54b87"
"""Of `checksum`. If it changes, `cpu.VERSION` has to go up."""


def torn() -> np.ndarray:
    """A field u1, float32 [45, 67], that tears every sixteen pixels apart, slightly on the left, far on the right."""
    x = np.arange(67)
    return np.broadcast_to(np.where(x // 8 % 2, -6, 1 + x // 4), (45, 67)).astype(np.float32)


def linearised_when_torn() -> bytes:
    """The fields after a torn warp. Some pixels are fetched singly; which ones depends on the instruction set."""
    workspace = Workspace(45, 67, TVL1(scales=1))
    for frame in noise(45, 67):
        workspace.add(frame)
    rows = fields_of(workspace)
    rows[:, LANES : LANES + 67] = torn()
    rows[:, numba_kernels.line_of(67) + LANES :][:, :67] = torn()[:, ::-1] / 3
    arrays = numba_kernels.Pair(workspace.plan, workspace._fields, *workspace._pyramids, workspace._row)
    _linearise_all(arrays, workspace.settings)
    names = ("RHO", "NX", "NY", "BOUND")
    return b"".join(block_field(workspace, getattr(numba_kernels, name)).tobytes() for name in names)


def checksum() -> str:
    """Of the flow of smooth frames and of unrelated ones, and of a warp that tears."""
    digest = hashlib.sha256(engine_flow(blurred_noise()))
    for seed in range(20):
        digest.update(engine_flow(noise(45, 67, seed)))
    digest.update(linearised_when_torn())
    return digest.hexdigest()[:16]


def test_the_flow_of_given_frames_is_these_bytes_on_every_machine():
    if not simd.FUSED:
        pytest.skip("this processor cannot multiply and add in one step: its flow differs, and its version says so")
    assert checksum() == CHECKSUM
    assert flow.engine("tvl1").version() == "version 1"


@pytest.mark.parametrize("name, features", [("haswell", "+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+sse4.2")])
def test_compiled_for_other_instructions_the_bytes_are_the_same(name, features):
    if simd.INSTRUCTIONS != "AVX-512":
        pytest.skip(f"this machine has {simd.INSTRUCTIONS}, so nothing else to compile for")
    environment = os.environ | {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    program = "import test_flow_numba as t; print(t.simd.INSTRUCTIONS, t.checksum())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=Path(__file__).parent,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["AVX2", checksum()]


def test_without_fused_arithmetic_the_flow_is_the_references_too_and_the_version_says_so():
    if simd.INSTRUCTIONS == "NEON":
        pytest.skip("every NEON machine has it")
    program = (
        "import numpy as np, test_flow_numba as t; print(t.simd.FUSED, t.flow.engine('tvl1').version()); "
        "print(t.difference_px(t.blurred_noise()).mean())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
        cwd=Path(__file__).parent,
        check=True,
        capture_output=True,
        text=True,
    )
    first, mean = done.stdout.splitlines()
    assert first == "False version 1 without fma"
    assert float(mean) < MEAN_PX


def test_every_kernel_of_one_twin_is_in_the_other():
    for name in ("levels", "rest", "enlarge", "state_of", "pixels", "measured_next", "iterate"):
        assert hasattr(numpy_kernels, name) and hasattr(numba_kernels, name) and hasattr(tvl1, name)
