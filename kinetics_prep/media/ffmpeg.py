"""Finds ffmpeg and builds its command lines: no shell, one input file, limits on what that file can claim.

The program on the PATH is used if it is at least version 5.1, else the program of the package
`imageio-ffmpeg`, which ships one for every platform. That package has no ffprobe, so everything that
the pipeline knows about a file comes from ffmpeg's own log, see `log.py`.
"""

import dataclasses
import functools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, TypeAlias

import ffmpeg

from kinetics_prep.errors import MissingTool

Stream: TypeAlias = Any
"""A node of ffmpeg-python's filter graph. That library has no type hints."""

OLDEST_VERSION = (5, 1)
"""-fps_mode, which replaced -vsync, came with 5.1."""

# Containers that hold their frames themselves. Playlists and scripts (hls, dash, concat, imf, sdp)
# are left out, because they would make ffmpeg open other files or addresses.
_CONTAINERS = (
    "mov,matroska,avi,asf,flv,gif,mpeg,mpegts,mpegvideo,ogg,m4v,h264,hevc,ivf,obu,mxf,nut,rm,dv,wtv,apng,swf,vob"
)

_INPUT_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": _CONTAINERS,
    "max_pixels": 64_000_000,  # twice 8K; a header can claim 65535x65535
    "threads": 1,  # clips are decoded side by side; also, concealment of damage depends on the thread count
}

_GLOBAL_OPTIONS = (
    *("-nostdin", "-hide_banner", "-nostats", "-loglevel", "repeat+level+info"),
    *("-copyts", "-max_alloc", str(1 << 30)),
)


@dataclasses.dataclass(frozen=True)
class FFmpeg:
    """An ffmpeg program."""

    path: str
    version: str
    """The word after "ffmpeg version" in the output of `-version`. It differs between builds."""
    has_zscale: bool
    """Whether it can map high dynamic range to standard."""


@functools.cache
def locate() -> FFmpeg:
    """Returns the ffmpeg on the PATH if it is recent enough, else that of the package `imageio-ffmpeg`.

    Raises:
      MissingTool: if neither runs, or both are too old.
    """
    tried = []
    for path in (shutil.which("ffmpeg"), _bundled()):
        if not path:
            continue
        version = _version(path)
        tried.append(f"{path} ({version})")
        if version and _at_least(version, OLDEST_VERSION):
            filters = subprocess.run([path, "-hide_banner", "-filters"], capture_output=True, timeout=60)
            return FFmpeg(path, version, b" zscale " in filters.stdout)
    oldest = ".".join(map(str, OLDEST_VERSION))
    raise MissingTool(
        f"needs ffmpeg {oldest} or newer, found {', '.join(tried) or 'none'}; `pip install imageio-ffmpeg` brings one"
    )


def _bundled() -> str | None:
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # the package raises RuntimeError where it ships no program
        return None


def _version(path: str) -> str | None:
    try:
        output = subprocess.run([path, "-version"], capture_output=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(rb"ffmpeg version (\S+)", output)
    return match[1].decode("ascii", "replace") if match else None


def _at_least(version: str, oldest: tuple[int, ...]) -> bool:
    numbers = re.match(r"n?(\d+)\.(\d+)", version)
    # Builds from git are called N-12345-gabcdef, and are newer than any release that we refuse.
    return version.startswith("N-") or bool(numbers and tuple(map(int, numbers.groups())) >= oldest)


def video_input(path: Path, seek_seconds: float | None = None) -> Stream:
    """Returns the node of the first video stream of `path` that is not a cover picture.

    Args:
      seek_seconds: decode from the key frame at or before this time on; no frame from there on is dropped. None
        decodes from the file's first frame on.
    """
    options = dict(_INPUT_OPTIONS)
    if seek_seconds is not None:
        options |= {"ss": f"{seek_seconds:.6f}", "noaccurate_seek": None}
    return ffmpeg.input(os.fsencode(f"file:{path}").decode("latin-1"), **options)["V:0"]


def frames_command(graph: Stream) -> list[str]:
    """Returns the command that writes each frame of `graph` to standard output, as raw RGB."""
    return _command(ffmpeg.output(graph, "pipe:", format="rawvideo", pix_fmt="rgb24", fps_mode="passthrough"))


def first_frame_command(path: Path) -> list[str]:
    """Returns the command that decodes the first frame of `path` and writes nothing but its log."""
    graph = video_input(path).filter("showinfo", checksum=0)
    return _command(ffmpeg.output(graph, "pipe:", format="null", vframes=1))


def _command(output: Stream) -> list[str]:
    # ffmpeg-python hashes its nodes as UTF-8, but a file name can be any bytes. So the graph holds the name's bytes
    # as Latin-1, and they are turned back here.
    command = output.global_args(*_GLOBAL_OPTIONS).compile(cmd=locate().path)
    name_index = command.index("-i") + 1
    command[name_index] = os.fsdecode(command[name_index].encode("latin-1"))
    return command
