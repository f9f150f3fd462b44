import dataclasses

import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import small
from run_cases import LABELS, facts

from kinetics_prep.errors import BadOption, BadWeights
from kinetics_prep.models import model_variables
from kinetics_prep.models.weights import Weights
from kinetics_prep.training import transfer

IMAGES = dataclasses.replace(facts(), model="inception-v1", origin="ImageNet")


@pytest.mark.parametrize(
    "protocol, beginning, message",
    [
        ("original", None, None),
        ("original", IMAGES, None),
        (
            "original",
            facts(),
            "begins with nothing or with weights of images, and these are of small",
        ),
        *((name, facts(), None) for name in ("fixed", "full-ft")),
        *((name, None, f"--protocol {name} needs weights to begin from") for name in ("fixed", "full-ft")),
        *((name, IMAGES, f"--protocol {name} begins with weights of videos") for name in ("fixed", "full-ft")),
    ],
)
def test_each_protocol_has_its_weights_to_begin_from(protocol, beginning, message):
    if message is None:
        transfer.check_protocol(protocol, beginning)
    else:
        with pytest.raises(BadOption, match=message):
            transfer.check_protocol(protocol, beginning)


def begun(stream="rgb", classes=2, labels=LABELS, **changes):
    """(what was done, the model's arrays before, the arrays to begin from, the model's arrays after)."""
    core = small.build(2, stream)
    before = model_variables.to_arrays(core)
    described = facts(classes=classes, labels=labels, origin="elsewhere", **changes)
    beginning = model_variables.to_arrays(small.build(classes, described.stream))
    done = transfer.begin(core, small, stream, LABELS, Weights(described, beginning))
    return done, before, beginning, model_variables.to_arrays(core)


def test_weights_for_the_same_classes_are_taken_whole():
    done, _, beginning, after = begun()
    assert done == "begins with elsewhere, last layer included"
    assert all(np.array_equal(after[name], array) for name, array in beginning.items())


@pytest.mark.parametrize(
    "classes, labels", [(3, ("a", "b", "c")), (2, ("moving right", "moving left")), (2, ()), (3, ())]
)
def test_the_last_layer_is_new_for_other_or_unknown_classes(classes, labels):
    done, before, beginning, after = begun(classes=classes, labels=labels)
    assert done == "begins with elsewhere, under a new last layer"
    for name, array in after.items():
        assert np.array_equal(array, before[name] if name.startswith("head/") else beginning[name]), name


def test_flow_begins_with_the_mean_over_colours():
    done, _, beginning, after = begun(stream="flow")
    assert done == "begins with elsewhere, its first kernel averaged over colours for dx and dy, last layer included"
    mean = beginning["conv/kernel"].mean(axis=3)
    for channel in range(2):
        assert after["conv/kernel"][..., channel, :] == pytest.approx(mean, abs=1e-7)
    assert np.array_equal(after["head/kernel"], beginning["head/kernel"])


def test_weights_of_another_model_or_stream_are_refused():
    with pytest.raises(BadOption, match="are of i3d, and the model is small"):
        transfer.begin(small.build(2, "rgb"), small, "rgb", LABELS, Weights(facts(model="i3d"), {}))
    with pytest.raises(BadOption, match="are for stream flow, and the model is for rgb"):
        transfer.begin(small.build(2, "rgb"), small, "rgb", LABELS, Weights(facts(stream="flow"), {}))
    with pytest.raises(BadWeights, match="conv/kernel is missing"):
        transfer.begin(small.build(2, "rgb"), small, "rgb", LABELS, Weights(facts(), {}))


def test_only_the_last_layer_of_a_frozen_model_is_trained():
    core = small.build(2, "rgb")
    transfer.freeze(core, small)
    assert [variable.path.split("/")[0] for variable in core.trainable_variables] == ["head", "head"]
    assert not core.get_layer("norm").trainable
