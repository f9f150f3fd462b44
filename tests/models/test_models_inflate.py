import numpy as np
import pytest

pytest.importorskip("keras")
import keras
import model_cases

from kinetics_prep.errors import BadOption, BadWeights
from kinetics_prep.models import MODELS, i3d, inception, inflate, model_variables

FRAMES, SIZE = 64, 32


@pytest.fixture(scope="module")
def images():
    """Inception-V1 for images, with its arrays given."""
    model = inception.build(3, size=SIZE)
    model_variables.restore(model, model_cases.arrays(model))
    return model


def activations(model, units, x) -> list[np.ndarray]:
    ends = keras.Model(model.input, [model.get_layer(unit).output for unit in units])
    return [keras.ops.convert_to_numpy(output)[0] for output in ends({"rgb": x})]


def steps_as_in_2d(images, arrays) -> list[set[int]]:
    """After the stem, Mixed_3c, Mixed_4f and the pool after it: the steps of a boring video that are as in 2D."""
    video = i3d.build(3, "rgb", size=SIZE)
    model_variables.restore(video, arrays, without=i3d.HEAD)
    image = np.random.RandomState(4).uniform(-1, 1, (1, SIZE, SIZE, 3)).astype(np.float32)
    boring = np.repeat(image[:, None], FRAMES, axis=1)
    flat = activations(images, ("Conv2d_1a_7x7.relu", "Mixed_3c", "Mixed_4f", "MaxPool2d_5a_2x2"), image)
    deep = activations(video, ("Conv3d_1a_7x7.relu", "Mixed_3c", "Mixed_4f", "MaxPool3d_5a_2x2"), boring)
    assert [len(steps) for steps in deep] == [32, 32, 16, 8]
    return [
        {step for step, output in enumerate(steps) if np.abs(output - wanted).max() <= 1e-5 * np.abs(wanted).max()}
        for steps, wanted in zip(deep, flat)
    ]


def test_a_boring_video_is_an_image_where_padding_has_not_reached(images):
    arrays = inflate.inflate_arrays(i3d.build(3, "rgb", size=SIZE), model_variables.to_arrays(images))
    after_stem, after_3c, after_4f, after_pool = steps_as_in_2d(images, arrays)
    assert after_stem == set(range(1, 30))
    assert after_3c == set(range(4, 27))
    assert after_4f == {7}
    assert after_pool == set()


def test_without_the_division_nothing_is_as_in_2d(images):
    arrays = inflate.inflate_arrays(i3d.build(3, "rgb", size=SIZE), model_variables.to_arrays(images))
    undivided = {name: array * len(array) if array.ndim == 5 else array for name, array in arrays.items()}
    assert steps_as_in_2d(images, undivided) == [set()] * 4


def test_a_filter_adds_up_to_what_it_was():
    kernel = np.random.RandomState(0).standard_normal((3, 3, 2, 4)).astype(np.float32)
    for steps in (1, 3, 7):
        inflated = inflate.inflate_kernel(kernel, steps)
        assert (inflated.shape, inflated.dtype) == ((steps, 3, 3, 2, 4), np.float32)
        np.testing.assert_allclose(inflated.sum(axis=0), kernel, rtol=1e-5)
        assert (inflated == inflated[:1]).all()


@pytest.mark.parametrize(
    "name, stream, left",
    [
        ("i3d", "rgb", i3d.HEAD),
        ("i3d", "flow", i3d.HEAD),
        ("convnet-lstm", "rgb", ("LSTM", "Logits")),
        ("two-stream", "flow", ("Flow.Logits.Conv2d_0c_1x1.conv_2d",)),
        ("two-stream", "both", MODELS["two-stream"].HEAD),
        (
            "fused-two-stream",
            "both",
            ("Fusion.Conv3d_3x3.conv_3d", "Fusion.Conv3d_3x3.batch_norm", "Logits"),
        ),
    ],
)
def test_a_model_takes_what_there_is_and_says_what_there_is_not(images, name, stream, left):
    model = MODELS[name].build(5, stream, size=SIZE)
    before, given = model_variables.to_arrays(model), model_variables.to_arrays(images)
    assert inflate.bootstrap(model, given) == left
    after = model_variables.to_arrays(model)
    for key, array in after.items():
        assert np.array_equal(array, before[key]) == (key.partition("/")[0] in left), key
    first = given["Conv2d_1a_7x7.conv_2d/kernel"]
    for key in after:
        if "1a_7x7" in key and key.endswith("kernel"):
            kernel = after[key].sum(axis=0) if after[key].ndim == 5 else after[key]
            wanted = first
            if kernel.shape[2] != 3:
                wanted = np.repeat(first.mean(axis=2, keepdims=True), kernel.shape[2], axis=2)
            np.testing.assert_allclose(kernel, wanted, atol=1e-6)


def test_what_is_not_inception_v1_cannot_begin_from_it(images):
    model = MODELS["convnet-3d"].build(5, "rgb", size=SIZE)
    with pytest.raises(BadOption, match="convnet-3d cannot begin from weights for images: nothing in it is Inception"):
        inflate.bootstrap(model, model_variables.to_arrays(images))


def test_weights_for_images_are_accounted_for(images):
    given = model_variables.to_arrays(images)
    del given["Mixed_3b.Branch_0.Conv2d_0a_1x1.batch_norm/beta"]
    given["Mixed_9z.conv_2d/kernel"] = given["Conv2d_2b_1x1.conv_2d/kernel"]
    given["Conv2d_2c_3x3.batch_norm/beta"] = given["Conv2d_2c_3x3.batch_norm/beta"][1:]
    with pytest.raises(BadWeights) as caught:
        inflate.bootstrap(i3d.build(5, "rgb", size=SIZE), given)
    assert str(caught.value) == (
        "weights do not fit i3d: Mixed_3b.Branch_0.Conv3d_0a_1x1.batch_norm/beta is missing; "
        "Mixed_9z.conv_2d/kernel is unknown; Conv3d_2c_3x3.batch_norm/beta is 191, expected 192"
    )
