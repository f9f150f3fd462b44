"""How far a folder is, in numbers and words; and a prepared data set opened for reading in Python."""

import dataclasses
import shutil

import pytest
import small_dataset
from small_dataset import ledger_row, record_of, row

import kinetics_prep
from kinetics_prep.annotations.published import PublishedDataset
from kinetics_prep.dataset import documents, layout, manifest, plan, recipe_file, status
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.part import list_parts
from kinetics_prep.dataset.prepared import open_dataset
from kinetics_prep.dataset.shards import amend_ledger, assemble
from kinetics_prep.errors import RETRYABLE, BadOption, CorruptShard, IncompleteShard

pytestmark = pytest.mark.usefixtures("unflushed")


def write_manifest(dataset) -> None:
    manifest.write(dataset.store, manifest.build(dataset.store, states.read(dataset.store)))


@pytest.fixture
def dataset(tmp_path):
    return small_dataset.make(tmp_path / "out")


def test_a_folder_that_was_only_planned_has_everything_to_go(dataset):
    (found,) = status.read_status(dataset.folder)
    assert (found.split, found.rows, found.written, found.refused, found.to_go) == ("train", 5, 0, 0, 5)
    assert found.rows_of == {"running": 3, "walking": 2}


def test_a_run_under_way_is_counted_by_objects_and_by_complete_shards(dataset):
    for planned, reason in zip(dataset.rows[:3], (None, "network", "private"), strict=True):
        dataset.write(planned, reason)
    assemble(dataset.part, 0)
    dataset.write(dataset.rows[3], "geo")
    (found,) = status.read_status(dataset.folder)
    assert (found.written, found.refused, found.to_go) == (1, 3, 1)
    assert found.reasons == {"network": 1, "private": 1}  # of the shard that is complete
    assert found.lost_of == {"walking": 1, "running": 1}


def test_a_question_changes_nothing(dataset):
    dataset.write(dataset.rows[0])
    before = {path: path.stat().st_mtime_ns for path in dataset.folder.rglob("*")}
    status.read_status(dataset.folder)
    assert {path: path.stat().st_mtime_ns for path in dataset.folder.rglob("*")} == before


@pytest.mark.parametrize("is_amended", [True, False])
def test_a_clip_that_a_search_found_counts_once_also_while_it_is_in_two_ledgers(is_amended, dataset):
    dataset.complete({1: "network", 4: "geo"})
    current, key = states.read(dataset.store), layout.plan_key("train-refresh1")
    found_row = dataclasses.replace(dataset.rows[1], shard=0, index=0)
    plans = {**current.plans, "train-refresh1": plan.write(dataset.store, key, [found_row])}
    states.write(dataset.store, dataclasses.replace(current, plans=plans))
    parts = list_parts(dataset.store, states.read(dataset.store), recipe_file.read(dataset.store))
    small_dataset.SmallDataset(parts[1], [found_row]).complete()
    if is_amended:
        amend_ledger(parts[0], 0, {})
    (found,) = status.read_status(dataset.folder)
    assert (found.rows, found.written, found.refused, found.to_go) == (5, 4, 1, 0)
    assert found.reasons == {"geo": 1}


def test_objects_of_an_older_epoch_do_not_count(dataset):
    dataset.write(dataset.rows[0])
    states.write(dataset.store, dataclasses.replace(states.read(dataset.store), epoch=2))
    (found,) = status.read_status(dataset.folder)
    assert found.to_go == 5


def test_an_object_that_is_damaged_is_still_to_go(dataset):
    for planned in dataset.rows[:2]:
        dataset.write(planned)
    dataset.path(dataset.part.object_key(dataset.rows[0])).write_bytes(b"damaged")
    (found,) = status.read_status(dataset.folder)
    assert (found.written, found.to_go) == (1, 4)


def test_a_folder_without_a_recipe_says_so(dataset):
    dataset.store.delete("recipe.json")
    with pytest.raises(CorruptShard, match=r"out holds no recipe\.json"):
        status.read_status(dataset.folder)


def test_a_folder_without_a_plan_says_so(tmp_path):
    with pytest.raises(CorruptShard, match="holds no plan: nothing was begun here"):
        status.read_status(tmp_path)


def test_classes_that_lost_the_largest_share_come_first():
    found = status.SplitStatus("val", 100)
    found.rows_of.update(a=10, b=4, c=100, d=4)
    found.lost_of.update(a=5, b=2, c=3, d=4)
    assert found.worst(3) == [("d", 4, 4), ("a", 5, 10), ("b", 2, 4)]
    assert found.worst(0) == []


def test_the_lines_say_what_is_lost_and_what_may_be_tried_again(dataset):
    dataset.complete({0: "network", 1: "malformed_row", 4: "network"})
    lines = list(status.describe(status.read_status(dataset.folder), RETRYABLE, worst=1))
    assert lines == [
        "train: 5 rows, 2 written (40.0%), 3 refused, 0 to go",
        "        2  network  to try again: --retry network",
        "        1  malformed_row",
        "  lost 2 of 3: running",
    ]


def test_refusals_of_shards_that_are_not_complete_are_counted_without_a_reason():
    found = status.SplitStatus("val", 10, written=1, refused=4)
    found.reasons.update(network=1)
    assert list(status.describe([found], RETRYABLE)) == [
        "val: 10 rows, 1 written (10.0%), 4 refused, 5 to go",
        "        1  network  to try again: --retry network",
        "        3  in shards that are not complete yet",
    ]


def test_a_split_of_no_row_is_no_division_by_zero():
    (line,) = status.describe([status.SplitStatus("val")], ())
    assert line == "val: 0 rows, 0 written (0.0%), 0 refused, 0 to go"


