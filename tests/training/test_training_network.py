import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import small
from run_cases import facts, save_weights

from kinetics_prep.errors import BadOption, BadWeights
from kinetics_prep.models import MODELS, two_stream, weights
from kinetics_prep.models.spec import Spec
from kinetics_prep.models.weights import Weights
from kinetics_prep.training import network, normalise

pytestmark = pytest.mark.usefixtures("small_model")


def sums(streams):
    """A model whose logits are the sum of the first pixel over frames, and how many frames it saw: float32 [B, 2]."""
    pixels = streams["flow"][:, :, 0, 0, 0].astype(np.float32)
    return np.stack([pixels.sum(axis=1), np.full(len(pixels), pixels.shape[1], np.float32)], axis=1)


def test_logits_of_windows_are_averaged_for_each_clip():
    """Two-Stream takes ten frames at a time: of clips of twenty it sees two windows."""
    frames = np.arange(2 * 20, dtype=np.uint8).reshape(2, 20, 1, 1, 1)
    logits = network.clip_logits(sums, two_stream.SPEC, {"flow": frames}, 20)
    first, second = [sum(range(20)) / 2, sum(range(20, 40)) / 2]
    assert logits.tolist() == [[first, 10], [second, 10]] and logits.dtype == np.float32
    assert network.clip_logits(sums, small.SPEC, {"flow": frames}, 20).tolist() == [[2 * first, 20], [2 * second, 20]]


def test_of_a_model_with_logits_at_every_step_the_last_one_counts():
    def mean_of_each_frame(streams):
        return streams["rgb"].mean(axis=(2, 3))

    steps = Spec("a", "A", ("rgb",), 32, 4, 4, every_step=True)
    frames = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 4, 1, 1, 3)
    logits = network.clip_logits(mean_of_each_frame, steps, {"rgb": frames}, 4)
    assert logits.tolist() == frames[:, -1, 0, 0].tolist()


def test_a_real_model_sees_windows_as_it_sees_clips_of_their_length():
    model = network.forward(normalise.from_uint8(two_stream.build(3, "flow", 32), "symmetric"))
    flow = np.random.default_rng(0).integers(1, 256, (2, 20, 32, 32, 2), np.uint8)
    halves = [network.clip_logits(model, two_stream.SPEC, {"flow": flow[:, k : k + 10]}, 10) for k in (0, 10)]
    whole = network.clip_logits(model, two_stream.SPEC, {"flow": flow}, 20)
    difference = np.abs(halves[0] - halves[1]).max()
    assert np.abs(whole - np.mean(halves, axis=0)).max() < 0.02 * difference


def test_batches_without_a_clip_are_left_out():
    frames = np.zeros((2, 4, 1, 1, 1), np.uint8)
    batches = [({"flow": frames[:0]}, np.zeros(0, np.int32)), ({"flow": frames}, np.array([1, 0], np.int32))]
    ((logits, class_ids),) = network.logits_of(sums, small.SPEC, batches, 4)
    assert logits.tolist() == [[0, 4], [0, 4]] and class_ids.tolist() == [1, 0]


def test_a_compiled_model_has_the_weights_of_the_moment_and_no_dropout():
    core = small.build(2, "rgb")
    forward = network.forward(normalise.from_uint8(core, None))
    frames = {"rgb": np.random.default_rng(0).integers(0, 256, (3, 4, 32, 32, 3), np.uint8)}
    before = forward(frames)
    assert before.dtype == np.float32 and np.array_equal(before, forward(frames))
    head = core.get_layer("head")
    head.bias.assign([1.0, -2.0])
    assert forward(frames) - before == pytest.approx(np.tile([1.0, -2.0], (3, 1)), abs=1e-5)


def test_a_network_of_weights_sees_the_middle_of_a_clip(tmp_path):
    path = save_weights(tmp_path / "some.safetensors", stride=2)
    built = network.Network.of(path, weights.load(path), None)
    assert built.span == small.SPEC.test_span // 2
    sampler = built.sampler()
    draw = sampler.draw("a", 0, frames=21, height=40, width=56)
    assert draw.indices["rgb"].tolist() == [7, 9, 11, 13] and (draw.top, draw.left, draw.flip) == (4, 12, False)


@pytest.mark.parametrize(
    "model, stream, frames, message",
    [
        ("small", "rgb", 0, "--frames is 0, expected 1 or more"),
        ("convnet-3d", "rgb", 40, "--frames is 40, and .* takes a multiple of 16"),
        ("i3d", "rgb", 8, "span is 8, expected 9 or more"),
    ],
)
def test_frames_that_a_model_cannot_take_are_refused(tmp_path, model, stream, frames, message):
    with pytest.raises(BadOption, match=message):
        network.Network.of(tmp_path / "x", Weights(facts(model=model, stream=stream), {}), None, frames)


def test_weights_of_a_network_to_begin_from_make_no_network(tmp_path):
    with pytest.raises(BadWeights, match="x is of inception-v1, which is only there to begin from: convnet-lstm, "):
        network.Network.of(tmp_path / "x", Weights(facts(model="inception-v1"), {}), None)


def test_a_test_spans_what_the_paper_does_in_whole_windows():
    assert network.span_at_test(MODELS["i3d"].SPEC, 1) == 250
    assert network.span_at_test(MODELS["i3d"].SPEC, 4) == 62
    assert network.span_at_test(MODELS["convnet-3d"].SPEC, 1) == 240
    assert network.span_at_test(MODELS["convnet-3d"].SPEC, 4) == 48
    assert network.span_at_test(MODELS["two-stream"].SPEC, 100) == 10
