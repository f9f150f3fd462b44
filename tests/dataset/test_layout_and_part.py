"""Names on disk, parts of a folder, and which rows a shard accounts for."""

import dataclasses
from pathlib import Path

import pytest
import small_dataset
from small_dataset import duplicate, row

from kinetics_prep.dataset import layout, plan, recipe_file
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.layout import Layout, part_name, shard_name, split_part_name
from kinetics_prep.dataset.part import Part, found_later, list_parts, list_searches, rows_of
from kinetics_prep.dataset.state import PlanEntry, Search, State
from kinetics_prep.storage.folder_store import FolderStore

pytestmark = pytest.mark.usefixtures("unflushed")


def test_every_file_has_its_place():
    folder = Layout(Path("out"))
    assert folder.manifest == Path("out/dataset.json")
    assert folder.labels == Path("out/labels.txt")
    assert folder.plan("val") == Path("out/plan/val.parquet")
    assert folder.store == FolderStore(Path("out"))
    assert folder.store.scratch is None


def test_shards_have_the_names_that_tf_data_globs_for():
    name = shard_name("train", 3, 312)
    assert name == "train-00003-of-00312"
    assert layout.data_key(name, "tfrecord") == "tfrecord/train-00003-of-00312.tfrecord"
    assert layout.ledger_key(name) == "ledger/train-00003-of-00312.parquet"
    assert layout.marker_key(name) == "markers/train-00003-of-00312.json"
    assert layout.plan_key("val") == "plan/val.parquet"
    assert layout.search_plan_key("val") == ".work/search/val.parquet"
    assert layout.objects_prefix(7) == ".work/objects/000007/"
    assert layout.objects_prefix(7, "val") == ".work/objects/000007/val/"
    assert shard_name(part_name("val", 2), 0, 1) == "val-refresh2-00000-of-00001"
    assert part_name("val", 0) == "val"


@pytest.mark.parametrize(
    "name, expected",
    [("train", ("train", 0)), ("val", ("val", 0)), ("test-refresh1", ("test", 1)), ("train-refresh10", ("train", 10))],
)
def test_parts_are_told_by_their_names(name, expected):
    assert split_part_name(name) == expected
    assert part_name(*expected) == name


STRANGERS = ["train-refresh0", "train-refresh01", "training", "notes", "train-refresh1234567", "val-copy", "Train", ""]


@pytest.mark.parametrize(
    "name", [*STRANGERS, "train\n", "../train", "train/refresh1", "train-refresh-1", "val-refresh1\uff11"]
)
def test_other_names_are_no_parts(name):
    assert split_part_name(name) is None


ENTRY = PlanEntry(10, "a" * 64, "b" * 64)
STORE = FolderStore(Path("out"))
PART = Part(STORE, "train", 10, 4, ("tfrecord",), "digest", "sha256")
FILE = recipe_file.RecipeFile({"formats": ["tfrecord", "parquet"], "clips_per_shard": 4}, "digest", ())


