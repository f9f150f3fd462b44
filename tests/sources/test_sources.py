"""Where a row's video comes from: which file of a folder, which answer of a server, and whether it is trimmed."""

import json
import os
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import numbered_frames, plan_row, write_video

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.dataset import ledger
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import BadOption, ClipError, NotFound
from kinetics_prep.media.clip import Video
from kinetics_prep.runs.clip import is_trimmed, prepare_row
from kinetics_prep.runs.context import RunContext
from kinetics_prep.sources import SOURCES, Fetching, Folder, open_sources
from kinetics_prep.sources.places import Place


def opened(text: str, scratch: Path) -> Place:
    """The source that `text` means."""
    (place,) = open_sources(Fetching((text,)), scratch).places
    return place


@pytest.fixture
def videos(tmp_path):
    """Makes a folder of empty files, among them one that no row needs, and opens it as a source."""

    def make(*names: str) -> Folder:
        for name in ("unrelated.mp4", *names):
            path = tmp_path / "videos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return opened(str(tmp_path / "videos"), tmp_path / "scratch")

    return make


def chosen(folder: Folder, row: PlanRow) -> tuple[str, float | None]:
    with next(folder.candidates(row)) as fetched:
        assert fetched.path == folder.root / fetched.origin and fetched.path.is_file()
        assert fetched.name == os.path.basename(fetched.origin)
        return fetched.origin, fetched.begins_seconds


# Folders


@pytest.mark.parametrize(
    "name, begins_seconds",
    [
        ("abc.mp4", None),
        ("abc.MKV", None),
        ("abc", None),
        ("abc_5_15.mp4", 5.0),
        ("abc_05_15.webm", 5.0),
        ("abc_000005_000015.mp4", 5.0),
        ("abc_5.0_15.00.mp4", 5.0),
        ("abc_0_20.mp4", 0.0),
        ("abc_4_15.mp4", 4.0),
        ("abc_000005_000016.mp4", 5.0),
        ("using segway/abc_000005_000015.mp4", 5.0),
        ("a/b/c/d/abc.mp4", None),
        ("abc_5_15/abc.mp4", None),
    ],
)
def test_a_folder_knows_the_video_by_id_or_by_id_and_times(videos, name, begins_seconds):
    assert chosen(videos(name), plan_row()) == (name, begins_seconds)


@pytest.mark.parametrize(
    "name",
    [
        "abcd.mp4",
        "ABC.mp4",
        "xabc.mp4",
        "abc_6_15.mp4",  # begins too late
        "abc_5_14.mp4",  # ends too early
        "abc_15_25.mp4",
        "abc_5.mp4",
        "abc_5_15_7.mp4",  # the piece 15 to 7 of a video abc_5
        "abc-5-15.mp4",
        "abc.f137.mp4",  # half of a download
    ],
)
def test_a_folder_does_not_take_another_video_or_another_piece(videos, name):
    with pytest.raises(NotFound, match=r"abc\.\* or abc_<start>_<end>\.\*"), next(videos(name).candidates(plan_row())):
        pass


JUNK = ["abc.mp4.part", "abc.part", "abc.info.json", "abc.json", "abc.jpg", "abc.en.vtt", "abc.m4a", "._abc.mp4"]


@pytest.mark.parametrize("name", [*JUNK, ".hidden/abc.mp4", "__MACOSX/._abc.mp4", "abc_5_15.mp4.ytdl", "abc.txt"])
def test_what_lies_beside_videos_is_no_video(videos, name):
    with pytest.raises(NotFound), next(videos(name).candidates(plan_row())):
        pass


def test_junk_does_not_hide_the_video(videos):
    assert chosen(videos(*JUNK, "abc.webm"), plan_row()) == ("abc.webm", None)


@pytest.mark.parametrize(
    "better, worse",
    [
        ("z/abc_000005_000015.mp4", "a/abc_4_16.mp4"),
        ("z/abc_0_20.mp4", "abc.mp4"),
        ("abc_5_15.mp4", "abc.mp4"),
        ("abc_5_15.mp4", "abc_5_15.dat"),
        ("z/abc.mp4", "abc.unknown"),
        ("a/abc.mp4", "b/abc.mp4"),
    ],
)
def test_exact_times_beat_containing_ones_and_those_the_bare_id(videos, better, worse):
    assert chosen(videos(worse, better), plan_row())[0] == better


@pytest.mark.parametrize(
    "media_id", ["-3B32lodo2M", "--abc", "a-_b", "a.b", "v_GGSY1Qvo990", "a b (c) [d]", "_", "été"]
)
def test_an_odd_id_is_found_bare_and_with_times(videos, media_id):
    folder = videos(f"{media_id}_000059_000069.mp4", f"{media_id}_10_20.mkv", f"bare/{media_id}.mp4")
    assert chosen(folder, plan_row(media_id, 59.0, 69.0)) == (f"{media_id}_000059_000069.mp4", 59.0)
    assert chosen(folder, plan_row(media_id, 100.0, 110.0)) == (f"bare/{media_id}.mp4", None)


def test_an_id_may_itself_end_like_times(videos):
    folder = videos("abc_12_34.mp4")
    assert chosen(folder, plan_row("abc_12_34", 0.0, 10.0)) == ("abc_12_34.mp4", None)
    assert chosen(folder, plan_row("abc", 12.0, 34.0)) == ("abc_12_34.mp4", 12.0)
    folder = videos("abc_12_34_000005_000015.mp4")
    assert chosen(folder, plan_row("abc_12_34", 5.0, 15.0)) == ("abc_12_34_000005_000015.mp4", 5.0)


@pytest.mark.parametrize("name", ["abc_1.5_11.5.mp4", "abc_000001.500_000011.500.mp4"])
def test_times_may_be_fractions_of_seconds(videos, name):
    assert chosen(videos(name), plan_row("abc", 1.5, 11.5)) == (name, 1.5)


