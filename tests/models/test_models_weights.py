import json
import os
import struct

import numpy as np
import pytest

pytest.importorskip("keras")
import safetensors.numpy
from model_cases import FACTS, same

from kinetics_prep.errors import BadWeights
from kinetics_prep.models import weights
from kinetics_prep.models.weights import Weights


def small() -> Weights:
    return Weights(FACTS, {"b/kernel": np.ones((2, 3), np.float32), "a/bias": np.arange(3, dtype=np.float32)})


# A file and back -----------------------------------------------------------------------------------


def test_weights_come_back_as_they_were(tmp_path):
    random = np.random.RandomState(0)
    shapes = {"a/kernel": (7, 7, 7, 3, 64), "b/bias": (64,), "c/count": (), "d/empty": (0, 3)}
    arrays = {name: np.asarray(random.standard_normal(shape), np.float32) for name, shape in shapes.items()}
    path = tmp_path / "new" / "rgb.safetensors"
    weights.save(path, Weights(FACTS, arrays))
    loaded = weights.load(path)
    assert loaded.facts == FACTS
    assert same(loaded.arrays, arrays)
    assert {name: array.shape for name, array in loaded.arrays.items()} == shapes
    assert [entry.name for entry in path.parent.iterdir()] == ["rgb.safetensors"]


def test_labels_keep_the_order_of_their_ids(tmp_path):
    facts = weights.Facts("i3d", "rgb", 3, ("zumba", "abseiling", "yoga"))
    weights.save(tmp_path / "w", Weights(facts, {}))
    assert weights.load(tmp_path / "w").facts.labels == ("zumba", "abseiling", "yoga")


def test_the_same_weights_make_the_same_bytes(tmp_path):
    reversed_arrays = dict(reversed(small().arrays.items()))
    paths = tmp_path / "one", tmp_path / "other"
    weights.save(paths[0], small())
    fortran = {"b/kernel": np.asfortranarray(reversed_arrays["b/kernel"])}
    weights.save(paths[1], Weights(FACTS, reversed_arrays | fortran))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_array_in_fortran_order_keeps_its_values(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    weights.save(tmp_path / "w", Weights(FACTS, {"a": np.asfortranarray(array)}))
    assert weights.load(tmp_path / "w").arrays["a"].tolist() == array.tolist()


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    weights.save(tmp_path / "w", small())
    before = (tmp_path / "w").read_bytes()
    monkeypatch.setattr(weights.Path, "write_bytes", lambda path, data: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        weights.save(tmp_path / "w", Weights(FACTS, {}))
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"w": before}


def test_other_programs_read_the_arrays(tmp_path):
    weights.save(tmp_path / "w", small())
    assert same(safetensors.numpy.load_file(tmp_path / "w"), small().arrays)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, ">f4"])
def test_arrays_are_float32(dtype):
    with pytest.raises(BadWeights, match=f"array a is {np.dtype(dtype)}, expected float32"):
        Weights(FACTS, {"a": np.zeros(3, dtype)})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_arrays_are_finite(value):
    with pytest.raises(BadWeights, match="array b holds values that are not finite"):
        Weights(FACTS, {"a": np.zeros(3, np.float32), "b": np.array([0, value], np.float32)})


@pytest.mark.parametrize("count, ending", [(1, "p0"), (10, "p9"), (11, "p9, and 1 more"), (230, "p9, and 220 more")])
def test_ten_problems_are_named_and_the_others_counted(count, ending):
    with pytest.raises(BadWeights) as caught:
        weights.check_no_problems([f"p{k}" for k in range(count)], "they do not fit")
    text = str(caught.value)
    assert text.startswith("they do not fit: p0") and text.endswith(ending)
    assert text.count("p") == min(count, 10)


def test_without_problems_nothing_is_raised():
    weights.check_no_problems([], "they do not fit")


# A stranger's file ---------------------------------------------------------------------------------


def file_bytes(header, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


HEADER = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
METADATA = {"__metadata__": FACTS.to_metadata()}
WRONG_FACTS = {"kinetics-prep": FACTS.to_metadata()["kinetics-prep"].replace('"size": 32', '"size": 0')}


def test_a_file_put_together_by_hand_is_read(tmp_path):
    (tmp_path / "w").write_bytes(file_bytes(METADATA | {"a/x": HEADER}, struct.pack("<2f", 1, 2)))
    loaded = weights.load(tmp_path / "w")
    assert loaded.facts == FACTS
    assert loaded.arrays["a/x"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "does not read as safetensors"),
        (b"\x80\x04nonsense", "does not read as safetensors"),
        (struct.pack("<Q", 1 << 60) + b"{}", "does not read as safetensors"),
        (file_bytes(METADATA | {"a/x": HEADER}, bytes(8))[:-1], "does not read as safetensors"),
        (file_bytes(METADATA | {"a/x": HEADER}, bytes(9)), "does not read as safetensors"),
        (file_bytes(METADATA | {"a/x": HEADER | {"shape": [1 << 40]}}, bytes(8)), "does not read as safetensors"),
        (file_bytes(METADATA | {"a/x": HEADER | {"shape": [3]}}, bytes(8)), "does not read as safetensors"),
        (file_bytes(METADATA | {"a/x": HEADER | {"data_offsets": [-8, 0]}}, bytes(8)), "does not read as safetensors"),
        (file_bytes(METADATA | {"a/x": HEADER | {"dtype": "O"}}, bytes(8)), "does not read as safetensors"),
        (file_bytes(b"[" * 100_000), "does not read as safetensors"),
        (file_bytes({"a/x": HEADER}, bytes(8)), "does not say what it is for"),
        (file_bytes({"__metadata__": {"format": "pt"}, "a/x": HEADER}, bytes(8)), "does not say what it is for"),
        (file_bytes({"__metadata__": WRONG_FACTS}), "make no sense: size is '0', expected 1 to 4096"),
        (file_bytes(METADATA | {"a/x": HEADER | {"dtype": "I32"}}, bytes(8)), "a/x is int32, expected float32"),
        (file_bytes(METADATA | {"a/x": HEADER | {"dtype": "BF16", "shape": [4]}}, bytes(8)), "BF16|bfloat16"),
        (file_bytes(METADATA | {"a/x": HEADER}, struct.pack("<2f", 1, np.inf)), "a/x holds values that are not finite"),
    ],
)
def test_a_file_that_is_no_weights_is_refused(tmp_path, data, message):
    path = tmp_path / "given.safetensors"
    path.write_bytes(data)
    with pytest.raises(BadWeights, match=message) as caught:
        weights.load(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 1000


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(BadWeights, match="does not read as safetensors"):
            weights.load(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read any file")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = tmp_path / "secret"
    weights.save(path, small())
    path.chmod(0)
    with pytest.raises(BadWeights, match="does not read as safetensors"):
        weights.load(path)


def test_damage_anywhere_is_refused_or_leaves_finite_values(tmp_path):
    path = tmp_path / "given.safetensors"
    weights.save(path, small())
    whole = path.read_bytes()
    random, refused = np.random.RandomState(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[random.randint(len(whole))] = random.randint(256)
        path.write_bytes(damaged[: random.choice([len(whole), random.randint(len(whole))])])
        try:
            loaded = weights.load(path)
        except BadWeights:
            refused += 1
        else:
            assert all(np.isfinite(array).all() for array in loaded.arrays.values())
    assert 150 < refused < 300
