"""What is read from ffmpeg's log. The lines here are those of real runs."""

from fractions import Fraction
from pathlib import Path

import pytest

from kinetics_prep.media.clip import Video
from kinetics_prep.media.log import FrameLine, Log, lacks_video_stream, parse_frame_line, read_video

HEADER = """[info] Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'file:/videos/a.mov':
[info]   Metadata:
[info]     encoder         : Lavf58.29.100
[info]   Duration: 01:02:03.45, start: 0.000000, bitrate: 1235 kb/s
[info]   Stream #0:0[0x1]: Video: h264 (Baseline) (avc1 / 0x31637661), yuv420p(tv, bt709), 568x320, 30 fps, 19200 tbn
[info] Stream mapping:
[info]   Stream #0:0 (h264) -> showinfo:default
[info]   showinfo:default -> Stream #0:0 (wrapped_avframe)
[Parsed_showinfo_0 @ 0x7f27] [info] config in time_base: 1/19200, frame_rate: 30/1
[Parsed_showinfo_0 @ 0x7f27] [info] config out time_base: 0/0, frame_rate: 0/0
"""
FRAME = (
    "[Parsed_showinfo_0 @ 0x7f27] [info] n:   0 pts:      0 pts_time:0       duration:    640 duration_time:0.0333333 "
    "fmt:yuv420p cl:left sar:0/1 s:320x568 i:P iskey:1 type:I \n"
)
COLOURS = "[Parsed_showinfo_0 @ 0x7f27] [info] color_range:tv color_space:bt709 color_primaries:bt709 color_trc:bt709\n"
LOG = HEADER + FRAME + COLOURS
PATH = Path("/videos/a.mov")


# Frames


@pytest.mark.parametrize(
    "line, expected",
    [
        (FRAME.encode(), FrameLine(0, 640, True)),
        (FRAME.replace("[info] n:", "n:").encode(), FrameLine(0, 640, True)),  # a log without levels
        (FRAME.replace("pts:      0 ", "pts:-512000 ").encode(), FrameLine(-512000, 640, True)),
        (FRAME.replace("pts:      0 ", "pts: NOPTS ").encode(), FrameLine(None, 640, True)),
        (FRAME.replace("duration:    640 ", "").encode(), FrameLine(0, None, True)),
        (FRAME.replace("duration:    640 ", "duration:      0 ").encode(), FrameLine(0, 0, True)),
        (FRAME.replace("iskey:1", "iskey:0").encode(), FrameLine(0, 640, False)),
        (FRAME.replace("n:   0", "n:1234567").encode(), FrameLine(0, 640, True)),
    ],
)
def test_a_frames_line_gives_its_time_its_duration_and_whether_it_is_a_key_frame(line, expected):
    assert parse_frame_line(line) == expected


@pytest.mark.parametrize(
    "line", [*HEADER.encode().splitlines(), COLOURS.encode(), b"", b"n:   0 pts:      0 ", b"\xff"]
)
def test_other_lines_are_not_frames(line):
    assert parse_frame_line(line) is None


# Damage


def test_the_log_keeps_the_last_lines_and_counts_damage():
    log = Log()
    for k in range(5000):
        log.add(b"[h264 @ 0x55d2] [error] error while decoding MB %d\n" % k)
    log.add(b"[info] all is well\n")
    assert log.errors == 5000 and len(log.lines) < 1000
    assert list(log.lines)[-2:] == ["[h264 @ 0x55d2] [error] error while decoding MB 4999", "[info] all is well"]


@pytest.mark.parametrize(
    "line, errors",
    [
        (b"[h264 @ 0x55d2] [error] concealing 12 DC errors", 1),
        (b"[h264 @ 0x55d2] [fatal] out of memory", 1),
        (b"[mov,mp4,m4a,3gp,3g2,mj2 @ 0x55d2] [error] moov atom not found", 1),
        (b"[h264 @ 0x55d2] [warning] co located POCs unavailable", 0),
        (b"[error] a line without an address", 0),
        # What the muxer says about timestamps is not damage.
        (b"[rawvideo @ 0x55d2] [error] Application provided invalid, non monotonically increasing dts to muxer", 0),
        (b"[null @ 0x55d2] [error] Application provided invalid, non monotonically increasing dts to muxer", 0),
        (b"[out#0/rawvideo @ 0x55d2] [error] Error muxing a packet", 0),
        (b"[vost#0:0/rawvideo @ 0x55d2] [error] Error submitting a packet to the muxer", 0),
    ],
)
def test_errors_of_demuxers_and_decoders_are_damage(line, errors):
    log = Log()
    log.add(line)
    assert log.errors == errors


def test_complaints_are_short_and_name_no_folder_or_address(tmp_path):
    path, log = tmp_path / "v.mp4", Log()
    log.add(b"[info] not a complaint")
    log.add(f"[in#0 @ 0x55d2] [error] Error opening file:{path}".encode())
    log.add(f"[in#0 @ 0x66e3] [error] Error opening file:{path}".encode())
    log.add(b"[fatal] " + 1000 * b"x")
    assert log.complaints(path) == "Error opening v.mp4; " + "x" * (200 - 21)
    assert log.complaints(path, limit=5) == "Error"
    assert Log().complaints(path) == "ffmpeg said nothing"


