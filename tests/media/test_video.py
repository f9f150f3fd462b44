"""Frame k of a clip is the frame that the video shows at start + k / fps, upright and in its colours.

Most videos here are rendered from frames that show their own number, with timestamps that we chose.
So the expected frame at each moment follows from those, and from nothing in ffmpeg's output.
"""

import bisect
import dataclasses
import os
import re
import subprocess
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import number_of, numbered_frames, write_video

from kinetics_prep.errors import (
    ClipError,
    ClipOutOfRange,
    DecodeTimeout,
    NoVideoStream,
    TooShort,
    Unreadable,
)
from kinetics_prep.media import ffmpeg, video
from kinetics_prep.media.clip import Clip, Video
from kinetics_prep.media.graph import clip_graph
from kinetics_prep.media.log import Log

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
B_FRAMES = (*H264, "-bf", "3")
ONE_KEY_FRAME = (*B_FRAMES, "-g", "9999", "-sc_threshold", "0")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M")
MPEG4 = ("-c:v", "mpeg4", "-q:v", "2")
NTSC = Fraction(30_000, 1001)
FILM = Fraction(24_000, 1001)


def run_ffmpeg(*arguments) -> None:
    """Makes test material."""
    command = [ffmpeg.locate().path, "-y", "-v", "error", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def trimmed(path: Path, start_seconds: float, seconds: float, **options) -> Clip:
    options = {"short_side": 48, "min_seconds": 0.0} | options
    return video.trim(video.probe(path), start_seconds, seconds, **options)


def numbers(clip: Clip) -> list[int]:
    return [number_of(frame) for frame in clip.frames]


def expected_numbers(times: list, start_seconds: float, count: int, fps=25, clear_seconds=0.001) -> list[int]:
    """Which of the frames with these timestamps are shown at start + k / fps, k < count.

    Refuses moments so near a timestamp that a container's rounding of it would decide.
    """
    chosen = []
    for k in range(count):
        moment = start_seconds + k / Fraction(fps)
        distance = min(abs(float(time - moment)) for time in times)
        assert distance >= clear_seconds, f"{float(moment)} s is {distance} s from a timestamp: choose another start"
        chosen.append(max(0, bisect.bisect_right(times, moment) - 1))
    return chosen


def steady(count: int, fps=25) -> list[Fraction]:
    return [Fraction(k) / Fraction(fps) for k in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def numbered(folder) -> Path:
    """300 numbered frames, 12 s at 25 fps, lossless, every frame a key frame. Other videos are made from it."""
    return write_video(folder / "numbered.nut", numbered_frames(300), options=("-c:v", "ffv1", "-pix_fmt", "bgr0"))


@pytest.fixture(scope="module")
def twelve_seconds(folder, numbered) -> Path:
    """The same as H.264 with B-frames and a key frame every four seconds."""
    path = folder / "twelve.mp4"
    run_ffmpeg("-i", numbered, *B_FRAMES, "-g", 100, "-sc_threshold", 0, path)
    return path


@pytest.fixture(scope="module")
def one_key_frame(folder, numbered) -> Path:
    path = folder / "one_key_frame.mp4"
    run_ffmpeg("-i", numbered, *ONE_KEY_FRAME, path)
    return path


# Constant and variable frame rates


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("fps", [10, FILM, NTSC, 30, 60], ids=["10", "23.976", "29.97", "30", "60"])
def test_trim_shows_the_frame_of_the_moment_at_any_constant_rate(tmp_path, fps, suffix):
    count = int(4 * fps)
    path = write_video(tmp_path / f"v.{suffix}", numbered_frames(count), Fraction(fps), B_FRAMES)
    for start in (0.005, 2.505) if fps == 60 else (0.01, 2.51) if fps in (10, 30) else (0.037, 2.5395):
        assert numbers(trimmed(path, start, 0.8)) == expected_numbers(steady(count, fps), start, 20)


def test_trim_at_the_rate_of_the_video_gives_every_frame_once(tmp_path):
    path = write_video(tmp_path / "v.mp4", numbered_frames(90), NTSC, B_FRAMES)
    assert numbers(trimmed(path, 0.0, 3.0, fps=NTSC)) == list(range(90))
    assert numbers(trimmed(path, 30 / NTSC, 1.0, fps=NTSC)) == list(range(30, 60))


@pytest.mark.parametrize("suffix, options", [("mp4", B_FRAMES), ("mkv", B_FRAMES), ("webm", VP8)])
def test_trim_follows_a_frame_rate_that_drifts(tmp_path, numbered, suffix, options):
    path = tmp_path / f"v.{suffix}"
    write_retimed(numbered, path, "N*0.02+N*N/8000", options)
    times = [Fraction(n, 50) + Fraction(n * n, 8000) for n in range(300)]
    for start, count in ((0.014, 5), (1.0685, 12), (3.155, 12), (7.0045, 20)):
        assert numbers(trimmed(path, start, count / 25)) == expected_numbers(times, start, count)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_trim_follows_a_rate_that_jumps_from_10_to_60_fps(tmp_path, numbered, suffix):
    path = tmp_path / f"v.{suffix}"
    write_retimed(numbered, path, "if(lt(N,20),N/10,2+(N-20)/60)")
    times = [Fraction(n, 10) if n < 20 else 2 + Fraction(n - 20, 60) for n in range(300)]
    for start in (0.01, 1.605, 4.005):
        assert numbers(trimmed(path, start, 0.8)) == expected_numbers(times, start, 20)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_trim_repeats_a_frame_that_the_video_holds_for_seconds(tmp_path, numbered, suffix):
    path = tmp_path / f"v.{suffix}"
    write_retimed(numbered, path, "N/25+5*gt(N,50)")
    times = [Fraction(n, 25) + 5 * (n > 50) for n in range(300)]
    assert numbers(trimmed(path, 1.81, 0.8)) == expected_numbers(times, 1.81, 20)
    assert numbers(trimmed(path, 4.01, 0.8)) == [50] * 20  # seeks into the pause
    assert numbers(trimmed(path, 6.61, 0.8)) == expected_numbers(times, 6.61, 20)


def write_retimed(source: Path, path: Path, seconds: str, options=B_FRAMES) -> None:
    """Gives frame N the timestamp that an expression of N computes."""
    filters = f"settb=1/90000,setpts='({seconds})/TB'"
    timing = ("-fps_mode", "passthrough", "-enc_time_base", "1/90000")
    run_ffmpeg("-i", source, "-vf", filters, *timing, *options, path)


def test_trim_to_a_lower_rate_takes_the_frames_of_those_moments(twelve_seconds):
    assert numbers(trimmed(twelve_seconds, 2.01, 2.0, fps=Fraction(5))) == list(range(50, 100, 5))


def test_trim_to_a_higher_rate_repeats_frames(twelve_seconds):
    assert numbers(trimmed(twelve_seconds, 2.005, 0.2, fps=Fraction(50))) == [50, 50, 51, 51, 52, 52, 53, 53, 54, 54]


# Where time 0 is


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_time_0_is_the_start_of_a_container_that_starts_late(tmp_path, twelve_seconds, suffix):
    path = tmp_path / f"late.{suffix}"
    run_ffmpeg("-i", twelve_seconds, "-c", "copy", "-output_ts_offset", 7.3, path)
    for start in (0.01, 6.01):
        assert numbers(trimmed(path, start, 0.8)) == expected_numbers(steady(300), start, 20)


@pytest.mark.parametrize("suffix, audio", [("mp4", "aac"), ("mkv", "pcm_s16le"), ("mov", "pcm_s16le"), ("ts", "mp2")])
def test_time_0_is_the_start_of_the_sound_where_the_picture_comes_later(tmp_path, twelve_seconds, suffix, audio):
    path = tmp_path / f"v.{suffix}"
    sound = ("-f", "lavfi", "-i", "sine=duration=13")
    run_ffmpeg(
        *sound, "-itsoffset", 0.7, "-i", twelve_seconds, "-map", 0, "-map", 1, "-c:v", "copy", "-c:a", audio, path
    )
    late = [time + Fraction(7, 10) for time in steady(300)]
    clip = trimmed(path, 0.01, 0.8)
    assert numbers(clip) == expected_numbers(late, 0.01, 20, clear_seconds=0.009)
    assert any(note.startswith(("first frame is shown 0.69", "first frame is shown 0.7")) for note in clip.notes)
    assert numbers(trimmed(path, 6.01, 0.8)) == expected_numbers(late, 6.01, 20, clear_seconds=0.009)


@pytest.mark.parametrize("offset_seconds, is_noted", [(0.03, False), (0.06, True)])
def test_a_picture_that_comes_more_than_a_frame_late_is_noted(tmp_path, twelve_seconds, offset_seconds, is_noted):
    path, sound = tmp_path / "v.mkv", ("-f", "lavfi", "-i", "sine=duration=2")
    picture = ("-itsoffset", offset_seconds, "-i", twelve_seconds)
    run_ffmpeg(*sound, *picture, "-map", 0, "-map", 1, "-c:v", "copy", "-c:a", "pcm_s16le", path)
    clip = trimmed(path, 0.0, 0.4)
    assert len(clip) == 10 and bool(clip.notes) is is_noted
    assert not is_noted or re.match(r"first frame is shown 0\.0(59|60) s after the start", clip.notes[0])


@pytest.mark.parametrize("suffix, audio", [("webm", "libopus"), ("mkv", "aac"), ("mp4", "aac")])
def test_the_priming_of_a_sound_codec_does_not_move_the_picture(tmp_path, numbered, suffix, audio):
    """Opus and AAC begin with 7 to 23 ms to be thrown away, which some ffmpegs count as the container's start."""
    path, codec = tmp_path / f"v.{suffix}", VP8 if suffix == "webm" else H264
    sound = ("-f", "lavfi", "-i", "sine=duration=2")
    run_ffmpeg("-i", numbered, *sound, "-t", 2, *codec, "-c:a", audio, "-avoid_negative_ts", "disabled", path)
    assert numbers(trimmed(path, 0.0, 1.0)) == list(range(25))


def test_an_edit_list_hides_the_frames_before_it(tmp_path, twelve_seconds):
    path = tmp_path / "cut.mp4"
    run_ffmpeg("-ss", 5.6, "-i", twelve_seconds, "-c", "copy", path)  # copies from the key frame at 4 s on
    assert numbers(trimmed(path, 0.01, 0.8)) == list(range(140, 160))
    assert numbers(trimmed(path, 3.01, 0.8)) == list(range(215, 235))


def test_an_edit_list_may_hide_the_first_key_frame(shared_data):
    clip = trimmed(shared_data / "hostile/discard_first_keyframe.mp4", 0.0, 1.0, short_side=64)
    assert len(clip) == 25 and not clip.notes and not clip.ends_early


# Seeking

LONG_GOPS = {
    "mp4": ONE_KEY_FRAME,
    "mkv": ONE_KEY_FRAME,
    "ts": ONE_KEY_FRAME,
    "h264": ONE_KEY_FRAME,
    "mpg": ("-c:v", "mpeg2video", "-q:v", "2", "-g", "300", "-bf", "2"),
    "avi": (*MPEG4, "-g", "300"),
    "webm": (*VP8, "-g", "9999"),
}


@pytest.mark.parametrize("suffix", LONG_GOPS)
def test_trim_in_mid_gop_decodes_from_the_one_key_frame(tmp_path, numbered, suffix):
    path = tmp_path / f"v.{suffix}"
    run_ffmpeg("-i", numbered, *LONG_GOPS[suffix], path)
    assert numbers(trimmed(path, 7.01, 0.8)) == list(range(175, 195))


def test_trim_never_shows_what_a_decoder_makes_up_before_a_key_frame(tmp_path, numbered):
    """MPEG-4 in a transport stream: a seek lands between key frames, and the decoder starts on grey."""
    path = tmp_path / "v.ts"
    run_ffmpeg("-i", numbered, *MPEG4, "-g", 200, "-bf", 2, path)
    assert numbers(trimmed(path, 4.01, 0.8)) == list(range(100, 120))


OPEN_GOP = (
    "-c:v",
    "libx264",
    "-pix_fmt",
    "yuv420p",
    "-preset",
    "fast",
    "-x264-params",
    "open-gop=1:scenecut=0:keyint=50",
)
REFRESH = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "fast", "-x264-params", "intra-refresh=1:keyint=50")
SEEKABLE = {
    "closed.mp4": (*B_FRAMES, "-g", "50"),
    "open.ts": OPEN_GOP,
    "open.mkv": OPEN_GOP,
    "refresh.mp4": REFRESH,
    "fragments.mp4": (*B_FRAMES, "-g", "50", "-movflags", "frag_keyframe+empty_moov"),
    "sparse.flv": (*B_FRAMES, "-g", "50"),
    "b_frames.avi": (*MPEG4, "-g", "250", "-bf", "2"),
    "no_b_frames.avi": (*MPEG4, "-g", "250"),
    "no_cues.webm": (*VP8, "-g", "50", "-live", "1"),
    "sparse.ts": ("-c:v", "mpeg2video", "-q:v", "4", "-g", "250", "-bf", "2"),
}


@pytest.mark.parametrize("name", SEEKABLE)
def test_a_seek_gives_the_bytes_of_a_decode_from_the_start(tmp_path, numbered, name):
    path = tmp_path / name
    run_ffmpeg("-i", numbered, *SEEKABLE[name], path)
    whole = trimmed(path, 0.0, 12.0)
    for first in (26, 45, 130, 280):
        seconds = min(1.0, (len(whole) - first) / 25)
        clip = trimmed(path, first / 25, seconds)
        assert np.array_equal(clip.frames, whole.frames[first : first + len(clip)])
        assert len(clip) == round(seconds * 25)


def test_a_file_without_an_index_can_be_seeked(tmp_path, twelve_seconds):
    """Written to a pipe, so that ffmpeg cannot go back to write cues."""
    path = tmp_path / "piped.mkv"
    command = [ffmpeg.locate().path, "-v", "error", "-i", str(twelve_seconds), "-c", "copy", "-f", "matroska", "-"]
    with open(path, "wb") as file:
        subprocess.run(command, stdout=file, check=True)
    assert numbers(trimmed(path, 9.01, 0.8)) == list(range(225, 245))


@pytest.mark.parametrize("start_seconds", [2, 97, 151, 298])
def test_a_seek_far_into_a_long_video_gives_the_bytes_of_a_decode_from_the_start(whole_movie, start_seconds):
    path, whole = whole_movie
    first = start_seconds * 5
    clip = trimmed(path, start_seconds, 2.0, fps=Fraction(5), short_side=32)
    assert np.array_equal(clip.frames, whole.frames[first : first + 10]) and len(clip) == 10


@pytest.fixture(scope="module")
def whole_movie(shared_data):
    """Five minutes, decoded from the first frame to the last."""
    path = shared_data / "hostile/wpt_movie_300.mp4"
    return path, trimmed(path, 0.0, 300.0, fps=Fraction(5), short_side=32)


@pytest.fixture
def seeks(monkeypatch) -> list[float | None]:
    """Where each decode began: seconds, or None for the first frame of the file."""
    seconds = []

    def noting(video, start_seconds, width, height, seek_seconds):
        seconds.append(seek_seconds)
        return clip_graph(video, start_seconds, width, height, seek_seconds)

    monkeypatch.setattr(video, "clip_graph", noting)
    return seconds


def test_a_clip_is_decoded_from_a_second_before_its_start(seeks, twelve_seconds):
    trimmed(twelve_seconds, 5.01, 0.8)
    assert seeks == [pytest.approx(4.01)]


@pytest.mark.parametrize("start_seconds", [0.0, 0.5, 1.0])
def test_a_clip_of_the_first_second_is_decoded_without_a_seek(seeks, twelve_seconds, start_seconds):
    trimmed(twelve_seconds, start_seconds, 0.8)
    assert seeks == [None]


def test_after_a_seek_that_misses_the_file_is_decoded_from_its_first_frame(seeks, tmp_path, numbered):
    path = tmp_path / "v.ts"
    run_ffmpeg("-i", numbered, *MPEG4, "-g", 200, "-bf", 2, path)
    trimmed(path, 4.01, 0.8)
    assert seeks == [pytest.approx(3.01), None]


class SeekingDecoder:
    """Stands in for ffmpeg: key frames of grey 1 from `first_pts` on after a seek, of grey 2 from -1 s on without."""

    begins_with_key, exit_code, log, first_pts = True, 0, Log(), 0

    def __init__(self, graph: float | None, height: int, width: int, limit_seconds: float):
        grey, first_pts = (2, -1_000_000) if graph is None else (1, self.first_pts)
        frame = np.full((height, width, 3), grey, np.uint8)
        self.frames = [(first_pts + k * 40_000, 40_000, frame) for k in range(100)]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __iter__(self):
        return iter(self.frames)


@pytest.mark.parametrize("first_pts, grey", [(-5, 1), (20, 1), (21, 2), (20_000, 2), (400_000, 2)])
def test_a_seek_that_lands_after_the_start_is_not_used(monkeypatch, first_pts, grey):
    """The clock has ticks of 40 us, so a timestamp is right to 20 us."""
    monkeypatch.setattr(SeekingDecoder, "first_pts", first_pts)
    monkeypatch.setattr(video, "Decoder", SeekingDecoder)
    monkeypatch.setattr(video, "clip_graph", lambda *arguments: (arguments[-1], ()))
    source = Video(Path("v.mp4"), 64, 48, Fraction(1, 25_000), 100.0, "h264")
    assert np.unique(video.trim(source, 50.0, 1.0).frames).tolist() == [grey]


# Upright and in shape

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture(scope="module")
def quadrants(folder) -> Path:
    """64x48: red and green above, blue and white below."""
    frames = np.zeros((10, 48, 64, 3), np.uint8)
    frames[:, :24, :32], frames[:, :24, 32:], frames[:, 24:, :32], frames[:, 24:, 32:] = RED, GREEN, BLUE, WHITE
    options = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p")
    return write_video(folder / "quadrants.mp4", frames, options=options)


def corners(frame: np.ndarray) -> list[tuple]:
    """The colours of the quadrants, row by row, each channel 0 or 255."""
    height, width = frame.shape[:2]
    points = [(y, x) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [tuple(int(channel > 127) * 255 for channel in frame[point]) for point in points]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(
    "counterclockwise, upright",
    [
        (0, [RED, GREEN, BLUE, WHITE]),
        (90, [GREEN, WHITE, RED, BLUE]),
        (180, [WHITE, BLUE, GREEN, RED]),
        (270, [BLUE, RED, WHITE, GREEN]),
    ],
)
def test_a_rotated_video_comes_out_upright(tmp_path, quadrants, counterclockwise, upright, suffix):
    path = tmp_path / f"v.{suffix}"
    rotate_by_metadata(quadrants, path, counterclockwise)
    clip = trimmed(path, 0.0, 0.2)
    assert clip.frames.shape[1:3] == ((64, 48) if counterclockwise % 180 else (48, 64))
    assert corners(clip.frames[0]) == upright


def rotate_by_metadata(source: Path, path: Path, counterclockwise: int, *options) -> None:
    if (
        b"display_rotation"
        not in subprocess.run([ffmpeg.locate().path, "-hide_banner", "-h", "full"], capture_output=True).stdout
    ):
        pytest.skip("this ffmpeg cannot write a display matrix (needs 6.0 for -display_rotation)")
    run_ffmpeg("-display_rotation", counterclockwise, "-i", source, "-c", "copy", *options, path)


@pytest.mark.parametrize("name, clockwise_turns", [("video_90.mov", 1), ("video_180.mov", 2)])
def test_a_rotated_camera_file_equals_its_coded_picture_turned(shared_data, name, clockwise_turns):
    path = shared_data / "hostile" / name
    coded = np.rot90(coded_frames(path, 568, 320), -clockwise_turns, axes=(1, 2))
    clip = trimmed(path, 0.0, 0.1, fps=Fraction(30), short_side=320)
    assert clip.frames.shape == coded.shape == (3, *((568, 320) if clockwise_turns == 1 else (320, 568)), 3)
    assert mean_difference(clip.frames, coded) < 2
    assert mean_difference(clip.frames, coded[:, ::-1, ::-1]) > 20


def coded_frames(path: Path, width: int, height: int) -> np.ndarray:
    command = [ffmpeg.locate().path, "-v", "error", "-noautorotate", "-i", str(path), "-map", "0:V:0"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    return np.frombuffer(raw.stdout, np.uint8).reshape(-1, height, width, 3)


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.parametrize(
    "aspect, counterclockwise, height_width",
    [("4/3", 0, (48, 85)), ("1/2", 0, (72, 48)), ("2/1", 90, (128, 48)), ("224/225", 0, (48, 64))],
)
def test_pixels_that_are_not_square_are_made_square(tmp_path, quadrants, aspect, counterclockwise, height_width):
    path, turned = tmp_path / "v.mp4", tmp_path / "turned.mp4"
    run_ffmpeg("-i", quadrants, "-vf", f"setsar={aspect}", *H264, path)
    if counterclockwise:
        rotate_by_metadata(path, turned, counterclockwise)
        path = turned
    assert trimmed(path, 0.0, 0.2).frames.shape[1:3] == height_width


def test_a_picture_of_odd_size_keeps_its_aspect(tmp_path):
    path = write_video(tmp_path / "v.mkv", np.zeros((10, 33, 81, 3), np.uint8), options=("-c:v", "ffv1"))
    probed = video.probe(path)
    assert (probed.width, probed.height) == (81, 33)
    assert trimmed(path, 0.0, 0.2, short_side=48).frames.shape[1:3] == (48, 118)  # 48 * 81 / 33 = 117.8


def test_a_change_of_size_in_mid_stream_is_scaled_to_the_first_size(tmp_path, numbered):
    """A transport stream may change its picture's size at any key frame; so may WebM."""
    pieces = []
    for name, size, skip in (("a", "64:48", 0), ("b", "128:96", 2), ("c", "96:80", 4)):
        pieces.append(tmp_path / f"{name}.h264")
        run_ffmpeg("-ss", skip, "-i", numbered, "-t", 2, "-vf", f"scale={size}:flags=neighbor", *H264, pieces[-1])
    joined, path = tmp_path / "joined.h264", tmp_path / "v.ts"
    joined.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    run_ffmpeg("-f", "h264", "-framerate", 25, "-i", joined, "-c", "copy", path)
    clip = trimmed(path, 0.01, 6.0)
    assert clip.frames.shape == (150, 48, 64, 3)
    assert numbers(clip) == list(range(150))
    assert numbers(trimmed(path, 3.01, 1.4)) == list(range(75, 110))


# Colours

SAMPLES = {"red": RED, "green": GREEN, "blue": BLUE, "grey": (128, 128, 128), "skin": (200, 150, 120)}
LARGE, SMALL = (1280, 720), (64, 48)


@pytest.mark.parametrize(
    "size, matrix, colour_range, tagged",
    [
        (SMALL, "smpte170m", "tv", True),
        (SMALL, "smpte170m", "tv", False),
        (SMALL, "bt709", "tv", True),
        (LARGE, "bt709", "tv", True),
        (LARGE, "bt709", "tv", False),
        (LARGE, "smpte170m", "tv", True),
        (SMALL, "smpte170m", "pc", True),
        (SMALL, "bt709", "pc", True),
    ],
)
def test_colours_come_out_within_three_levels(tmp_path, size, matrix, colour_range, tagged):
    width, height = size
    frames = np.stack([np.broadcast_to(np.uint8(colour), (height, width, 3)) for colour in SAMPLES.values()])
    convert = f"scale=out_color_matrix={matrix}:out_range={colour_range}:flags=accurate_rnd+full_chroma_int"
    unknown = "colorspace=unknown:range=unknown:color_primaries=unknown:color_trc=unknown"
    tags = f"colorspace={matrix}:range={colour_range}" if tagged else unknown
    options = ("-vf", f"{convert},format=yuv420p,setparams={tags}", "-c:v", "libx264", "-qp", "1", "-g", "1")
    path = write_video(tmp_path / "v.mp4", frames, options=options)
    assert (video.probe(path).colour_space == "unknown") != tagged
    clip = trimmed(path, 0.0, 0.2)
    for k, (name, colour) in enumerate(SAMPLES.items()):
        assert np.abs(clip.frames[k].astype(int) - colour).max() <= 3, name


def test_combs_of_interlaced_motion_are_removed(tmp_path):
    """A bar that moves between the two fields of a frame."""
    frames = np.zeros((20, 96, 128, 3), np.uint8)
    for k in range(20):
        for field in range(2):
            at = 8 + 4 * k + 2 * field
            frames[k, field::2, at : at + 16] = 255
    options = ("-vf", "setfield=tff", "-c:v", "libx264", "-qp", "0", "-preset", "ultrafast", "-pix_fmt", "yuv444p")
    fields = ("-flags", "+ilme+ildct", "-x264-params", "tff=1")
    path = write_video(tmp_path / "v.mp4", frames, options=(*options, *fields))
    clip = trimmed(path, 0.0, 0.8, short_side=96)
    assert clip.notes == ("deinterlaced",) and len(clip) == 20 and not clip.ends_early
    inner = clip.frames[2:-2, 8:-8].astype(int)
    assert comb(inner) < comb(frames[2:-2, 8:-8].astype(int)) / 10


def comb(frames: np.ndarray) -> float:
    """How much a line differs from the mean of the lines above and below."""
    return float(np.abs(2 * frames[:, 1:-1] - frames[:, :-2] - frames[:, 2:]).mean())


def test_interlaced_frames_keep_their_times(tmp_path, numbered):
    path = tmp_path / "v.ts"
    fields = ("-vf", "setfield=tff", "-flags", "+ilme+ildct", "-g", 50)
    run_ffmpeg("-i", numbered, "-t", 6, *fields, "-c:v", "mpeg2video", "-q:v", 2, path)
    clip = trimmed(path, 3.01, 3.0)
    assert clip.notes == ("deinterlaced",)
    assert numbers(clip) == list(range(75, 150))


HDR_TAGS = {
    "pq": "transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc",
    "hlg": "transfer=arib-std-b67:colorprim=bt2020:colormatrix=bt2020nc",
    "pq, nothing else known": "transfer=smpte2084",
    "hlg, primaries unknown": "transfer=arib-std-b67:colormatrix=bt2020nc",
    "pq, constant luminance": "transfer=smpte2084:colormatrix=bt2020c:colorprim=bt2020",
}


@pytest.mark.parametrize("tags", HDR_TAGS)
def test_high_dynamic_range_is_shown_whatever_else_is_tagged(tmp_path, numbered, tags):
    path = tmp_path / "v.mp4"
    codec = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", f"log-level=none:{HDR_TAGS[tags]}")
    run_ffmpeg("-i", numbered, "-t", 2, "-pix_fmt", "yuv420p10le", *codec, path)
    clip = trimmed(path, 1.01, 0.8)
    assert numbers(clip) == list(range(25, 45))
    assert any("high dynamic range" in note for note in clip.notes)


def test_high_dynamic_range_white_is_mapped_and_grey_stays_grey(tmp_path):
    """Diffuse white, 203 cd/m2, is 58% of the PQ signal: shown without mapping it would be a mid grey."""
    frames = np.full((5, 48, 64, 3), 148, np.uint8)
    tags = "log-level=none:transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc"
    codec = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", tags, "-pix_fmt", "yuv420p10le")
    path = write_video(tmp_path / "v.mp4", frames, options=("-vf", "scale=out_color_matrix=bt2020", *codec))
    clip = trimmed(path, 0.0, 0.12)
    if "high dynamic range mapped to standard" not in clip.notes:
        pytest.skip("this ffmpeg has no zscale")
    assert 170 < clip.frames.mean() < 250
    assert np.ptp(clip.frames.reshape(-1, 3).mean(axis=0)) < 4


# Ends


def test_a_clip_inside_a_video_knows_the_frame_after_it(twelve_seconds):
    clip = trimmed(twelve_seconds, 2.01, 1.0)
    assert (len(clip), clip.ends_early, number_of(clip.next_frame)) == (25, False, 75)
    assert clip.start_seconds == 2.01 and clip.fps == 25


def test_a_clip_that_ends_with_its_video_has_no_frame_after_it(twelve_seconds):
    clip = trimmed(twelve_seconds, 11.0, 1.0)
    assert (len(clip), clip.ends_early, clip.next_frame) == (25, False, None)
    assert numbers(clip) == list(range(275, 300))


def test_a_video_that_ends_during_the_clip_gives_the_frames_it_has(twelve_seconds):
    clip = trimmed(twelve_seconds, 11.0, 10.0, min_seconds=1.0)
    assert (numbers(clip), clip.ends_early, clip.next_frame) == (list(range(275, 300)), True, None)


def test_trim_refuses_a_video_that_ends_too_early(twelve_seconds):
    with pytest.raises(TooShort, match=r"needs 250 frames, twelve.mp4 has 24 from 11.04 s on .0.96 s"):
        trimmed(twelve_seconds, 11.04, 10.0, min_seconds=1.0)


def test_a_short_clip_that_the_video_holds_whole_is_not_too_short(twelve_seconds):
    assert len(trimmed(twelve_seconds, 3.0, 0.5, min_seconds=1.0)) == 13  # k / 25 < 0.5


@pytest.mark.parametrize("start_seconds", [12.0, 12.5, 5000.0])
def test_trim_refuses_a_start_at_or_after_the_end(twelve_seconds, start_seconds):
    with pytest.raises(ClipOutOfRange, match="after the end of twelve.mp4, which lasts 12.00 s"):
        trimmed(twelve_seconds, start_seconds, 1.0)


def test_a_start_long_after_the_end_is_refused_without_a_decode(seeks, twelve_seconds):
    """Five seconds after the stated end, which may be off by a little."""
    with pytest.raises(ClipOutOfRange):
        trimmed(twelve_seconds, 17.0, 1.0)
    assert seeks == []
    with pytest.raises(ClipOutOfRange):
        trimmed(twelve_seconds, 16.9, 1.0)
    assert seeks == [pytest.approx(15.9), None]


def test_a_file_that_does_not_decode_is_not_a_video_that_has_ended(tmp_path, twelve_seconds):
    """Such as one that was replaced after it was probed."""
    other = tmp_path / "other.mp4"
    other.write_text("not a video")
    with pytest.raises(Unreadable, match=r"other\.mp4 does not decode: .*Invalid data"):
        video.trim(dataclasses.replace(video.probe(twelve_seconds), path=other), 0.0, 1.0)


def test_trim_refuses_one_frame_because_flow_needs_two(tmp_path, twelve_seconds):
    path = write_video(tmp_path / "one.mp4", numbered_frames(1), options=H264)
    with pytest.raises(TooShort, match="1 frame"):
        trimmed(path, 0.0, 1.0)
    with pytest.raises(TooShort, match="1 frame"):
        trimmed(twelve_seconds, 1.0, 0.04)


def test_a_video_without_a_known_length_ends_where_its_frames_end(tmp_path, numbered):
    path = tmp_path / "v.h264"
    run_ffmpeg("-i", numbered, "-t", 2, *H264, path)
    assert video.probe(path).duration_seconds is None
    clip = trimmed(path, 1.01, 5.0)
    assert numbers(clip) == list(range(25, 50)) and clip.ends_early


def test_a_truncated_file_gives_the_frames_before_the_break(tmp_path, twelve_seconds):
    whole = tmp_path / "whole.ts"
    run_ffmpeg("-i", twelve_seconds, "-c", "copy", whole)
    path = tmp_path / "half.ts"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    clip = trimmed(path, 0.01, 12.0)
    assert clip.ends_early and len(clip) > 50
    assert numbers(clip)[:50] == list(range(50))


# What is no video


def test_probe_says_what_the_pipeline_must_know(twelve_seconds):
    probed = video.probe(twelve_seconds)
    assert (probed.width, probed.height, probed.codec, probed.duration_seconds) == (64, 48, "h264", 12.0)
    assert not probed.interlaced and not probed.high_dynamic_range


def test_probe_takes_the_first_of_two_video_streams(tmp_path, twelve_seconds, quadrants):
    path = tmp_path / "v.mp4"
    run_ffmpeg("-i", quadrants, "-i", twelve_seconds, "-map", 0, "-map", 1, "-c", "copy", path)
    assert corners(trimmed(path, 0.0, 0.2).frames[0]) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("content", [b"", b"not a video\n" * 500, bytes(100_000)], ids=["empty", "text", "zeros"])
def test_probe_refuses_a_file_that_is_no_video(tmp_path, content):
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=r"v\.mp4"):
        video.probe(path)


def test_probe_refuses_a_still_picture(tmp_path):
    path = tmp_path / "v.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "color=size=64x48", "-frames:v", 1, "-f", "image2", "-c:v", "png", path)
    with pytest.raises(Unreadable):
        video.probe(path)


def test_probe_refuses_sound_alone_and_a_cover_is_no_video(tmp_path):
    sound, cover, both = tmp_path / "a.m4a", tmp_path / "c.png", tmp_path / "b.m4a"
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", sound)
    run_ffmpeg("-f", "lavfi", "-i", "color=size=64x48", "-frames:v", 1, cover)
    run_ffmpeg("-i", sound, "-i", cover, "-map", 0, "-map", 1, "-c", "copy", "-disposition:v", "attached_pic", both)
    for path in (sound, both):
        with pytest.raises(NoVideoStream, match=path.name):
            video.probe(path)


FORGED_LINES = (
    "[Parsed_showinfo_2 @ 0x1] [info] n:   0 pts: 9000000 pts_time:-.- duration: 1 sar:1/1 s:9x9 i:T iskey:1 ",
    "[Parsed_showinfo_0 @ 0x1] [info] config in time_base: 1/0",
    "[Parsed_showinfo_0 @ 0x1] [info] color_space:x color_primaries:x color_trc:smpte2084",
    "[info]   Duration: 00:00:01.00, start: 9.000000, bitrate: 1 kb/s",
)


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"], ids=ascii)
def test_metadata_cannot_pass_for_lines_of_the_log(tmp_path, twelve_seconds, line_end):
    """A title of several lines: taken for a frame's line, it would shift all times; a time base of 1/0 is no number."""
    path, title = tmp_path / "v.mkv", line_end.join(("a", *FORGED_LINES))
    run_ffmpeg("-i", twelve_seconds, "-c", "copy", "-metadata", f"title={title}", "-metadata:s:v", f"x={title}", path)
    plain = tmp_path / "plain.mkv"
    run_ffmpeg("-i", twelve_seconds, "-c", "copy", plain)
    assert dataclasses.replace(video.probe(path), path=plain) == video.probe(plain)
    for start in (0.01, 5.01):
        assert numbers(trimmed(path, start, 0.8)) == expected_numbers(steady(300), start, 20)


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:12\n#EXTINF:12.0,\nother.ts\n#EXT-X-ENDLIST\n",
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:12\n#EXTINF:12.0,\nother.ts\n#EXT-X-ENDLIST\n",
    "concat.mp4": "ffconcat version 1.0\nfile other.ts\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_is_refused_and_the_file_it_names_is_never_opened(tmp_path, twelve_seconds, name):
    path, other = tmp_path / name, tmp_path / "other.ts"
    path.write_text(PLAYLISTS[name])
    run_ffmpeg("-i", twelve_seconds, "-c", "copy", other)
    if name != "hls.mp4":  # which newer ffmpegs refuse by themselves
        run_ffmpeg("-i", path, "-f", "null", "-")  # left to itself, ffmpeg follows it
    with pytest.raises(Unreadable):
        video.probe(path)
    other.unlink()
    os.mkfifo(other)  # opening it to read blocks until someone writes
    with pytest.raises(Unreadable):
        video.probe(path, limit_seconds=20.0)


NAMES = [
    "with space.mp4",
    "quote'\".mp4",
    "-dash.mp4",
    "co:lon.mp4",
    "per%03dcent.mp4",
    "snöwman☃.mp4",
    "[a](b),;=.mp4",
    "back\\slash.mp4",
    "$HOME`id`.mp4",
    "?query#fragment.mp4",
    "new\nline.mp4",
    os.fsdecode(b"latin1\xe9.mp4"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_file_name_is_just_a_name(tmp_path, monkeypatch, twelve_seconds, name):
    try:
        (tmp_path / name).write_bytes(twelve_seconds.read_bytes())
    except OSError as error:
        pytest.skip(f"this file system has no such name: {error}")
    assert numbers(trimmed(tmp_path / name, 5.01, 0.2)) == list(range(125, 130))
    monkeypatch.chdir(tmp_path)
    assert numbers(trimmed(Path(name), 5.01, 0.2)) == list(range(125, 130))


# Processes


def test_decoding_stops_at_the_time_limit(shared_data):
    long = shared_data / "hostile/wpt_movie_300.mp4"
    probed = video.probe(long)
    with pytest.raises(DecodeTimeout, match=r"longer than 0\.05 s"):
        video.trim(probed, 100.0, 190.0, short_side=16, limit_seconds=0.05)
    with pytest.raises(DecodeTimeout, match=r"longer than 0\.001 s"):
        video.probe(long, limit_seconds=0.001)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc to count")
def test_neither_success_nor_failure_leaves_processes_threads_or_files_open(tmp_path, twelve_seconds):
    text = tmp_path / "v.mp4"
    text.write_text("no video")

    def attempt_all():
        trimmed(twelve_seconds, 2.0, 1.0)
        for path, start, limit in ((text, 0, 60.0), (twelve_seconds, 99, 60.0), (twelve_seconds, 0, 0.001)):
            with pytest.raises(ClipError):
                trimmed(path, start, 12.0, limit_seconds=limit)

    attempt_all()  # opens what stays open once
    before = belongings()
    attempt_all()
    assert belongings() == before


def belongings() -> tuple[int, int, set[str]]:
    """Open files, threads, and child processes, also those that have ended and were not waited for."""
    children = {child for file in Path("/proc/self/task").glob("*/children") for child in file.read_text().split()}
    return len(os.listdir("/proc/self/fd")), threading.active_count(), children
