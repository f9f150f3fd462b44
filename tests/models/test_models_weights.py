import dataclasses
import json
import os
import struct

import numpy as np
import pytest

pytest.importorskip("keras")
import model_cases
import safetensors.numpy

from kinetics_prep.errors import BadOption, BadWeights
from kinetics_prep.models import cross_modality, i3d, model_variables, weights
from kinetics_prep.models.facts import Facts
from kinetics_prep.models.weights import Weights

FACTS = Facts("i3d", "rgb", 3, ("a", "b", "c"), size=32, origin="a test's, Ünïcode")


@pytest.fixture(scope="module")
def model():
    return i3d.build(3, "rgb", size=32)


def small() -> Weights:
    return Weights(FACTS, {"b/kernel": np.ones((2, 3), np.float32), "a/bias": np.arange(3, dtype=np.float32)})


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


# A file and back -----------------------------------------------------------------------------------


def test_weights_come_back_as_they_were(tmp_path, model):
    given = model_cases.arrays(model)
    path = tmp_path / "new" / "rgb.safetensors"
    weights.save(path, Weights(FACTS, given))
    found = weights.load(path)
    assert found.facts == FACTS
    assert same(found.arrays, given)
    model_variables.restore(model, found.arrays)
    assert same(model_variables.to_arrays(model), given)
    assert [entry.name for entry in path.parent.iterdir()] == ["rgb.safetensors"]


def test_the_same_weights_make_the_same_bytes(tmp_path):
    turned = dict(reversed(small().arrays.items()))
    files = tmp_path / "one", tmp_path / "other"
    weights.save(files[0], small())
    weights.save(files[1], Weights(FACTS, turned | {"b/kernel": np.asfortranarray(turned["b/kernel"])}))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_arrays_are_named_by_layer_and_variable(model):
    names = model_variables.by_name(model)
    assert len(names) == 230
    assert {
        "Conv3d_1a_7x7.conv_3d/kernel",
        "Mixed_5b.Branch_2.Conv3d_0b_3x3.batch_norm/moving_variance",
        "Logits.Conv3d_0c_1x1.conv_3d/bias",
    } <= names.keys()


# Somebody else's file ------------------------------------------------------------------------------


def a_file(header, data=b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def facts_as(**changed) -> dict:
    content = json.loads(FACTS.to_metadata()["kinetics-prep"]) | changed
    return {"kinetics-prep": json.dumps({name: value for name, value in content.items() if value != "none at all"})}


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "does not read as safetensors"),
        (b"\x80\x04nonsense", "does not read as safetensors"),
        (struct.pack("<Q", 1 << 60) + b"{}", "does not read as safetensors"),
        (a_file({"a/x": ONE}, bytes(8))[:-1], "does not read as safetensors"),
        (a_file({"a/x": ONE}, bytes(9)), "does not read as safetensors"),
        (a_file({"a/x": ONE | {"shape": [1 << 40]}}, bytes(8)), "does not read as safetensors"),
        (a_file({"a/x": ONE | {"data_offsets": [-8, 0]}}, bytes(8)), "does not read as safetensors"),
        (a_file({"a/x": ONE | {"dtype": "O"}}, bytes(8)), "does not read as safetensors"),
        (a_file(b"[" * 100_000), "does not read as safetensors"),
        (a_file({"a/x": ONE}, bytes(8)), "does not say what it is for"),
        (a_file({"__metadata__": {"format": "pt"}, "a/x": ONE}, bytes(8)), "does not say what it is for"),
        (a_file({"__metadata__": {"kinetics-prep": "{"}}), "make no sense"),
        (a_file({"__metadata__": {"kinetics-prep": "[]"}}), "make no sense"),
        (a_file({"__metadata__": {"kinetics-prep": "[" * 100_000}}), "make no sense"),
        (a_file({"__metadata__": facts_as(version=2)}), "another version"),
        (a_file({"__metadata__": facts_as(version="none at all")}), "make no sense: 'version'"),
        (a_file({"__metadata__": facts_as(stream="none at all")}), "make no sense"),
        (a_file({"__metadata__": facts_as(surplus=1)}), "make no sense"),
        (a_file({"__metadata__": facts_as(stream="depth")}), "stream is 'depth', expected one of rgb, flow, both"),
        (a_file({"__metadata__": facts_as(stream=["rgb"])}), "stream is"),
        (a_file({"__metadata__": facts_as(model="../../i3d")}), "model is '../../i3d', expected a name"),
        (a_file({"__metadata__": facts_as(labels=["a", "a", "b"])}), "the same label twice: a"),
        (a_file({"__metadata__": facts_as(labels=["a", "b"])}), "weights of 3 classes, with 2 labels"),
        (a_file({"__metadata__": facts_as(labels=[1, 2, 3])}), "labels are not texts"),
        (a_file({"__metadata__": facts_as(labels=3)}), "make no sense"),
        (a_file({"__metadata__": facts_as(classes=True)}), "classes is 'True', expected 2 to 100000"),
        (a_file({"__metadata__": facts_as(fps="1/0")}), "fps is '1/0', expected a fraction"),
        (a_file({"__metadata__": facts_as(fps=25)}), "fps is '25', expected a fraction"),
        (a_file({"__metadata__": facts_as(quantizer="jpeg")}), "quantizer is 'jpeg', expected one of symmetric"),
        (a_file({"__metadata__": facts_as(bound_px=float("nan"))}), "bound_px is 'nan', expected over 0"),
        (a_file({"__metadata__": facts_as(), "a/x": ONE | {"dtype": "I32"}}, bytes(8)), "a/x is int32, expected fl"),
        (a_file({"__metadata__": facts_as(), "a/x": ONE | {"dtype": "BF16", "shape": [4]}}, bytes(8)), "BF16|bfloat16"),
        (a_file({"__metadata__": facts_as(), "a/x": ONE}, struct.pack("<2f", 1, np.inf)), "a/x holds values that are"),
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


