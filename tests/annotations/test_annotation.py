"""Annotation: which values it accepts, and the name of its clip."""

import itertools
import math
import unicodedata

import pytest

from kinetics_prep.annotations.annotation import SPLITS, TIMED_NAME, Annotation, parse_split
from kinetics_prep.errors import MalformedRow


def annotation(media_id="-3B32lodo2M", start=59.0, end=69.0, split="train", label="abseiling"):
    return Annotation(media_id, start, end, split, label)


@pytest.mark.parametrize(
    "word, split",
    [
        ("train", "train"),
        ("training", "train"),
        ("val", "val"),
        ("validate", "val"),
        ("validation", "val"),
        ("test", "test"),
        ("testing", "test"),
        (" Validate ", "val"),
        ("TEST", "test"),
    ],
)
def test_a_split_has_several_names(word, split):
    assert parse_split(word) == split


@pytest.mark.parametrize("word", ["", "holdout", "tra in", "0"])
def test_an_unknown_split_is_malformed(word):
    with pytest.raises(MalformedRow, match=f"split is {word!r}, expected one of train, "):
        parse_split(word)


@pytest.mark.parametrize("split", ["validate", "", None])
def test_an_annotation_knows_only_three_splits(split):
    with pytest.raises(MalformedRow, match="expected one of train, val, test"):
        annotation(split=split)
    assert SPLITS == ("train", "val", "test")


@pytest.mark.parametrize(
    "media_id",
    [
        "-3B32lodo2M",
        "--07WQ2iBlw",
        "_4YTwq0-73Y",
        "v_Archery_g01_c01",
        "a.b",
        "Turnk_(1) [x], y & z's+",
        "é",
        "x" * 200,
    ],
)
def test_a_video_id_is_kept_as_it_is(media_id):
    assert annotation(media_id).media_id == media_id


@pytest.mark.parametrize(
    "media_id", ["", ".", "..", "a/b", "../a", "a\\b", "#NAME?", "a\n", "a\0b", "a:b", "a*", "%41", "x" * 201]
)
def test_a_video_id_that_is_no_file_name_is_malformed(media_id):
    with pytest.raises(MalformedRow, match="not usable as a file name"):
        annotation(media_id)


@pytest.mark.parametrize("start, end", [(-1, 9), (math.nan, 9), (0, math.nan), (0, math.inf), (0, 864_001)])
def test_a_time_that_no_video_has_is_malformed(start, end):
    with pytest.raises(MalformedRow, match=r"(start|end)_seconds is .*, expected 0 to 864000 s"):
        annotation(start=start, end=end)


@pytest.mark.parametrize("start, end", [(0, 864_000), (863_999.5, None), (0.0, None), (-0.0, 0.000001)])
def test_a_time_may_be_anything_from_0_to_ten_days(start, end):
    kept = annotation(start=start, end=end)
    assert (kept.start_seconds, kept.end_seconds) == (start, end)


@pytest.mark.parametrize("start, end", [(10, 10), (10, 9), (1, 1.0000004)])
def test_a_clip_must_end_a_microsecond_after_its_start_at_least(start, end):
    with pytest.raises(MalformedRow, match="not after its start"):
        annotation(start=start, end=end)


def test_times_are_rounded_to_microseconds():
    short = annotation(start=0.1 + 0.2, end=0.3000011)
    assert (short.start_us, short.end_us) == (300_000, 300_001)


@pytest.mark.parametrize("label", ["", "  "])
def test_an_empty_label_is_malformed(label):
    with pytest.raises(MalformedRow, match="label is empty"):
        annotation(label=label)


def test_the_letters_of_a_label_are_accepted_by_their_category_of_unicode():
    letters = list(map(chr, range(0x110000)))
    refused = {letter for letter in letters if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")}
    for letter in refused:
        with pytest.raises(MalformedRow, match="control characters"):
            annotation(label=f"a{letter}b")
    accepted = "".join(letter for letter in letters if letter not in refused)
    assert annotation(label=accepted).label == accepted


@pytest.mark.parametrize("separator", ["\n", "\r", "\x0b", "\x85", "\u2028"])
def test_a_label_of_two_lines_is_malformed(separator):
    # labels.txt holds one label a line: two lines would move every class id after them.
    with pytest.raises(MalformedRow, match="label"):
        annotation(label=f"air{separator}drumming")


def test_a_label_may_be_missing():
    assert annotation(label=None).label is None


@pytest.mark.parametrize(
    "start, end, clip_id",
    [
        (59, 69, "-3B32lodo2M_000059_000069"),
        (23_770, 23_780, "-3B32lodo2M_023770_023780"),
        (0, 864_000, "-3B32lodo2M_000000_864000"),
        (1.5, 11.25, "-3B32lodo2M_000001.5_000011.25"),
        (0.000001, 10, "-3B32lodo2M_000000.000001_000010"),
    ],
)
def test_a_clip_is_named_as_in_the_archives_of_kinetics(start, end, clip_id):
    assert annotation(start=start, end=end).clip_id == clip_id


@pytest.mark.parametrize(
    "start, clip_id",
    [(0.0, "v_Archery_g01_c01"), (2.5, "v_Archery_g01_c01_000002.5"), (0.0000004, "v_Archery_g01_c01")],
)
def test_a_whole_video_is_named_by_its_id_and_by_its_start_if_that_is_later(start, clip_id):
    whole = annotation("v_Archery_g01_c01", start, None)
    assert (whole.clip_id, whole.end_us) == (clip_id, None)


@pytest.mark.parametrize("start, end", [(59.0, 69.0), (1.5, 11.25), (0.000001, 10), (0, 864_000)])
def test_the_name_of_a_clip_can_be_read_back(start, end):
    match = TIMED_NAME.match(annotation("a_1_2", start, end).clip_id)
    assert (match["id"], float(match["start"]), float(match["end"])) == ("a_1_2", start, end)


@pytest.mark.parametrize("name", ["-3B32lodo2M", "a_1", "_1_2", "a_1_2.mp4", "a_1_2 ", "a_1_-2", "a_.5_1"])
def test_other_names_are_not_taken_for_clips(name):
    assert not TIMED_NAME.match(name)


def test_many_rows_share_a_label():
    first, second = (annotation(label="".join(("abs", "eiling"))) for _ in range(2))
    assert first.label is second.label


def test_id_start_and_end_together_are_the_key():
    keys = [
        annotation(media_id, start, end).clip_id
        for media_id, start, end in itertools.product(("a", "a_000001"), (1, 1.5, 2), (10, 10.1))
    ]
    assert len(set(keys)) == len(keys)


def test_the_label_is_no_part_of_the_key():
    assert annotation(label="abseiling").clip_id == annotation(label=None).clip_id