def test_two_clips_of_one_video_are_two_files(videos):
    folder = videos("abc_000005_000015.mp4", "abc_000030_000040.mp4")
    assert chosen(folder, plan_row("abc", 30.0, 40.0)) == ("abc_000030_000040.mp4", 30.0)
    with pytest.raises(NotFound), next(folder.candidates(plan_row("abc", 50.0, 60.0))):
        pass


def test_links_are_followed_and_loops_end(videos, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/abc.mp4").touch()
    (tmp_path / "videos/down").mkdir(parents=True)
    (tmp_path / "videos/down/up").symlink_to(tmp_path / "videos")
    (tmp_path / "videos/self").symlink_to(".")
    (tmp_path / "videos/linked").symlink_to(tmp_path / "elsewhere")
    assert chosen(videos(), plan_row())[0] == "linked/abc.mp4"


def test_a_folder_without_any_video_is_a_mistake(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BadOption, match="there is no video below this folder"):
        opened(str(tmp_path), tmp_path / "scratch")


@pytest.mark.parametrize("kind", ["dangling link", "named pipe", "folder"])
def test_what_is_not_a_file_is_not_found(videos, tmp_path, kind):
    (tmp_path / "videos").mkdir()
    path = tmp_path / "videos/abc.mp4"
    if kind == "dangling link":
        path.symlink_to("nowhere.mp4")
    elif kind == "named pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(NotFound), next(videos().candidates(plan_row())):
        pass


def test_a_file_that_vanished_since_the_listing_is_refused(videos, tmp_path, quick_recipe):
    folder = videos("abc.mp4")
    (tmp_path / "videos/abc.mp4").unlink()
    with pytest.raises(ClipError), next(folder.candidates(plan_row())):
        pass


def test_a_name_that_is_not_utf8_can_be_prepared(tmp_path, quick_recipe):
    """Archives packed under Latin-1; the name ends up in the record and in the ledger."""
    folder = tmp_path / os.fsdecode(b"videos/caf\xe9")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"this file system has no such name: {error}")
    write_video(tmp_path / "abc.mp4", numbered_frames(30))
    (tmp_path / "abc.mp4").rename(folder / "abc.mp4")
    row, _ = prepared(plan_row("abc", 0.0, 1.0), str(tmp_path / "videos"), tmp_path, quick_recipe)
    assert row.status == "written"
    json.dumps(row.as_dict(), ensure_ascii=False).encode()  # as Parquet stores it


@pytest.mark.parametrize("text", ["no/such/folder", __file__])
def test_videos_must_be_a_folder(tmp_path, text):
    with pytest.raises(BadOption, match="is not a folder"):
        opened(text, tmp_path)


def test_every_source_says_what_it_accepts():
    assert [name for name, kind in SOURCES.items() if kind.accepts("https://host/{id}")] == ["http"]
    assert [name for name, kind in SOURCES.items() if kind.accepts("a/folder")] == ["folder"]


@pytest.mark.parametrize("text", ["ftp://host/{id}.mp4", "gs://bucket/{id}.mp4", "file:///tmp"])
def test_an_address_of_another_kind_is_no_source(tmp_path, text):
    with pytest.raises(BadOption, match="expected a folder, a tar archive, an http"):
        opened(text, tmp_path)


# Taken as trimmed


@pytest.mark.parametrize(
    "lasts, start, end, trimmed",
    [
        (11.0, 299, 309, True),  # as in mirrors of Kinetics
        (10.0, 299, 309, True),
        (9.0, 299, 309, True),
        (10.0, 5, 15, True),
        (10.1, 0, 10, False),  # long enough: it is the whole video, and the clip its beginning
        (9.7, 0, 10, False),
        (309.0, 299, 309, False),
        (308.6, 299, 309, False),  # ends with the clip, give or take half a second
        (320.0, 299, 309, False),
        (60.0, 299, 309, False),  # cut short, but no clip
        (5.0, 299, 309, False),
        (13.0, 299, 309, False),
        (None, 299, 309, False),  # length unknown
        (3.1, 20, 23, True),
        (4.4, 20, 23, False),
    ],
)
def test_a_bare_file_is_trimmed_if_too_short_for_the_row_and_as_long_as_the_clip(lasts, start, end, trimmed):
    video = Video(Path("abc.mp4"), 64, 48, Fraction(1, 1000), lasts, "h264")
    assert is_trimmed(video, Annotation("abc", float(start), float(end), "train")) is trimmed


def prepared(row: PlanRow, videos: str, tmp_path: Path, recipe: Recipe) -> tuple[LedgerRow, bytes | None]:
    context = RunContext(
        recipe=recipe, digest="0" * 16, fetching=Fetching((videos,)), scratch=str(tmp_path / "scratch")
    )
    return prepare_row(row, context)


@pytest.mark.parametrize(
    "name, taken_as_trimmed", [("abc.mp4", True), ("abc_000299_000301.mp4", False), ("abc_298_302.mp4", False)]
)
def test_the_ledger_says_which_files_were_taken_as_trimmed(tmp_path, quick_recipe, name, taken_as_trimmed):
    (tmp_path / "videos").mkdir()
    seconds = 4 if "298" in name else 2
    write_video(tmp_path / "videos" / name, numbered_frames(25 * seconds))
    row, data = prepared(plan_row("abc", 299.0, 301.0), str(tmp_path / "videos"), tmp_path, quick_recipe)
    assert (row.status, row.taken_as_trimmed, row.source) == (ledger.WRITTEN, taken_as_trimmed, name)
    assert ("taken as trimmed" in (row.notes or "")) == taken_as_trimmed
    assert row.frames == 5 and data is not None