def test_damage_anywhere_is_refused_or_does_not_show(tmp_path):
    path = tmp_path / "given.safetensors"
    weights.save(path, small())
    whole = path.read_bytes()
    random, refused = np.random.RandomState(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[random.randint(len(whole))] = random.randint(256)
        path.write_bytes(damaged[: random.choice([len(whole), random.randint(len(whole))])])
        try:
            found = weights.load(path)
        except BadWeights:
            refused += 1
        else:
            assert all(np.isfinite(array).all() for array in found.arrays.values())
    assert 150 < refused < 300


def test_facts_without_labels_or_a_short_side_come_back():
    for facts in (
        dataclasses.replace(FACTS, labels=(), short_side=None),
        dataclasses.replace(FACTS, stream="both", quantizer="mediapipe", fps="30000/1001", bound_px=15.5),
    ):
        assert Facts.from_metadata(facts.to_metadata()) == facts


def test_facts_that_make_no_sense_are_never_born():
    with pytest.raises(BadOption, match="size is '0', expected 1 to 4096"):
        dataclasses.replace(FACTS, size=0)
    with pytest.raises(BadWeights, match="array a is float64, expected float32"):
        Weights(FACTS, {"a": np.zeros(3)})


# Into a model --------------------------------------------------------------------------------------


def test_every_array_is_accounted_for(model):
    given = model_cases.arrays(model)
    before = model_variables.to_arrays(model)
    bias = "Mixed_3b.Branch_0.Conv3d_0a_1x1.batch_norm/beta"
    wrong = given | {"Mixed_9z.conv_3d/kernel": given[bias], bias: given[bias][:-1]}
    del wrong["Conv3d_2b_1x1.conv_3d/kernel"]
    with pytest.raises(BadWeights) as caught:
        model_variables.restore(model, wrong)
    assert str(caught.value) == (
        "weights do not fit i3d: Conv3d_2b_1x1.conv_3d/kernel is missing; Mixed_9z.conv_3d/kernel is unknown; "
        f"{bias} is 63, expected 64"
    )
    assert same(model_variables.to_arrays(model), before)


def test_ten_are_named_and_the_others_counted(model):
    with pytest.raises(BadWeights, match=r"(.* is missing; ){9}.* is missing, and 220 more$"):
        model_variables.restore(model, {})


def test_a_new_head_keeps_what_it_has(model):
    other = i3d.build(7, "rgb", size=32)
    given = model_cases.arrays(other)
    before = model_variables.to_arrays(model)
    model_variables.restore(model, given, without=i3d.HEAD)
    after = model_variables.to_arrays(model)
    heads = {name for name in after if name.partition("/")[0] in i3d.HEAD}
    assert len(heads) == 2
    assert same({name: after[name] for name in heads}, {name: before[name] for name in heads})
    assert all(np.array_equal(after[name], given[name]) for name in after.keys() - heads)
    without_head = {name: array for name, array in given.items() if name not in heads}
    model_variables.restore(model, without_head, without=i3d.HEAD)


def test_weights_for_rgb_become_weights_for_flow(model):
    given = model_cases.arrays(model)
    adapted = cross_modality.adapt_rgb_to_flow(given)
    model_variables.restore(i3d.build(3, "flow", size=32), adapted)
    first = "Conv3d_1a_7x7.conv_3d/kernel"
    mean = given[first].mean(axis=3)
    for channel in range(2):
        np.testing.assert_allclose(adapted[first][:, :, :, channel], mean, atol=1e-7)
    assert adapted[first].shape == (7, 7, 7, 2, 64)
    assert same({**adapted, first: 0}, {**given, first: 0})
    with pytest.raises(BadWeights, match="expected one kernel that takes RGB, found 0"):
        cross_modality.adapt_rgb_to_flow(adapted)


def test_what_safetensors_reads_is_there_for_anyone(tmp_path):
    weights.save(tmp_path / "w", small())
    assert same(safetensors.numpy.load_file(tmp_path / "w"), small().arrays)
