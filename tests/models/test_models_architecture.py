import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")
import keras
from model_cases import arrays, inputs, run
from test_models_recurrent import lstm_by_hand

from kinetics_prep.models import MODELS, i3d, inception, model_variables
from kinetics_prep.models.spec import STREAMS, Options

CASES = [(name, stream) for name, module in MODELS.items() for stream in module.SPEC.streams]

SHORT = {"i3d": 17, "convnet-lstm": 35, "convnet-3d": 16, "two-stream": 10, "fused-two-stream": 20}
"""Frames that make a quick test; not of a length that divides well, where the model takes any."""


@pytest.fixture(params=CASES, ids=" ".join, scope="module")
def small(request):
    """A model of four classes for pictures of 32 px, with weights that let signals through, its module and stream."""
    name, stream = request.param
    model = MODELS[name].build(4, stream, size=32)
    model_variables.restore(model, arrays(model))
    return MODELS[name], stream, model


# How large they are -------------------------------------------------------------------------------

COUNTS = {
    ("i3d", "rgb"): 12_704_544,
    ("i3d", "flow"): 12_682_592,
    ("convnet-lstm", "rgb"): 8_974_496,
    ("convnet-3d", "rgb"): 79_656_464,
    ("two-stream", "both"): 12_087_680,
    ("fused-two-stream", "both"): 39_785_968,
}
"""Parameters at 400 classes, of an independent implementation; in the paper 9M, 79M, 12M, 39M and, for two I3D, 25M."""

MORE = {"convnet-lstm": 9 * 2 * (2048 + 2048 + 512)}
"""That implementation keeps one mean and variance for all steps of the LSTM, and this one ten."""

INTO_HEAD = {"i3d": 1024, "convnet-lstm": 512, "convnet-3d": 4096, "two-stream": 2 * 1024, "fused-two-stream": 512}
BIASES = {"two-stream": 2}


@pytest.mark.parametrize("name, stream", COUNTS)
def test_a_model_has_as_many_parameters_as_the_papers(name, stream):
    count = COUNTS[name, stream] + MORE.get(name, 0)
    assert model_variables.count_parameters(MODELS[name].build(400, stream)) == count
    of_a_class = INTO_HEAD[name] + BIASES.get(name, 1)
    assert model_variables.count_parameters(MODELS[name].build(101, stream)) == count - 299 * of_a_class


def test_two_stream_for_both_has_the_parameters_of_its_two_streams():
    counts = {s: model_variables.count_parameters(MODELS["two-stream"].build(4, s, size=32)) for s in STREAMS}
    assert counts["both"] == counts["rgb"] + counts["flow"]
    # The first kernel takes 2 * 10 channels instead of 3.
    assert counts["flow"] - counts["rgb"] == 7 * 7 * (20 - 3) * 64


# What goes in and what comes out -------------------------------------------------------------------


def test_a_model_makes_logits_of_its_stream(small):
    module, stream, model = small
    spec = module.SPEC
    given = inputs(spec, stream, SHORT[spec.name], 32, clips=2)
    assert set(model.input) == set(given)
    logits = run(model, given)
    steps = (len(given["rgb"][0]),) if spec.every_step else ()
    assert (logits.shape, logits.dtype) == ((2, *steps, 4), np.float32)
    assert np.isfinite(logits).all()
    assert np.ptp(logits) > 0.1


def test_what_one_clip_gives_does_not_depend_on_its_batch(small):
    module, stream, model = small
    given = inputs(module.SPEC, stream, SHORT[module.SPEC.name], 32, clips=2)
    together = run(model, given)
    alone = run(model, {part: frames[1:] for part, frames in given.items()})
    assert np.abs(together[0] - together[1]).max() > 1e-3
    np.testing.assert_allclose(alone[0], together[1], rtol=0, atol=1e-5)


def test_every_stream_that_goes_in_counts(small):
    module, stream, model = small
    given = inputs(module.SPEC, stream, SHORT[module.SPEC.name], 32)
    others = inputs(module.SPEC, stream, SHORT[module.SPEC.name], 32, seed=2)
    logits = run(model, given)
    for part in given:
        assert np.abs(run(model, given | {part: others[part]}) - logits).max() > 1e-3, part


