"""The quantized flow of a clip: grey frames, one flow per frame, levels, and the CPU where a GPU fails."""

from collections.abc import Iterator

import numpy as np
import pytest
from conftest import QUICK_TVL1

from kinetics_prep import flow
from kinetics_prep.flow import ANY_HARDWARE, TVL1, Hardware
from kinetics_prep.flow.clip_flow import quantized_fields, quantized_flow
from kinetics_prep.flow.flow_engine import FlowEngine, GPUFailed, QuantizedField, QuantizingEngine
from kinetics_prep.media import quantize
from kinetics_prep.media.clip import Clip, QuantizedFlow
from kinetics_prep.sample import Motion, render

HEIGHT, WIDTH = 40, 56


@pytest.fixture(params=["tvl1", "opencv-cpu"])
def engine(request) -> FlowEngine:
    if missing := flow.ENGINES[request.param].usable():
        pytest.skip(missing)
    return flow.engine(request.param)


def moving_frames(number: int) -> np.ndarray:
    """uint8 [number, H, W, 3]: colours that speed up, so that no two flows are alike."""
    still = render.frames(Motion(), seed=4, number=1, side=96)[0]
    starts = [10 + k * (k + 1) // 2 for k in range(number)]
    return np.stack([still[20 : 20 + HEIGHT, x : x + WIDTH] for x in starts])


def clip_of(frames: np.ndarray, next_frame: np.ndarray | None = None) -> Clip:
    return Clip(frames, fps=25, start_seconds=0.0, next_frame=next_frame)


def levels_of(
    clip: Clip, engine: FlowEngine, tvl1: TVL1 = QUICK_TVL1, quantizer: str = "symmetric", bound_px: float = 20.0
) -> QuantizedFlow:
    """Of a clip at which nothing is to be noted."""
    notes: list[str] = []
    result = quantized_flow(clip, engine, tvl1, quantizer, bound_px, notes)
    assert notes == []
    return result


def grey_of(frames: np.ndarray) -> np.ndarray:
    """ITU-R BT.601 luma of RGB frames, rounded, in OpenCV's whole numbers of 1/32768."""
    weights = np.array([9798, 19235, 3735])
    assert weights / 32768 == pytest.approx([0.299, 0.587, 0.114], abs=2e-5)
    return ((frames.astype(int) @ weights + 16384) >> 15).astype(np.uint8)


# Grey frames


def red_and_blue_frames() -> np.ndarray:
    """uint8 [3, H, W, 3]: a texture whose grey moves by (+2, 0) px a frame; with red and blue confused, by (-2, 0)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)

    def texture(shift: float, phase: float) -> np.ndarray:
        waves = ((0.5, 0.1), (0.25, 0.4), (-0.4, 0.3), (0.15, -0.2))
        return sum(5 * np.sin(a * (x - shift) + b * y + phase * (k + 1)) for k, (a, b) in enumerate(waves))

    red, blue = 0.299, 0.114
    frames = []
    for k in range(3):
        right, left = texture(2 * k, 1.0), texture(-2 * k, 2.5)
        # Solves red r + blue b = right and blue r + red b = left.
        r, b = np.linalg.solve([[red, blue], [blue, red]], np.stack([right.ravel(), left.ravel()]))
        frames.append(np.stack([128 + r, np.full(r.shape, 128.0), 128 + b], axis=-1).reshape(HEIGHT, WIDTH, 3))
    colours = np.rint(np.stack(frames))
    assert colours.min() >= 0 and colours.max() <= 255
    return colours.astype(np.uint8)


@pytest.mark.parametrize("next_frame", [False, True])
def test_grey_weighs_red_and_blue_as_rgb(engine, next_frame):
    frames = red_and_blue_frames()
    clip = clip_of(frames[:2], frames[2]) if next_frame else clip_of(frames)
    field = quantize.dequantize(levels_of(clip, engine, TVL1()).levels)
    for k in range(len(clip)):
        assert np.median(field[k, 8:-8, 8:-8, 0]) == pytest.approx(2.0, abs=0.25)
        assert np.median(field[k, 8:-8, 8:-8, 1]) == pytest.approx(0.0, abs=0.25)


def test_the_red_and_blue_frames_would_move_left_if_red_and_blue_were_confused(engine):
    (field,) = engine.flows(grey_of(red_and_blue_frames()[:2, ..., ::-1]), TVL1())
    assert np.median(field[8:-8, 8:-8, 0]) == pytest.approx(-2.0, abs=0.25)


# Levels


@pytest.mark.parametrize("quantizer", quantize.QUANTIZERS)
def test_levels_are_the_engines_flow_of_the_grey_frames_quantized(engine, quantizer):
    frames = moving_frames(5)
    result = levels_of(clip_of(frames[:4], frames[4]), engine, quantizer=quantizer, bound_px=5.0)
    fields = list(engine.flows(grey_of(frames), QUICK_TVL1))
    assert (result.levels.shape, result.levels.dtype) == ((4, HEIGHT, WIDTH, 2), np.uint8)
    assert (result.quantizer, result.bound_px) == (quantizer, 5.0)
    for k in range(4):
        assert np.array_equal(result.levels[k], quantize.quantize(fields[k], quantizer, 5.0)), k
    assert len({levels.tobytes() for levels in result.levels}) == 4


@pytest.mark.parametrize("dx, dy", [(2.0, 0.0), (0.0, 2.0), (-1.5, 0.5)])
def test_x_comes_before_y(engine, dx, dy):
    frames = render.frames(Motion(dx=dx, dy=dy), seed=1, number=2, side=72)
    field = quantize.dequantize(levels_of(clip_of(frames), engine, TVL1()).levels)
    assert np.median(field[:, 12:-12, 12:-12], axis=(0, 1, 2)) == pytest.approx((dx, dy), abs=0.2)


# The last flow


def test_without_a_next_frame_the_last_flow_repeats_the_one_before(engine):
    frames = moving_frames(4)
    result = levels_of(clip_of(frames), engine)
    assert result.last == "repeated" and len(result.levels) == 4
    fields = list(engine.flows(grey_of(frames), QUICK_TVL1))
    assert np.array_equal(result.levels[3], quantize.quantize(fields[2]))
    assert not np.array_equal(result.levels[3], result.levels[1])


def test_with_a_next_frame_the_last_flow_leads_to_it(engine):
    frames = moving_frames(4)
    result = levels_of(clip_of(frames[:3], frames[3]), engine)
    assert result.last == "next_frame" and len(result.levels) == 3
    (expected,) = engine.flows(grey_of(frames[2:]), QUICK_TVL1)
    assert np.array_equal(result.levels[2], quantize.quantize(expected))
    assert not np.array_equal(result.levels[2], result.levels[1])


def test_two_frames_or_one_and_the_next_are_enough(engine):
    frames = moving_frames(2)
    (alone,), (first, repeated) = (
        levels_of(clip_of(frames[:1], frames[1]), engine).levels,
        levels_of(clip_of(frames), engine).levels,
    )
    assert np.array_equal(alone, first) and np.array_equal(first, repeated)


# How much lies beyond the bound


@pytest.mark.parametrize("has_next", [True, False])
def test_the_saturated_share_counts_the_values_that_were_computed(engine, has_next):
    frames = moving_frames(4)
    clip = clip_of(frames[:3], frames[3]) if has_next else clip_of(frames)
    values = np.stack(list(engine.flows(grey_of(frames), QUICK_TVL1)))
    share = np.mean(np.abs(values) > 1.0)
    assert 0.05 < share < 0.95
    assert levels_of(clip, engine, bound_px=1.0).saturated_share == share
    assert levels_of(clip, engine, bound_px=1000.0).saturated_share == 0


class FakeEngine:
    """Yields fields that a test made, then fails if it has a reason."""

    RUNS_ON_GPU = True
    GIVES = "tvl1"

    def __init__(self, hardware: Hardware = ANY_HARDWARE, fields=(), failure: Exception | None = None):
        self.fields, self.failure = fields, failure

    @staticmethod
    def usable() -> str | None:
        return None

    @staticmethod
    def version() -> str:
        return "fake"

    def flows(self, grey: np.ndarray, tvl1: TVL1) -> Iterator[np.ndarray]:
        yield from self.fields
        if self.failure:
            raise self.failure


class FakeQuantizingEngine(FakeEngine):
    """Quantizes by itself."""

    def quantized(self, grey, tvl1, quantizer, bound_px, notes) -> Iterator[QuantizedField]:
        notes.append("GPU 0 had no room")
        for field in self.flows(grey, tvl1):
            yield QuantizedField(quantize.quantize(field, quantizer, bound_px), 7)


def flat_field(value: float) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 2), value, np.float32)


def test_a_value_at_the_bound_is_not_saturated():
    field = flat_field(0.0)
    field[0, :5] = 3.0, -3.0  # at the bound
    field[1, :4] = 3.001, -3.001  # 8 values beyond it
    result = levels_of(clip_of(moving_frames(3)), FakeEngine(fields=[field, flat_field(9.0)]), bound_px=3.0)
    assert result.saturated_share == (8 + HEIGHT * WIDTH * 2) / (2 * HEIGHT * WIDTH * 2)


def test_an_engine_that_quantizes_by_itself_is_left_to_it():
    notes: list[str] = []
    engine = FakeQuantizingEngine(fields=[flat_field(1.0), flat_field(2.0)])
    result = quantized_flow(clip_of(moving_frames(3)), engine, QUICK_TVL1, "symmetric", 20.0, notes)
    assert notes == ["GPU 0 had no room"]
    assert result.saturated_share == 14 / (2 * HEIGHT * WIDTH * 2)
    assert [int(levels[0, 0, 0]) for levels in result.levels] == [128 + 6, 128 + 13, 128 + 13]


# What goes wrong


@pytest.mark.parametrize("count", [1, 3])
def test_an_engine_with_too_few_or_too_many_fields_is_a_bug(count):
    engine = FakeEngine(fields=[flat_field(0.0)] * count)
    with pytest.raises(ValueError, match="zip"):
        levels_of(clip_of(moving_frames(3)), engine)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_flow_that_is_not_finite_is_a_bug(value):
    field = flat_field(0.0)
    field[3, 4, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        levels_of(clip_of(moving_frames(2)), FakeEngine(fields=[field]))


@pytest.mark.parametrize("kind", [FakeEngine, FakeQuantizingEngine])
@pytest.mark.parametrize("done", [0, 1, 3])
def test_where_gpus_fail_in_mid_clip_the_cpu_continues_at_the_next_frame(kind, done):
    grey = grey_of(moving_frames(5))
    fields = list(flow.engine("tvl1").flows(grey, QUICK_TVL1))
    engine, notes = kind(fields=fields[:done], failure=GPUFailed("GPU 0 fell off the bus")), []
    result = list(quantized_fields(engine, grey, QUICK_TVL1, "symmetric", 20.0, notes))
    assert len(result) == 4
    for k, (levels, _) in enumerate(result):
        assert np.array_equal(levels, quantize.quantize(fields[k])), k
    assert notes[-1] == f"GPU 0 fell off the bus; flow from frame {done} on by tvl1 on the CPU"


def test_the_share_of_a_clip_that_two_engines_computed_is_of_all_its_values():
    frames = moving_frames(4)
    fields = list(flow.engine("tvl1").flows(grey_of(frames), QUICK_TVL1))
    engine, notes = FakeEngine(fields=fields[:1], failure=GPUFailed("GPU 0 failed")), []
    result = quantized_flow(clip_of(frames), engine, QUICK_TVL1, "symmetric", 1.0, notes)
    assert result.saturated_share == np.mean(np.abs(fields) > 1.0) > 0.05
    assert len(notes) == 1


def test_an_error_that_is_not_the_gpus_stops_the_clip():
    notes: list[str] = []
    engine = FakeEngine(fields=[flat_field(0.0)], failure=RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        list(quantized_fields(engine, grey_of(moving_frames(3)), QUICK_TVL1, "symmetric", 20.0, notes))
    assert notes == []


def test_every_engine_of_the_table_follows_the_protocol():
    for kind in flow.ENGINES.values():
        assert all(hasattr(kind, name) for name in ("GIVES", "RUNS_ON_GPU", "usable", "version", "flows"))
    assert isinstance(FakeQuantizingEngine(), QuantizingEngine)
    assert not isinstance(FakeEngine(), QuantizingEngine)
    assert isinstance(flow.ENGINES["tvl1-cuda"](gpus=[]), QuantizingEngine)
    assert not isinstance(flow.engine("opencv-cpu"), QuantizingEngine)
