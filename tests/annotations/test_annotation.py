import itertools
import math
import unicodedata

import pytest

from kinetics_prep.annotations.annotation import SPLITS, Annotation, parse_split
from kinetics_prep.annotations.formats import kinetics_csv
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.errors import BadOption, MalformedRow, UnknownLabel


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
def test_splits_go_by_the_names_found_in_the_wild(word, split):
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


def test_what_a_label_may_not_hold_goes_by_the_categories_of_unicode():
    letters = map(chr, range(0x110000))
    refused = {letter for letter in letters if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")}
    for letter in refused:
        with pytest.raises(MalformedRow, match="control characters"):
            annotation(label=f"a{letter}b")
    annotation(label="".join(letter for letter in map(chr, range(0x110000)) if letter not in refused))


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


def test_id_start_and_end_together_are_the_key():
    keys = [
        annotation(media_id, start, end).clip_id
        for media_id, start, end in itertools.product(("a", "a_000001"), (1, 1.5, 2), (10, 10.1))
    ]
    assert len(set(keys)) == len(keys)


def test_the_label_is_no_part_of_the_key():
    assert annotation(label="abseiling").clip_id == annotation(label=None).clip_id


def test_class_ids_follow_the_plain_label_strings():
    # With an underscore for its space "dunking x" would come after "dunking-x".
    labels = LabelMap.from_labels(["dunking-x", "dunking x", "Zumba", None, "dunking x", "abseiling"])
    assert labels.labels == ("Zumba", "abseiling", "dunking x", "dunking-x")
    assert [labels.index(label) for label in labels.labels] == [0, 1, 2, 3]


@pytest.mark.parametrize("version, count", [("k400", 400), ("k600", 600)])
def test_class_ids_are_deepminds(shared_data, version, count):
    folder = shared_data / "annotations"
    published = LabelMap.parse((folder / f"labels_{version}.txt").read_text("utf-8"))
    rows = kinetics_csv.read(folder / f"{version}_val.csv")
    assert LabelMap.from_labels(row.annotation.label for row in rows) == published
    assert len(published) == count


def test_a_label_map_tells_what_it_holds():
    labels = LabelMap(("b", "a"))
    assert len(labels) == 2
    assert "a" in labels
    assert None not in labels
    with pytest.raises(UnknownLabel, match="label 'c' is not among the 2 labels"):
        labels.index("c")


def test_a_label_map_holds_each_label_once():
    with pytest.raises(BadOption, match="same label twice: a$"):
        LabelMap(("a", "b", "a"))


@pytest.mark.parametrize("text", ["b\na\n", "b\r\na\r\n", "b\na\n\n\n", " b \na"])
def test_a_label_map_is_read_in_its_own_order(text):
    assert LabelMap.parse(text).labels == ("b", "a")


def test_a_label_map_may_begin_with_a_byte_order_mark():
    assert LabelMap.parse("\ufeffabseiling\nzumba\n").labels == ("abseiling", "zumba")


@pytest.mark.parametrize("text", ["", "\n\n", "a\n\nb\n", "\na\n"])
def test_a_label_map_with_a_blank_line_is_refused(text):
    with pytest.raises(BadOption, match="no blank line"):
        LabelMap.parse(text)
