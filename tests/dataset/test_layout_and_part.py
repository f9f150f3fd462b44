"""Names on disk, parts of a folder, and which rows a shard accounts for."""

import dataclasses
from pathlib import Path

import pytest
import small_dataset
from small_dataset import duplicate, row

from kinetics_prep.dataset import plan
from kinetics_prep.dataset.layout import Layout, is_refreshing, list_parts, part_name, shard_name
from kinetics_prep.dataset.part import Part, ids_found_later, rows_of

PATHS = {
    "manifest": "dataset.json",
    "labels": "labels.txt",
    "recipe": "recipe.json",
    "sources": "sources.json",
    "plans": "plan",
    "markers": "markers",
    "work": ".work",
    "scratch": ".work/tmp",
}


@pytest.mark.parametrize("name", PATHS)
def test_every_file_has_its_place(name):
    assert getattr(Layout(Path("out")), name) == Path("out") / PATHS[name]


def test_shards_have_the_names_that_tf_data_globs_for():
    layout, name = Layout(Path("out")), shard_name("train", 3, 312)
    assert name == "train-00003-of-00312"
    assert layout.shard(name, "tfrecord") == Path("out/tfrecord/train-00003-of-00312.tfrecord")
    assert layout.ledger(name) == Path("out/ledger/train-00003-of-00312.parquet")
    assert layout.marker(name) == Path("out/markers/train-00003-of-00312.json")
    assert layout.plan("val") == Path("out/plan/val.parquet")
    assert layout.objects("val", 7) == Path("out/.work/val/00007")
    assert layout.relative(layout.plan("val")) == "plan/val.parquet"
    assert shard_name(part_name("val", 2), 0, 1) == "val-refresh2-00000-of-00001"
    assert part_name("val", 0) == "val"


def test_parts_are_told_by_the_names_of_their_plans(tmp_path):
    layout = Layout(tmp_path)
    assert list_parts(layout) == []
    layout.plans.mkdir()
    names = ["train", "val", "train-refresh10", "train-refresh2", "test-refresh1"]
    strangers = ["train-refresh0", "train-refresh01", "training", "notes", "train-refresh1234567", "val-copy", "Train"]
    for name in names + strangers:
        layout.plan(name).touch()
    (layout.plans / "test.txt").touch()
    assert list_parts(layout) == [("test", 1), ("train", 0), ("train", 2), ("train", 10), ("val", 0)]


def test_a_refresh_is_under_way_while_its_plan_is_in_the_work_folder(tmp_path):
    layout = Layout(tmp_path)
    assert not is_refreshing(layout)
    layout.work.mkdir()
    (layout.work / "look-train").mkdir()
    assert not is_refreshing(layout)
    (layout.work / "look-train.parquet").touch()
    assert is_refreshing(layout)


PART = Part("out", "train", 10, 4, ("tfrecord",), "digest", "sha256")


@pytest.mark.parametrize("rows, shards", [(1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_a_part_has_as_many_shards_as_its_rows_fill(rows, shards):
    assert dataclasses.replace(PART, rows=rows).shards == shards


def test_the_last_shard_holds_the_rest():
    assert [PART.count_rows(shard) for shard in range(PART.shards)] == [4, 4, 2]
    assert PART.shard_name(1) == "train-00001-of-00003"


def test_parts_of_a_refresh_and_of_a_search_have_their_own_places():
    found = dataclasses.replace(PART, refresh=2)
    assert (found.name, found.plan) == ("train-refresh2", Path("out/plan/train-refresh2.parquet"))
    search = dataclasses.replace(PART, is_search=True)
    assert (search.name, search.plan) == ("look-train", Path("out/.work/look-train.parquet"))
    assert PART.object(row(5, 4), "refused") == Path("out/.work/train/00001/00001.refused")


def test_a_shard_is_committed_when_its_marker_is_there_and_a_search_never(tmp_path):
    part = dataclasses.replace(PART, output=str(tmp_path))
    assert not part.is_committed(1)
    part.layout.markers.mkdir()
    part.layout.marker("train-00001-of-00003").touch()
    assert part.is_committed(1)
    assert not part.is_committed(0)
    assert not dataclasses.replace(part, is_search=True).is_committed(1)


def test_a_shard_accounts_for_its_rows_of_the_plan(tmp_path):
    dataset = small_dataset.make(tmp_path, count=5)
    assert rows_of(dataset.part, 0) == dataset.rows[:3]
    assert rows_of(dataset.part, 1) == dataset.rows[3:]


def test_clips_found_later_are_not_accounted_for_but_their_duplicates_are(tmp_path):
    rows = [row(0), row(1), duplicate(row(1), 2), row(3)]
    dataset = small_dataset.make(tmp_path, rows=rows)
    assert ids_found_later(dataset.part) == frozenset()
    plan.write(dataset.layout.plan("train-refresh1"), [rows[1]], 1)
    plan.write(dataset.layout.plan("train-refresh3"), [rows[3]], 1)
    plan.write(dataset.layout.plan("val-refresh1"), [rows[0]], 1)
    assert ids_found_later(dataset.part) == {rows[1].clip_id, rows[3].clip_id}
    assert rows_of(dataset.part, 0) == [rows[0], rows[2]]
    assert rows_of(dataset.part, 1) == []
    assert [dataset.part.count_rows(shard) for shard in (0, 1)] == [2, 0]


def test_a_refresh_and_a_search_account_for_all_of_their_rows(tmp_path):
    rows = [row(0), row(1)]
    dataset = small_dataset.make(tmp_path, rows=rows)
    plan.write(dataset.layout.plan("train-refresh1"), [rows[1]], 1)
    for changes in ({"refresh": 1}, {"is_search": True}):
        assert ids_found_later(dataclasses.replace(dataset.part, **changes)) == frozenset()


def test_a_plan_of_a_refresh_that_was_written_anew_is_read_anew(tmp_path):
    import os

    rows = [row(0), row(1)]
    dataset = small_dataset.make(tmp_path, rows=rows)
    path = dataset.layout.plan("train-refresh1")
    plan.write(path, [rows[1]], 1)
    assert ids_found_later(dataset.part) == {rows[1].clip_id}
    plan.write(path, [rows[0]], 1)
    os.utime(path, ns=(1, 1))
    assert ids_found_later(dataset.part) == {rows[0].clip_id}
