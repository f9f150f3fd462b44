"""Selection: which rows a run is about, and which row goes to which plan."""

from pathlib import Path

import pytest

from kinetics_prep.annotations import planned
from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlannedRow, RefusedRow
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.annotations.selection import (
    SelectedRows,
    Selection,
    read_annotations,
    rows_of_split,
    select_rows,
)
from kinetics_prep.errors import BadAnnotations, BadOption

HEADER = "label,youtube_id,time_start,time_end,split\n"


def line(media_id, split="train", label="abseiling", end="10"):
    return f"{label},{media_id},0,{end},{split}\n"


@pytest.fixture
def store():
    with RowStore() as store:
        yield store


@pytest.fixture
def write(tmp_path):
    """Writes an annotation file, and returns its path as `--annotations` names it."""

    def write(*lines: str, name: str = "some.csv", header: str = HEADER) -> str:
        path = tmp_path / name
        path.write_text(header + "".join(lines))
        return str(path)

    return write


def lines_of(rows: SelectedRows, split: str) -> list[int]:
    return sorted(row.line for row in rows.rows(split))


def plan_lines(rows: SelectedRows, split: str) -> list[int]:
    return [row.annotation_line for row in rows.plan_rows(split, rows.labels, 4)]


# Splits


def test_without_a_choice_every_split_is_taken_in_the_usual_order(store, write):
    rows = select_rows(Selection((write(line("a", "test"), line("b", "train"), line("c", "val")),)), store)
    assert rows.splits == ("train", "val", "test")
    assert [lines_of(rows, split) for split in rows.splits] == [[3], [4], [2]]


def test_chosen_splits_keep_their_order_and_the_others_are_left_out(store, write):
    path = write(line("a", "test"), line("b", "train"), line("c", "val"))
    assert select_rows(Selection((path,), splits=("val", "train")), store).splits == ("val", "train")


def test_a_split_that_no_row_names_is_refused(store, write):
    with pytest.raises(BadAnnotations, match="no readable row of split 'val'; the annotations hold test, train$"):
        select_rows(Selection((write(line("a", "test"), line("b", "train")),), splits=("train", "val")), store)


@pytest.mark.parametrize("only", [(), ("yoga",)])
def test_the_plans_of_single_splits_are_those_of_all_together(write, only):
    path = write(line("z", label="zumba"), *(line(name, "val", "yoga") for name in "ab"), line("c", "holdout"))
    path_of_ids = write("a\nb\nc\nz\nmissing\n", name="ids.txt", header="")

    def plans(*splits: str, **more) -> dict[str, list]:
        with RowStore() as store:
            rows = select_rows(Selection((path,), splits, only=only, **more), store)
            return {split: list(rows.plan_rows(split, LabelMap(("yoga", "zumba")), 4)) for split in rows.splits}

    for more in ({}, {"ids": Path(path_of_ids)}):
        together = plans(**more)
        unknown = 2 if more else 1  # with ids: those of which there is no row, c among them
        assert sum(map(len, together.values())) == (2 if only else 3) + unknown
        for split, plan in together.items():
            assert plans(split, **more) == {split: plan}
        assert plans(*reversed(together), **more) == together


def test_of_rows_in_a_split_that_is_left_out_there_is_a_notice(store, write, caplog):
    path = write(line("a"), line("b", "val"), line("c", "holdout"), line("d", ""), line("e", "train", end="soon"))
    rows = select_rows(Selection((path,), splits=("val",)), store)
    assert plan_lines(rows, "val") == [3]
    assert caplog.messages == [
        "2 rows whose split cannot be read: accounted for in split train, which --split leaves out"
    ]


@pytest.mark.parametrize(
    "lines, splits",
    [
        ((line("a"), line("b", "val")), ("val",)),
        ((line("a"), line("b", "holdout")), ("train",)),
        ((line("a"), line("b", "val"), line("c", "holdout")), ()),
        ((line("b", "val"), line("c", "holdout")), ("val",)),
    ],
)
def test_there_is_no_notice_where_no_row_is_left_out(store, write, caplog, lines, splits):
    select_rows(Selection((write(*lines),), splits), store)
    assert caplog.messages == []


def test_where_only_the_option_gives_a_split_it_takes_every_row(store, write, caplog):
    path = write("yoga,a,0,10\n", "yoga,b,0,soon\n", "yoga,c,0\n", header="label,youtube_id,time_start,time_end\n")
    rows = select_rows(Selection((path,), splits=("test",)), store)
    assert (sorted(plan_lines(rows, "test")), caplog.messages) == ([2, 3, 4], [])


def test_a_row_whose_split_cannot_be_read_is_in_the_plan_of_the_first_split_alone(store, write):
    path = write(line("a"), line("b", "val"), line("c", "holdout"), line("d", "val", end="soon"), line("e", "test"))
    rows = select_rows(Selection((path,)), store)
    plans = {split: sorted(plan_lines(rows, split)) for split in rows.splits}
    assert plans == {"train": [2, 4], "val": [3, 5], "test": [6]}
    assert {split: rows.count(split) for split in rows.splits} == {"train": 2, "val": 2, "test": 1}