def test_bytes_that_are_not_utf_8_are_kept_as_replacement_characters():
    log = Log()
    log.add(b"[info] title: \xff\xfe\r\n")
    assert list(log.lines) == ["[info] title: ��"]


# The video


def test_the_log_of_a_first_frame_describes_the_video():
    assert read_video(PATH, LOG) == Video(
        path=PATH,
        width=320,
        height=568,
        time_base=Fraction(1, 19200),
        duration_seconds=3723.45,
        codec="h264",
        zero_us=0,
        primaries="bt709",
        interlaced=False,
        high_dynamic_range=False,
        colour_space="bt709",
    )


def read_changed(old: str, new: str) -> Video:
    assert old in LOG
    video = read_video(PATH, LOG.replace(old, new))
    assert video is not None
    return video


@pytest.mark.parametrize(
    "sar, width", [("0/1", 320), ("1/1", 320), ("4/3", 427), ("1/2", 160), ("1/0", 320), ("1/100000", 1)]
)
def test_the_width_is_that_of_square_pixels(sar, width):
    video = read_changed("sar:0/1", f"sar:{sar}")
    assert (video.width, video.height) == (width, 568)


@pytest.mark.parametrize("letter, interlaced", [("P", False), ("T", True), ("B", True), ("?", False)])
def test_a_field_order_means_interlaced(letter, interlaced):
    assert read_changed("i:P", f"i:{letter}").interlaced is interlaced


@pytest.mark.parametrize("transfer, is_hdr", [("smpte2084", True), ("arib-std-b67", True), ("bt2020-10", False)])
def test_two_transfers_mean_high_dynamic_range(transfer, is_hdr):
    assert read_changed("color_trc:bt709", f"color_trc:{transfer}").high_dynamic_range is is_hdr


def test_colours_that_are_not_logged_are_unknown():
    video = read_changed(COLOURS, "")
    assert (video.primaries, video.colour_space, video.high_dynamic_range) == ("unknown", "unknown", False)


@pytest.mark.parametrize(
    "old, new",
    [("01:02:03.45", "N/A"), ("kb/s\n", "kb/s\n[warning] Estimating duration from bitrate, this may be inaccurate\n")],
)
def test_a_duration_that_is_absent_or_guessed_is_none(old, new):
    assert read_changed(old, new).duration_seconds is None


@pytest.mark.parametrize(
    "start, picture, zero_us",
    [
        ("7.300000", "7.3", 7_300_000),  # starts late
        ("0.500000", "1.2", 500_000),  # sound before the picture
        ("-0.023021", "0", 0),  # the priming of a sound codec
        ("-0.023021", "0.5", 0),
        ("-0.023021", "-0.01", -10_000),  # both before 0: the later of the two
        ("-0.500000", "-0.5", -500_000),
        ("-0.500000", "-0.7", -500_000),
    ],
)
def test_time_0_is_the_containers_start_but_for_the_priming_of_sound(start, picture, zero_us):
    log_text = LOG.replace("start: 0.000000", f"start: {start}").replace("pts_time:0 ", f"pts_time:{picture} ")
    video = read_video(PATH, log_text)
    assert video is not None and video.zero_us == zero_us


CLAIMS = [
    "  Duration: 00:00:01.00, start: 9.000000, bitrate: 1 kb/s",
    "[Parsed_showinfo_0 @ 0x7f27] [info] config in time_base: 1/0, frame_rate: 30/1",
    "config in time_base: 1/0",
    "[Parsed_showinfo_0 @ 0x7f27] color_range:pc color_space:x color_primaries:x color_trc:smpte2084",
    "  Stream #0:0 (theirs) -> showinfo:default",
    " n:   0 pts:      0 pts_time:-.- sar:9/9 s:9x9 i:T",
    "[Parsed_showinfo_0 @ 0x7f27] [info] n:   0 pts: 0 pts_time:-... sar:9/9 s:9x9 i:T",
]


def test_metadata_cannot_pass_for_the_header():
    """A title that reads like ffmpeg's own line; metadata is printed further in."""
    for claim in CLAIMS:
        forged = f"[info]     title           : {claim}\n[info]                     : {claim}\n"
        assert read_video(PATH, forged + LOG + forged) == read_video(PATH, LOG), claim


@pytest.mark.parametrize("log_text", ["", HEADER, HEADER + COLOURS, FRAME, LOG.replace("n:   0", "n:   1")])
def test_a_log_without_its_first_frame_describes_no_video(log_text):
    assert read_video(PATH, log_text) is None


@pytest.mark.parametrize(
    "log_text, lacks",
    [
        ("[fc#0 @ 0x55a9] [fatal] Stream specifier ':V:0' in filtergraph [0:V:0]s[s0] matches no streams.", True),
        ("[fatal] Stream specifier 'V:0' in filtergraph description", True),
        ("[in#0 @ 0x55d2] [error] Error opening input: Invalid data found when processing input", False),
        ("", False),
    ],
)
def test_a_file_of_sound_alone_is_known_by_what_ffmpeg_logs(log_text, lacks):
    assert lacks_video_stream(log_text) is lacks
