"""Which ffmpeg runs, with what it may touch, and what is kept of what it says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import numbered_frames, write_video

from kinetics_prep.errors import MissingTool
from kinetics_prep.media import ffmpeg as ffmpeg_tool


@pytest.fixture
def only_on_the_path(tmp_path, monkeypatch):
    """Puts one program called ffmpeg on the PATH, and nothing else."""

    def put(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "ffmpeg"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        return program

    return put


locate = ffmpeg_tool.locate.__wrapped__
"""Without its memory."""


def test_the_ffmpeg_on_the_path_comes_first(only_on_the_path):
    real = ffmpeg_tool.locate().path
    program = only_on_the_path(f'exec "{real}" "$@"')
    assert locate().path == str(program)
    assert locate().version == ffmpeg_tool.locate().version


@pytest.mark.parametrize(
    "script",
    ["echo ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright", "echo something else", "exit 1"],
    ids=["old", "another program", "broken"],
)
def test_an_ffmpeg_that_will_not_do_gives_way_to_the_bundled_one(only_on_the_path, script):
    pytest.importorskip("imageio_ffmpeg")
    program = only_on_the_path(script)
    assert locate().path != str(program)


def test_no_ffmpeg_on_the_path_is_no_hindrance(tmp_path, monkeypatch):
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert os.access(locate().path, os.X_OK)


def test_no_ffmpeg_at_all_is_named_with_the_remedy(only_on_the_path, monkeypatch):
    only_on_the_path("echo ffmpeg version 4.4.2")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # as if not installed
    with pytest.raises(MissingTool, match=r"needs ffmpeg 5\.1 or newer, found .*4\.4\.2.*pip install imageio-ffmpeg"):
        locate()


@pytest.mark.parametrize(
    "version, enough",
    [
        ("5.1.9-0+deb12u1", True),
        ("n9.0.2-17-g2a571b6068-20260930", True),
        ("10.0", True),
        ("7.0.2-static", True),
        ("N-118000-g0123456789", True),
        ("5.0.3", False),
        ("4.4.2-0ubuntu0.22.04.1", False),
        ("git", False),
    ],
)
def test_versions_are_compared_as_numbers(version, enough):
    assert ffmpeg_tool._at_least(version, (5, 1)) is enough


def test_frames_come_with_their_times_and_are_the_callers_own(tmp_path):
    path = write_video(tmp_path / "v.mp4", numbered_frames(5))
    graph = ffmpeg_tool.video_input(path).filter("settb", "1/1000").filter("showinfo", checksum=0).filter("null")
    with ffmpeg_tool.Frames(graph, 48, 64, limit_seconds=60.0) as decoder:
        times, frames = zip(*((pts, frame) for pts, _, frame in decoder))
    assert times == (0, 40, 80, 120, 160)
    assert all((frame == truth).all() for frame, truth in zip(frames, numbered_frames(5)))


def test_an_abandoned_decode_ends_the_program(tmp_path):
    path = write_video(tmp_path / "v.mp4", numbered_frames(500))
    graph = ffmpeg_tool.video_input(path).filter("showinfo", checksum=0).filter("scale", 640, 480)
    with ffmpeg_tool.Frames(graph, 480, 640, limit_seconds=60.0) as decoder:
        next(iter(decoder))
    with pytest.raises(ChildProcessError):
        os.waitpid(decoder._process.pid, os.WNOHANG)


def test_the_log_keeps_the_last_lines_and_counts_damage():
    log = ffmpeg_tool.Log()
    for k in range(5000):
        log.add(b"[h264 @ 0x55d2] [error] error while decoding MB %d\n" % k)
    log.add(b"[info] all is well\n")
    assert log.errors == 5000 and len(log.lines) < 1000
    assert log.lines[-1] == "[info] all is well"


def test_what_the_muxer_says_of_timestamps_is_no_damage():
    log = ffmpeg_tool.Log()
    log.add(b"[rawvideo @ 0x55d2] [error] Application provided invalid, non monotonically increasing dts to muxer\n")
    assert log.errors == 0


def test_complaints_are_short_and_name_no_folder_or_address(tmp_path):
    path, log = tmp_path / "v.mp4", ffmpeg_tool.Log()
    log.add(f"[in#0 @ 0x55d2] [error] Error opening file:{path}".encode())
    log.add(b"[error] " + 1000 * b"x")
    said = log.complaints(path)
    assert said.startswith("Error opening v.mp4; xxx") and len(said) <= 200
    assert ffmpeg_tool.Log().complaints(path) == "ffmpeg said nothing"


def test_ffmpeg_runs_without_a_shell_and_without_our_standard_input(tmp_path):
    """A pipeline's standard input may be a terminal, which ffmpeg would read commands from."""
    path = write_video(tmp_path / "v.mp4", numbered_frames(5))
    code = f"""
from pathlib import Path
from kinetics_prep import video
video.trim(video.probe(Path({str(path)!r})), 0.0, 0.2, min_seconds=0.0)
print(len(input()))
"""
    done = subprocess.run([sys.executable, "-c", code], input=b"qqq\n", capture_output=True)
    assert done.stdout.strip() == b"3"