def test_dropout_is_active_in_training_alone(small):
    module, stream, _ = small
    arguments = {"classes": 4, "stream": stream, "size": 32}
    models = [module.build(**arguments, options=Options(dropout=share)) for share in (0, 0.9)]
    for model in models:
        model_variables.restore(model, arrays(model))
    given = inputs(module.SPEC, stream, SHORT[module.SPEC.name], 32)
    without, with_dropout = (run(model, given) for model in models)
    np.testing.assert_array_equal(with_dropout, without)
    # Batch norm would go by the batch's statistics and differ anyhow: it stays as it is at test.
    for layer in models[1].layers:
        if not isinstance(layer, keras.layers.Dropout):
            layer.trainable = False
    trained = [keras.ops.convert_to_numpy(models[1](given, training=True)) for _ in range(2)]
    assert np.abs(trained[0] - trained[1]).max() > 0.01
    assert np.abs(trained[0] - without).max() > 0.01


def test_the_head_is_what_depends_on_the_classes(small):
    module, stream, model = small
    other = {name: v.shape for name, v in model_variables.by_name(module.build(7, stream, size=32)).items()}
    changed = {name.partition("/")[0] for name, v in model_variables.by_name(model).items() if v.shape != other[name]}
    prefixes = {"rgb": "RGB.", "flow": "Flow."} if module.SPEC.name == "two-stream" else {}
    assert changed == {layer for layer in module.HEAD if layer.startswith(prefixes.get(stream, ""))}


