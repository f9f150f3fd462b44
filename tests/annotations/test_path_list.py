"""Lists of `path label`."""

import pytest

from kinetics_prep.annotations import selection
from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.formats import detect, path_list
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.annotations.rows import UnreadableRow
from kinetics_prep.errors import BadAnnotations

LABELS = LabelMap(("abseiling", "air drumming", "answering questions"))
LINES = "abseiling/-3B32lodo2M_000059_000069.mp4 0\nair drumming/some video.MKV 1\n"


def written(tmp_path, content, name="kinetics400_val_list_videos.txt"):
    (tmp_path / name).write_text(content)
    return tmp_path / name


def read(path, labels=LABELS, split=None):
    with RowStore() as rows:
        (file,) = selection.read_annotations(rows, (str(path),), split, None, labels)
        assert file.format_name == "path-list"
        return [row for row, _ in rows.as_read()]


def test_a_number_is_a_line_of_the_label_map_and_a_name_may_hold_times(tmp_path):
    assert [row.annotation for row in read(written(tmp_path, LINES))] == [
        Annotation("-3B32lodo2M", 59.0, 69.0, "val", "abseiling"),
        Annotation("some video", 0.0, None, "val", "air drumming"),
    ]


def test_a_label_may_be_a_text(tmp_path):
    (row,) = read(written(tmp_path, "videos/one.webm air drumming\n"), labels=None)
    assert row.annotation == Annotation("one", 0.0, None, "val", "air drumming")


def test_numbers_need_a_label_map(tmp_path):
    with pytest.raises(BadAnnotations, match="its labels are numbers; say with --labels"):
        read(written(tmp_path, LINES), labels=None)


def test_a_number_beyond_the_label_map_is_a_row_with_a_reason(tmp_path):
    *_, row = read(written(tmp_path, LINES + "a.mp4 3\n"))
    assert str(row.error) == "kinetics400_val_list_videos.txt:3: label is 3, expected 0 to 2, the last of the label map"


@pytest.mark.parametrize("number", ["3", "99999", "123456", "1" * 21, "1" * 5_000, "0" * 21])
def test_a_number_however_long_costs_its_row_only(tmp_path, number):
    *_, bad, good = read(written(tmp_path, f"{LINES}a.mp4 {number}\nb.mp4 2\n"))
    assert isinstance(bad, UnreadableRow) and (bad.line, bad.split) == (3, "val")
    assert "expected 0 to 2, the last of the label map" in str(bad.error) and len(str(bad.error)) < 200
    assert good.annotation.label == "answering questions"


def test_a_line_of_another_kind_is_a_row_with_a_reason(tmp_path):
    path = written(tmp_path, LINES * 25 + "a.mp4\n")
    assert detect(path) == "path-list"
    *_, row = read(path)
    assert row.line == 51 and "expected a video's path and a label" in str(row.error)


@pytest.mark.parametrize(
    "name, split",
    [("train.txt", "train"), ("kinetics_val_list.txt", "val"), ("TestList.txt", "test"), ("my-test.csv", "test")],
)
def test_the_name_says_which_split_it_is(tmp_path, name, split):
    assert {row.split for row in read(written(tmp_path, LINES, name))} == {split}


@pytest.mark.parametrize("name", ["list.txt", "strain.txt", "latest.txt", "evaluation.txt"])
def test_a_name_without_a_split_needs_the_option(tmp_path, name):
    path = written(tmp_path, LINES, name)
    with pytest.raises(BadAnnotations, match="say so with --split"):
        read(path)
    assert {row.split for row in read(path, split="train")} == {"train"}


def test_the_option_goes_before_the_name(tmp_path):
    assert {row.split for row in read(written(tmp_path, LINES), split="test")} == {"test"}


def test_lists_are_distinguished_from_csv_and_from_ucf(tmp_path):
    assert detect(written(tmp_path, "abseiling,-3B32lodo2M,59,69,train\n")) == "kinetics-csv"
    assert detect(written(tmp_path, "Archery/v_Archery_g08_c01.avi 3\n", "trainlist01.txt")) == "ucf101"
    assert path_list.recognises(written(tmp_path, LINES)) and not path_list.recognises(written(tmp_path, ""))
