"""How many rows data sets were published with: compared with the real files, and with the plan of a folder."""

from pathlib import Path

import pytest
import small_dataset

from kinetics_prep.annotations import published
from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import arrange
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.annotations.rows import ReadableRow, Row
from kinetics_prep.annotations.selection import read_annotations, rows_of_split
from kinetics_prep.cli import OK, main

CLIPS_PER_SHARD = small_dataset.RECIPE.clips_per_shard


def labels_of(shared_data: Path, version: int) -> list[str]:
    return (shared_data / "annotations" / f"labels_k{version}.txt").read_text("utf-8").splitlines()


def names(labels: list[str], split: str, rows: int) -> list[str]:
    return [data_set.name for data_set in published.find_candidates(labels, split, rows)]


def write_plan(output: Path, rows: list[Row], split: str, **options) -> small_dataset.SmallDataset:
    """A folder that holds a plan, and nothing yet."""
    with RowStore() as store:
        store.add(rows)
        labels = LabelMap.from_labels(store.labels())
        planned = list(arrange(rows_of_split(store, split), split, labels, CLIPS_PER_SHARD, **options))
    return small_dataset.make(output, split=split, rows=planned)


def read(path: Path, split: str | None = None) -> list[Row]:
    with RowStore() as store:
        read_annotations(store, (str(path),), split, None)
        return [row for row, _ in store.as_read()]


def published_lines(output: Path, capsys) -> list[str]:
    assert main(["status", str(output)]) == OK
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("  published: ")]


@pytest.fixture(scope="module")
def k400_val(shared_data) -> list[Row]:
    return read(shared_data / "annotations" / "k400_val.csv")


@pytest.mark.parametrize(
    "name, split, expected",
    [
        ("k400_val.csv", "val", "Kinetics-400"),
        ("k400_test_labelled.csv", "test", "Kinetics-400"),
        ("k600_val.csv", "val", "Kinetics-600"),
        ("ucf101_testlist01.txt", "test", "UCF-101 split 1"),
    ],
)
def test_real_files_have_the_published_labels_and_rows(shared_data, name, split, expected):
    rows = read(shared_data / "annotations" / name, split)
    (data_set,) = published.find_candidates({row.annotation.label for row in rows}, split, len(rows))
    assert (data_set.name, data_set.splits[split]) == (expected, len(rows))


def test_rows_tell_apart_what_has_the_same_labels(shared_data):
    labels = labels_of(shared_data, 700)
    k700, k700_2020 = "Kinetics-700 as reissued", "Kinetics-700-2020 as reissued"
    assert names(labels, "train", 529_046) == [k700] and names(labels, "train", 542_352) == [k700_2020]
    assert names(labels, "train", 500_000) == [k700, k700_2020]
    assert names(labels, "train", 540_000) == [k700_2020]


def test_more_rows_than_were_published_are_something_else(shared_data):
    assert names(labels_of(shared_data, 400), "val", 19_907) == []


def test_part_of_the_classes_or_a_sample_of_the_rows_is_no_copy(shared_data):
    labels = labels_of(shared_data, 400)
    assert names(labels[1:], "val", 19_856) == names([*labels[1:], "napping"], "val", 19_906) == []
    tiny = read(shared_data / "annotations" / "k400_tiny_train.csv")
    assert {row.annotation.label for row in tiny} == set(labels)
    assert names(labels, "train", len(tiny)) == []


def test_a_list_longer_than_the_one_that_is_known_is_not_spoken_of(shared_data):
    assert names(labels_of(shared_data, 600), "train", 390_000) == []


def test_the_same_labels_are_the_same_number_of_classes():
    assert len({(data_set.label_digest, data_set.classes) for data_set in published.PUBLISHED}) == 5
    assert all(data_set.splits and data_set.source for data_set in published.PUBLISHED)


def test_status_sets_a_folder_against_what_was_published(k400_val, tmp_path, capsys):
    dataset = write_plan(tmp_path, k400_val, "val")
    for row in dataset.rows[:20]:
        dataset.write(row)
    assert published_lines(tmp_path, capsys) == [
        "  published: Kinetics-400 val, 19,906 rows; written here 20 (0.1%), planned 19,906"
    ]


def test_status_of_a_copy_that_lacks_rows_says_of_how_many(k400_val, tmp_path, capsys):
    write_plan(tmp_path, k400_val, "val", limit=18_000)
    assert published_lines(tmp_path, capsys) == [
        "  published: Kinetics-400 val, 19,906 rows; written here 0 (0.0%), planned 18,000"
    ]


def test_status_names_all_that_a_folder_may_be(shared_data, tmp_path, capsys):
    rows = read(shared_data / "annotations" / "ucf101_testlist01.txt", "test")
    write_plan(tmp_path, rows, "test", limit=3_735)
    (line,) = published_lines(tmp_path, capsys)
    assert line == "  published: UCF-101 split 1 test, 3,783 rows; written here 0 (0.0%), planned 3,735"
    write_plan(tmp_path, rows, "test", limit=3_700)
    (line,) = published_lines(tmp_path, capsys)
    assert line.startswith("  published: UCF-101 split 1 test, 3,783 rows, or UCF-101 split 2 test, 3,734 rows; ")
    assert line.endswith("; written here 0 (0.0% or 0.0%), planned 3,700")


def test_a_test_list_without_labels_is_told_by_the_other_splits(k400_val, tmp_path, capsys):
    write_plan(tmp_path, k400_val, "val")
    bare = [ReadableRow("test.csv", k, Annotation(f"v{k}", 0.0, 10.0, "test")) for k in range(38_685)]
    write_plan(tmp_path, bare, "test")
    assert published_lines(tmp_path, capsys)[1] == (  # after val
        "  published: Kinetics-400 test, 39,805 rows; written here 0 (0.0%), planned 38,685"
    )


def test_status_of_one_class_of_a_data_set_says_nothing_of_it(k400_val, tmp_path, capsys):
    write_plan(tmp_path, [row for row in k400_val if row.annotation.label == "abseiling"], "val")
    assert published_lines(tmp_path, capsys) == []


def test_half_of_the_published_rows_are_a_copy_and_fewer_a_sample(shared_data):
    labels = labels_of(shared_data, 400)
    assert names(labels, "val", 9_953) == ["Kinetics-400"] and names(labels, "val", 9_952) == []


def test_the_digest_of_labels_has_no_order():
    labels = ["zumba", "abseiling", "jeté"]
    assert published.digest(labels) == published.digest(reversed(labels)) == published.digest(set(labels))
    assert published.digest(labels) != published.digest(labels[1:])
    assert published.digest(["a", "b"]) != published.digest(["a b"])


def test_a_split_that_was_not_published_has_no_candidate(shared_data):
    assert names(labels_of(shared_data, 600), "train", 370_582) == ["Kinetics-600 as reissued"]
    assert names(labels_of(shared_data, 400), "holdout", 19_906) == []
