import numpy as np
import pytest

pytest.importorskip("keras")
import keras
from model_cases import arrays, run

from kinetics_prep.models import model_variables
from kinetics_prep.models.recurrent import BatchNormLSTM


def lstm_by_hand(arrays, x):
    """Cooijmans et al., equations 6 to 8, at test, with an epsilon of 1e-3; float64."""
    value = {name.partition("/")[2]: array.astype(np.float64) for name, array in arrays.items()}

    def norm(y, part, step):
        mean, variance = (value[f"{part}_moving_{of}"][min(step, 9)] for of in ("mean", "variance"))
        return (y - mean) / np.sqrt(variance + 1e-3) * value[f"{part}_gamma"]

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
    np.testing.assert_allclose(run(model, x), wanted, atol=1e-5)


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
        np.testing.assert_allclose(run(model, x), trained, atol=1e-5)


def test_a_frozen_lstm_keeps_its_statistics_and_goes_by_them():
    layer = BatchNormLSTM(3, momentum=0.5)
    x = np.random.RandomState(0).standard_normal((4, 5, 6)).astype(np.float32)
    layer(x)
    layer.trainable = False
    before = [keras.ops.convert_to_numpy(variable) for variable in layer.weights]
    trained = layer(x, training=True)
    assert np.array_equal(trained, layer(x, training=False))
    assert all(np.array_equal(a, keras.ops.convert_to_numpy(b)) for a, b in zip(before, layer.weights))


def test_moving_statistics_keep_the_share_that_the_momentum_says():
    model = lstm(momentum=0.75)
    before = model_variables.to_arrays(model)
    x = np.random.RandomState(3).standard_normal((64, 4, 6)).astype(np.float32)
    model(x, training=True)
    after = model_variables.to_arrays(model)
    gates = x @ before["LSTM/kernel"]
    mean = np.concatenate([gates.mean(axis=0), gates[:, -1:].mean(axis=0).repeat(6, 0)])  # [10, 12]
    variance = np.concatenate([gates.var(axis=0), gates[:, -1:].var(axis=0).repeat(6, 0)])
    np.testing.assert_allclose(after["LSTM/input_moving_mean"], 0.25 * mean, atol=1e-6)
    np.testing.assert_allclose(after["LSTM/input_moving_variance"], 0.75 + 0.25 * variance, rtol=1e-4)
    # At the first step h is zero: so are mean and variance of what it gives.
    assert (after["LSTM/recurrent_moving_mean"][0] == 0).all()
    np.testing.assert_allclose(after["LSTM/recurrent_moving_variance"][0], 0.75, rtol=1e-6)
    first = (gates[:, 0] - gates[:, 0].mean(axis=0)) / np.sqrt(gates[:, 0].var(axis=0) + 1e-3) * 0.1
    _, i, _, g = np.split(first, 4, axis=-1)
    cell = np.tanh(g) / (1 + np.exp(-i))
    np.testing.assert_allclose(after["LSTM/cell_moving_mean"][0], 0.25 * cell.mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(after["LSTM/cell_moving_variance"][0], 0.75 + 0.25 * cell.var(axis=0), rtol=1e-6)


def test_a_new_lstm_has_the_first_values_of_the_paper():
    of = {name.partition("/")[2]: array for name, array in model_variables.to_arrays(lstm()).items()}
    assert {name: array.shape for name, array in of.items() if "moving" not in name} == {
        "kernel": (6, 12),
        "recurrent_kernel": (3, 12),
        "bias": (12,),
        "cell_beta": (3,),
        "input_gamma": (12,),
        "recurrent_gamma": (12,),
        "cell_gamma": (3,),
    }
    for part, size in (("input", 12), ("recurrent", 12), ("cell", 3)):
        np.testing.assert_allclose(of[f"{part}_gamma"], 0.1)
        assert (of[f"{part}_moving_mean"] == np.zeros((10, size))).all()
        assert (of[f"{part}_moving_variance"] == np.ones((10, size))).all()
    assert not of["bias"].any() and not of["cell_beta"].any()
    for name in ("kernel", "recurrent_kernel"):  # orthogonal: rows have length 1 and stand upright on each other
        np.testing.assert_allclose(of[name] @ of[name].T, np.eye(len(of[name])), atol=1e-6)


def test_the_lstm_comes_back_from_its_settings():
    layer = BatchNormLSTM(3, 0.9, keras.regularizers.L2(0.25), name="LSTM")
    twin = BatchNormLSTM.from_config(layer.get_config())
    assert (twin.units, twin.momentum, twin.name) == (3, 0.9, "LSTM")
    assert float(twin.regularizer.l2) == 0.25


def test_both_kernels_decay_and_nothing_else():
    layer = BatchNormLSTM(3, 0.9, keras.regularizers.L2(0.5))
    layer(np.zeros((2, 4, 6), np.float32))
    kernels = [keras.ops.convert_to_numpy(kernel) for kernel in (layer.kernel, layer.recurrent_kernel)]
    penalty = float(keras.ops.convert_to_numpy(sum(layer.losses)))
    assert penalty == pytest.approx(0.5 * sum(np.square(kernel).sum() for kernel in kernels), rel=1e-5)
