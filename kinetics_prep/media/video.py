"""Video file -> Clip: probe it, then trim, resample by timestamp and resize, in one decode.

`resample.py` says which frame a clip shows at which moment. Time 0 is the container's own start, as in a player.
"""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np

from kinetics_prep.errors import ClipOutOfRange, NoVideoStream, TooShort, Unreadable
from kinetics_prep.media.clip import Clip, Video
from kinetics_prep.media.decoder import Decoder, decode_first_frame
from kinetics_prep.media.graph import clip_graph, scaled_size
from kinetics_prep.media.log import lacks_video_stream, read_video
from kinetics_prep.media.resample import frame_count, frame_times_us, resample, with_times

DECODE_LIMIT_SECONDS = 600.0
"""A clip from the middle of a long video takes a second; this stops decodes that would take hours."""

_SEEK_LEAD_SECONDS = 1.0
# Headers are off by a little. A start beyond that is out of range; no need to decode for hours to see it.
_DURATION_SLACK_SECONDS = 5.0
# A clock of milliseconds, as in Matroska, rounds a frame's time by up to half a tick.
_MAX_TOLERANCE_US = Fraction(500)


def probe(path: Path, limit_seconds: float = DECODE_LIMIT_SECONDS) -> Video:
    """Decodes the first frame of a file and returns what the pipeline must know about its video.

    Raises:
      Unreadable: if ffmpeg finds no video in the file, or cannot decode any of it.
      NoVideoStream: if the file has streams and none of them is a moving picture.
      DecodeTimeout: if this takes longer than `limit_seconds`.
    """
    if path.stat().st_size == 0:
        raise Unreadable(f"{path.name} is empty")
    first = decode_first_frame(path, limit_seconds)
    video = read_video(path, first.log_text)
    if video is not None:
        return video
    if lacks_video_stream(first.log_text):
        raise NoVideoStream(f"{path.name} has no video stream")
    complaints = first.log.complaints(path)
    raise Unreadable(f"no frame of {path.name} can be decoded (ffmpeg exit code {first.exit_code}): {complaints}")


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

    If the video ends during the clip, the clip has fewer frames and `ends_early` is true.

    Raises:
      ClipOutOfRange: if the video shows nothing at `start_seconds` or later.
      TooShort: if there are fewer than two frames, or the video ends early and less than `min_seconds` are left.
      OddGeometry: if the picture is too elongated.
      DecodeTimeout: if it takes longer than `limit_seconds`.
    """
    wanted = frame_count(seconds, fps)
    if video.duration_seconds is not None and start_seconds >= video.duration_seconds + _DURATION_SLACK_SECONDS:
        raise _out_of_range(video, start_seconds)
    width, height = scaled_size(video.width, video.height, short_side)
    decoded = _decode(_Request(video, start_seconds, fps, wanted + 1, width, height, limit_seconds))
    frames, next_frame = decoded.frames[:wanted], None
    if len(decoded.frames) > wanted:
        next_frame = decoded.frames[wanted]
    _refuse_short(video, start_seconds, len(frames), wanted, fps, min_seconds)
    return Clip(frames, fps, start_seconds, next_frame, len(frames) < wanted, decoded.notes)


def _out_of_range(video: Video, start_seconds: float) -> ClipOutOfRange:
    lasts = "" if video.duration_seconds is None else f", which lasts {video.duration_seconds:.2f} s"
    return ClipOutOfRange(f"clip begins at {start_seconds:g} s, after the end of {video.path.name}{lasts}")


def _refuse_short(
    video: Video, start_seconds: float, count: int, wanted: int, fps: Fraction, min_seconds: float
) -> None:
    if count == 0:
        raise _out_of_range(video, start_seconds)
    if count < 2:
        raise TooShort(f"clip has 1 frame at {float(fps):g} fps, and flow needs 2")
    if count < wanted and count / fps < min_seconds:
        raise TooShort(
            f"clip needs {wanted} frames, {video.path.name} has {count} from {start_seconds:g} s on "
            f"({float(count / fps):.2f} s, under the {min_seconds:g} s of --min-seconds)"
        )


@dataclasses.dataclass(frozen=True)
class _Request:
    """Which frames of a video to decode."""

    video: Video
    start_seconds: float
    fps: Fraction
    count: int
    width: int
    height: int
    limit_seconds: float


@dataclasses.dataclass(frozen=True)
class _Decoded:
    frames: np.ndarray
    """uint8 [T, H, W, 3], RGB; fewer than requested if the video ends before."""
    notes: tuple[str, ...]


class _SeekMissed(Exception):
    """A seek landed after the clip's first frame, between key frames, or nowhere."""


def _decode(request: _Request) -> _Decoded:
    seek_seconds = request.start_seconds - _SEEK_LEAD_SECONDS
    if seek_seconds > 0:
        try:
            return _decode_from(seek_seconds, request)
        except _SeekMissed:  # an index can be wrong or missing
            pass
    return _decode_from(None, request)


def _decode_from(seek_seconds: float | None, request: _Request) -> _Decoded:
    """Decodes from a key frame at or before `seek_seconds` on, or from the video's first frame on.

    Raises:
      _SeekMissed: if the frames after the seek are not those of the clip.
      Unreadable: if ffmpeg fails before it decodes a frame.
    """
    video, fps = request.video, request.fps
    frames = np.empty((request.count, request.height, request.width, 3), np.uint8)
    tolerance = min(video.time_base * 1_000_000 / 2, _MAX_TOLERANCE_US)
    graph, notes = clip_graph(video, request.start_seconds, request.width, request.height, seek_seconds)
    filled, first = 0, None
    with Decoder(graph, request.height, request.width, request.limit_seconds) as decoder:
        timed_frames = with_times(decoder, tolerance, fps)
        for k, (begins, frame) in resample(timed_frames, frame_times_us(request.count, fps)):
            first = begins if first is None else first
            if seek_seconds is not None and first > 0:
                raise _SeekMissed
            frames[k], filled = frame, k + 1
    if seek_seconds is not None and (first is None or not decoder.begins_with_key):
        raise _SeekMissed
    if first is None and decoder.exit_code:
        raise Unreadable(f"{video.path.name} does not decode: {decoder.log.complaints(video.path)}")
    if first is not None and first > 1_000_000 / fps:
        notes += (f"first frame is shown {float(first) / 1e6:.3f} s after the start and repeated until then",)
    if decoder.log.errors:
        notes += (f"{decoder.log.errors} decoding errors",)
    return _Decoded(frames[:filled], notes)
