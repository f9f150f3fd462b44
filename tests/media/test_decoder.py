"""Running ffmpeg: frames with their times, time limits, and nothing left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import numbered_frames, write_video

from kinetics_prep.errors import DecodeTimeout, Unreadable
from kinetics_prep.media import ffmpeg
from kinetics_prep.media.decoder import Decoder, decode_first_frame

HEIGHT, WIDTH = 48, 64
FRAME_BYTES = HEIGHT * WIDTH * 3


@pytest.fixture(scope="module")
def video_path(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "v.mp4", numbered_frames(500))


def decoder_of(path: Path, scale: int = 1, limit_seconds: float = 60.0) -> Decoder:
    graph = ffmpeg.video_input(path).filter("settb", "1/1000").filter("showinfo", checksum=0)
    size = HEIGHT * scale, WIDTH * scale
    return Decoder(graph.filter("scale", size[1], size[0]), *size, limit_seconds)


def decoder_running(path: Path, script: str, limit_seconds: float = 60.0) -> Decoder:
    """A decoder of 64x48 that runs a shell script in ffmpeg's place."""
    decoder = decoder_of(path, limit_seconds=limit_seconds)
    decoder.command = ["sh", "-c", script]
    return decoder


def logged_frame(pts: str, duration: str = " duration:     40 ", key: int = 1) -> str:
    line = f"[Parsed_showinfo_1 @ 0x7f27] [info] n:   0 pts: {pts} pts_time:0 {duration} iskey:{key} type:I "
    return f"echo '{line}' >&2; head -c {FRAME_BYTES} /dev/zero\n"


# Frames


def test_frames_come_with_their_times_and_are_the_callers_own(tmp_path):
    path = write_video(tmp_path / "v.mp4", numbered_frames(5))
    with decoder_of(path) as decoder:
        times, durations, frames = zip(*decoder)
    assert times == (0, 40, 80, 120, 160) and durations == (40,) * 5
    assert all((frame == truth).all() for frame, truth in zip(frames, numbered_frames(5)))
    frames[0][:] = 7
    assert (frames[1] == numbered_frames(5)[1]).all()
    assert (decoder.begins_with_key, decoder.exit_code, decoder.log.errors) == (True, 0, 0)


def test_colours_come_in_the_order_red_green_blue(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)
    path = write_video(tmp_path / "v.mp4", noise)
    with decoder_of(path) as decoder:
        assert all((frame == truth).all() for (_, _, frame), truth in zip(decoder, noise, strict=True))


def test_a_frame_without_a_timestamp_is_left_out_and_the_next_keeps_its_own(video_path):
    script = logged_frame("NOPTS", key=0) + logged_frame("-80") + logged_frame("7", duration="", key=0)
    with decoder_running(video_path, script) as decoder:
        assert [(pts, duration) for pts, duration, _ in decoder] == [(-80, 40), (7, None)]
    assert decoder.begins_with_key is False  # of the first frame, which had no timestamp


def test_more_frames_than_the_log_names_is_a_bug(video_path):
    with (
        decoder_running(video_path, logged_frame("0") + f"head -c {FRAME_BYTES} /dev/zero") as decoder,
        pytest.raises(RuntimeError, match="more frames than it logged"),
    ):
        list(decoder)


def test_half_a_frame_at_the_end_is_not_a_frame(video_path):
    with decoder_running(video_path, logged_frame("0") + f"head -c {FRAME_BYTES - 1} /dev/zero") as decoder:
        assert len(list(decoder)) == 1


# Ends


def test_an_abandoned_decode_ends_the_program(video_path):
    with decoder_of(video_path, scale=10) as decoder:
        next(iter(decoder))
    with pytest.raises(ChildProcessError):
        os.waitpid(decoder._process.pid, os.WNOHANG)


def test_a_killed_ffmpeg_is_not_the_end_of_the_video(video_path):
    """As the kernel does when memory runs out: half a clip must not pass for a video that ends early."""
    with (
        pytest.raises(Unreadable, match=r"was killed, in mid-decode \(exit code -9\)"),
        decoder_of(video_path, scale=10) as decoder,
    ):
        for k, _ in enumerate(decoder):
            if k == 5:
                os.kill(decoder._process.pid, signal.SIGKILL)


