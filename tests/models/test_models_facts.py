import dataclasses
import json

import pytest

pytest.importorskip("keras")
from model_cases import FACTS

from kinetics_prep.errors import BadOption, BadWeights
from kinetics_prep.models.facts import Facts

# Values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field, value",
    [
        *(("size", size) for size in (1, 4096)),
        *(("span", span) for span in (1, 100_000)),
        *(("stride", stride) for stride in (1, 1000)),
        *(("short_side", side) for side in (None, 1, 4096)),
        *(("fps", fps) for fps in ("25", "30000/1001", "12.5", "1000", "1/1000")),
        *(("quantizer", name) for name in (None, "symmetric", "mediapipe", "denseflow")),
        *(("bound_px", bound) for bound in (15.5, 1, 1000)),
        *(("stream", stream) for stream in ("rgb", "flow", "both")),
        ("model", "inception-v1"),
        ("origin", "x" * 10_000),
        ("labels", ()),
        ("labels", ("c", "a", "b")),
    ],
)
def test_facts_come_back_from_metadata_as_they_were(field, value):
    facts = dataclasses.replace(FACTS, **{field: value})
    assert getattr(Facts.from_metadata(facts.to_metadata()), field) == value
    assert Facts.from_metadata(facts.to_metadata()) == facts


REFUSED = [
    *(("classes", classes, "expected 2 to 100000") for classes in (1, 100_001, 3.0, "3", None, True)),
    *(("size", size, "expected 1 to 4096") for size in (0, 4097, -1, 224.5, "224", None, True)),
    *(("span", span, "expected 1 to 100000") for span in (0, 100_001, "64", None)),
    *(("stride", stride, "expected 1 to 1000") for stride in (0, 1001, -1, None)),
    *(("short_side", side, "expected 1 to 4096, or none") for side in (0, 4097, "256", False)),
    *(
        ("fps", fps, "expected a fraction")
        for fps in ("", "0", "0/5", "1/0", "1001", "-25", "nan", "inf", "25 ", "25\n")
    ),
    *(("fps", fps, "expected a fraction") for fps in ("1e2", "25/1/1", "0x19", "٢٥", 25, None, "1" * 5000)),
    *(("quantizer", name, "expected one of symmetric") for name in ("jpeg", "", 1, ["symmetric"])),
    *(("bound_px", bound, "over 0 and at most 1000") for bound in (0, -20.0, 1000.5, float("inf"), "20", None, True)),
    *(("bound_px", bound, "over 0 and at most 1000") for bound in (float("nan"), [20.0])),
    *(("stream", stream, "expected one of rgb, flow, both") for stream in ("depth", "", None, ["rgb"])),
    *(("model", model, "a name of small letters") for model in ("", "../i3d", "I3D", "i3d\n", "x" * 41, None, 3)),
    *(("origin", origin, "expected words") for origin in (None, 3, "x" * 10_001)),
    *(("labels", labels, "labels are not") for labels in ([1, 2, 3], ["a", "b", None], [["a"], "b", "c"])),
    ("labels", ["a", "a", "b"], "the same label twice: a"),
    ("labels", ["a", "b"], "weights of 3 classes, with 2 labels"),
    ("labels", ["a", "b", "c", "d"], "weights of 3 classes, with 4 labels"),
]


@pytest.mark.parametrize("field, value, message", REFUSED)
def test_a_value_that_makes_no_sense_is_refused(field, value, message):
    with pytest.raises(BadOption, match=message):
        dataclasses.replace(FACTS, **{field: tuple(value) if field == "labels" else value})
    with pytest.raises(BadWeights, match="make no sense") as caught:
        Facts.from_metadata(metadata(**{field: value}))
    assert len(str(caught.value)) < 300


# Metadata of strangers ------------------------------------------------------------------------------


def metadata(without: str | None = None, **changed) -> dict[str, str]:
    content = json.loads(FACTS.to_metadata()["kinetics-prep"]) | changed
    content.pop(without, None)
    return {"kinetics-prep": json.dumps(content)}


@pytest.mark.parametrize("labels", ["abc", {"a": 0, "b": 1, "c": 2}, 3, None, True])
def test_labels_must_be_a_list_so_that_a_text_is_not_three_letters(labels):
    with pytest.raises(BadWeights, match="labels are not a list"):
        Facts.from_metadata(metadata(labels=labels))


def test_a_rate_with_a_huge_exponent_is_refused_before_it_is_computed():
    with pytest.raises(BadWeights, match="fps is '1e999999999', expected a fraction"):
        Facts.from_metadata(metadata(fps="1e999999999"))


@pytest.mark.parametrize(
    "given, message",
    [
        (None, "does not say what it is for"),
        ({}, "does not say what it is for"),
        ({"format": "pt"}, "does not say what it is for"),
        ({"kinetics-prep": ""}, "make no sense"),
        ({"kinetics-prep": "{"}, "make no sense"),
        ({"kinetics-prep": "[]"}, "make no sense"),
        ({"kinetics-prep": "null"}, "make no sense"),
        ({"kinetics-prep": "3"}, "make no sense"),
        ({"kinetics-prep": "[" * 100_000}, "make no sense"),
        (metadata(without="version"), "make no sense: 'version'"),
        (metadata(version=0), "another version"),
        (metadata(version=2), "another version"),
        (metadata(version="1"), "another version"),
        (metadata(without="stream"), "make no sense.*stream"),
        (metadata(surplus=1), "make no sense.*surplus"),
    ],
)
def test_metadata_without_facts_is_refused(given, message):
    with pytest.raises(BadWeights, match=message):
        Facts.from_metadata(given)


def test_metadata_without_labels_has_none():
    assert Facts.from_metadata(metadata(without="labels")) == dataclasses.replace(FACTS, labels=())


def test_the_metadata_is_one_json_text_with_sorted_keys():
    ((key, text),) = FACTS.to_metadata().items()
    assert (key, list(json.loads(text))) == ("kinetics-prep", sorted(json.loads(text)))
    assert json.loads(text)["version"] == 1
    assert "Ünïcode" in text
