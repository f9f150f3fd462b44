"""The filter graph of a clip: its size, and which filters a video gets."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import pytest

from kinetics_prep.errors import OddGeometry
from kinetics_prep.media import ffmpeg
from kinetics_prep.media.clip import Video
from kinetics_prep.media.graph import clip_graph, scaled_size


@pytest.mark.parametrize(
    "width, height, short_side, expected",
    [
        (340, 256, 256, (340, 256)),
        (1920, 1080, 256, (455, 256)),  # 455.1
        (1080, 1920, 256, (256, 455)),
        (1280, 720, 256, (455, 256)),
        (480, 360, 256, (341, 256)),  # 341.3
        (100, 100, 16, (16, 16)),
        (32, 16, 33, (66, 33)),
        (64, 32, 17, (34, 17)),
        (3, 2, 33, (50, 33)),  # 49.5, halves go up
        (2560, 256, 256, (2560, 256)),
    ],
)
def test_scaled_size_keeps_the_aspect_to_the_nearest_pixel(width, height, short_side, expected):
    assert scaled_size(width, height, short_side) == expected


@pytest.mark.parametrize("width, height", [(9841, 705), (705, 9841), (11, 1)])
def test_scaled_size_refuses_a_picture_over_ten_times_as_long_as_short(width, height):
    with pytest.raises(OddGeometry, match=f"{width}x{height}"):
        scaled_size(width, height, 256)


# Filters


VIDEO = Video(Path("v.mp4"), 64, 48, Fraction(1, 25), 10.0, "h264", zero_us=300_000)


def filters(video: Video, start_seconds: float = 2.0, seek_seconds: float | None = None) -> tuple[str, tuple[str, ...]]:
    """The filter graph as the command line states it, and the notes."""
    stream, notes = clip_graph(video, start_seconds, 85, 64, seek_seconds)
    command = ffmpeg.frames_command(stream)
    return command[command.index("-filter_complex") + 1], notes


def test_time_is_counted_from_the_start_of_the_clip_on_the_clock_of_the_file():
    text, notes = filters(VIDEO, start_seconds=2.0)
    assert "settb=1/1000000" in text and "setpts=PTS-(2300000)" in text.replace("\\", "")
    assert text.index("settb") < text.index("setpts") < text.index("showinfo") < text.index("scale=85:64")
    assert notes == () and "bwdif" not in text and "zscale" not in text


def test_an_interlaced_video_is_deinterlaced_before_its_frames_are_logged():
    text, notes = filters(dataclasses.replace(VIDEO, interlaced=True))
    assert text.index("bwdif") < text.index("showinfo") and notes == ("deinterlaced",)


@pytest.mark.parametrize(
    "width, height, colour_space, as_bt709",
    [
        (1280, 720, "unknown", True),
        (720, 1280, "unknown", True),
        (1280, 719, "unknown", False),
        (1280, 720, "smpte170m", False),
    ],
)
def test_an_untagged_video_of_720_lines_or_more_is_taken_as_bt709(width, height, colour_space, as_bt709):
    text, _ = filters(dataclasses.replace(VIDEO, width=width, height=height, colour_space=colour_space))
    assert ("in_color_matrix=bt709" in text) is as_bt709


def tool(has_zscale: bool) -> ffmpeg.FFmpeg:
    return dataclasses.replace(ffmpeg.locate(), has_zscale=has_zscale)


HDR = dataclasses.replace(VIDEO, high_dynamic_range=True, primaries="bt2020", colour_space="bt2020nc")


@pytest.mark.parametrize(
    "primaries, colour_space, params",
    [
        ("bt2020", "bt2020nc", ""),
        ("unknown", "bt2020nc", "setparams=color_primaries=bt2020"),
        ("bt2020", "unknown", "setparams=colorspace=bt2020nc"),
        ("bt2020", "bt2020c", "setparams=colorspace=bt2020nc"),
        ("unknown", "unknown", "setparams=color_primaries=bt2020:colorspace=bt2020nc"),
    ],
)
def test_tags_that_zscale_does_not_guess_are_set(monkeypatch, primaries, colour_space, params):
    with_zscale = tool(has_zscale=True)
    monkeypatch.setattr(ffmpeg, "locate", lambda: with_zscale)
    text, notes = filters(dataclasses.replace(HDR, primaries=primaries, colour_space=colour_space))
    assert notes == ("high dynamic range mapped to standard",)
    assert params in text and ("setparams" in text) is bool(params)
    assert text.index("showinfo") < text.index("tonemap=hable") < text.index("scale=85:64")


def test_high_dynamic_range_without_zscale_is_not_mapped_and_says_so(monkeypatch):
    without_zscale = tool(has_zscale=False)
    monkeypatch.setattr(ffmpeg, "locate", lambda: without_zscale)
    text, notes = filters(HDR)
    assert notes == ("high dynamic range not mapped: this ffmpeg has no zscale",) and "tonemap" not in text


def test_a_seek_is_an_option_of_the_input():
    stream, _ = clip_graph(VIDEO, 5.0, 85, 64, seek_seconds=4.0)
    command = ffmpeg.frames_command(stream)
    seek = command.index("-ss")
    assert command[seek + 1] == "4.000000" and max(seek, command.index("-noaccurate_seek")) < command.index("-i")
    assert "-ss" not in ffmpeg.frames_command(clip_graph(VIDEO, 5.0, 85, 64, None)[0])
