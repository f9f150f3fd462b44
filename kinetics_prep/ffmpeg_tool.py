"""Which ffmpeg runs, and running it: no shell, a time limit, one input file, a parsed log.

The program is taken from the PATH when it is at least 5.1, else from the `imageio-ffmpeg` package,
which ships one for every platform. There is no ffprobe in that package, so what the pipeline knows
of a file it reads from ffmpeg's own log: the `showinfo` filter prints a line for every frame.
"""

import collections
import dataclasses
import functools
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import ffmpeg
import numpy as np

from kinetics_prep.errors import DecodeTimeout, MissingTool

OLDEST_VERSION = (5, 1)
"""-fps_mode, which replaced -vsync, came with 5.1."""

# Containers that hold their frames themselves. Left out are playlists and scripts (hls, dash,
# concat, imf, sdp), which would make ffmpeg open other files or addresses.
_CONTAINERS = (
    "mov,matroska,avi,asf,flv,gif,mpeg,mpegts,mpegvideo,ogg,m4v,h264,hevc,ivf,obu,mxf,nut,rm,dv,wtv,apng,swf,vob"
)

_INPUT_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": _CONTAINERS,
    "max_pixels": 64_000_000,  # twice 8K; a header can claim 65535x65535
    "threads": 1,  # clips run side by side; and concealment of damage depends on the thread count
}

_GLOBAL_OPTIONS = (
    *("-nostdin", "-hide_banner", "-nostats", "-loglevel", "repeat+level+info"),
    *("-copyts", "-start_at_zero", "-max_alloc", str(1 << 30)),
)

_FRAME = re.compile(rb"\[Parsed_showinfo_\d+ @ \w+\] (?:\[info\] )?n:\s*\d+ pts:\s*(NOPTS|-?\d+) ")
_DURATION = re.compile(rb" duration:\s*(\d+) ")
# Complaints of demuxers and decoders; what the raw output says of odd timestamps is no damage.
_DAMAGE = re.compile(r"\[(?!null|rawvideo|out#|vost)[^\]]* @ \w+\] \[(error|fatal)\] ")
_KEPT_LINES = 400


@dataclasses.dataclass(frozen=True)
class FFmpeg:
    """An ffmpeg program."""

    path: str
    version: str
    """The first line's words after "ffmpeg version", which tell builds apart."""
    has_zscale: bool
    """Whether it can map high dynamic range to standard."""


@functools.cache
def locate() -> FFmpeg:
    """Finds ffmpeg on the PATH, else in `imageio-ffmpeg`.

    Raises:
      MissingTool: if neither can be run.
    """
    found = [path for path in (shutil.which("ffmpeg"), _bundled()) if path]
    seen = []
    for path in found:
        version = _version(path)
        seen.append(f"{path} ({version})")
        if version and _at_least(version, OLDEST_VERSION):
            filters = subprocess.run([path, "-hide_banner", "-filters"], capture_output=True, timeout=60)
            return FFmpeg(path, version, b" zscale " in filters.stdout)
    oldest = ".".join(map(str, OLDEST_VERSION))
    raise MissingTool(
        f"needs ffmpeg {oldest} or newer, found {', '.join(seen) or 'none'}; `pip install imageio-ffmpeg` brings one"
    )


def _bundled() -> str | None:
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # the package raises RuntimeError where it ships no program
        return None


