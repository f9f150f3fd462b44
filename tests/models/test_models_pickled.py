import os
import pickle
import struct

import numpy as np
import pytest

pytest.importorskip("keras")
from foreign_cases import as_tree, like_numpy_1

from kinetics_prep.errors import BadWeights
from kinetics_prep.models import foreign
from kinetics_prep.models.foreign import pickled


def test_arrays_in_dicts_are_read():
    tree = {
        "params": {"a/b": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "empty": {}},
        "f": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "none": np.zeros((0, 3), np.float32),
    }
    arrays = pickled.read(like_numpy_1(tree))
    assert arrays.keys() == {"params/a/b/kernel", "f", "none"}
    np.testing.assert_array_equal(arrays["params/a/b/kernel"], tree["f"])
    np.testing.assert_array_equal(arrays["f"], tree["f"])
    assert arrays["none"].shape == (0, 3)


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


# What may run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module, name",
    [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("numpy", "load"), ("numpy", "ndarray.tofile")],
)
def test_another_name_is_refused_as_soon_as_it_is_loaded(module, name):
    for rest in (b".", b"0}.", text("x") + b"\x85R.", b"K\x00\x85R."):
        with pytest.raises(BadWeights, match=f"the pickle holds more than arrays: it loads '{module}.{name}'"):
            pickled.read(program(text(module), text(name), b"\x93", rest))


def test_three_names_may_be_loaded():
    assert pickled._CALLS.keys() == {"numpy.core.multiarray._reconstruct", "numpy.dtype", "numpy.ndarray"}


@pytest.mark.parametrize(
    "data", [b"cos\nsystem\n.", b"Nios\nsystem\n.", b"(Nos\nsystem\no.", b"}Q.", b"}N\x81.", b"}}N\x92."]
)
def test_an_instruction_that_loads_or_makes_is_refused_by_name(data):
    with pytest.raises(BadWeights, match="the pickle"):
        pickled.read(program(data))


def test_the_instructions_are_those_of_such_a_pickle():
    assert not pickled._STEPS.keys() & {"GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1"}


# Limits ---------------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    """Dicts in each other, `depth` of them, and an array in the last."""
    tree: object = np.zeros(1, np.float32)
    for _ in range(depth):
        tree = {"k": tree}
    return like_numpy_1(tree)


def test_dicts_have_a_limited_depth():
    assert list(pickled.read(nested(17))) == ["/".join("k" * 17)]
    with pytest.raises(BadWeights, match="dicts 16 deep"):
        pickled.read(nested(18))


def test_arrays_have_a_limited_number_of_axes():
    assert pickled.read(one_array(shape=(2,) + (1,) * 7))["a"].shape == (2, 1, 1, 1, 1, 1, 1, 1)
    with pytest.raises(BadWeights, match="array a has no shape"):
        pickled.read(one_array(shape=(2,) + (1,) * 8))


def test_two_arrays_of_a_path_are_refused():
    array = np.zeros(1, np.float32)
    with pytest.raises(BadWeights, match="no array, or two, at 'a/b'"):
        pickled.read(like_numpy_1({"a": {"b": array}, "a/b": array}))
