import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")
import keras
from model_cases import arrays, inputs

from kinetics_prep.errors import BadOption
from kinetics_prep.models import MODELS, describe, i3d, model_variables
from kinetics_prep.models.inception import Builder
from kinetics_prep.models.recurrent import BatchNormLSTM
from kinetics_prep.models.spec import PAPER, STREAMS, Options, Spec

CASES = [(name, stream) for name, module in MODELS.items() for stream in module.SPEC.streams]

SHORT = {"i3d": 17, "convnet-lstm": 35, "convnet-3d": 16, "two-stream": 10, "fused-two-stream": 20}
"""Frames that make a quick test; not of a length that divides well, where the model takes any."""


@pytest.fixture(params=CASES, ids=" ".join, scope="module")
def small(request):
    """A model of four classes for pictures of 32 px, with its module and stream."""
    name, stream = request.param
    return MODELS[name], stream, MODELS[name].build(4, stream, size=32)


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

INTO_HEAD = {"i3d": 1024, "convnet-lstm": 512, "convnet-3d": 4096, "two-stream": 2 * 1024, "fused-two-stream": 512}
BIASES = {"two-stream": 2}


@pytest.mark.parametrize("name, stream", COUNTS)
def test_a_model_has_as_many_parameters_as_the_papers(name, stream):
    tolerance = 0 if name == "i3d" else 0.01
    found = model_variables.count_parameters(MODELS[name].build(400, stream))
    assert found == pytest.approx(COUNTS[name, stream], rel=tolerance, abs=0)
    of_a_class = INTO_HEAD[name] + BIASES.get(name, 1)
    with_101 = model_variables.count_parameters(MODELS[name].build(101, stream))
    assert with_101 == found - 299 * of_a_class
    assert with_101 == pytest.approx(COUNTS[name, stream] - 299 * of_a_class, rel=tolerance, abs=0)


def test_two_stream_for_both_has_the_parameters_of_its_two_streams():
    counts = {s: model_variables.count_parameters(MODELS["two-stream"].build(4, s, size=32)) for s in STREAMS}
    assert counts["both"] == counts["rgb"] + counts["flow"]
    # The first kernel takes 2 * 10 channels instead of 3.
    assert counts["flow"] - counts["rgb"] == 7 * 7 * (20 - 3) * 64


def test_describe_tells_of_each_model():
    rows = {row.name: row for row in describe.rows(classes=2)}
    assert list(rows) == list(MODELS)
    assert {name: (row.train, row.test, row.size) for name, row in rows.items()} == {
        "convnet-lstm": ({"rgb": 25}, {"rgb": 50}, 224),
        "convnet-3d": ({"rgb": 16}, {"rgb": 240}, 112),
        "two-stream": ({"rgb": 1, "flow": 10}, {"rgb": 25, "flow": 250}, 224),
        "fused-two-stream": ({"rgb": 5, "flow": 50}, {"rgb": 25, "flow": 250}, 224),
        "i3d": ({"rgb": 64, "flow": 64}, {"rgb": 250, "flow": 250}, 224),
    }
    assert rows["i3d"].parameters == {"rgb": 12_704_544 - 398 * 1025, "flow": 12_682_592 - 398 * 1025}


# What goes in and what comes out -------------------------------------------------------------------


def test_a_model_makes_finite_logits_of_its_stream(small):
    module, stream, model = small
    spec = module.SPEC
    taken = inputs(spec, stream, SHORT[spec.name], 32, clips=2)
    assert set(model.input) == set(taken)
    logits = keras.ops.convert_to_numpy(model(taken))
    steps = (len(taken["rgb"][0]),) if spec.every_step else ()
    assert (logits.shape, logits.dtype) == ((2, *steps, 4), np.float32)
    assert np.isfinite(logits).all()
    assert np.ptp(logits) > 0


def test_what_one_clip_gives_does_not_depend_on_its_batch(small):
    module, stream, model = small
    taken = inputs(module.SPEC, stream, SHORT[module.SPEC.name], 32, clips=2)
    together = keras.ops.convert_to_numpy(model(taken))
    alone = keras.ops.convert_to_numpy(model({part: frames[1:] for part, frames in taken.items()}))
    np.testing.assert_allclose(alone[0], together[1], atol=1e-4)


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


def test_both_streams_of_two_stream_are_the_mean_of_each_trained_apart():
    module = MODELS["two-stream"]
    models = {stream: module.build(4, stream, size=32) for stream in module.SPEC.streams}
    apart = arrays(models["rgb"]) | arrays(models["flow"])
    for model in models.values():
        model_variables.restore(model, {name: apart[name] for name in model_variables.by_name(model)})
    taken = inputs(module.SPEC, "both", 10, 32, clips=2)
    logits = {
        stream: keras.ops.convert_to_numpy(model({part: taken[part] for part in model.input}))
        for stream, model in models.items()
    }
    np.testing.assert_allclose(logits["both"], (logits["rgb"] + logits["flow"]) / 2, atol=1e-5)


