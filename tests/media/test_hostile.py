"""Every hostile file ends as a right clip, or as a refusal with its reason; never as an error.

How many frames a clip must have follows from `table.tsv`, which ffprobe wrote:

    the picture ends at  last_pts - (container's start) + (the last frame's length)
    frames at 25 fps   = those k with k / 25 before that end, at most 250 for ten seconds

The container starts at its first frame unless sound comes earlier; the last frame is as long as the
usual distance between two. Versions of ffmpeg give the timestamps of damaged or index-less files
differently, hence one frame of tolerance, and more where `OUTCOMES` says why.
"""

import csv
import dataclasses
import math
from fractions import Fraction
from pathlib import Path

import pytest

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.dataset import ledger
from kinetics_prep.records.record import Record
from kinetics_prep.runs.clip import prepare_row
from kinetics_prep.runs.context import RunContext
from kinetics_prep.sources import Fetching

CLIP_SECONDS, FPS = 10, 25


@dataclasses.dataclass(frozen=True)
class Written:
    """A clip is written."""

    height: int
    """At a short side of 32."""
    width: int
    note: str = ""
    """Its notes contain this."""
    tolerance: int = 1
    """Frames."""


@dataclasses.dataclass(frozen=True)
class Refused:
    reason: str
    message: str
    """Its message contains this."""


OUTCOMES = {
    # rotated by the display matrix, so height and width change places (90) or do not (180)
    "video_90.mov": Written(57, 32),
    "video_180.mov": Written(32, 57),
    "fire2.mp4": Written(32, 57),
    # no duration in the header, variable frame rate
    "no_duration.webm": Written(32, 57),
    # odd sizes, more than 8 bits, high dynamic range, interlaced
    "testsrc2_odd_height_and_width_vp9.mp4": Written(32, 43),
    "testsrc2_odd_height_and_width_444_10bit.mp4": Written(32, 43),
    "h264_10bits.mp4": Written(32, 32),
    "nasa_13013_hdr.mp4": Written(32, 57, note="high dynamic range"),
    "h264_interlaced_crop.mp4": Written(32, 57, note="deinterlaced"),
    # codecs
    "mt_gizmo_av1_8bit_420.webm": Written(32, 56),
    "mt_seek.webm": Written(32, 43),
    "mt_gizmo_hevc_8bit_420.mp4": Written(32, 56),
    "animated.gif": Written(32, 43),
    # damage
    "corrupted.mp4": Written(32, 57, note="decoding errors"),
    "gt_test_case_1388991.mp4": Written(32, 43, note="decoding errors"),
    "crash_1833894.mp4": Refused("unreadable", "crash_1833894.mp4"),
    "result.webm": Refused("unreadable", "empty"),
    # nothing to see, or too little
    "mt_opus-sample.mp4": Refused("no_video_stream", "no video stream"),
    "mt_hevc_white_frame.mp4": Refused("too_short", "1 frame"),
    "wpt_2x2-green.mp4": Refused("too_short", "1 frame"),
    "crash_789075.webm": Refused("odd_geometry", "9841x705"),
    "mt_gizmo-short.mp4": Written(32, 56),
    # time 0 is not the first timestamp, or an edit list hides frames
    "test_non_zero_start.mp4": Written(32, 57),
    "mt_bipbop.mp4": Written(32, 43, note="first frame is shown 0.095 s after the start"),
    "discard_first_keyframe.mp4": Written(32, 32),
    # the size changes in mid-stream; pixels are not square; there are two video streams
    "mt_resolution-change.webm": Written(32, 48),
    "mt_aspect_ratio_4_3_hevc.mp4": Written(32, 57),
    "nasa_13013.mp4": Written(32, 57),
    # AVI has no timestamps: what ffmpeg makes of this one moved by three frames at 30 fps between 5.1 and 9.0
    "Megamind_bugy.avi": Written(32, 44, tolerance=3),
    "wpt_movie_300.mp4": Written(32, 43),
    "gt_dash_dashinit.mp4": Written(32, 43),
}


def frames_by_table(facts: dict) -> int:
    """How many frames the clip has according to `table.tsv`."""
    start = 0.0 if int(facts["n_audio"]) else float(facts["first_pts"])
    ends = float(facts["last_pts"]) - start + float(facts["min_dt"])
    # Milliseconds of rounding in the table must not become a frame.
    return min(CLIP_SECONDS * FPS, math.ceil(round(ends * FPS, 1)))


@pytest.fixture(scope="module")
def table(shared_data) -> dict[str, dict]:
    with open(shared_data / "hostile/table.tsv", encoding="utf-8", newline="") as file:
        return {facts["file"]: facts for facts in csv.DictReader(file, delimiter="\t")}


def prepared(path: Path, recipe, scratch: Path, start_seconds: float = 0.0):
    media_id = path.stem
    row = PlannedRow(
        shard=0,
        index=0,
        clip_id=f"{media_id}_{start_seconds}",
        media_id=media_id,
        label="hostile",
        label_index=0,
        split="train",
        start_seconds=start_seconds,
        end_seconds=start_seconds + CLIP_SECONDS,
        annotation_file="hostile.csv",
        annotation_line=1,
    )
    context = RunContext(recipe=recipe, digest="0" * 16, fetching=Fetching((str(path.parent),)), scratch=str(scratch))
    return prepare_row(row, context)


@pytest.fixture
def recipe(quick_recipe):
    return dataclasses.replace(quick_recipe, fps=Fraction(FPS), clip_seconds=float(CLIP_SECONDS), min_seconds=0.05)


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_hostile_file_gives_a_right_clip_or_a_reason(shared_data, table, tmp_path, recipe, name):
    row, data = prepared(shared_data / "hostile" / name, recipe, tmp_path)
    expected = OUTCOMES[name]
    if isinstance(expected, Refused):
        assert (row.status, row.reason, data) == (ledger.REFUSED, expected.reason, None)
        assert expected.message in row.message
        return
    assert (row.status, row.reason, row.message) == (ledger.WRITTEN, None, None)
    assert (row.height, row.width) == (expected.height, expected.width)
    assert abs(row.frames - frames_by_table(table[name])) <= expected.tolerance
    assert row.ends_early == (row.frames < CLIP_SECONDS * FPS)
    assert expected.note in (row.notes or "")
    record = Record.from_bytes(data)
    assert len(record) == row.frames
    assert record.frame(len(record) - 1).shape == (row.height, row.width, 3)


def test_every_hostile_file_has_its_outcome_stated(shared_data, table):
    files = {path.name for path in (shared_data / "hostile").iterdir()} - {"table.tsv"}
    assert files == set(OUTCOMES) == set(table)


@pytest.mark.parametrize("name", ["wpt_movie_300.mp4", "nasa_13013_hdr.mp4", "no_duration.webm"])
def test_a_start_after_the_end_of_a_hostile_file_is_refused(shared_data, tmp_path, recipe, name):
    row, data = prepared(shared_data / "hostile" / name, recipe, tmp_path, start_seconds=1000.0)
    assert (row.status, row.reason, data) == (ledger.REFUSED, "clip_out_of_range", None)
