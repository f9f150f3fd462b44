"""Which ffmpeg runs, and what its command lines allow it to touch."""

import itertools
import os
import sys
from pathlib import Path

import pytest

from kinetics_prep.errors import MissingTool
from kinetics_prep.media import ffmpeg


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


locate = ffmpeg.locate.__wrapped__
"""Without its memory."""


def test_the_ffmpeg_on_the_path_comes_first(only_on_the_path):
    real = ffmpeg.locate().path
    program = only_on_the_path(f'exec "{real}" "$@"')
    assert locate().path == str(program)
    assert locate().version == ffmpeg.locate().version


@pytest.mark.parametrize(
    "script",
    ["echo ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright", "echo something else", "exit 1"],
    ids=["old", "another program", "broken"],
)
def test_an_unusable_ffmpeg_on_the_path_is_passed_over_for_the_bundled_one(only_on_the_path, script):
    pytest.importorskip("imageio_ffmpeg")
    program = only_on_the_path(script)
    assert locate().path != str(program)


def test_without_ffmpeg_on_the_path_the_bundled_one_is_used(tmp_path, monkeypatch):
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
    assert ffmpeg._at_least(version, (5, 1)) is enough


@pytest.mark.parametrize(
    "listed, has_zscale", [(" .S zscale            V->V ", True), (" .. zscales ", False), ("", False)]
)
def test_zscale_is_looked_up_in_the_list_of_filters(only_on_the_path, listed, has_zscale):
    case = f'case "$*" in -version) echo ffmpeg version 7.1-x;; "-hide_banner -filters") echo "{listed}";; esac'
    program = only_on_the_path(case)
    assert locate() == ffmpeg.FFmpeg(str(program), "7.1-x", has_zscale)


# Commands


def options(command: list[str]) -> dict[str, str]:
    """Each option of a command with the word after it."""
    return {word: after for word, after in itertools.pairwise(command) if word.startswith("-")}


COMMANDS = {
    "frames": lambda path: ffmpeg.frames_command(ffmpeg.video_input(path).filter("showinfo")),
    "first frame": ffmpeg.first_frame_command,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_opens_one_local_file_and_no_playlist(name):
    command = COMMANDS[name](Path("/videos/a.mp4"))
    given = options(command)
    assert command.count("-i") == 1 and given["-i"] == "file:/videos/a.mp4"
    assert given["-protocol_whitelist"] == "file"
    containers = given["-format_whitelist"].split(",")
    assert {"mov", "matroska", "mpegts", "avi"} <= set(containers)
    assert not {"hls", "dash", "concat", "imf", "sdp", "rtsp", "image2", "lavfi", "applehttp"} & set(containers)
    assert all(command.index(word) < command.index("-i") for word in ("-protocol_whitelist", "-format_whitelist"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_limits_what_a_file_can_take(name):
    command = COMMANDS[name](Path("a.mp4"))
    given = options(command)
    assert (given["-max_pixels"], given["-max_alloc"], given["-threads"]) == ("64000000", str(1 << 30), "1")
    assert command.index("-threads") < command.index("-i")  # of the decoder, not of the output
    assert "-nostdin" in command and given["-loglevel"] == "repeat+level+info"


def test_frames_leave_as_raw_rgb_and_none_is_dropped_or_repeated():
    given = options(COMMANDS["frames"](Path("a.mp4")))
    assert (given["-f"], given["-pix_fmt"], given["-fps_mode"]) == ("rawvideo", "rgb24", "passthrough")
    assert "-copyts" in given


@pytest.mark.parametrize("name", ["-dash.mp4", "co:lon.mp4", "snöwman☃.mp4", os.fsdecode(b"latin1\xe9\xff.mp4")])
def test_a_file_name_reaches_the_command_line_byte_for_byte(name):
    command = ffmpeg.first_frame_command(Path(name))
    assert os.fsencode(options(command)["-i"]) == b"file:" + os.fsencode(name)
