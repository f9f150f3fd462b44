"""Clip objects: what is written for one clip until its shard is assembled."""

import dataclasses

import pytest
import small_dataset
from small_dataset import ledger_row, record_of

from kinetics_prep.dataset import objects
from kinetics_prep.errors import CorruptShard


@pytest.fixture
def dataset(tmp_path):
    return small_dataset.make(tmp_path / "out")


def test_an_object_gives_back_the_ledger_row_and_the_record(dataset):
    planned = dataset.rows[1]
    written = ledger_row(planned, notes="2 decoding errors", seconds=0.25, source_bytes=2**40)
    data = record_of(planned).to_bytes()
    objects.write_object(dataset.part, planned, written, data)
    path = objects.find_object(dataset.part, planned)
    assert path == dataset.layout.work / "train" / "00000" / "00001.written"
    assert objects.read_object(path) == (written, data)
    assert list(dataset.layout.scratch.iterdir()) == []


def test_a_refusal_is_an_object_without_a_record(dataset):
    refused = ledger_row(dataset.rows[4], "not_found")
    objects.write_object(dataset.part, dataset.rows[4], refused, None)
    path = dataset.layout.work / "train" / "00001" / "00001.refused"
    assert objects.read_object(path) == (refused, None)


def test_a_row_without_an_object_is_missing(dataset):
    assert objects.missing_rows(dataset.part, dataset.rows_in(0)) == dataset.rows[:3]
    dataset.write(dataset.rows[1])
    dataset.write(dataset.rows[2], "private")
    assert objects.missing_rows(dataset.part, dataset.rows_in(0)) == dataset.rows[:1]
    assert objects.missing_rows(dataset.part, dataset.rows_in(1)) == dataset.rows[3:]
    assert objects.find_object(dataset.part, dataset.rows[0]) is None


def test_a_search_for_objects_changes_nothing(dataset):
    dataset.write(dataset.rows[0])
    path = objects.find_object(dataset.part, dataset.rows[0])
    path.write_bytes(b"damaged")
    before = sorted(dataset.layout.work.rglob("*"))
    assert objects.missing_rows(dataset.part, dataset.rows_in(0)) == dataset.rows[1:3]
    assert objects.count_objects(dataset.layout, "train", 0) == {"written": 1, "refused": 0}
    assert sorted(dataset.layout.work.rglob("*")) == before


def test_of_two_workers_that_disagree_the_one_that_wrote_the_clip_counts(dataset):
    dataset.write(dataset.rows[0], "network")
    dataset.write(dataset.rows[0])
    assert objects.find_object(dataset.part, dataset.rows[0]).suffix == ".written"
    assert objects.count_objects(dataset.layout, "train", 0) == {"written": 1, "refused": 0}


def test_objects_are_counted_by_status_and_shard(dataset):
    assert objects.count_objects(dataset.layout, "train", 0) == {"written": 0, "refused": 0}
    for planned, reason in zip(dataset.rows, (None, "network", "private", None, None), strict=True):
        dataset.write(planned, reason)
    assert objects.count_objects(dataset.layout, "train", 0) == {"written": 1, "refused": 2}
    assert objects.count_objects(dataset.layout, "train", 1) == {"written": 2, "refused": 0}


DAMAGE = {
    "cut short": lambda data: data[:-9],
    "empty": lambda data: b"",
    "a flipped bit": lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
    "no ledger row": lambda data: objects.tfrecord._packed(b"[1, 2]"),
    "another version's columns": lambda data: objects.tfrecord._packed(b'{"clip": "a"}'),
    "a reason that nobody knows": lambda data: objects.tfrecord._packed(
        objects.json.dumps(ledger_row(small_dataset.row(0), "network").as_dict() | {"reason": "bad_luck"}).encode()
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_object_is_refused_and_removed_and_sound_ones_stay(dataset, damage):
    for planned in dataset.rows[:3]:
        dataset.write(planned)
    path = objects.find_object(dataset.part, dataset.rows[1])
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(CorruptShard):
        objects.read_object(path)
    paths = [objects.find_object(dataset.part, planned) for planned in dataset.rows[:3]]
    objects.remove_damaged(paths)
    assert objects.missing_rows(dataset.part, dataset.rows_in(0)) == [dataset.rows[1]]


def test_an_object_that_another_worker_has_removed_is_no_damage(dataset):
    dataset.write(dataset.rows[0])
    path = objects.find_object(dataset.part, dataset.rows[0])
    objects.remove_damaged([path.with_name("00009.written"), path])
    assert path.exists()


def test_the_objects_of_a_shard_are_removed_and_those_of_others_stay(dataset):
    for planned in dataset.rows:
        dataset.write(planned)
    objects.remove_objects(dataset.part, 0)
    objects.remove_objects(dataset.part, 7)
    assert [len(objects.missing_rows(dataset.part, dataset.rows_in(shard))) for shard in (0, 1)] == [3, 0]


def test_objects_of_a_search_are_apart_from_those_of_the_split(dataset):
    search = dataclasses.replace(dataset.part, is_search=True)
    dataset.write(dataset.rows[0])
    assert objects.find_object(search, dataset.rows[0]) is None
    assert search.object(dataset.rows[0], "written").parent.parent.name == "look-train"