def test_flow_fields_are_stacked_in_order_of_time():
    from kinetics_prep.models.units import fold_stacks

    flow = np.arange(2 * 6 * 1 * 1 * 2, dtype=np.float32).reshape(2, 6, 1, 1, 2)  # clip, frame, dx or dy
    stacks = keras.ops.convert_to_numpy(fold_stacks(flow, 3))
    assert stacks[:, 0, 0].tolist() == np.arange(24).reshape(4, 6).tolist()


# Of a span, these frames ---------------------------------------------------------------------------


def test_a_span_gives_the_frames_of_the_paper():
    def told(name, stream, span):
        return {part: offsets.tolist() for part, offsets in MODELS[name].SPEC.offsets(stream, span).items()}

    assert told("i3d", "rgb", 64) == {"rgb": list(range(64))}
    assert told("convnet-lstm", "rgb", 125) == {"rgb": list(range(2, 125, 5))}
    assert told("two-stream", "both", 10) == {"rgb": [5], "flow": list(range(10))}
    assert told("two-stream", "flow", 10) == {"flow": list(range(10))}
    assert told("fused-two-stream", "both", 50) == {"rgb": [5, 15, 25, 35, 45], "flow": list(range(50))}


@pytest.mark.parametrize(
    "name, wanted, message",
    [
        ("i3d", {"span": 8}, "span is 8, expected 9 or more"),
        ("i3d", {"size": 31}, "size is 31, expected 32 or more"),
        ("i3d", {"classes": 1}, "classes is 1, expected 2 or more"),
        ("i3d", {"stream": "both"}, "cannot be built for stream 'both': rgb, flow"),
        ("i3d", {"stream": "depth"}, "cannot be built for stream 'depth'"),
        ("convnet-lstm", {"stream": "flow"}, "cannot be built for stream 'flow': rgb"),
        ("convnet-lstm", {"span": 2}, "cannot take 2 frames, expected 3 or more"),
        ("convnet-3d", {"span": 15}, "span is 15, expected 16"),
        ("two-stream", {"span": 20}, "span is 20, expected 10"),
        ("fused-two-stream", {"span": 25}, "span is 25, expected a multiple of 10"),
        ("fused-two-stream", {"stream": "rgb"}, "cannot be built for stream 'rgb': both"),
    ],
)
def test_what_makes_no_model_is_refused(name, wanted, message):
    asked = {"classes": 4, "stream": MODELS[name].SPEC.streams[0], "size": 32} | wanted
    with pytest.raises(BadOption, match=message):
        MODELS[name].build(**asked)


def test_the_least_that_i3d_takes_is_enough():
    model = i3d.build(2, "flow", size=32, span=i3d.LEAST_SPAN)
    assert model(inputs(i3d.SPEC, "flow", i3d.LEAST_SPAN, 32)).shape == (1, 2)


def test_specs_and_options_refuse_nonsense():
    with pytest.raises(BadOption, match="dropout is 1, expected 0 to under 1"):
        Options(dropout=1)
    with pytest.raises(BadOption, match="batch_norm_momentum is 1, expected between 0 and 1"):
        Options(batch_norm_momentum=1)
    with pytest.raises(ValueError, match="cannot be dealt into windows of 16"):
        Spec("x", "X", ("rgb",), 112, 16, 250, window=16)
    with pytest.raises(ValueError, match="size is 0"):
        Spec("x", "X", ("rgb",), 0, 16, 250)
    assert dataclasses.asdict(PAPER) == {"dropout": 0.5, "weight_decay": 1e-7, "batch_norm_momentum": 0.999}


# Options do what they say --------------------------------------------------------------------------


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


# Padding is TensorFlow's SAME ----------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
@pytest.mark.parametrize("dims", [2, 3])
def test_padding_is_that_of_tensorflow(dims, kernel, stride):
    tf = pytest.importorskip("tensorflow")
    random = np.random.RandomState(0)
    frames = keras.Input((*[None] * dims, 2))
    layer = Builder(dims, PAPER)
    conv = keras.Model(frames, layer.bare_conv(frames, "unit", 3, kernel, stride, use_bias=False))
    pool = keras.Model(frames, layer.max_pool(frames, "pool", kernel, stride))
    (weight,) = conv.get_weights()
    nn_conv, steps = {2: tf.nn.conv2d, 3: tf.nn.conv3d}[dims], [1, *[stride] * dims, 1]
    for size in range(5, 10):
        shape = (1, *[size, size + 1, size + 2][:dims], 2)
        x = random.standard_normal(shape).astype(np.float32) - 3  # a pool that pads with zeros would show
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(conv(x)), nn_conv(x, weight, steps, "SAME").numpy(), atol=1e-4
        )
        wanted = tf.nn.max_pool(x, [1, *[kernel] * dims, 1], steps, "SAME").numpy()
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(pool(x)), wanted)


