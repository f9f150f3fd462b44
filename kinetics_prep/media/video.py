"""Video -> Clip: probe, then trim and resample by timestamp, resize, in one decode.

Frame k of a clip is the frame that the video shows at `start + k / fps`: the last one whose
timestamp is not later. Frame numbers and average rates are never used, so variable frame rates,
late starts, edit lists and dropped frames come out at the right moment. Time 0 is the container's
own start, as in a player.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from kinetics_prep.errors import ClipOutOfRange, NoVideoStream, OddGeometry, TooShort, Unreadable
from kinetics_prep.media import ffmpeg as ffmpeg_tool
from kinetics_prep.media.clip import Clip, Video

DECODE_LIMIT_SECONDS = 600.0
"""A clip from the middle of a long video takes a second; this stops the hopeless."""

_TIME_BASE = "1/1000000"
_SEEK_LEAD_SECONDS = 1.0
# Headers are off by a little; a start beyond that is out of range without decoding hours to see it.
_DURATION_SLACK_SECONDS = 5.0
_MAX_ASPECT = 10
_HD_SHORT_SIDE = 720

# Anchored: what a file says of itself stands further in, and could claim anything.
_DURATION_LINE = r"^(?:\[info\] )?  Duration: "
_HDR_TRANSFERS = ("smpte2084", "arib-std-b67")


def probe(path: Path, limit_seconds: float = DECODE_LIMIT_SECONDS) -> Video:
    """Reads what the pipeline must know of a video file, by decoding its first frame.

    Raises:
      Unreadable: if ffmpeg finds no video in it, or cannot decode any of it.
      NoVideoStream: if there are streams and none is a moving picture.
      DecodeTimeout: if this takes longer than `limit_seconds`.
    """
    if path.stat().st_size == 0:
        raise Unreadable(f"{path.name} is empty")
    code, log, summary = ffmpeg_tool.describe_first_frame(path, limit_seconds)
    frame = re.search(r"^\[Parsed_showinfo.* n:\s*0 .* sar:(\d+)/(\d+) s:(\d+)x(\d+) i:(.)", log, re.M)
    if not frame:
        if re.search(r"matches no streams|specifier 'V:0'", log):
            raise NoVideoStream(f"{path.name} has no video stream")
        said = summary.complaints(path)
        raise Unreadable(f"no frame of {path.name} can be decoded (ffmpeg exit code {code}): {said}")
    sar_x, sar_y, width, height = map(int, frame.groups()[:4])
    sar = Fraction(sar_x, sar_y) if sar_x and sar_y else Fraction(1)
    colours = dict(re.findall(r"(color_\w+):(\S+)", log))
    return Video(
        path=path,
        width=max(1, round(width * sar)),
        height=height,
        time_base=Fraction(re.search(r"config in time_base: (\d+/\d+)", log)[1]),
        duration_seconds=_duration_seconds(log),
        zero_us=_zero_us(log),
        primaries=colours.get("color_primaries", "unknown"),
        codec=_first(r"Stream #\d+:\d+ (?:-> #\d+:\d+ )?\((\w+)", log, "unknown"),
        interlaced=frame[5] in "TB",
        high_dynamic_range=colours.get("color_trc") in _HDR_TRANSFERS,
        colour_space=colours.get("color_space", "unknown"),
    )


def _zero_us(log: str) -> int:
    """The container's start, in microseconds on its own clock. A start before 0 that is only the
    priming of a sound codec does not count."""
    start = round(float(_first(_DURATION_LINE + r".*start: (-?\d+\.\d+)", log, "0")) * 1e6)
    picture = round(float(_first(r" n:\s*0 pts:.*? pts_time:(-?[\d.]+)", log, "0")) * 1e6)
    return start if start >= 0 else max(start, min(0, picture))


def _first(pattern: str, text: str, otherwise: str) -> str:
    match = re.search(pattern, text, re.M)
    return match[1] if match else otherwise


def _duration_seconds(log: str) -> float | None:
    match = re.search(_DURATION_LINE + r"(\d+):(\d\d):(\d\d\.\d+)", log, re.M)
    if not match or "Estimating duration from bitrate" in log:
        return None
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def resized(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height with the short side as given and the aspect kept, to the nearest pixel.

    Raises:
      OddGeometry: if one side is over ten times the other.
    """
    short, long = min(width, height), max(width, height)
    if long > _MAX_ASPECT * short:
        raise OddGeometry(f"picture is {width}x{height}, over {_MAX_ASPECT} times as long as it is short")
    long_side = math.floor(Fraction(short_side * long, short) + Fraction(1, 2))
    return (long_side, short_side) if width >= height else (short_side, long_side)


