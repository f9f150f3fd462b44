import numpy as np
import pytest

pytest.importorskip("keras")
import keras
import model_cases
from model_cases import FACTS, same

from kinetics_prep.errors import BadWeights
from kinetics_prep.models import MODELS, i3d, model_variables, weights
from kinetics_prep.models.weights import Weights


@pytest.fixture(scope="module")
def model():
    return i3d.build(3, "rgb", size=32)


@pytest.fixture
def tiny():
    """A dense layer for 2 -> 3, batch norm, and dropout with a random generator, of which none is a weight."""
    x = keras.Input((2,))
    y = keras.layers.Dense(3, name="dense")(x)
    y = keras.layers.BatchNormalization(scale=False, name="norm")(y)
    return keras.Model(x, keras.layers.Dropout(0.5, name="dropout")(y), name="tiny")


SHAPES = {
    "dense/kernel": (2, 3),
    "dense/bias": (3,),
    "norm/beta": (3,),
    "norm/moving_mean": (3,),
    "norm/moving_variance": (3,),
}


def arrays_of(shapes) -> dict[str, np.ndarray]:
    return {name: np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape) for name, shape in shapes.items()}


def test_arrays_are_named_by_layer_and_variable(tiny, model):
    assert {name: tuple(v.shape) for name, v in model_variables.by_name(tiny).items()} == SHAPES
    names = model_variables.by_name(model)
    assert len(names) == 230
    assert {
        "Conv3d_1a_7x7.conv_3d/kernel",
        "Mixed_5b.Branch_2.Conv3d_0b_3x3.batch_norm/moving_variance",
        "Logits.Conv3d_0c_1x1.conv_3d/bias",
    } <= names.keys()


def test_parameters_are_counted_with_moving_statistics(tiny):
    assert model_variables.count_parameters(tiny) == 2 * 3 + 4 * 3


@pytest.mark.parametrize("name", MODELS)
def test_no_two_variables_share_a_name(name):
    model = MODELS[name].build(4, MODELS[name].SPEC.streams[-1], size=32)
    assert len(model_variables.by_name(model)) == sum(len(layer.weights) for layer in model.layers)


def test_arrays_in_and_out_are_the_same(tiny):
    model_variables.restore(tiny, arrays_of(SHAPES))
    assert same(model_variables.to_arrays(tiny), arrays_of(SHAPES))


def test_arrays_are_copies_that_training_does_not_change(tiny):
    model_variables.restore(tiny, arrays_of(SHAPES))
    arrays = model_variables.to_arrays(tiny)
    for variable in tiny.weights:
        variable.assign(keras.ops.zeros_like(variable))
    assert same(arrays, arrays_of(SHAPES))


def test_a_model_takes_the_weights_of_a_file(tmp_path, model):
    arrays = model_cases.arrays(model)
    weights.save(tmp_path / "w", Weights(FACTS, arrays))
    model_variables.restore(model, weights.load(tmp_path / "w").arrays)
    assert same(model_variables.to_arrays(model), arrays)


@pytest.mark.parametrize(
    "name, shape, message",
    [
        ("dense/kernel", (3, 2), "dense/kernel is 3x2, expected 2x3"),
        ("dense/kernel", (6,), "dense/kernel is 6, expected 2x3"),
        ("dense/kernel", (1, 2, 3), "dense/kernel is 1x2x3, expected 2x3"),
        ("dense/kernel", (2, 3, 1), "dense/kernel is 2x3x1, expected 2x3"),
        ("dense/bias", (), "dense/bias is a number, expected 3"),
        ("dense/bias", (1,), "dense/bias is 1, expected 3"),
        ("norm/moving_mean", (1, 3), "norm/moving_mean is 1x3, expected 3"),
        ("norm/gamma", (3,), "norm/gamma is unknown"),
        ("dense/beta", (3,), "dense/beta is unknown"),
        ("kernel", (2, 3), "kernel is unknown"),
        ("norm/beta", None, "norm/beta is missing"),
    ],
)
def test_an_array_that_does_not_fit_is_named_and_nothing_is_set(tiny, name, shape, message):
    before = model_variables.to_arrays(tiny)
    given = arrays_of({key: value for key, value in (SHAPES | {name: shape}).items() if value is not None})
    with pytest.raises(BadWeights) as caught:
        model_variables.restore(tiny, given)
    assert str(caught.value) == f"weights do not fit tiny: {message}"
    assert same(model_variables.to_arrays(tiny), before)


def test_all_problems_are_named_by_kind_and_name(tiny):
    given = arrays_of(SHAPES | {"dense/kernel": (3, 2), "x/kernel": (2,), "a/kernel": (2,)})
    del given["norm/beta"], given["dense/bias"]
    with pytest.raises(BadWeights) as caught:
        model_variables.restore(tiny, given)
    assert str(caught.value) == (
        "weights do not fit tiny: dense/bias is missing; norm/beta is missing; a/kernel is unknown; "
        "x/kernel is unknown; dense/kernel is 3x2, expected 2x3"
    )


def test_a_new_head_keeps_what_it_has(tiny):
    before, given = model_variables.to_arrays(tiny), arrays_of(SHAPES | {"dense/kernel": (9, 9)})
    model_variables.restore(tiny, given, without=("dense",))
    expected = {name: (before if name.startswith("dense/") else given)[name] for name in SHAPES}
    assert same(model_variables.to_arrays(tiny), expected)
    # The arrays of the new head need not exist, those of other layers must.
    model_variables.restore(tiny, {name: a for name, a in given.items() if not name.startswith("dense/")}, ("dense",))
    with pytest.raises(BadWeights, match="norm/beta is missing"):
        model_variables.restore(tiny, {name: a for name, a in given.items() if name != "norm/beta"}, ("dense",))


def test_the_head_of_i3d_is_replaced_for_other_classes(model):
    given = model_cases.arrays(i3d.build(7, "rgb", size=32))
    before = model_variables.to_arrays(model)
    model_variables.restore(model, given, without=i3d.HEAD)
    after = model_variables.to_arrays(model)
    heads = {name for name in after if name.partition("/")[0] in i3d.HEAD}
    assert heads == {f"Logits.Conv3d_0c_1x1.conv_3d/{name}" for name in ("kernel", "bias")}
    assert same({name: after[name] for name in heads}, {name: before[name] for name in heads})
    assert all(np.array_equal(after[name], given[name]) for name in after.keys() - heads)
