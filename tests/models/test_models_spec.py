import dataclasses

import numpy as np
import pytest

pytest.importorskip("keras")

from kinetics_prep.errors import BadOption
from kinetics_prep.models import MODELS, spec
from kinetics_prep.models.spec import PAPER, Options, Spec

FIELDS = {"name": "x", "title": "X", "streams": ("rgb", "both"), "size": 112, "train_span": 10, "test_span": 20}


def test_a_span_gives_the_frames_of_the_paper():
    def offsets(name, stream, span):
        return {part: frames.tolist() for part, frames in MODELS[name].SPEC.offsets(stream, span).items()}

    assert offsets("i3d", "rgb", 64) == {"rgb": list(range(64))}
    assert offsets("convnet-lstm", "rgb", 125) == {"rgb": list(range(2, 125, 5))}
    assert offsets("two-stream", "both", 10) == {"rgb": [5], "flow": list(range(10))}
    assert offsets("two-stream", "flow", 10) == {"flow": list(range(10))}
    assert offsets("fused-two-stream", "both", 50) == {"rgb": [5, 15, 25, 35, 45], "flow": list(range(50))}


def test_offsets_are_int64_and_stay_within_the_span():
    made = Spec(**FIELDS, rgb_every=4)
    for span in range(3, 20):
        offsets = made.offsets("both", span)
        assert list(offsets) == ["rgb", "flow"]
        assert {frames.dtype for frames in offsets.values()} == {np.dtype(np.int64)}
        assert offsets["rgb"].tolist() == [frame for frame in range(span) if frame % 4 == 2]
        assert len(offsets["flow"]) == span


def test_the_shortest_span_holds_one_image():
    made = Spec(**FIELDS, rgb_every=4)
    assert made.offsets("rgb", 3)["rgb"].tolist() == [2]
    with pytest.raises(BadOption, match="X cannot take 2 frames, expected 3 or more"):
        made.offsets("rgb", 2)


def test_a_stream_that_the_model_lacks_is_refused():
    for stream in ("flow", "depth", ""):
        with pytest.raises(BadOption, match=f"X cannot be built for stream '{stream}': rgb, both"):
            Spec(**FIELDS).check_stream(stream)
        with pytest.raises(BadOption, match="cannot be built"):
            Spec(**FIELDS).offsets(stream, 10)
    Spec(**FIELDS).check_stream("both")


def test_both_stands_for_two_streams():
    assert spec.parts("both") == ("rgb", "flow")
    assert (spec.parts("rgb"), spec.parts("flow")) == (("rgb",), ("flow",))
    with pytest.raises(BadOption, match="stream is 'depth', expected one of rgb, flow, both"):
        spec.parts("depth")


@pytest.mark.parametrize(
    "changed, message",
    [
        *(({name: 0}, f"{name} is 0, expected a whole number") for name in ("size", "train_span", "test_span")),
        *(({name: 0}, f"{name} is 0, expected a whole number") for name in ("rgb_every", "window")),
        ({"size": 112.5}, "size is 112.5, expected a whole number"),
        ({"train_span": None}, "train_span is None, expected a whole number"),
        ({"window": 16}, "test_span 20 cannot be dealt into windows of 16"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        Spec(**FIELDS | changed)
    with pytest.raises(BadOption, match="stream is 'depth'"):
        Spec(**FIELDS | {"streams": ("rgb", "depth")})


@pytest.mark.parametrize(
    "name, accepted, refused, expected",
    [
        ("dropout", (0, 0.99), (-0.01, 1), "0 to under 1"),
        ("weight_decay", (0, 0.99), (-1e-9, 1), "0 to under 1"),
        ("batch_norm_momentum", (1e-9, 0.9999), (0, 1), "between 0 and 1"),
    ],
)
def test_options_have_bounds(name, accepted, refused, expected):
    for value in accepted:
        assert getattr(Options(**{name: value}), name) == value
    for value in (*refused, float("nan")):
        with pytest.raises(BadOption, match=f"{name} is {value}, expected {expected}"):
            Options(**{name: value})


def test_the_defaults_are_the_papers():
    assert dataclasses.asdict(PAPER) == {"dropout": 0.5, "weight_decay": 1e-7, "batch_norm_momentum": 0.999}


def test_an_input_has_bounds():
    made = Spec(**FIELDS)
    spec.check_input(made, classes=2, size=32, span=9, least_span=9)
    spec.check_input(made, classes=2, size=32)
    for wrong, message in (
        ({"classes": 1}, "X: classes is 1, expected 2 or more"),
        ({"size": 31}, "X: size is 31, expected 32 or more"),
        ({"size": 32.5}, "X: size is 32.5, expected 32 or more"),
        ({"span": 8}, "X: span is 8, expected 9 or more"),
    ):
        with pytest.raises(BadOption, match=message):
            spec.check_input(made, **{"classes": 2, "size": 32, "span": 9, "least_span": 9} | wrong)


@pytest.mark.parametrize(
    "name, wanted, message",
    [
        ("i3d", {"span": 8}, "span is 8, expected 9 or more"),
        ("i3d", {"size": 31}, "size is 31, expected 32 or more"),
        ("i3d", {"classes": 1}, "classes is 1, expected 2 or more"),
        ("i3d", {"stream": "both"}, "cannot be built for stream 'both': rgb, flow"),
        ("i3d", {"stream": "depth"}, "cannot be built for stream 'depth'"),
        ("convnet-lstm", {"stream": "flow"}, "cannot be built for stream 'flow': rgb"),
        ("convnet-lstm", {"span": 2}, "cannot take 2 frames, expected 3 or more"),
        ("convnet-3d", {"span": 15}, "span is 15, expected 16"),
        ("convnet-3d", {"size": 31}, "size is 31, expected 32 or more"),
        ("convnet-3d", {"stream": "flow"}, "cannot be built for stream 'flow': rgb"),
        ("two-stream", {"span": 20}, "span is 20, expected 10"),
        ("two-stream", {"classes": 1}, "classes is 1, expected 2 or more"),
        ("two-stream", {"stream": "depth"}, "cannot be built for stream 'depth': rgb, flow, both"),
        ("fused-two-stream", {"span": 25}, "span is 25, expected a multiple of 10"),
        ("fused-two-stream", {"span": 0}, "span is 0, expected 10 or more"),
        ("fused-two-stream", {"stream": "rgb"}, "cannot be built for stream 'rgb': both"),
    ],
)
def test_what_makes_no_model_is_refused(name, wanted, message):
    arguments = {"classes": 4, "stream": MODELS[name].SPEC.streams[0], "size": 32} | wanted
    with pytest.raises(BadOption, match=message):
        MODELS[name].build(**arguments)