def frame_count(seconds: float, fps: Fraction) -> int:
    """How many frames a clip of `seconds` shows: those k with k / fps before its end."""
    return math.ceil(Fraction(round(seconds * 1e6), 1_000_000) * fps)


def resample(decoded: Iterable[tuple[int, int, object]], times: Sequence) -> Iterator[tuple[int, object]]:
    """For each time, the frame shown then.

    Args:
      decoded: (timestamp, duration, frame), in the order shown; a frame whose timestamp goes back
        is ignored. The duration counts for the last one only.
      times: increasing, in the same unit.

    Yields:
      (k, frame) for k = 0, 1, ... until the video ends. Times before the first frame get the
      first frame.
    """
    k, shown, begins, ends = 0, None, None, None
    for timestamp, duration, frame in decoded:
        if begins is not None and timestamp < begins:
            continue
        while shown is not None and k < len(times) and times[k] < timestamp:
            yield k, shown
            k += 1
        if k == len(times):
            return
        shown, begins, ends = frame, timestamp, timestamp + duration
    while shown is not None and k < len(times) and times[k] < ends:
        yield k, shown
        k += 1


def trim(
    video: Video,
    start_seconds: float,
    seconds: float,
    fps: Fraction = Fraction(25),
    short_side: int = 256,
    min_seconds: float = 1.0,
    limit_seconds: float = DECODE_LIMIT_SECONDS,
) -> Clip:
    """Decodes `seconds` from `start_seconds` on, at `fps`, with the short side at `short_side` px.

    A video that ends during the clip gives the frames it has, and says so.

    Raises:
      ClipOutOfRange: if the video shows nothing at `start_seconds` or later.
      TooShort: if what is left is under two frames, or ended early with less than `min_seconds`.
      OddGeometry: if the picture is too elongated.
      DecodeTimeout: if it takes longer than `limit_seconds`.
    """
    wanted = frame_count(seconds, fps)
    if video.duration_seconds is not None and start_seconds >= video.duration_seconds + _DURATION_SLACK_SECONDS:
        raise _out_of_range(video, start_seconds)
    width, height = resized(video.width, video.height, short_side)
    decoded = _decode(video, start_seconds, wanted + 1, fps, width, height, limit_seconds)
    frames, next_frame = decoded.frames[:wanted], None
    if len(decoded.frames) > wanted:
        next_frame = decoded.frames[wanted]
    _refuse_short(video, start_seconds, len(frames), wanted, fps, min_seconds)
    return Clip(frames, fps, start_seconds, next_frame, len(frames) < wanted, decoded.notes)


def _out_of_range(video: Video, start_seconds: float) -> ClipOutOfRange:
    lasts = "" if video.duration_seconds is None else f", which lasts {video.duration_seconds:.2f} s"
    return ClipOutOfRange(f"clip begins at {start_seconds:g} s, after the end of {video.path.name}{lasts}")


def _refuse_short(video, start_seconds, count, wanted, fps, min_seconds) -> None:
    if count == 0:
        raise _out_of_range(video, start_seconds)
    if count < 2:
        raise TooShort(f"clip has 1 frame at {float(fps):g} fps, and flow needs 2")
    if count < wanted and count / fps < min_seconds:
        raise TooShort(
            f"clip needs {wanted} frames, {video.path.name} has {count} from {start_seconds:g} s on "
            f"({float(count / fps):.2f} s, under the {min_seconds:g} s of --min-seconds)"
        )


