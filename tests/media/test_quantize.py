import numpy as np
import pytest

from kinetics_prep.errors import BadOption
from kinetics_prep.media import quantize
from kinetics_prep.media.quantize import BOUND_PX, QUANTIZERS

BOUNDS = [0.5, 15.0, BOUND_PX, 32.0, 127.0, 1000.0]

# name: (level of zero, what it reads back as, level of -bound, level of +bound, step in units of the bound)
EXPECTED = {
    "symmetric": (128, 0.0, 1, 255, 1 / 127),
    "mediapipe": (127, -1 / 255, 0, 255, 2 / 255),
    "denseflow": (128, 1 / 255, 0, 255, 2 / 255),
}


def px(*values):
    return np.array(values, np.float32)


def ramp(bound):
    """Flows from -bound to bound, in uneven steps."""
    return np.linspace(-bound, bound, 9973, dtype=np.float32)


def test_every_quantizer_is_in_the_table_of_expectations():
    assert EXPECTED.keys() == QUANTIZERS.keys()


def test_the_default_is_symmetric_and_20_px():
    assert BOUND_PX == 20
    flow = px(-19.93, 0, 3.21)
    levels = quantize.quantize(flow, "symmetric", 20)
    assert quantize.quantize(flow).tolist() == levels.tolist()
    assert quantize.dequantize(levels).tolist() == quantize.dequantize(levels, "symmetric", 20).tolist()


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("bound", BOUNDS)
def test_zero_motion_has_its_level(name, bound):
    level, back, *_ = EXPECTED[name]
    assert quantize.quantize(px(0.0, -0.0), name, bound).tolist() == [level, level]
    read = quantize.dequantize(np.array([level], np.uint8), name, bound)[0]
    assert read == pytest.approx(back * bound, rel=1e-4, abs=0 if back == 0 else 1e-9)


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("bound", BOUNDS)
def test_the_bounds_have_the_outermost_levels_and_read_back_as_themselves(name, bound):
    _, _, lowest, highest, _ = EXPECTED[name]
    levels = quantize.quantize(px(-bound, bound), name, bound)
    assert levels.tolist() == [lowest, highest]
    assert quantize.dequantize(levels, name, bound) == pytest.approx([-bound, bound], rel=1e-6)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_flow_beyond_the_bound_is_clipped(name):
    beyond = quantize.quantize(px(-1e30, -20.1, 20.1, 1e30), name)
    assert beyond.tolist() == quantize.quantize(px(-20, -20, 20, 20), name).tolist()


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("bound", BOUNDS)
def test_a_flow_reads_back_within_one_step(name, bound):
    step = EXPECTED[name][-1] * bound
    flow = ramp(bound)
    error = quantize.dequantize(quantize.quantize(flow, name, bound), name, bound) - flow
    # mediapipe truncates, so its error is one-sided and twice as large; the others round.
    low, high = (-step, 0) if name == "mediapipe" else (-step / 2, step / 2)
    slack = 1e-5 * bound
    assert low - slack <= error.min() < 0.9 * low + slack
    assert 0.9 * high - slack < error.max() <= high + slack


@pytest.mark.parametrize("name", QUANTIZERS)
def test_more_flow_never_has_a_lower_level(name):
    levels = quantize.quantize(ramp(25), name).astype(int)
    assert np.diff(levels).min() == 0
    assert np.diff(levels).max() == 1


@pytest.mark.parametrize("name, levels", [("symmetric", range(1, 256)), ("denseflow", range(256))])
def test_levels_of_a_rounding_quantizer_survive_being_read_and_written(name, levels):
    levels = np.array(levels, np.uint8)
    assert quantize.quantize(quantize.dequantize(levels, name), name).tolist() == levels.tolist()


@pytest.mark.parametrize("bound", BOUNDS)
def test_the_sign_of_symmetric_levels_flips_without_error(bound):
    levels = np.arange(1, 256).astype(np.uint8)
    flipped = (256 - levels.astype(int)).astype(np.uint8)
    assert np.array_equal(
        quantize.dequantize(flipped, "symmetric", bound), -quantize.dequantize(levels, "symmetric", bound)
    )
    flow = ramp(bound)
    assert np.array_equal(
        quantize.quantize(-flow, "symmetric", bound), 256 - quantize.quantize(flow, "symmetric", bound).astype(int)
    )


def test_symmetric_never_writes_level_0():
    assert quantize.quantize(px(-1e30, -20, -19.99), "symmetric").tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["mediapipe", "denseflow"])
def test_the_other_quantizers_do_not_flip(name):
    zero = quantize.quantize(px(0.0), name)
    assert quantize.dequantize(zero, name)[0] != -quantize.dequantize(zero, name)[0]


def test_mediapipe_is_what_its_source_computes():
    # google/mediapipe, kinetics_dataset.py: uint8(clip((v + 20) / 40, 0, 1) * 255)
    flow = ramp(22)
    theirs = (np.clip((flow + np.float32(20)) / np.float32(40), 0, 1) * np.float32(255)).astype(np.uint8)
    assert np.array_equal(quantize.quantize(flow, "mediapipe"), theirs)


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("shape", [(), (0, 2), (2, 3, 4, 2)])
def test_shapes_are_kept_and_types_are_as_told(name, shape):
    levels = quantize.quantize(np.ones(shape, np.float32), name)
    assert (levels.shape, levels.dtype) == (shape, np.uint8)
    flow = quantize.dequantize(levels, name)
    assert (flow.shape, flow.dtype) == (shape, np.float32)


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_flow_that_is_not_finite_is_a_bug(name, value):
    with pytest.raises(ValueError, match="not finite"):
        quantize.quantize(px(0, value), name)


def test_saturated_is_what_lies_beyond_the_bound_on_either_side():
    assert quantize.saturated_count(px(-20.01, -20, 0, 20, 20.01, 1e9)) == 3
    assert quantize.saturated_count(px(-20.01, -20, 0, 20, 20.01, 1e9), bound_px=19) == 5


def test_an_unknown_quantizer_is_refused_with_the_known_ones():
    with pytest.raises(BadOption, match="'linear', expected one of symmetric, mediapipe, denseflow"):
        quantize.quantize(px(0), "linear")
