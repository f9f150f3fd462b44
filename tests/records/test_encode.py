"""From a video file to a record's bytes and back: colours, times, flow and its facts arrive where they belong."""

import dataclasses
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import number_of, numbered_frames, write_video

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.flow import TVL1
from kinetics_prep.flow.clip_flow import quantized_flow
from kinetics_prep.media import video
from kinetics_prep.media.clip import Clip, QuantizedFlow, TwoStreamClip
from kinetics_prep.records.encode import Origin, encode_clip
from kinetics_prep.records.record import Record

ANNOTATION = Annotation("abc", 1.0, 2.0, "train", "zumba")
ORIGIN = Origin("abc.mp4", "0" * 16, "tvl1: 1", {"tau": 0.25})


class BrightnessEngine:
    """Its flow from one frame to the next is the change of brightness, in every pixel and both directions."""

    def flows(self, grey: np.ndarray, tvl1: TVL1) -> Iterator[np.ndarray]:
        for before, after in itertools.pairwise(grey):
            change = after.astype(np.float32) - before
            yield np.stack([change, change], -1)


def flow_of(clip: Clip) -> QuantizedFlow:
    return quantized_flow(clip, BrightnessEngine(), TVL1(), "symmetric", 20.0, [])


def grey_clip(levels: list[int], next_level: int | None = None) -> Clip:
    """Frames of one grey each."""
    frames = np.empty((len(levels), 8, 10, 3), np.uint8)
    frames[:] = np.reshape(levels, (-1, 1, 1, 1))
    next_frame = None if next_level is None else np.full((8, 10, 3), next_level, np.uint8)
    return Clip(frames, Fraction(25), 0.0, next_frame)


def record_of(clip: Clip, label: str | None = "zumba", label_index: int | None = 2) -> Record:
    annotation = dataclasses.replace(ANNOTATION, label=label)
    made = encode_clip(TwoStreamClip(clip, flow_of(clip)), annotation, label_index, 1.0, ORIGIN, "png")
    return Record.from_bytes(made.to_bytes())


# Flow


def test_flow_k_is_that_from_frame_k_to_the_next_and_the_last_goes_to_the_frame_after_the_clip():
    record = record_of(grey_clip([10, 15, 13], next_level=20))
    assert [float(record.flow(k).max()) for k in range(3)] == pytest.approx([5, -2, 7], abs=20 / 127)
    assert record["kinetics_prep/last_flow"] == "next_frame"


def test_without_a_frame_after_the_clip_the_last_flow_repeats_the_one_before():
    record = record_of(grey_clip([10, 15, 13]))
    assert [float(record.flow(k).max()) for k in range(3)] == pytest.approx([5, -2, -2], abs=20 / 127)
    assert record["kinetics_prep/last_flow"] == "repeated"


@pytest.mark.parametrize(
    "levels, next_level, share",
    [
        ([100, 121, 100], 121, 1.0),
        ([100, 121, 120], 100, 1 / 3),  # 20 px lies on the bound and not beyond it
        ([100, 121, 122], None, 1 / 2),  # of the flows that were computed
        ([100, 110, 120], 130, 0.0),
    ],
)
def test_the_share_of_saturated_values_reaches_the_record(levels, next_level, share):
    record = record_of(grey_clip(levels, next_level))
    assert record["kinetics_prep/saturated_share"] == np.float32(share)


def test_single_saturated_values_are_counted():
    frames = np.full((2, 8, 10, 3), 100, np.uint8)
    frames[1, 3, 4], frames[1, 0, 0] = 121, 79
    clip = Clip(frames, Fraction(25), 0.0)
    assert flow_of(clip).saturated_share == 2 / 80


# From a file


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> Path:
    """Three seconds at 25 fps, whose frames show their number."""
    return write_video(tmp_path_factory.mktemp("videos") / "abc.mp4", numbered_frames(75))


def test_frames_and_times_of_a_record_are_those_of_the_video(numbered):
    """Frame 25 is shown at 1 s, and frame 49 is the last before 2 s."""
    clip = video.trim(video.probe(numbered), 1.0, 1.0, short_side=48)
    record = record_of(clip)
    assert [number_of(record.frame(k)) for k in range(len(record))] == list(range(25, 50))
    assert number_of(clip.next_frame) == 50
    assert record["image/timestamp"] == list(range(1_000_000, 2_000_000, 40_000))
    assert record["FORWARD_FLOW/image/timestamp"] == record["image/timestamp"]
    assert (record["clip/start/timestamp"], record["clip/end/timestamp"]) == (1_000_000, 2_000_000)


def test_red_in_the_video_is_red_in_the_record(tmp_path):
    frames = np.zeros((5, 48, 64, 3), np.uint8)
    frames[:, :, :32] = (230, 40, 10)
    frames[:, :, 32:] = (10, 40, 230)
    path = write_video(tmp_path / "v.mp4", frames)
    clip = video.trim(video.probe(path), 0.0, 0.2, short_side=48, min_seconds=0.0)
    assert np.array_equal(clip.frames, frames)
    left, right = record_of(clip).frame(2)[24, 8], record_of(clip).frame(2)[24, 56]
    assert np.abs(left.astype(int) - (230, 40, 10)).max() < 6
    assert np.abs(right.astype(int) - (10, 40, 230)).max() < 6


# Labels and facts


def test_label_and_class_id_come_and_go_together():
    clip = grey_clip([10, 15])
    assert record_of(clip)["clip/label/index"] == 2
    assert record_of(clip, label=None, label_index=None).get("clip/label/index") is None
    with pytest.raises(ValueError, match="label 'zumba' needs a class id"):
        record_of(clip, label_index=None)


def test_height_and_width_are_not_mixed_up():
    record = record_of(grey_clip([10, 15]))
    for stream in ("", "FORWARD_FLOW/"):
        assert (record[f"{stream}image/height"], record[f"{stream}image/width"]) == (8, 10)
    assert record.frame(0).shape == (8, 10, 3) and record.levels(1).shape == (8, 10, 2)
