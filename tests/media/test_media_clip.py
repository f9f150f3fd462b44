"""Values of media refuse nonsense when they are made."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from kinetics_prep.media.clip import Clip, QuantizedFlow, TwoStreamClip, Video, clip_notes

VIDEO = Video(Path("v.mp4"), 64, 48, Fraction(1, 25), None, "h264")
CLIP = Clip(np.zeros((3, 4, 5, 3), np.uint8), Fraction(25), 1.0)
FLOW = QuantizedFlow(np.zeros((3, 4, 5, 2), np.uint8), "symmetric", 20.0, 0.0, "next_frame")


@pytest.mark.parametrize(
    "value, changes, message",
    [
        (VIDEO, {"width": 0}, "size must be positive, got 0x48"),
        (VIDEO, {"height": -1}, "size must be positive, got 64x-1"),
        (VIDEO, {"time_base": Fraction(0)}, "time_base must be positive, got 0"),
        (CLIP, {"frames": np.zeros((0, 4, 5, 3), np.uint8)}, r"frames must be uint8 \[T, H, W, 3\] with T > 0"),
        (CLIP, {"frames": np.zeros((3, 4, 5, 4), np.uint8)}, r"got uint8 \[3, 4, 5, 4\]"),
        (CLIP, {"frames": np.zeros((4, 5, 3), np.uint8)}, r"got uint8 \[4, 5, 3\]"),
        (CLIP, {"frames": np.zeros((3, 4, 5, 3), np.float32)}, r"got float32"),
        (CLIP, {"next_frame": np.zeros((5, 4, 3), np.uint8)}, r"next_frame must be like one of the frames \[4, 5, 3\]"),
        (CLIP, {"fps": Fraction(0)}, "fps must be positive, got 0"),
        (FLOW, {"levels": np.zeros((3, 4, 5, 3), np.uint8)}, r"levels must be uint8 \[T, H, W, 2\], got uint8"),
        (FLOW, {"levels": np.zeros((3, 4, 5, 2), np.int8)}, "got int8"),
        (FLOW, {"levels": np.zeros((4, 5, 2), np.uint8)}, r"got uint8 \[4, 5, 2\]"),
        (FLOW, {"saturated_share": -0.01}, "saturated_share must be 0 to 1, got -0.01"),
        (FLOW, {"saturated_share": 1.01}, "saturated_share must be 0 to 1, got 1.01"),
        (FLOW, {"last": "none"}, "last must be one of .*got 'none'"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(value, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(value, **changes)


def test_the_limits_are_allowed():
    assert dataclasses.replace(FLOW, saturated_share=1.0, last="repeated").saturated_share == 1
    assert dataclasses.replace(VIDEO, width=1, height=1).width == 1
    assert len(dataclasses.replace(CLIP, frames=np.zeros((1, 4, 5, 3), np.uint8))) == 1


@pytest.mark.parametrize("shape", [(2, 4, 5, 2), (3, 5, 4, 2), (3, 4, 6, 2)])
def test_flow_of_another_length_or_size_does_not_pair_with_frames(shape):
    assert TwoStreamClip(CLIP, FLOW).clip is CLIP
    with pytest.raises(ValueError, match=r"does not match frames \[3, 4, 5, 3\]"):
        TwoStreamClip(CLIP, dataclasses.replace(FLOW, levels=np.zeros(shape, np.uint8)))


def test_notes_say_how_a_clip_was_cut_before_how_it_was_decoded():
    decoded = dataclasses.replace(CLIP, notes=("deinterlaced", "3 decoding errors"))
    assert clip_notes(decoded) == ["deinterlaced", "3 decoding errors"]
    early = dataclasses.replace(decoded, ends_early=True)
    assert clip_notes(early, taken_as_trimmed=True) == [
        "file bears no times and is about as long as the clip: taken as trimmed",
        "video ends early, after 3 frames",
        "deinterlaced",
        "3 decoding errors",
    ]
    assert early.notes == ("deinterlaced", "3 decoding errors")