@pytest.mark.parametrize("name", ["i3d", "convnet-lstm", "fused-two-stream"])
def test_one_model_takes_the_frames_of_training_and_those_of_the_test(name):
    spec, stream = MODELS[name].SPEC, MODELS[name].SPEC.streams[0]
    model = MODELS[name].build(4, stream, size=32)
    for span in (spec.train_span, spec.test_span):
        logits = model(inputs(spec, stream, span, 32))
        assert logits.shape == ((1, span // spec.rgb_every, 4) if spec.every_step else (1, 4))


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_float32_under_mixed_precision(name):
    module = MODELS[name]
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = module.build(4, module.SPEC.streams[-1], size=32)
    finally:
        keras.config.set_dtype_policy(before)
    logits = model(inputs(module.SPEC, module.SPEC.streams[-1], SHORT[name], 32))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert {keras.backend.standardize_dtype(v.dtype) for v in model_variables.by_name(model).values()} == {"float32"}
    assert model.get_layer(module.HEAD[0]).compute_dtype == "float32"
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)


# From its trunk on, each model computed once more ----------------------------------------------------


def dense(x, given: dict[str, np.ndarray], name: str) -> np.ndarray:
    kernel = given[f"{name}/kernel"]
    return x @ kernel.reshape(kernel.shape[-2:]) + given.get(f"{name}/bias", 0)


def unit(x, given: dict[str, np.ndarray], conv: str, norm: str) -> np.ndarray:
    """Convolution or dense layer without a bias, batch norm, ReLU; with nothing of Keras."""
    tf = pytest.importorskip("tensorflow")
    kernel = given[f"{conv}/kernel"]
    x = tf.nn.conv3d(x, kernel, [1] * 5, "SAME").numpy() if kernel.ndim == 5 else dense(x, given, conv)
    mean, variance, beta = (given[f"{norm}/{of}"] for of in ("moving_mean", "moving_variance", "beta"))
    return np.maximum((x - mean) / np.sqrt(variance + np.float32(1e-3)) + beta, 0)


def inside(model, name: str, given: dict[str, np.ndarray]) -> np.ndarray:
    """What a layer of a model gives."""
    return run(keras.Model(model.input, model.get_layer(name).output), given)


SIZE = 45
"""Leaves 2x2 features for the means."""


def built(name: str, stream: str):
    """A model with arrays, the arrays, and two clips."""
    model = MODELS[name].build(4, stream, size=SIZE)
    given = arrays(model)
    model_variables.restore(model, given)
    return model, given, inputs(MODELS[name].SPEC, stream, SHORT[name], SIZE, clips=2)


def test_convnet_3d_is_eight_convolutions_five_pools_and_three_dense_layers():
    tf = pytest.importorskip("tensorflow")
    model, given, clips = built("convnet-3d", "rgb")
    x = clips["rgb"]
    for number, letters in enumerate(("a", "a", "ab", "ab", "ab"), 1):
        for letter in letters:
            x = unit(x, given, f"conv{number}{letter}.conv_3d", f"conv{number}{letter}.batch_norm")
        x = tf.nn.max_pool3d(x, 2, 2, "SAME").numpy()
    assert x.shape == (2, 1, 2, 2, 512)
    x = x.reshape(2, -1)
    for name in ("fc6", "fc7"):
        x = unit(x, given, f"{name}.dense", f"{name}.batch_norm")
    expected = dense(x, given, "fc8")
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(run(model, clips), expected, atol=1e-4)


def test_convnet_lstm_is_a_dense_layer_over_an_lstm_over_mean_features():
    model, given, clips = built("convnet-lstm", "rgb")
    assert clips["rgb"].shape[:2] == (2, 7)
    features = inside(model, "Mixed_5c", clips).mean(axis=(1, 2)).reshape(2, 7, 1024)
    of_lstm = {name: array for name, array in given.items() if name.startswith("LSTM/")}
    h = np.stack(list(lstm_by_hand(of_lstm, features)), axis=1)
    expected = dense(h, given, "Logits")
    assert np.abs(expected[0] - expected[1]).max() > 5e-4  # little of the noise comes through the means
    np.testing.assert_allclose(run(model, clips), expected, rtol=0, atol=1e-5)


def test_the_logits_of_a_step_of_convnet_lstm_know_no_later_image():
    model, _, clips = built("convnet-lstm", "rgb")
    other = {"rgb": clips["rgb"].copy()}
    other["rgb"][0, 4] = 0
    differing = np.abs(run(model, clips) - run(model, other)).max(axis=-1) > 1e-6
    assert differing.tolist() == [[False] * 4 + [True] * 3, [False] * 7]


def test_two_stream_for_rgb_is_inception_v1_on_the_middle_image():
    model, given, clips = built("two-stream", "rgb")
    images = inception.build(4, size=SIZE)
    model_variables.restore(images, {name.removeprefix("RGB."): array for name, array in given.items()})
    np.testing.assert_allclose(run(model, clips), run(images, {"rgb": clips["rgb"][:, 0]}), atol=1e-5)


def test_both_streams_of_two_stream_are_the_mean_of_each_trained_apart():
    module = MODELS["two-stream"]
    models = {stream: module.build(4, stream, size=32) for stream in module.SPEC.streams}
    apart = arrays(models["rgb"]) | arrays(models["flow"])
    for model in models.values():
        model_variables.restore(model, {name: apart[name] for name in model_variables.by_name(model)})
    given = inputs(module.SPEC, "both", 10, 32, clips=2)
    logits = {stream: run(model, {part: given[part] for part in model.input}) for stream, model in models.items()}
    assert np.abs(logits["rgb"] - logits["flow"]).max() > 0.1
    np.testing.assert_allclose(logits["both"], (logits["rgb"] + logits["flow"]) / 2, atol=1e-5)


def test_fused_two_stream_is_a_convolution_over_both_and_over_time():
    tf = pytest.importorskip("tensorflow")
    model, given, clips = built("fused-two-stream", "both")
    rgb, flow = (inside(model, f"{prefix}.Mixed_5c", clips) for prefix in ("RGB", "Flow"))
    x = np.concatenate([rgb, flow], axis=-1).reshape(2, 2, 2, 2, 2048)
    x = unit(x, given, "Fusion.Conv3d_3x3.conv_3d", "Fusion.Conv3d_3x3.batch_norm")
    x = tf.nn.max_pool3d(x, 3, 2, "SAME").numpy()
    expected = dense(x.mean(axis=(1, 2, 3)), given, "Logits")
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    np.testing.assert_allclose(run(model, clips), expected, rtol=0, atol=1e-5)


def test_each_image_of_fused_two_stream_stands_beside_the_ten_fields_around_it():
    model, _, clips = built("fused-two-stream", "both")
    before = inside(model, "Fusion.steps", clips)
    for part, frame, step in (("flow", 9, 0), ("flow", 10, 1), ("rgb", 1, 1)):
        other = clips | {part: clips[part].copy()}
        other[part][1, frame] = 0
        differing = np.abs(inside(model, "Fusion.steps", other) - before).max(axis=(2, 3)) > 1e-6
        of_part = slice(0, 1024) if part == "rgb" else slice(1024, 2048)
        places = {(clip, at) for clip, at, channel in zip(*np.nonzero(differing))}
        assert places == {(1, step)}
        assert differing[1, step, of_part].any() and differing[1, step].sum() == differing[1, step, of_part].sum()


# Options do what they say --------------------------------------------------------------------------


def test_the_least_that_i3d_takes_is_enough():
    model = i3d.build(2, "flow", size=32, span=i3d.LEAST_SPAN)
    assert model(inputs(i3d.SPEC, "flow", i3d.LEAST_SPAN, 32)).shape == (1, 2)


def test_options_do_what_they_say(small):
    module, stream, _ = small
    model = module.build(4, stream, size=32, options=Options(dropout=0.25, weight_decay=0.01, batch_norm_momentum=0.9))
    assert {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)} == {0.25}
    norms = [layer for layer in model.layers if hasattr(layer, "momentum")]
    assert {layer.momentum for layer in norms} == {0.9}
    assert {layer.epsilon for layer in norms if isinstance(layer, keras.layers.BatchNormalization)} == {1e-3}
    # The gradient of w^2 * decay / 2 is w * decay.
    kernels = [v for v in model_variables.by_name(model).values() if v.name.endswith("kernel")]
    squares = sum(float(np.square(keras.ops.convert_to_numpy(v), dtype=np.float64).sum()) for v in kernels)
    penalty = float(keras.ops.convert_to_numpy(sum(model.losses)))
    assert penalty == pytest.approx(0.005 * squares, rel=1e-4)