def _version(path: str) -> str | None:
    try:
        head = subprocess.run([path, "-version"], capture_output=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(rb"ffmpeg version (\S+)", head)
    return match and match[1].decode("ascii", "replace")


def _at_least(version: str, oldest: tuple[int, ...]) -> bool:
    numbers = re.match(r"n?(\d+)\.(\d+)", version)
    # Builds from git are called N-12345-gabcdef, and are newer than any release we refuse.
    return version.startswith("N-") or bool(numbers and tuple(map(int, numbers.groups())) >= oldest)


def video_input(path: Path, seek_seconds: float | None = None):
    """ffmpeg-python's node for the first video stream of `path` that is no cover picture.

    `seek_seconds` jumps to the key frame at or before that time; frames from there on are decoded
    and none is dropped.
    """
    options = dict(_INPUT_OPTIONS)
    if seek_seconds is not None:
        options |= {"ss": f"{seek_seconds:.6f}", "noaccurate_seek": None}
    return ffmpeg.input(f"file:{path}", **options)["V:0"]


@dataclasses.dataclass
class Log:
    """What ffmpeg said, in bounded memory whatever a hostile file makes it say."""

    lines: collections.deque = dataclasses.field(default_factory=lambda: collections.deque(maxlen=_KEPT_LINES))
    errors: int = 0

    def add(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        self.errors += bool(_DAMAGE.match(text))
        self.lines.append(text)

    def complaints(self, path: Path, limit: int = 200) -> str:
        """The errors, without addresses and folder names, short enough for a ledger row."""
        said = [line for line in self.lines if "[error]" in line or "[fatal]" in line]
        said = [re.sub(r"\[[^\]]* @ \w+\] |\[(error|fatal)\] ", "", line) for line in said]
        said = [line.replace(f"file:{path}", path.name) for line in said]
        return "; ".join(dict.fromkeys(said))[:limit] or "ffmpeg said nothing"


class Frames:
    """Runs ffmpeg over a graph that ends in RGB frames of one size, and iterates over them.

    Iterating yields (pts, duration, frame): ticks of the graph's clock after its `showinfo`
    filter, and a fresh uint8 [H, W, 3]. Leaving the context ends the program.
    """

    def __init__(self, graph, height: int, width: int, limit_seconds: float):
        output = ffmpeg.output(graph, "pipe:", format="rawvideo", pix_fmt="rgb24", fps_mode="passthrough")
        self.command = output.global_args(*_GLOBAL_OPTIONS).compile(cmd=locate().path)
        self.shape = (height, width, 3)
        self.limit_seconds = limit_seconds
        self.log = Log()
        self.timed_out = False

    def __enter__(self) -> "Frames":
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process = subprocess.Popen(self.command, **pipes)
        self._times = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._timer = threading.Timer(self.limit_seconds, self._expire)
        self._timer.daemon = True
        self._reader.start()
        self._timer.start()
        return self

    def __exit__(self, *_):
        self._timer.cancel()
        self._process.kill()
        self._process.stdout.close()
        self._process.wait()
        self._reader.join()
        self._process.stderr.close()

    def __iter__(self) -> Iterator[tuple[int, int | None, np.ndarray]]:
        while (frame := self._read_frame()) is not None:
            # showinfo logs a frame before it can reach the pipe, so its line is on its way.
            time = self._times.get()
            if time is None:
                raise RuntimeError(f"ffmpeg gave more frames than it named: {self.command}")
            pts, duration = time
            if pts is not None:
                yield pts, duration, frame
        if self.timed_out:
            raise DecodeTimeout(f"decoding took longer than {self.limit_seconds:g} s")

    def _expire(self) -> None:
        self.timed_out = True
        self._process.kill()

    def _read_frame(self) -> np.ndarray | None:
        frame = np.empty(self.shape, np.uint8)
        rest = memoryview(frame).cast("B")
        while rest:
            count = self._process.stdout.readinto(rest)
            if not count:
                return None
            rest = rest[count:]
        return frame

    def _read_log(self) -> None:
        for line in iter(lambda: self._process.stderr.readline(1 << 16), b""):
            if match := _FRAME.match(line):
                duration = _DURATION.search(line)
                pts = None if match[1] == b"NOPTS" else int(match[1])
                self._times.put((pts, int(duration[1]) if duration else None))
            else:
                self.log.add(line)
        self._times.put(None)


def describe_first_frame(path: Path, limit_seconds: float) -> tuple[int, str, Log]:
    """Decodes one frame and throws it away.

    Returns:
      ffmpeg's exit code, everything it logged (for `video.probe` to read), and the log's summary.
    """
    graph = video_input(path).filter("showinfo", checksum=0)
    command = ffmpeg.output(graph, "pipe:", format="null", vframes=1).global_args(*_GLOBAL_OPTIONS)
    try:
        done = subprocess.run(
            command.compile(cmd=locate().path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=limit_seconds,
        )
    except subprocess.TimeoutExpired:
        raise DecodeTimeout(f"reading the first frame took longer than {limit_seconds:g} s") from None
    log = Log()
    for line in done.stderr.splitlines():
        log.add(line)
    return done.returncode, done.stderr.decode("utf-8", "replace"), log