@pytest.mark.parametrize("script, code", [("exit 255", 255), ("kill -15 $$", -15), ("kill -9 $$", -9)])
def test_an_end_by_a_signal_is_an_error(video_path, script, code):
    with (
        decoder_running(video_path, logged_frame("0") + script) as decoder,
        pytest.raises(Unreadable, match=rf"exit code {code}\)"),
    ):
        list(decoder)


def test_an_exit_code_of_its_own_is_for_the_caller_to_judge(video_path):
    with decoder_running(video_path, "echo '[h264 @ 0x1] [error] bad' >&2; exit 69") as decoder:
        assert list(decoder) == []
    assert (decoder.exit_code, decoder.log.errors, decoder.begins_with_key) == (69, 1, None)


def test_decoding_stops_at_the_time_limit_and_takes_the_programs_children_along(video_path, tmp_path):
    """An ffmpeg on the PATH can be a script that starts the real one, which would keep the pipe open."""
    outlived = tmp_path / "outlived"
    script = f"(sleep 5; touch {outlived}) & wait"
    with (
        decoder_running(video_path, script, limit_seconds=0.3) as decoder,
        pytest.raises(DecodeTimeout, match=r"longer than 0\.3 s"),
    ):
        list(decoder)  # returns when nothing holds the pipe open
    assert not outlived.exists()


def test_a_log_without_line_ends_does_not_fill_memory(video_path):
    with decoder_running(video_path, "head -c 3000000 /dev/zero >&2") as decoder:
        assert list(decoder) == []
    assert max(map(len, decoder.log.lines)) <= 1 << 16


# The first frame


def test_the_first_frame_is_decoded_and_the_second_is_not(video_path):
    first = decode_first_frame(video_path, limit_seconds=60.0)
    assert first.exit_code == 0 and first.log.errors == 0
    assert "s:64x48" in first.log_text and "frame=    1 " in first.log_text


def test_a_file_that_makes_ffmpeg_log_without_end_is_cut_off(video_path, monkeypatch):
    monkeypatch.setattr(
        ffmpeg,
        "first_frame_command",
        lambda path: ["sh", "-c", "exec timeout --foreground 20 yes '[x @ 0x1] [error] bad' >&2"],
    )
    first = decode_first_frame(video_path, limit_seconds=60.0)
    assert (len(first.log_text), first.exit_code) == (4 << 20, -9)
    assert first.log.errors > 100_000 and len(first.log.lines) < 1000


def test_reading_the_first_frame_stops_at_the_time_limit(video_path, monkeypatch):
    monkeypatch.setattr(ffmpeg, "first_frame_command", lambda path: ["sleep", "20"])
    with pytest.raises(DecodeTimeout, match=r"reading the first frame took longer than 0\.1 s"):
        decode_first_frame(video_path, limit_seconds=0.1)


# What it runs in


def test_ffmpeg_runs_without_a_shell_and_without_our_standard_input(tmp_path):
    """A pipeline's standard input may be a terminal, which ffmpeg would read commands from."""
    path = write_video(tmp_path / "v.mp4", numbered_frames(5))
    code = f"""
from pathlib import Path
from kinetics_prep.media import video
video.trim(video.probe(Path({str(path)!r})), 0.0, 0.2, min_seconds=0.0)
print(len(input()))
"""
    completed = subprocess.run([sys.executable, "-c", code], input=b"qqq\n", capture_output=True)
    assert completed.stdout.strip() == b"3"


@pytest.mark.parametrize(
    "ours, expected",
    [
        ("/opt/lib:/venv/cv2/../../lib64::/usr/lib", "/opt/lib:/usr/lib"),
        ("/venv/lib/cv2:", None),
        (":", None),
        ("/opt/mycv2/lib", "/opt/mycv2/lib"),
    ],
)
def test_ffmpeg_does_not_get_the_libraries_of_opencv(video_path, monkeypatch, ours, expected):
    monkeypatch.setenv("LD_LIBRARY_PATH", ours)
    with decoder_running(video_path, 'echo "${LD_LIBRARY_PATH-unset}" >&2') as decoder:
        list(decoder)
    assert list(decoder.log.lines) == [expected or "unset"]
    assert os.environ["LD_LIBRARY_PATH"] == ours


def test_ffmpeg_is_not_in_our_session(video_path):
    """Ctrl-C is sent to all of a terminal's session, and ffmpeg would take it for the end of the video."""
    with decoder_of(video_path) as decoder:
        assert os.getsid(decoder._process.pid) != os.getsid(0)
