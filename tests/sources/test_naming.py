"""Which video, or which piece of it, a file's name means."""

import pytest
from conftest import plan_row

from kinetics_prep.errors import BadOption
from kinetics_prep.sources import naming
from kinetics_prep.sources.naming import Match, is_video, lookup_words, match, may_be_video


@pytest.mark.parametrize(
    "name, video, maybe",
    [
        ("a.mp4", True, True),
        ("a.MKV", True, True),
        ("a.b.webm", True, True),
        ("a", False, True),
        ("a.unknown", False, True),
        ("a.mp4.part", False, False),
        ("a.JSON", False, False),
        ("a.m4a", False, False),
        (".mp4", False, True),  # a hidden file without suffix
    ],
)
def test_suffixes_say_what_is_or_may_be_a_video(name, video, maybe):
    assert (is_video(name), may_be_video(name)) == (video, maybe)


def test_no_suffix_means_both_a_video_and_a_file_beside_it():
    assert not naming._VIDEO_SUFFIXES & naming._OTHER_SUFFIXES


@pytest.mark.parametrize(
    "path, words",
    [
        ("d/abc.mp4", ("abc",)),
        ("abc_5_15.mp4", ("abc_5_15", "abc")),
        ("abc_000005_000015.mp4", ("abc_000005_000015", "abc")),
        ("abc_1.5_11.25.mp4", ("abc_1.5_11.25", "abc")),
        ("abc_5.mp4", ("abc_5",)),
        ("abc_5_15/abc.mp4", ("abc",)),
        ("abc_5_15_7.mp4", ("abc_5_15_7", "abc_5")),
    ],
)
def test_a_file_is_looked_up_by_its_stem_and_by_the_id_before_times(path, words):
    assert lookup_words(path) == words


@pytest.mark.parametrize(
    "path, expected",
    [
        ("abc.mp4", (2, False, None)),
        ("abc.dat", (2, True, None)),
        ("abc_5_15.mp4", (0, False, 5.0)),
        ("abc_05_0015.dat", (0, True, 5.0)),
        ("abc_5_16.mp4", (1, False, 5.0)),
        ("abc_4_15.mp4", (1, False, 4.0)),
        ("abc_0_100.mp4", (1, False, 0.0)),
        ("abc_5.1_15.mp4", None),
        ("abc_5_14.9.mp4", None),
        ("abcd_5_15.mp4", None),
        ("abcd.mp4", None),
    ],
)
def test_a_file_matches_if_it_holds_the_whole_clip(path, expected):
    assert match(path, plan_row("abc", 5.0, 15.0)) == (expected and Match(expected[0], expected[1], path, expected[2]))


@pytest.mark.parametrize("path, matches", [("abc.mp4", True), ("abc_0_99.mp4", False)])
def test_a_row_that_is_a_whole_video_is_held_by_no_piece(path, matches):
    assert (match(path, plan_row("abc", 0.0, None)) is not None) == matches


def test_the_best_match_is_sorted_first():
    paths = ["b/abc.mp4", "abc.dat", "a/abc.mp4", "abc_0_20.mp4", "abc_5_15.dat", "abc_5_15.mp4"]
    matches = [match(path, plan_row("abc", 5.0, 15.0)) for path in paths]
    assert [best.path for best in sorted(matches)] == [
        "abc_5_15.mp4",
        "abc_5_15.dat",
        "abc_0_20.mp4",
        "a/abc.mp4",
        "b/abc.mp4",
        "abc.dat",
    ]


def test_a_folder_is_walked_in_order_without_hidden_files_and_each_folder_once(tmp_path, tmp_path_factory):
    for name in ("b.mp4", "a/z.mp4", "a/.hidden.mp4", ".git/x.mp4", "c/deep/er.mp4", "A.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c/up").symlink_to(tmp_path)
    (tmp_path / "zz").symlink_to(tmp_path / "a")
    (tmp_path / "c/elsewhere").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    (tmp_path / "c/elsewhere/linked.mp4").touch()
    expected = ["A.mp4", "b.mp4", "a/z.mp4", "c/deep/er.mp4", "c/elsewhere/linked.mp4"]
    assert list(naming.walk(tmp_path)) == list(naming.walk(str(tmp_path))) == expected


def test_a_folder_that_cannot_be_listed_is_a_mistake_but_not_lost_and_found(tmp_path):
    for name, message in (("lost+found", None), ("secret", r"cannot list .*secret: Permission denied")):
        error = PermissionError(13, "Permission denied")
        error.filename = str(tmp_path / name)
        if message is None:
            naming._raise_bad_option(error)
            continue
        with pytest.raises(BadOption, match=message):
            naming._raise_bad_option(error)
    with pytest.raises(BadOption, match="cannot list"):
        list(naming.walk(tmp_path / "missing"))