@dataclasses.dataclass
class _Decoded:
    frames: np.ndarray
    notes: tuple[str, ...]


def _decode(video, start_seconds, count, fps, width, height, limit_seconds) -> _Decoded:
    seek_seconds = start_seconds - _SEEK_LEAD_SECONDS
    arguments = (video, start_seconds, count, fps, width, height, limit_seconds)
    decoded = _decode_from(seek_seconds if seek_seconds > 0 else None, *arguments)
    # An index can be wrong, or missing: the seek then lands too late. Slow and right it is.
    return decoded if decoded is not None else _decode_from(None, *arguments)


def _decode_from(seek_seconds, video, start_seconds, count, fps, width, height, limit_seconds) -> _Decoded | None:
    """Decodes on from a seek; None if it landed after the clip's first frame, off a key frame, or nowhere."""
    frames = np.empty((count, height, width, 3), np.uint8)
    times = [Fraction(k * 1_000_000) / fps for k in range(count)]
    # A clock of milliseconds, as in Matroska, rounds a frame's time by up to half a tick.
    tolerance = min(video.time_base * 1_000_000 / 2, 500)
    graph, notes = _graph(video, start_seconds, width, height, seek_seconds)
    filled, first = 0, None
    with ffmpeg_tool.Frames(graph, height, width, limit_seconds) as decoder:
        for k, (begins, frame) in resample(_timed(decoder, tolerance, fps), times):
            first = begins if first is None else first
            if seek_seconds is not None and first > 0:
                return None
            frames[k], filled = frame, k + 1
    if seek_seconds is not None and (first is None or not decoder.begins_with_key):
        return None
    if first is None and decoder.exit_code:
        raise Unreadable(f"{video.path.name} does not decode: {decoder.log.complaints(video.path)}")
    if first is not None and first > 1_000_000 / fps:
        notes += (f"first frame is shown {float(first) / 1e6:.3f} s after the start and repeated until then",)
    if decoder.log.errors:
        notes += (f"{decoder.log.errors} decoding errors",)
    return _Decoded(frames[:filled], notes)


def _timed(decoder, tolerance, fps) -> Iterator[tuple[Fraction, Fraction, tuple]]:
    previous, gap = None, Fraction(1_000_000) / fps
    for pts, duration, frame in decoder:
        gap = pts - previous if previous is not None and pts > previous else gap
        previous = pts
        begins = pts - tolerance
        yield begins, Fraction(duration or gap), (begins, frame)


def _graph(video: Video, start_seconds: float, width: int, height: int, seek_seconds: float | None):
    """The filter graph: everything in it works frame by frame, so that a change of size in
    mid-stream, where ffmpeg builds the graph anew, loses nothing."""
    stream, notes = ffmpeg_tool.video_input(video.path, seek_seconds), ()
    if video.interlaced:
        stream = stream.filter("bwdif", mode="send_frame", deint="interlaced")
        notes += ("deinterlaced",)
    start_us = video.zero_us + round(start_seconds * 1e6)
    stream = stream.filter("settb", _TIME_BASE).filter("setpts", f"PTS-({start_us})").filter("showinfo", checksum=0)
    if video.high_dynamic_range and ffmpeg_tool.locate().has_zscale:
        stream = _to_standard_range(stream, video)
        notes += ("high dynamic range mapped to standard",)
    elif video.high_dynamic_range:
        notes += ("high dynamic range not mapped: this ffmpeg has no zscale",)
    scale = {"flags": "bilinear+accurate_rnd+full_chroma_int+bitexact"}
    if video.colour_space == "unknown" and min(video.width, video.height) >= _HD_SHORT_SIDE:
        scale["in_color_matrix"] = "bt709"  # as players do; swscale would take bt601 at any size
    return stream.filter("scale", width, height, **scale), notes


def _to_standard_range(stream, video):
    # zscale refuses to guess; and it knows constant luminance only together with other tags.
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