def test_numbers_are_set_against_those_published():
    one = PublishedDataset("Kinetics-400", 400, "x", {"val": 20_000}, "files")
    other = PublishedDataset("Kinetics-400 again", 400, "x", {"val": 10_000}, "files")
    found = status.SplitStatus("val", 10_000, written=5_000, published=[one, other])
    lines = list(status.describe([found], ()))
    assert lines[1] == (
        "  published: Kinetics-400 val, 20,000 rows, or Kinetics-400 again val, 10,000 rows; "
        "written here 5,000 (25.0% or 50.0%), planned 10,000"
    )


# Opened for reading -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    dataset = small_dataset.make(tmp_path_factory.mktemp("prepared") / "out").complete({1: "network"})
    write_manifest(dataset)
    return dataset


def test_the_public_face_opens_a_data_set(prepared):
    opened = kinetics_prep.open_dataset(str(prepared.folder))
    assert isinstance(opened, kinetics_prep.PreparedDataset)
    assert opened.labels == ("running", "walking")
    assert (opened.splits, opened.formats) == (("train",), ("tfrecord", "parquet"))
    assert opened.manifest == manifest.read(prepared.store)


@pytest.mark.parametrize("format", [None, "tfrecord", "parquet"])
def test_records_come_in_the_order_of_the_plan_from_either_format(format, prepared):
    opened = open_dataset(prepared.folder)
    records = list(opened.records("train", format))
    written = [planned for planned in prepared.rows if planned != prepared.rows[1]]
    assert [record.to_bytes() for record in records] == [record_of(planned).to_bytes() for planned in written]
    suffix = format or "tfrecord"
    assert [path.name for path in opened.shards("train", format)] == [
        f"train-0000{shard}-of-00002.{suffix}" for shard in range(2)
    ]


def test_a_format_is_read_from_its_own_files(prepared, tmp_path):
    shutil.copytree(prepared.folder, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "tfrecord")
    opened = open_dataset(tmp_path / "out")
    assert len(list(opened.records("train", "parquet"))) == 4
    with pytest.raises(IncompleteShard, match=r"train-00000-of-00002\.tfrecord is missing; copy the whole folder"):
        list(opened.records("train"))


def test_the_ledger_tells_of_every_row(prepared):
    expected = [ledger_row(planned, "network" if k == 1 else None) for k, planned in enumerate(prepared.rows)]
    assert list(open_dataset(prepared.folder).ledger("train")) == expected


def test_a_shard_of_refusals_alone_has_no_file(tmp_path):
    dataset = small_dataset.make(tmp_path / "out").complete(dict.fromkeys(range(3), "removed"))
    write_manifest(dataset)
    opened = open_dataset(dataset.folder)
    assert [path.name for path in opened.shards("train")] == ["train-00001-of-00002.tfrecord"]
    assert len(list(opened.ledger("train"))) == 5


def test_what_is_not_there_is_named(prepared, tmp_path):
    opened = open_dataset(prepared.folder)
    for call in (opened.shards, opened.records, opened.ledger):
        with pytest.raises(BadOption, match=r"holds no split 'val', only train$"):
            list(call("val"))
    with pytest.raises(BadOption, match="was prepared as tfrecord, parquet, not as webdataset"):
        opened.shards("train", "webdataset")
    with pytest.raises(CorruptShard, match=r"holds no dataset\.json|cannot be read"):
        open_dataset(tmp_path)


HOSTILE = {
    "no formats": (lambda content: content["recipe"].pop("formats"), "names formats None, expected some of tfrecord"),
    "none at all": (lambda content: content["recipe"].update(formats=[]), r"names formats \[\]"),
    "a number": (lambda content: content["recipe"].update(formats=3), "names formats 3"),
    "an unknown one": (lambda content: content["recipe"].update(formats=["zip"]), r"names formats \['zip'\]"),
    "one that is no name": (lambda content: content["recipe"].update(formats=[["tfrecord"]]), "names formats"),
    "other labels": (
        lambda content: content["labels"].update(sha256="0" * 64),
        "is not the file that dataset.json knows",
    ),
}


@pytest.mark.parametrize("damage", HOSTILE)
def test_a_manifest_that_makes_no_sense_is_refused_in_words(damage, prepared, tmp_path):
    shutil.copytree(prepared.folder, tmp_path / "out")
    change, message = HOSTILE[damage]
    store = small_dataset.store_of(tmp_path / "out")
    content = documents.read(store, layout.MANIFEST)
    change(content)
    documents.write(store, layout.MANIFEST, content)
    with pytest.raises(CorruptShard, match=message):
        open_dataset(tmp_path / "out")


def test_a_manifest_that_lacks_a_file_is_refused_in_words(prepared):
    import copy

    opened = open_dataset(prepared.folder)
    content = copy.deepcopy(opened.manifest)
    del content["splits"]["train"]["shards"][0]["files"]["parquet"]
    lacking = kinetics_prep.PreparedDataset(opened.folder, opened.labels, content)
    with pytest.raises(CorruptShard, match=r"dataset\.json lacks a file of split train as parquet"):
        lacking.shards("train", "parquet")
    assert len(lacking.shards("train", "tfrecord")) == 2


def test_a_damaged_record_is_refused_while_it_is_read(prepared, tmp_path):
    shutil.copytree(prepared.folder, tmp_path / "out")
    opened = open_dataset(tmp_path / "out")
    path = opened.shards("train")[1]
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    records = opened.records("train")
    assert next(records)["example/id"] == row(0).clip_id
    with pytest.raises(CorruptShard, match="data's checksum is wrong"):
        list(records)
