"""Which ffmpeg runs, and running it: no shell, a time limit, one input file, a parsed log.

The program is taken from the PATH when it is at least 5.1, else from the `imageio-ffmpeg` package,
which ships one for every platform. There is no ffprobe in that package, so what the pipeline knows
of a file it reads from ffmpeg's own log: the `showinfo` filter prints a line for every frame.
"""

import collections
import contextlib
import dataclasses
import functools
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import ffmpeg
import numpy as np

from kinetics_prep.errors import DecodeTimeout, MissingTool, Unreadable

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
    *("-copyts", "-max_alloc", str(1 << 30)),
)

_FRAME = re.compile(rb"\[Parsed_showinfo_\d+ @ \w+\] (?:\[info\] )?n:\s*\d+ pts:\s*(NOPTS|-?\d+) ")
_DURATION = re.compile(rb" duration:\s*(\d+) ")
_KEY = re.compile(rb" iskey:1 ")
# Complaints of demuxers and decoders; what the raw output says of odd timestamps is no damage.
_DAMAGE = re.compile(r"\[(?!null|rawvideo|out#|vost)[^\]]* @ \w+\] \[(error|fatal)\] ")
_KEPT_LINES = 400
_KEPT_BYTES = 4 << 20
_STOPPED = 255
"""ffmpeg's exit code when a signal asks it to end; it then leaves what it has, like a shorter video."""


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
    return ffmpeg.input(os.fsencode(f"file:{path}").decode("latin-1"), **options)["V:0"]


def _command(output) -> list[str]:
    """ffmpeg-python hashes its nodes as UTF-8, which a file name need not be: it travels as Latin-1."""
    command = output.global_args(*_GLOBAL_OPTIONS).compile(cmd=locate().path)
    at = command.index("-i") + 1
    command[at] = os.fsdecode(command[at].encode("latin-1"))
    return command


def _started(command: list[str], stdout: int) -> subprocess.Popen:
    # In a session of its own: Ctrl-C is meant for us, and ffmpeg would take it for the video's end.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """Ours, without what importing cv2 leaves in it: its own libraries, and an empty entry, which
    makes programs look for libraries in whatever folder one stands."""
    environment = dict(os.environ)
    folders = environment.pop("LD_LIBRARY_PATH", "").split(":")
    if kept := [folder for folder in folders if folder and "cv2" not in Path(folder).parts]:
        environment["LD_LIBRARY_PATH"] = ":".join(kept)
    return environment


def _end(process: subprocess.Popen) -> None:
    """Kills a program and, where ffmpeg is a script around another, that one too."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


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
        self.command = _command(output)
        self.shape = (height, width, 3)
        self.limit_seconds = limit_seconds
        self.log = Log()
        self.timed_out = False
        self.begins_with_key: bool | None = None
        """Whether the first frame is a key frame, once there is one; if not, a seek went wrong."""
        self.exit_code: int | None = None
        """ffmpeg's, once the last frame is read."""

    def __enter__(self) -> "Frames":
        self._process = _started(self.command, stdout=subprocess.PIPE)
        self._times = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._timer = threading.Timer(self.limit_seconds, self._expire)
        self._timer.daemon = True
        self._reader.start()
        self._timer.start()
        return self

    def __exit__(self, *_):
        self._timer.cancel()
        _end(self._process)
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
            pts, duration, key = time
            if self.begins_with_key is None:
                self.begins_with_key = key
            if pts is not None:
                yield pts, duration, frame
        if self.timed_out:
            raise DecodeTimeout(f"decoding took longer than {self.limit_seconds:g} s")
        self.exit_code = self._process.wait()
        if self.exit_code < 0 or self.exit_code == _STOPPED:
            raise Unreadable(f"ffmpeg died, or was killed, in mid-decode (exit code {self.exit_code})")

    def _expire(self) -> None:
        self.timed_out = True
        _end(self._process)

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
                self._times.put((pts, int(duration[1]) if duration else None, bool(_KEY.search(line))))
            else:
                self.log.add(line)
        self._times.put(None)


def describe_first_frame(path: Path, limit_seconds: float) -> tuple[int, str, Log]:
    """Decodes one frame and throws it away.

    Returns:
      ffmpeg's exit code, everything it logged (for `video.probe` to read), and the log's summary.
    """
    graph = video_input(path).filter("showinfo", checksum=0)
    command = _command(ffmpeg.output(graph, "pipe:", format="null", vframes=1))
    process, timed_out = _started(command, stdout=subprocess.DEVNULL), threading.Event()
    timer = threading.Timer(limit_seconds, lambda: (timed_out.set(), _end(process)))
    timer.daemon = True
    timer.start()
    said = b""
    try:
        said = process.stderr.read(_KEPT_BYTES)
    finally:
        timer.cancel()
        if len(said) == _KEPT_BYTES:  # it would go on for ever
            _end(process)
        code = process.wait()
        process.stderr.close()
    if timed_out.is_set():
        raise DecodeTimeout(f"reading the first frame took longer than {limit_seconds:g} s")
    log = Log()
    for line in said.splitlines():
        log.add(line)
    return code, said.decode("utf-8", "replace"), log
