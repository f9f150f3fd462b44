"""Reads ffmpeg's log: the line of each frame, complaints about damage, and what kind of video a file holds.

The `showinfo` filter logs a line for every frame; `-loglevel repeat+level+info` puts a word such as
`[error]` on each line. All knowledge of the log's wording is in this file.
"""

import collections
import dataclasses
import re
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from kinetics_prep.media.clip import Video

_FRAME = re.compile(rb"\[Parsed_showinfo_\d+ @ \w+\] (?:\[info\] )?n:\s*\d+ pts:\s*(NOPTS|-?\d+) ")
_DURATION = re.compile(rb" duration:\s*(\d+) ")
_KEY = re.compile(rb" iskey:1 ")

# Complaints of demuxers and decoders. What the raw output says about odd timestamps is not damage.
_DAMAGE = re.compile(r"\[(?!null|rawvideo|out#|vost)[^\]]* @ \w+\] \[(error|fatal)\] ")
_KEPT_LINES = 400

# Anchored to the line's start: a file's own metadata is printed further in, and could claim anything.
_SHOWINFO = r"^\[Parsed_showinfo_\d+ @ \w+\] (?:\[info\] )?"
_FIRST_FRAME = re.compile(_SHOWINFO + r"n:\s*0 .* sar:(\d+)/(\d+) s:(\d+)x(\d+) i:(.)", re.M)
_TIME_BASE = re.compile(_SHOWINFO + r"config in time_base: (\d+/\d+)", re.M)
_COLOURS = re.compile(_SHOWINFO + r"(color_.*)", re.M)
_FIRST_TIME = _SHOWINFO + r"n:\s*0 pts:.*? pts_time:(-?[\d.]+)"
_DURATION_LINE = r"^(?:\[info\] )?  Duration: "
_CODEC = r"^(?:\[info\] )?  Stream #\d+:\d+ (?:-> #\d+:\d+ )?\((\w+)"
_HDR_TRANSFERS = ("smpte2084", "arib-std-b67")


class FrameLine(NamedTuple):
    """What `showinfo` logs about a frame. Times are in ticks of the graph's clock."""

    pts: int | None
    """None if the frame has no timestamp."""
    duration: int | None
    """None if ffmpeg does not know it."""
    is_key: bool


def parse_frame_line(line: bytes) -> FrameLine | None:
    """Returns the frame that a line of the log describes; None if it describes none."""
    match = _FRAME.match(line)
    if not match:
        return None
    duration = _DURATION.search(line)
    return FrameLine(
        pts=None if match[1] == b"NOPTS" else int(match[1]),
        duration=int(duration[1]) if duration else None,
        is_key=bool(_KEY.search(line)),
    )


@dataclasses.dataclass
class Log:
    """The last lines of a log and a count of its errors; bounded memory, whatever a hostile file makes ffmpeg log."""

    lines: collections.deque[str] = dataclasses.field(default_factory=lambda: collections.deque(maxlen=_KEPT_LINES))
    errors: int = 0
    """Lines that report damage in the file."""

    def add(self, line: bytes) -> None:
        """Takes the next line of the log."""
        text = line.decode("utf-8", "replace").rstrip()
        self.errors += bool(_DAMAGE.match(text))
        self.lines.append(text)

    def complaints(self, path: Path, limit: int = 200) -> str:
        """Returns the errors without addresses and folder names, at most `limit` characters, for a ledger row.

        Args:
          path: the file that was decoded. It is shortened to its name.
        """
        lines = [line for line in self.lines if "[error]" in line or "[fatal]" in line]
        lines = [re.sub(r"\[[^\]]* @ \w+\] |\[(error|fatal)\] ", "", line) for line in lines]
        lines = [line.replace(f"file:{path}", path.name) for line in lines]
        return "; ".join(dict.fromkeys(lines))[:limit] or "ffmpeg said nothing"


def lacks_video_stream(log_text: str) -> bool:
    """Whether ffmpeg could read a file, but it has no video stream, or only a cover picture."""
    return bool(re.search(r"matches no streams|specifier 'V:0'", log_text))


def read_video(path: Path, log_text: str) -> Video | None:
    """Returns the video that the log of decoding its first frame describes.

    Args:
      path: the file.
      log_text: all that ffmpeg logged, with a `showinfo` filter after the input.

    Returns:
      The video; None if no frame was decoded.
    """
    frame = _FIRST_FRAME.search(log_text)
    time_base = _TIME_BASE.search(log_text)
    if not frame or not time_base:
        return None
    sar_x, sar_y, width, height = map(int, frame.groups()[:4])
    sar = Fraction(sar_x, sar_y) if sar_x and sar_y else Fraction(1)
    colours = dict(re.findall(r"(color_\w+):(\S+)", "\n".join(_COLOURS.findall(log_text))))
    return Video(
        path=path,
        width=max(1, round(width * sar)),
        height=height,
        time_base=Fraction(time_base[1]),
        duration_seconds=_duration_seconds(log_text),
        zero_us=_zero_us(log_text),
        primaries=colours.get("color_primaries", "unknown"),
        codec=_first(_CODEC, log_text, "unknown"),
        interlaced=frame[5] in "TB",
        high_dynamic_range=colours.get("color_trc") in _HDR_TRANSFERS,
        colour_space=colours.get("color_space", "unknown"),
    )


def _zero_us(log_text: str) -> int:
    """The container's start, in microseconds on its own clock.

    A start before 0 that is only the priming of a sound codec does not count.
    """
    start = round(float(_first(_DURATION_LINE + r".*start: (-?\d+\.\d+)", log_text, "0")) * 1e6)
    picture = round(float(_first(_FIRST_TIME, log_text, "0")) * 1e6)
    return start if start >= 0 else max(start, min(0, picture))


def _duration_seconds(log_text: str) -> float | None:
    match = re.search(_DURATION_LINE + r"(\d+):(\d\d):(\d\d\.\d+)", log_text, re.M)
    if not match or "Estimating duration from bitrate" in log_text:
        return None
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _first(pattern: str, text: str, default: str) -> str:
    match = re.search(pattern, text, re.M)
    return match[1] if match else default
