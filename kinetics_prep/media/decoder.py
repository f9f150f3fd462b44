"""Runs ffmpeg: an iterator over the frames of a graph, and the first frame of a file. Both end at a time limit."""

import contextlib
import dataclasses
import io
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from kinetics_prep.errors import DecodeTimeout, Unreadable
from kinetics_prep.media import ffmpeg
from kinetics_prep.media.log import FrameLine, Log, parse_frame_line

_LONGEST_LINE_BYTES = 1 << 16
_KEPT_BYTES = 4 << 20
"""Of the log of a file's first frame."""
_STOPPED = 255
"""ffmpeg's exit code when a signal asks it to end. It then ends like after a shorter video."""


class Decoder:
    """Runs ffmpeg over a graph that ends in frames of one size, and iterates over them.

    Iterating yields (pts, duration, frame): ticks of the graph's clock after its `showinfo` filter, and a new
    uint8 [H, W, 3], RGB. The duration is None where ffmpeg does not know it; frames without a timestamp are left out.
    Iterating raises `DecodeTimeout` after `limit_seconds` and `Unreadable` if ffmpeg is killed. Leaving the context
    ends the program.
    """

    def __init__(self, graph: ffmpeg.Stream, height: int, width: int, limit_seconds: float) -> None:
        self.command = ffmpeg.frames_command(graph)
        self.shape = (height, width, 3)
        self.limit_seconds = limit_seconds
        self.log = Log()
        """Every line but those of frames."""
        self.begins_with_key: bool | None = None
        """Whether the first frame is a key frame; None before there is a frame. If not, a seek went wrong."""
        self.exit_code: int | None = None
        """ffmpeg's, after the last frame is read."""

    def __enter__(self) -> "Decoder":
        self._process = _start(self.command, stdout=subprocess.PIPE)
        self._stdout, self._stderr = _reader(self._process.stdout), _reader(self._process.stderr)
        self._frame_lines: queue.SimpleQueue[FrameLine | None] = queue.SimpleQueue()
        self._log_thread = threading.Thread(target=self._read_log, daemon=True)
        self._time_limit = _TimeLimit(self._process, self.limit_seconds)
        self._log_thread.start()
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._time_limit.cancel()
        _kill(self._process)
        self._stdout.close()
        self._process.wait()
        self._log_thread.join()
        self._stderr.close()

    def __iter__(self) -> Iterator[tuple[int, int | None, np.ndarray]]:
        while (frame := self._read_frame()) is not None:
            # showinfo logs a frame before the frame can reach the pipe, so the line has been written already.
            line = self._frame_lines.get()
            if line is None:
                raise RuntimeError(f"ffmpeg wrote more frames than it logged: {self.command}")
            if self.begins_with_key is None:
                self.begins_with_key = line.is_key
            if line.pts is not None:
                yield line.pts, line.duration, frame
        if self._time_limit.is_over:
            raise DecodeTimeout(f"decoding took longer than {self.limit_seconds:g} s")
        self.exit_code = self._process.wait()
        if self.exit_code < 0 or self.exit_code == _STOPPED:
            raise Unreadable(f"ffmpeg died, or was killed, in mid-decode (exit code {self.exit_code})")

    def _read_frame(self) -> np.ndarray | None:
        frame = np.empty(self.shape, np.uint8)
        rest = frame.data.cast("B")
        while rest:
            count = self._stdout.readinto(rest)
            if not count:
                return None
            rest = rest[count:]
        return frame

    def _read_log(self) -> None:
        for line in iter(lambda: self._stderr.readline(_LONGEST_LINE_BYTES), b""):
            frame_line = parse_frame_line(line)
            if frame_line is None:
                self.log.add(line)
            else:
                self._frame_lines.put(frame_line)
        self._frame_lines.put(None)


@dataclasses.dataclass(frozen=True)
class FirstFrame:
    """The result of decoding the first frame of a file."""

    exit_code: int
    """ffmpeg's; 0 if a frame was decoded."""
    log_text: str
    """All of the log, for `log.read_video`; cut off after 4 MiB."""
    log: Log
    """The same, for its complaints."""


def decode_first_frame(path: Path, limit_seconds: float) -> FirstFrame:
    """Decodes the first frame of a file; keeps the log and not the frame.

    Raises:
      DecodeTimeout: if this takes longer than `limit_seconds`.
    """
    process = _start(ffmpeg.first_frame_command(path), stdout=subprocess.DEVNULL)
    stderr, time_limit = _reader(process.stderr), _TimeLimit(process, limit_seconds)
    data = b""
    try:
        data = stderr.read(_KEPT_BYTES)
    finally:
        time_limit.cancel()
        if len(data) == _KEPT_BYTES:  # ffmpeg would wait for ever for the rest to be read
            _kill(process)
        exit_code = process.wait()
        stderr.close()
    if time_limit.is_over:
        raise DecodeTimeout(f"reading the first frame took longer than {limit_seconds:g} s")
    log = Log()
    for line in data.splitlines():
        log.add(line)
    return FirstFrame(exit_code, data.decode("utf-8", "replace"), log)


class _TimeLimit:
    """Kills a program after some seconds, unless it is cancelled before."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.is_over = False
        self._process = process
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        self.is_over = True
        _kill(self._process)


def _start(command: list[str], stdout: int) -> subprocess.Popen[bytes]:
    # In a session of its own: Ctrl-C is meant for us, and ffmpeg would take it for the video's end.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=_environment(),
        start_new_session=True,
    )


def _reader(pipe: IO[bytes] | None) -> io.BufferedReader:
    """Returns a pipe of a program as the buffered reader that it is; the hints of Popen are vaguer."""
    if not isinstance(pipe, io.BufferedReader):
        raise RuntimeError(f"expected a buffered pipe from ffmpeg, got {pipe}")
    return pipe


def _environment() -> dict[str, str]:
    """Returns our environment variables, without what importing cv2 adds to LD_LIBRARY_PATH.

    cv2 adds the folder of its own libraries, and an empty entry, which makes programs look for libraries in the
    current folder.
    """
    environment = dict(os.environ)
    folders = environment.pop("LD_LIBRARY_PATH", "").split(":")
    if kept := [folder for folder in folders if folder and "cv2" not in Path(folder).parts]:
        environment["LD_LIBRARY_PATH"] = ":".join(kept)
    return environment


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a program and its children: the ffmpeg on the PATH can be a script that starts the real program."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