@pytest.mark.parametrize("rows, shards", [(0, 0), (1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_a_part_has_as_many_shards_as_its_rows_fill(rows, shards):
    assert dataclasses.replace(PART, rows=rows).shards == shards


def test_the_last_shard_holds_the_rest():
    assert [PART.count_rows(shard) for shard in range(PART.shards)] == [4, 4, 2]
    assert PART.shard_name(1) == "train-00001-of-00003"


def test_parts_of_what_was_found_and_of_a_search_have_their_own_places():
    found = dataclasses.replace(PART, refresh=2)
    assert (found.name, found.plan) == ("train-refresh2", "plan/train-refresh2.parquet")
    search = dataclasses.replace(PART, search=3, epoch=12)
    assert (search.name, search.plan) == ("search3-train", ".work/search/train.parquet")
    assert search.object_key(row(5, 4)) == ".work/objects/000012/search3-train/00001/00001"


def test_a_row_has_one_object_whatever_becomes_of_it():
    assert PART.object_key(row(5, 4)) == ".work/objects/000001/train/00001/00001"
    assert PART.objects_prefix(1) == ".work/objects/000001/train/00001/"
    assert dataclasses.replace(PART, epoch=2).objects_prefix(1) == ".work/objects/000002/train/00001/"


def test_parts_are_those_of_the_state_each_split_before_what_was_found_later():
    names = ["val", "train-refresh10", "train", "train-refresh2", "test-refresh1", "test"]
    parts = list_parts(STORE, State(epoch=5, plans=dict.fromkeys(names, ENTRY)), FILE)
    assert [part.name for part in parts] == [
        "test",
        "test-refresh1",
        "train",
        "train-refresh2",
        "train-refresh10",
        "val",
    ]
    (part,) = list_parts(STORE, State(epoch=5, plans={"val": ENTRY}), FILE)
    assert part == Part(STORE, "val", 10, 4, ("tfrecord", "parquet"), "digest", "a" * 64, epoch=5)


def test_a_part_knows_the_plans_of_what_was_found_after_it():
    plans = {
        name: PlanEntry(1, "a" * 64, digit * 64)
        for name, digit in [("train", "0"), ("train-refresh2", "2"), ("train-refresh11", "3"), ("val", "4")]
    }
    later = {part.name: part.later for part in list_parts(STORE, State(plans=plans), FILE)}
    second, third = ("plan/train-refresh2.parquet", "2" * 64), ("plan/train-refresh11.parquet", "3" * 64)
    assert later == {"train": (second, third), "train-refresh2": (third,), "train-refresh11": (), "val": ()}


def test_a_search_has_a_part_for_each_split_that_it_looks_through():
    assert list_searches(STORE, State(), FILE) == []
    search = Search(3, 8, ("network",), {"val": ENTRY, "train": ENTRY})
    state = State(epoch=2, plans={"train": ENTRY, "train-refresh1": ENTRY, "val": ENTRY}, search=search)
    parts = list_searches(STORE, state, FILE)
    assert [(part.name, part.search, part.refresh, part.epoch, part.later) for part in parts] == [
        ("search8-train", 8, 0, 2, ()),
        ("search8-val", 8, 0, 2, ()),
    ]


def test_a_shard_is_committed_when_its_marker_is_there_and_a_search_never(tmp_path):
    store = small_dataset.store_of(tmp_path)
    part = dataclasses.replace(PART, store=store)
    assert not part.is_committed(1)
    store.put("markers/train-00001-of-00003.json", b"x")
    (tmp_path / "markers" / "train-00002-of-00003.json").touch()  # a name that is taken, and no marker yet
    assert [part.is_committed(shard) for shard in range(3)] == [False, True, False]
    assert not dataclasses.replace(part, search=1).is_committed(1)


def test_a_shard_accounts_for_its_rows_of_the_plan(tmp_path):
    dataset = small_dataset.make(tmp_path, count=5)
    assert rows_of(dataset.part, 0) == dataset.rows[:3]
    assert rows_of(dataset.part, 1) == dataset.rows[3:]


def with_finds(dataset, **found) -> list[Part]:
    """The parts of a folder in which searches found some rows."""
    state = states.read(dataset.store)
    plans = {
        name.replace("_", "-"): plan.write(dataset.store, layout.plan_key(name.replace("_", "-")), rows)
        for name, rows in found.items()
    }
    state = dataclasses.replace(state, plans={**state.plans, **plans})
    return list_parts(dataset.store, state, recipe_file.read(dataset.store))


def test_clips_found_later_are_not_accounted_for_but_their_duplicates_are(tmp_path):
    rows = [row(0), row(1), duplicate(row(1), 2), row(3)]
    dataset = small_dataset.make(tmp_path, rows=rows)
    assert found_later(dataset.part) == frozenset()
    (part, *_) = with_finds(dataset, train_refresh1=[rows[1]], train_refresh3=[rows[3]], val_refresh1=[rows[0]])
    assert found_later(part) == {rows[1].clip_id, rows[3].clip_id}
    assert rows_of(part, 0) == [rows[0], rows[2]]
    assert rows_of(part, 1) == []
    assert [part.count_rows(shard) for shard in (0, 1)] == [2, 0]


def test_finds_and_a_search_account_for_all_of_their_rows(tmp_path):
    dataset = small_dataset.make(tmp_path, rows=[row(0), row(1)])
    _, found = with_finds(dataset, train_refresh1=[dataset.rows[1]])
    assert (found.later, rows_of(found, 0)) == ((), [dataset.rows[1]])
    state = dataclasses.replace(
        states.read(dataset.store),
        plans={"train": ENTRY, "train-refresh1": ENTRY},
        search=Search(2, 1, (), {"train": ENTRY}),
    )
    (search,) = list_searches(dataset.store, state, recipe_file.read(dataset.store))
    assert found_later(search) == frozenset()


def test_a_plan_of_finds_that_was_written_anew_is_read_anew(tmp_path):
    dataset = small_dataset.make(tmp_path, rows=[row(0), row(1)])
    for planned in reversed(dataset.rows):
        part, _ = with_finds(dataset, train_refresh1=[planned])
        assert found_later(part) == {planned.clip_id}
