import numpy as np
import pytest

pytest.importorskip("keras")
import keras
from model_cases import arrays, run

from kinetics_prep.models import inception, model_variables
from kinetics_prep.models.inception import Builder
from kinetics_prep.models.spec import PAPER, Options

# Padding is TensorFlow's SAME ----------------------------------------------------------------------


def test_an_odd_pixel_of_padding_goes_to_the_end():
    # Of four pixels a 3-wide kernel with stride 2 sees 0 to 2 and 2 to 4: the pixel that is padded is the fifth.
    frames = keras.Input((4, 4, 1))
    conv = keras.Model(frames, Builder(2, PAPER).bare_conv(frames, "unit", 1, kernel=3, stride=2, use_bias=False))
    conv.set_weights([np.ones((3, 3, 1, 1), np.float32)])
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    grid = image[0, :, :, 0]
    expected = [[grid[:3, :3].sum(), grid[:3, 2:].sum()], [grid[2:, :3].sum(), grid[2:, 2:].sum()]]
    assert run(conv, image)[0, :, :, 0].tolist() == expected


# Units ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [2, 3])
def test_a_unit_is_convolution_batch_norm_and_relu(dims):
    frames = keras.Input((*[4] * dims, 2))
    model = keras.Model(frames, Builder(dims, PAPER, "RGB.").conv(frames, "Conv3d_2b_1x1", 5))
    name = f"RGB.Conv{dims}d_2b_1x1"
    given = arrays(model)
    given[f"{name}.batch_norm/moving_variance"] = np.full(5, 1e-3, np.float32)  # as large as the epsilon
    model_variables.restore(model, given)
    x = np.random.RandomState(1).standard_normal((2, *[4] * dims, 2)).astype(np.float32)
    kernel = given[f"{name}.conv_{dims}d/kernel"].reshape(2, 5)
    mean, beta = (given[f"{name}.batch_norm/{of}"] for of in ("moving_mean", "beta"))
    expected = np.maximum((x @ kernel - mean) / np.sqrt(2e-3) + beta, 0)
    assert 0.2 < (expected == 0).mean() < 0.8
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-4)
    assert [layer.name for layer in model.layers[1:]] == [
        f"{name}.{of}" for of in (f"conv_{dims}d", "batch_norm", "relu")
    ]


def test_a_pool_may_leave_time_alone():
    frames = keras.Input((6, 6, 6, 1))
    layer = Builder(3, PAPER)
    x = np.random.RandomState(0).standard_normal((1, 6, 6, 6, 1)).astype(np.float32)
    of_space = run(keras.Model(frames, layer.max_pool(frames, "a", 2, 2, over_time=False)), x)
    of_all = run(keras.Model(frames, layer.max_pool(frames, "b", 2, 2)), x)
    assert (of_space.shape, of_all.shape) == ((1, 6, 3, 3, 1), (1, 3, 3, 3, 1))
    np.testing.assert_array_equal(of_space, x.reshape(1, 6, 3, 2, 3, 2, 1).max(axis=(3, 5)))
    np.testing.assert_array_equal(of_all, of_space.reshape(1, 3, 2, 3, 3, 1).max(axis=2))


# The blocks, from Szegedy et al., table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
TABLE_1 = {
    "3b": (192, (64, 96, 128, 16, 32, 32), 256),
    "3c": (256, (128, 128, 192, 32, 96, 64), 480),
    "4b": (480, (192, 96, 208, 16, 48, 64), 512),
    "4c": (512, (160, 112, 224, 24, 64, 64), 512),
    "4d": (512, (128, 128, 256, 24, 64, 64), 512),
    "4e": (512, (112, 144, 288, 32, 64, 64), 528),
    "4f": (528, (256, 160, 320, 32, 128, 128), 832),
    "5b": (832, (256, 160, 320, 32, 128, 128), 832),
    "5c": (832, (384, 192, 384, 48, 128, 128), 1024),
}


@pytest.fixture(scope="module")
def images():
    model = inception.build(3, size=32)
    model_variables.restore(model, arrays(model))
    return model


@pytest.mark.parametrize("block", TABLE_1)
def test_a_block_is_that_of_the_first_paper(images, block):
    ins, (direct, reduce_3, to_3, reduce_5, to_5, pooled), outs = TABLE_1[block]
    shapes = {name: tuple(variable.shape) for name, variable in model_variables.by_name(images).items()}
    kernels = {
        "Branch_0.Conv2d_0a_1x1": (1, 1, ins, direct),
        "Branch_1.Conv2d_0a_1x1": (1, 1, ins, reduce_3),
        "Branch_1.Conv2d_0b_3x3": (3, 3, reduce_3, to_3),
        "Branch_2.Conv2d_0a_1x1": (1, 1, ins, reduce_5),
        "Branch_2.Conv2d_0b_3x3": (3, 3, reduce_5, to_5),
        "Branch_3.Conv2d_0b_1x1": (1, 1, ins, pooled),
    }
    at = f"Mixed_{block}."
    assert {
        name.removeprefix(at).removesuffix(".conv_2d/kernel"): shape
        for name, shape in shapes.items()
        if name.startswith(at) and name.endswith("kernel")
    } == kernels
    assert images.get_layer(f"Mixed_{block}").output.shape[-1] == outs == direct + to_3 + to_5 + pooled


def test_the_branches_of_a_block_stand_in_their_order(images):
    ends = [
        f"Mixed_3b.Branch_{k}.Conv2d_{unit}.relu" for k, unit in enumerate(("0a_1x1", "0b_3x3", "0b_3x3", "0b_1x1"))
    ]
    model = keras.Model(images.input, [images.get_layer(name).output for name in (*ends, "Mixed_3b")])
    x = np.random.RandomState(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    *branches, block = (keras.ops.convert_to_numpy(value) for value in model({"rgb": x}))
    np.testing.assert_array_equal(np.concatenate(branches, axis=-1), block)


def test_the_trunk_shrinks_images_to_a_32nd_and_frames_to_an_eighth():
    for dims, frames, features in ((2, (65, 96), (3, 3)), (3, (17, 65, 96), (3, 3, 3))):
        x = keras.Input((*frames, 3))
        assert Builder(dims, PAPER).trunk(x).shape == (None, *features, 1024)


def test_the_logits_of_images_are_a_dense_layer_over_the_mean_of_the_features(images):
    model = keras.Model(images.input, [images.get_layer("Mixed_5c").output, images.output])
    x = np.random.RandomState(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    features, logits = (keras.ops.convert_to_numpy(value) for value in model({"rgb": x}))
    given = model_variables.to_arrays(images)
    kernel, bias = (given[f"{inception.HEAD}/{name}"] for name in ("kernel", "bias"))
    expected = features.mean(axis=(1, 2)) @ kernel.reshape(1024, 3) + bias
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_weight_decay_is_half_of_what_keras_calls_l2():
    assert float(inception.decay(Options(weight_decay=0.25)).l2) == 0.125
    assert inception.decay(Options(weight_decay=0)) is None