def test_the_first_split_is_that_of_the_annotations_in_whatever_order_splits_are_chosen(store, write):
    path = write(line("a"), line("b", "val"), line("c", "holdout"))
    rows = select_rows(Selection((path,), splits=("val", "train")), store)
    assert {split: lines_of(rows, split) for split in rows.splits} == {"val": [3], "train": [2, 4]}


def test_each_row_is_in_one_plan_whatever_is_wrong_with_it(store, write):
    lines = [
        line(f"v{k % 7}", ("train", "val", "test", "?")[k % 4], end="?" if k % 3 == 0 else "10") for k in range(60)
    ]
    rows = select_rows(Selection((write(*lines),)), store)
    everywhere = [number for split in rows.splits for number in plan_lines(rows, split)]
    assert sorted(everywhere) == list(range(2, 62))


def test_files_without_a_split_column_take_the_one_chosen_split(store, write):
    header = "label,youtube_id,time_start,time_end\n"
    path = write("abseiling,a,0,10\n", header=header)
    assert select_rows(Selection((path,), splits=("val",)), store).splits == ("val",)
    with RowStore() as other, pytest.raises(BadAnnotations, match="say which it is with --split"):
        select_rows(Selection((path,), splits=("val", "train")), other)


# --limit


@pytest.mark.parametrize("limit", [1, 3, 19, 20, 21])
def test_a_limit_takes_the_first_rows_of_the_plan(store, write, limit):
    path = write(*(line(f"v{k}", "val" if k % 2 else "train") for k in range(40)))
    whole = select_rows(Selection((path,)), store)
    with RowStore() as other:
        limited = select_rows(Selection((path,), limit=limit), other)
        for split in ("train", "val"):
            everything = list(whole.plan_rows(split, whole.labels, 4))
            assert list(limited.plan_rows(split, limited.labels, 4)) == everything[:limit]
            assert limited.count(split) == min(limit, 20)
            assert whole.count(split) == len(everything) == 20


def test_a_limit_leaves_the_label_map_as_it_is(store, write):
    path = write(*(line(f"v{k}", label=f"label {k}") for k in range(9)))
    rows = select_rows(Selection((path,), limit=2), store)
    assert len(rows.labels) == 9
    (first, second) = rows.plan_rows("train", rows.labels, 4)
    assert [row.label for row in (first, second)] == [rows.labels.labels[row.label_index] for row in (first, second)]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_at_least_one(limit):
    with pytest.raises(BadOption, match=f"--limit is {limit}, expected at least 1"):
        Selection(("some.csv",), limit=limit)


# Labels


def test_class_ids_are_places_among_the_sorted_labels_of_all_splits(store, write):
    path = write(line("a", label="zumba"), line("b", "val", "yoga"), line("c", label="abseiling"))
    rows = select_rows(Selection((path,)), store)
    assert (rows.labels.labels, rows.given_labels) == (("abseiling", "yoga", "zumba"), None)
    plan = [row for split in rows.splits for row in rows.plan_rows(split, rows.labels, 4)]
    assert {row.label: row.label_index for row in plan} == {"abseiling": 0, "yoga": 1, "zumba": 2}


def test_class_ids_are_lines_of_a_label_map_that_is_given(store, write, tmp_path):
    (tmp_path / "labels.txt").write_text("zumba\nyoga\nabseiling\n")
    path = write(line("a", label="zumba"), line("c", label="abseiling"), line("d", label="yodelling"))
    rows = select_rows(Selection((path,), labels=tmp_path / "labels.txt"), store)
    assert rows.labels is rows.given_labels and rows.labels.labels == ("zumba", "yoga", "abseiling")
    plan = {row.label: row for row in rows.plan_rows("train", rows.labels, 4)}
    assert {label: row.label_index for label, row in plan.items()} == {"zumba": 0, "abseiling": 2, "yodelling": None}
    assert isinstance(plan["yodelling"], RefusedRow) and isinstance(plan["zumba"], PlannedRow)


def test_only_leaves_out_splits_without_these_labels(store, write):
    path = write(line("a"), line("b", label="zumba"), line("c", "val"), line("d", "test", end="?"), line("e", "test"))
    rows = select_rows(Selection((path,), only=("zumba",)), store)
    assert rows.splits == ("train",) and lines_of(rows, "train") == [3]


def test_only_refuses_a_chosen_split_without_these_labels(store, write):
    path = write(line("a", label="zumba"), line("b", "val"))
    with pytest.raises(BadOption, match="--only zumba: no row of split 'val' has one of these labels"):
        select_rows(Selection((path,), splits=("train", "val"), only=("zumba",)), store)


def test_only_leaves_the_class_ids_as_they_are(store, write):
    path = write(line("a"), line("b", label="zumba"))
    rows = select_rows(Selection((path,), only=("zumba",)), store)
    assert [row.label_index for row in rows.plan_rows("train", rows.labels, 4)] == [1]


# --ids


