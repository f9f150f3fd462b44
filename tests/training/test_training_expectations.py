"""Whether clips are what weights expect; each setting that can differ, alone."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")

from run_cases import LABELS, facts

from kinetics_prep.errors import BadOption
from kinetics_prep.reading.clips import COLUMNS, UNLABELLED, ClipIndex
from kinetics_prep.training.expectations import check_all_labelled, check_clips, check_labels


def clips(**changes) -> ClipIndex:
    """Three clips as `facts` expects them."""
    settings = {
        "folder": Path("data"),
        "split": "train",
        "format": "tfrecord",
        "labels": LABELS,
        "digest": "d",
        "fps": Fraction(10),
        "short_side": 40,
        "quantizer": "symmetric",
        "bound_px": 20.0,
        "paths": (Path("data/a"),),
        "ids": ("a", "b", "c"),
        "table": np.array([(0, 0, 9, k % 2, 12, 40, 56) for k in range(3)], COLUMNS),
    }
    return ClipIndex(**settings | changes)


FLOW = facts(stream="flow", quantizer="symmetric", bound_px=20.0)

DIFFERENCES = {
    "fps": ({"fps": Fraction(25)}, "fps is 25 in data, and the weights expect 10"),
    "short-side": ({"short_side": 64}, "short-side is 64 in data, and the weights expect 40"),
    "quantizer": ({"quantizer": "denseflow"}, "quantizer is denseflow in data, and the weights expect symmetric"),
    "bound": ({"bound_px": 10.0}, r"bound is 10\.0 in data, and the weights expect 20\.0"),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_difference_is_named_and_may_be_accepted(name):
    changes, message = DIFFERENCES[name]
    check_clips(clips(), FLOW, "flow")
    with pytest.raises(BadOption, match=f"^{message}. Prepare the data so, or say --accept {name} if it is meant$"):
        check_clips(clips(**changes), FLOW, "flow")
    check_clips(clips(**changes), FLOW, "flow", frozenset({name}))
    with pytest.raises(BadOption, match=message):
        check_clips(clips(**changes), FLOW, "flow", frozenset(DIFFERENCES) - {name})


def test_all_differences_are_named_at_once():
    with pytest.raises(BadOption, match="--accept fps,bound if it is meant"):
        check_clips(clips(fps=Fraction(25), bound_px=10.0), FLOW, "flow")


@pytest.mark.parametrize("of_weights, seen", [("rgb", "rgb"), ("rgb", "flow"), ("flow", "rgb")])
def test_flow_is_compared_only_if_weights_were_trained_on_flow_and_will_see_it(of_weights, seen):
    other = clips(quantizer="denseflow", bound_px=10.0)
    check_clips(other, dataclasses.replace(FLOW, stream=of_weights), seen)
    with pytest.raises(BadOption, match="--accept quantizer,bound"):
        check_clips(other, dataclasses.replace(FLOW, stream="both"), "both")


def test_what_weights_do_not_know_is_not_compared():
    unknowing = dataclasses.replace(FLOW, short_side=None, quantizer=None)
    check_clips(clips(short_side=99, quantizer="mediapipe"), unknowing, "flow")


def test_rates_are_compared_as_fractions():
    check_clips(clips(fps=Fraction(30000, 1001)), facts(fps="30000/1001"), "rgb")
    with pytest.raises(BadOption, match="fps is 30000/1001"):
        check_clips(clips(fps=Fraction(30000, 1001)), facts(fps="29.97"), "rgb")


def test_class_ids_must_mean_the_same():
    check_labels(clips(), facts())
    check_labels(clips(), facts(labels=()))
    with pytest.raises(BadOption, match="^class 1 is 'moving right' in data and 'moving up' to the weights$"):
        check_labels(clips(), facts(labels=("moving left", "moving up")))
    with pytest.raises(BadOption, match="^data has 2 classes, and the weights know 3$"):
        check_labels(clips(), facts(classes=3, labels=()))


def test_every_clip_needs_a_label_to_train():
    check_all_labelled(clips())
    some = clips()
    some.table["class_id"][1:] = UNLABELLED
    with pytest.raises(BadOption, match="^2 of the 3 clips of split train of data have no label"):
        check_all_labelled(some)