# The LSTM ------------------------------------------------------------------------------------------


def lstm_by_hand(arrays, x):
    """Cooijmans et al., equations 6 to 8, at test, with an epsilon of 1e-3; float64."""
    value = {name.partition("/")[2]: array.astype(np.float64) for name, array in arrays.items()}

    def norm(y, what, step):
        mean, variance = (value[f"{what}_moving_{of}"][min(step, 9)] for of in ("mean", "variance"))
        return (y - mean) / np.sqrt(variance + 1e-3) * value[f"{what}_gamma"]

    def sigmoid(y):
        return 1 / (1 + np.exp(-y))

    h = c = np.zeros((len(x), value["recurrent_kernel"].shape[0]))
    for step in range(x.shape[1]):
        gates = norm(x[:, step] @ value["kernel"], "input", step) + value["bias"]
        f, i, o, g = np.split(gates + norm(h @ value["recurrent_kernel"], "recurrent", step), 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(norm(c, "cell", step) + value["cell_beta"])
        yield h


def lstm(momentum=0.9):
    frames = keras.Input((None, 6))
    return keras.Model(frames, BatchNormLSTM(3, momentum, name="LSTM")(frames))


def test_the_lstm_is_that_of_the_paper():
    model = lstm()
    given = arrays(model)
    model_variables.restore(model, given)
    x = np.random.RandomState(2).standard_normal((2, 13, 6)).astype(np.float32)
    wanted = np.stack(list(lstm_by_hand(given, x)), axis=1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), wanted, atol=1e-5)


@pytest.mark.parametrize("steps", [4, 10, 14])
def test_the_lstm_learns_the_statistics_of_each_step(steps):
    model = lstm(momentum=0.0 + 1e-9)  # keeps nothing of what was before
    x = np.random.RandomState(3).standard_normal((64, steps, 6)).astype(np.float32)
    trained = keras.ops.convert_to_numpy(model(x, training=True))
    of = model_variables.to_arrays(model)
    gates = x @ of["LSTM/kernel"]
    for step in range(min(steps, 9)):
        np.testing.assert_allclose(of["LSTM/input_moving_mean"][step], gates[:, step].mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(of["LSTM/input_moving_variance"][step], gates[:, step].var(axis=0), rtol=1e-3)
    # The last that is kept is of all steps from there on; of a shorter clip it is that of the clip's last step.
    rest = gates[:, min(9, steps - 1) :].mean(axis=(0, 1))
    np.testing.assert_allclose(of["LSTM/input_moving_mean"][9], rest, atol=1e-5)
    if steps <= 10:  # then each step meets at test what it had in training
        np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), trained, atol=1e-4)


# TensorFlow and JAX --------------------------------------------------------------------------------

ON_JAX = """
import sys
import jax
import numpy as np
import keras
from kinetics_prep.models import MODELS, model_variables

assert keras.backend.backend() == "jax"
given = dict(np.load(sys.argv[1]))
told = {}
for name, module in MODELS.items():
    stream = module.SPEC.streams[-1]
    model = module.build(4, stream, size=45)
    def of(part):
        return {key.removeprefix(f"{name} {part} "): a for key, a in given.items() if key.startswith(f"{name} {part} ")}
    model_variables.restore(model, of("arrays"))
    run = jax.jit(lambda trained, others, x: model.stateless_call(trained, others, x)[0])
    values = ([v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables))
    told[name] = np.asarray(run(*values, of("inputs")))
np.savez(sys.argv[2], **told)
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
        here[name] = keras.ops.convert_to_numpy(model(parts["inputs"]))
        given |= {f"{name} {part} {key}": array for part, of in parts.items() for key, array in of.items()}
    np.savez(tmp_path / "given.npz", **given)
    # What compiles fast will do: the numbers are few.
    env = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    env["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    command = [sys.executable, "-c", ON_JAX, str(tmp_path / "given.npz"), str(tmp_path / "told.npz")]
    ran = subprocess.run(command, env=env, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    told = dict(np.load(tmp_path / "told.npz"))
    assert told.keys() == here.keys()
    for name, logits in here.items():
        assert np.ptp(logits) > 0.1
        np.testing.assert_allclose(told[name], logits, atol=1e-4, err_msg=name)


def test_a_frozen_lstm_keeps_its_statistics_and_goes_by_them():
    layer = BatchNormLSTM(3, momentum=0.5)
    x = np.random.RandomState(0).standard_normal((4, 5, 6)).astype(np.float32)
    layer(x)
    layer.trainable = False
    before = [keras.ops.convert_to_numpy(variable) for variable in layer.weights]
    found = layer(x, training=True)
    assert np.array_equal(found, layer(x, training=False))
    assert all(np.array_equal(a, keras.ops.convert_to_numpy(b)) for a, b in zip(before, layer.weights))