def test_without_weight_decay_there_is_no_penalty():
    assert i3d.build(4, "rgb", size=32, options=Options(weight_decay=0)).losses == []


# TensorFlow and JAX --------------------------------------------------------------------------------

ON_JAX = """
import sys
import jax
import numpy as np
import keras
from kinetics_prep.models import MODELS, model_variables

assert keras.backend.backend() == "jax"
given = dict(np.load(sys.argv[1]))
there = {}
for name, module in MODELS.items():
    stream = module.SPEC.streams[-1]
    model = module.build(4, stream, size=45)
    def of(part):
        return {key.removeprefix(f"{name} {part} "): a for key, a in given.items() if key.startswith(f"{name} {part} ")}
    model_variables.restore(model, of("arrays"))
    run = jax.jit(lambda trained, others, x: model.stateless_call(trained, others, x)[0])
    values = ([v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables))
    there[name] = np.asarray(run(*values, of("inputs")))
np.savez(sys.argv[2], **there)
"""


def test_tensorflow_and_jax_agree(tmp_path):
    pytest.importorskip("jax")
    if keras.backend.backend() == "jax":
        pytest.skip("Keras runs on JAX here already")
    given, here = {}, {}
    for name, module in MODELS.items():
        stream = module.SPEC.streams[-1]
        model = module.build(4, stream, size=45)
        parts = {"arrays": arrays(model), "inputs": inputs(module.SPEC, stream, SHORT[name], 45)}
        model_variables.restore(model, parts["arrays"])
        here[name] = run(model, parts["inputs"])
        given |= {f"{name} {part} {key}": array for part, of in parts.items() for key, array in of.items()}
    np.savez(tmp_path / "given.npz", **given)
    # What compiles fast will do: the numbers are few.
    env = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    env["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    command = [sys.executable, "-c", ON_JAX, str(tmp_path / "given.npz"), str(tmp_path / "logits.npz")]
    ran = subprocess.run(command, env=env, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    there = dict(np.load(tmp_path / "logits.npz"))
    assert there.keys() == here.keys()
    for name, logits in here.items():
        assert np.ptp(logits) > 0.1
        np.testing.assert_allclose(there[name], logits, atol=1e-4, err_msg=name)