def test_ids_take_their_rows_and_report_those_that_are_missing(store, write, tmp_path):
    ids = tmp_path / "ids.txt"
    ids.write_text("b 0 10\nmissing\n\nb\n")
    path = write(line("a"), line("b"), line("b", "val"), line("c"), "?\n")
    rows = select_rows(Selection((path,), ids=ids), store)
    assert rows.splits == ("train", "val") and rows.files[0].rows == 5
    train = list(rows.plan_rows("train", rows.labels, 4))
    assert sorted((row.annotation_file, row.annotation_line) for row in train) == [("ids.txt", 2), ("some.csv", 3)]
    (refused,) = (row for row in train if isinstance(row, RefusedRow))
    assert refused.refusal_message == "ids.txt:2: 'missing' is in none of the annotation files"
    assert plan_lines(rows, "val") == [4]


def test_ids_of_other_files_are_refused(store, write, tmp_path):
    (tmp_path / "ids.txt").write_text("x\ny\n")
    with pytest.raises(BadAnnotations, match=r"--ids .*ids\.txt: none of its ids is in the annotation files"):
        select_rows(Selection((write(line("a")),), ids=tmp_path / "ids.txt"), store)


def test_a_list_of_ids_that_is_not_there_is_named(store, write, tmp_path):
    with pytest.raises(BadAnnotations, match=r"--ids .*none\.txt cannot be read: No such file"):
        select_rows(Selection((write(line("a")),), ids=tmp_path / "none.txt"), store)


# Files


def test_several_files_are_read_one_after_the_other(store, write):
    paths = (write(line("a"), line("b"), name="one.csv"), write(line("a"), name="two.csv"))
    files = read_annotations(store, paths, None, None)
    assert [str(file) for file in files] == ["one.csv: kinetics-csv, 2 rows", "two.csv: kinetics-csv, 1 rows"]
    assert [(row.file, is_duplicate) for row, is_duplicate in store.as_read()] == [
        ("one.csv", False),
        ("one.csv", False),
        ("two.csv", True),
    ]


def test_of_a_clip_in_two_files_the_file_that_is_named_first_is_taken(store, write):
    paths = (write(line("a", label="zumba"), name="z.csv"), write(line("a"), name="a.csv"))
    rows = select_rows(Selection(paths), store)
    first, second = rows.plan_rows("train", rows.labels, 4)
    assert isinstance(first, PlannedRow) and first.annotation_file == "z.csv"
    assert second.refusal_message == "a.csv:2: the same video and times stand in z.csv:2"


def test_a_format_that_is_given_is_not_detected(store, write):
    path = write("Archery/v_Archery_g01_c01.avi 0\n", name="train.txt", header="")
    (ucf,) = read_annotations(store, (path,), None, None)
    with RowStore() as other:
        (listed,) = read_annotations(other, (path,), None, "path-list", LabelMap(("dancing",)))
        assert other.first_row().annotation == Annotation("v_Archery_g01_c01", 0.0, None, "train", "dancing")
    assert (ucf.format_name, listed.format_name) == ("ucf101", "path-list")
    assert store.first_row().annotation.label == "Archery"


def test_a_format_is_one_of_the_table():
    with pytest.raises(BadOption, match="--dataset csv: expected one of activitynet-json, .*, kinetics-csv$"):
        Selection(("some.csv",), format_name="csv")


def test_a_missing_file_and_a_folder_are_named(store, tmp_path):
    with pytest.raises(BadAnnotations, match=r"--annotations .*none\.csv: there is no such file"):
        read_annotations(store, (str(tmp_path / "none.csv"),), None, None)
    with pytest.raises(BadAnnotations, match=f"--annotations {tmp_path}: is not a file"):
        read_annotations(store, (str(tmp_path),), None, None)


def test_a_header_alone_is_refused(store, write):
    with pytest.raises(BadAnnotations, match="a header and no rows$"):
        read_annotations(store, (write(),), None, None)


def test_files_of_which_no_row_can_be_read_show_the_first(store, write):
    paths = (write(line("a", end="?"), line("b", "?"), name="one.csv"), write(line("c", end=""), name="two.csv"))
    with pytest.raises(
        BadAnnotations, match=r"none of the 3 rows can be read; the first: one\.csv:2: time_end is '[?]'"
    ):
        read_annotations(store, paths, None, None)


def test_one_readable_row_is_enough(store, write):
    paths = (write(line("a", end="?"), name="one.csv"), write(line("c"), name="two.csv"))
    assert [file.rows for file in read_annotations(store, paths, None, None)] == [1, 1]


def test_rows_are_read_from_the_store_when_they_are_needed(store, write):
    rows = select_rows(Selection((write(line("a"), line("b")),)), store)
    assert list(rows.rows("train")) == list(rows.rows("train")) == list(rows_of_split(store, "train"))
    plan = planned.arrange(rows.rows("train"), "train", rows.labels, 1)
    assert list(plan) == list(rows.plan_rows("train", rows.labels, 1))
    assert Path(rows.selection.annotations[0]) == rows.files[0].path
