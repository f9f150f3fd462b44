"""The filter graph of a clip: deinterlaces, counts time from the clip's start, maps high dynamic range, scales.

Everything in it works frame by frame. So nothing is lost where the picture's size changes in mid-stream and ffmpeg
builds the graph anew.
"""

import math
from fractions import Fraction

from kinetics_prep.errors import OddGeometry
from kinetics_prep.media import ffmpeg
from kinetics_prep.media.clip import Video

_TIME_BASE = "1/1000000"
_MAX_ASPECT = 10
_HD_SHORT_SIDE = 720


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Returns (width, height) with the short side as given and the aspect kept, to the nearest pixel.

    Raises:
      OddGeometry: if one side is over ten times the other.
    """
    short, long = min(width, height), max(width, height)
    if long > _MAX_ASPECT * short:
        raise OddGeometry(f"picture is {width}x{height}, over {_MAX_ASPECT} times as long as it is short")
    long_side = math.floor(Fraction(short_side * long, short) + Fraction(1, 2))
    return (long_side, short_side) if width >= height else (short_side, long_side)


def clip_graph(
    video: Video, start_seconds: float, width: int, height: int, seek_seconds: float | None
) -> tuple[ffmpeg.Stream, tuple[str, ...]]:
    """Returns the graph that decodes a clip, and notes for the ledger on what it does to the picture.

    Timestamps come out in microseconds from `start_seconds` on; frames before it have negative ones.

    Args:
      width: of the clip, in pixels.
      height: of the clip, in pixels.
      seek_seconds: see `ffmpeg.video_input`.
    """
    stream = ffmpeg.video_input(video.path, seek_seconds)
    notes: tuple[str, ...] = ()
    if video.interlaced:
        stream = stream.filter("bwdif", mode="send_frame", deint="interlaced")
        notes += ("deinterlaced",)
    start_us = video.zero_us + round(start_seconds * 1e6)
    stream = stream.filter("settb", _TIME_BASE).filter("setpts", f"PTS-({start_us})").filter("showinfo", checksum=0)
    if video.high_dynamic_range and ffmpeg.locate().has_zscale:
        stream = _to_standard_range(stream, video)
        notes += ("high dynamic range mapped to standard",)
    elif video.high_dynamic_range:
        notes += ("high dynamic range not mapped: this ffmpeg has no zscale",)
    scale = {"flags": "bilinear+accurate_rnd+full_chroma_int+bitexact"}
    if video.colour_space == "unknown" and min(video.width, video.height) >= _HD_SHORT_SIDE:
        scale["in_color_matrix"] = "bt709"  # as players do; swscale would take bt601 at any size
    return stream.filter("scale", width, height, **scale), notes


def _to_standard_range(stream: ffmpeg.Stream, video: Video) -> ffmpeg.Stream:
    # zscale refuses to guess missing tags, and knows constant luminance only together with other tags.
    params = {}
    if video.primaries == "unknown":
        params["color_primaries"] = "bt2020"
    if video.colour_space in ("unknown", "bt2020c"):
        params["colorspace"] = "bt2020nc"
    if params:
        stream = stream.filter("setparams", **params)
    return (
        stream.filter("zscale", transfer="linear", npl=100)
        .filter("format", "gbrpf32le")
        .filter("zscale", primaries="bt709")
        .filter("tonemap", "hable", desat=0)
        .filter("zscale", transfer="bt709", matrix="bt709", range="tv")
        .filter("format", "yuv444p")
    )
