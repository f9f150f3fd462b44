"""Clip objects: what is written for one clip until its shard is assembled."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import small_dataset
from small_dataset import ledger_row, record_of

from kinetics_prep.dataset import objects
from kinetics_prep.dataset.shards import assemble
from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import tfrecord

pytestmark = pytest.mark.usefixtures("unflushed")


@pytest.fixture
def dataset(tmp_path):
    return small_dataset.make(tmp_path / "out")


def key(dataset, number: int) -> str:
    return dataset.part.object_key(dataset.rows[number])


def read(dataset, number: int):
    return objects.read_object(dataset.store, key(dataset, number))


def test_an_object_gives_back_the_ledger_row_and_the_record(dataset):
    planned = dataset.rows[1]
    written = ledger_row(planned, notes="2 decoding errors", seconds=0.25, source_bytes=2**40)
    data = record_of(planned).to_bytes()
    assert objects.create_object(dataset.part, planned, written, data) is True
    assert key(dataset, 1) == ".work/objects/000001/train/00000/00001"
    assert read(dataset, 1) == (written, data)
    assert objects.read_ledger_row(dataset.store, key(dataset, 1)) == written
    assert list(dataset.store.scratch.iterdir()) == []


def test_a_refusal_is_an_object_without_a_record(dataset):
    refused = ledger_row(dataset.rows[4], "not_found")
    assert objects.create_object(dataset.part, dataset.rows[4], refused, None) is True
    assert read(dataset, 4) == (refused, None)


def test_a_row_without_an_object_has_none(dataset):
    assert objects.existing_objects(dataset.part, 0) == frozenset()
    with pytest.raises(FileNotFoundError):
        read(dataset, 0)
    dataset.write(dataset.rows[1])
    dataset.write(dataset.rows[2], "private")
    assert objects.existing_objects(dataset.part, 0) == {key(dataset, 1), key(dataset, 2)}
    assert objects.existing_objects(dataset.part, 1) == frozenset()


@pytest.mark.parametrize("first, second", [(None, "network"), ("network", None), (None, None), ("network", "geo")])
def test_of_two_workers_the_first_counts_whatever_its_outcome(first, second, dataset):
    planned = dataset.rows[0]
    outcomes = [(ledger_row(planned, reason), None if reason else b"record") for reason in (first, second)]
    assert objects.create_object(dataset.part, planned, *outcomes[0]) is True
    assert objects.create_object(dataset.part, planned, *outcomes[1]) is False
    assert read(dataset, 0) == outcomes[0]


def test_of_many_workers_at_once_one_counts(dataset):
    planned, reasons = dataset.rows[0], ["network", "geo", "private", "removed", "not_found", "too_short"]

    def create(reason: str) -> bool:
        return objects.create_object(dataset.part, planned, ledger_row(planned, reason), None)

    with ThreadPoolExecutor(len(reasons)) as pool:
        won = list(pool.map(create, reasons))
    assert won.count(True) == 1
    assert read(dataset, 0)[0].reason == reasons[won.index(True)]


def test_an_object_of_a_shard_that_is_committed_already_does_not_stay(dataset):
    dataset.complete()
    assert objects.create_object(dataset.part, dataset.rows[0], ledger_row(dataset.rows[0], "geo"), None) is True
    assert list(objects.list_objects(dataset.store, 1)) == []


def test_objects_are_listed_by_epoch_with_the_place_of_their_shard(dataset):
    for planned in (dataset.rows[0], dataset.rows[2], dataset.rows[4]):
        dataset.write(planned, "geo")
    dataset.store.put(".work/objects/000002/train/00000/00001", b"of another epoch")
    (dataset.folder / ".work/objects/000001/train/00000/00001").touch()  # reserved, by a writer that was killed
    first, second = ".work/objects/000001/train/00000/", ".work/objects/000001/train/00001/"
    assert list(objects.list_objects(dataset.store, 1)) == [
        (first, f"{first}00000"),
        (first, f"{first}00002"),
        (second, f"{second}00001"),
    ]
    assert objects.existing_objects(dataset.part, 0) == {f"{first}00000", f"{first}00002"}


def pack(*payloads: bytes) -> bytes:
    return b"".join(map(tfrecord.pack, payloads))


ROW = json.dumps(ledger_row(small_dataset.row(1)).as_dict()).encode()
REFUSAL = json.dumps(ledger_row(small_dataset.row(1), "network").as_dict()).encode()

DAMAGE = {
    "cut short": lambda data: data[:-9],
    "cut at the record's beginning": lambda data: pack(ROW),
    "empty": lambda data: b"",
    "a flipped bit": lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
    "a record too many": lambda data: data + pack(b"another"),
    "a refusal with a record": lambda data: pack(REFUSAL, b"record"),
    "no ledger row": lambda data: pack(b"[1, 2]"),
    "not JSON": lambda data: pack(b"{"),
    "not text": lambda data: pack(b"\xff"),
    "nested without end": lambda data: pack(b"[" * 100_000),
    "another version's columns": lambda data: pack(b'{"clip": "a"}'),
    "a reason that nobody knows": lambda data: pack(REFUSAL.replace(b'"network"', b'"bad_luck"')),
    "a status of another type": lambda data: pack(REFUSAL.replace(b'"refused"', b'["refused"]')),
}


@pytest.mark.parametrize("damage", ["cut at the record's beginning", "a refusal with a record", "no ledger row"])
def test_a_ledger_row_is_not_read_of_an_object_that_lacks_its_record(damage, dataset):
    dataset.write(dataset.rows[1])
    path = dataset.path(key(dataset, 1))
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(
        CorruptShard, match=r"00000/00001 (?:holds (?:no|a) record of a clip that is|is not the object)"
    ):
        objects.read_ledger_row(dataset.store, key(dataset, 1))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_object_is_refused_and_removed_and_sound_ones_stay(dataset, damage):
    for planned in dataset.rows[:3]:
        dataset.write(planned)
    path = dataset.path(key(dataset, 1))
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises((CorruptShard, FileNotFoundError)):
        read(dataset, 1)
    keys = [key(dataset, number) for number in range(3)]
    sound = objects.remove_damaged(dataset.store, sorted(objects.existing_objects(dataset.part, 0)))
    assert sound == {keys[0], keys[2]} == objects.existing_objects(dataset.part, 0)


def test_every_flipped_byte_of_an_object_is_noticed(dataset):
    dataset.write(dataset.rows[0], "network")
    whole, path = dataset.store.read(key(dataset, 0)), dataset.path(key(dataset, 0))
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(CorruptShard):
            read(dataset, 0)


def test_an_object_that_another_worker_has_removed_is_no_damage(dataset):
    dataset.write(dataset.rows[0])
    assert objects.remove_damaged(dataset.store, [key(dataset, 1), key(dataset, 0)]) == {key(dataset, 0)}


def test_the_objects_of_a_shard_are_removed_and_those_of_others_stay(dataset):
    for planned in dataset.rows:
        dataset.write(planned)
    objects.remove_objects(dataset.store, dataset.part.objects_prefix(0))
    objects.remove_objects(dataset.store, dataset.part.objects_prefix(7))
    assert [len(objects.existing_objects(dataset.part, shard)) for shard in (0, 1)] == [0, 2]


def test_questions_change_nothing(dataset):
    for number in range(3):
        dataset.write(dataset.rows[number])
    dataset.path(key(dataset, 1)).write_bytes(b"damaged")
    before = {path: path.stat().st_mtime_ns for path in dataset.folder.rglob("*")}
    objects.existing_objects(dataset.part, 0)
    list(objects.list_objects(dataset.store, 1))
    with pytest.raises(CorruptShard):
        objects.read_ledger_row(dataset.store, key(dataset, 1))
    assert {path: path.stat().st_mtime_ns for path in dataset.folder.rglob("*")} == before


def test_an_object_that_the_disk_does_not_give_is_not_removed(dataset, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error", str(path))

    dataset.write(dataset.rows[0])
    monkeypatch.setattr(tfrecord, "read_bytes", fail)
    with pytest.raises(OSError, match="Input/output error"):
        objects.remove_damaged(dataset.store, [key(dataset, 0)])
    assert dataset.path(key(dataset, 0)).exists()


def test_an_assembled_shard_has_no_objects_left(dataset):
    for planned in dataset.rows[:3]:
        dataset.write(planned)
    assemble(dataset.part, 0)
    assert list(objects.list_objects(dataset.store, 1)) == []
