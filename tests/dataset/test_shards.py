"""Assembly: a shard is exactly its rows' objects, or nothing at all."""

import contextlib
import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest
import small_dataset
from killing import Killed, each_kill, killed_at
from small_dataset import ledger_row, record_of, row

from kinetics_prep.dataset import layout, ledger, markers, objects, plan, shards
from kinetics_prep.dataset.part import Part
from kinetics_prep.errors import CorruptShard, IncompleteShard
from kinetics_prep.records import SHARD_FORMATS, tfrecord
from kinetics_prep.records.record import Record
from kinetics_prep.storage.files import sha256_of

pytestmark = pytest.mark.usefixtures("unflushed")

FIRST_LEDGER = "ledger/train-00000-of-00002.parquet"
ONLY_LEDGER = "ledger/train-00000-of-00001.parquet"


@pytest.fixture
def dataset(tmp_path):
    return small_dataset.make(tmp_path / "out")


def test_a_shard_holds_the_written_clips_in_the_order_of_the_plan(dataset):
    for planned, reason in zip(dataset.rows[:3], (None, "network", None), strict=True):
        dataset.write(planned, reason)
    assert shards.assemble(dataset.part, 0) is True
    for name, module in SHARD_FORMATS.items():
        path = dataset.folder / name / f"train-00000-of-00002.{name}"
        records = list(module.read_shard(path))
        assert [record["example/id"] for record in records] == [dataset.rows[0].clip_id, dataset.rows[2].clip_id]
        for record, planned in zip(records, (dataset.rows[0], dataset.rows[2]), strict=True):
            assert record.to_bytes() == record_of(planned).to_bytes()


def test_the_ledger_holds_a_row_for_each_plan_row_as_its_object_said(dataset):
    for planned, reason in zip(dataset.rows[:3], (None, "network", None), strict=True):
        dataset.write(planned, reason, seconds=planned.index + 0.5)
    shards.assemble(dataset.part, 0)
    expected = [
        ledger_row(planned, reason, seconds=planned.index + 0.5)
        for planned, reason in zip(dataset.rows[:3], (None, "network", None), strict=True)
    ]
    assert list(ledger.read(dataset.store, FIRST_LEDGER)) == expected


def test_the_marker_says_what_the_shard_is(dataset):
    dataset.complete({1: "network", 2: "network"})
    marker = markers.read_marker(dataset.store, "train-00000-of-00002")
    tfrecord_path = dataset.folder / "tfrecord" / "train-00000-of-00002.tfrecord"
    ledger_path = dataset.folder / "ledger" / "train-00000-of-00002.parquet"
    assert {key: value for key, value in marker.items() if key != "files"} == {
        "version": 2,
        "split": "train",
        "shard": 0,
        "of": 2,
        "recipe": dataset.part.recipe,
        "plan_sha256": dataset.part.plan_sha256,
        "rows": 3,
        "written": 1,
        "refused": {"network": 2},
        "ledger": "ledger/train-00000-of-00002.parquet",
        "ledger_sha256": sha256_of(ledger_path),
        "ledger_bytes": ledger_path.stat().st_size,
    }
    assert marker["files"]["tfrecord"] == {
        "path": "tfrecord/train-00000-of-00002.tfrecord",
        "bytes": tfrecord_path.stat().st_size,
        "sha256": sha256_of(tfrecord_path),
        "records": 1,
        "offsets": [0],
    }
    assert marker["files"]["parquet"]["offsets"] == [0]
    last = markers.read_marker(dataset.store, "train-00001-of-00002")
    first_bytes = len(tfrecord.pack(record_of(dataset.rows[3]).to_bytes()))
    assert (last["rows"], last["written"], last["refused"]) == (2, 2, {})
    assert last["files"]["tfrecord"]["offsets"] == [0, first_bytes]


def test_a_shard_of_refusals_alone_has_a_ledger_and_no_data(dataset):
    for planned in dataset.rows[:3]:
        dataset.write(planned, "removed")
    shards.assemble(dataset.part, 0)
    assert not (dataset.folder / "tfrecord").exists()
    assert markers.read_marker(dataset.store, "train-00000-of-00002")["files"] == {}
    assert len(list(ledger.read(dataset.store, FIRST_LEDGER))) == 3


def test_nothing_is_written_while_a_row_is_unaccounted_for(dataset):
    dataset.write(dataset.rows[0])
    dataset.write(dataset.rows[2])
    with pytest.raises(IncompleteShard, match=r"train-00000-of-00002: 1 of 3 rows .* such as video1_000001_000002$"):
        shards.assemble(dataset.part, 0)
    names = {path.name for path in dataset.folder.iterdir()}
    assert names == {"plan", ".work", "labels.txt", "recipe.json", "state.json"}
    assert len(objects.existing_objects(dataset.part, 0)) == 2


def test_the_last_clip_of_a_shard_has_it_assembled_and_no_clip_before(dataset):
    for planned in dataset.rows[:2]:
        dataset.write(planned)
        assert shards.assemble_if_complete(dataset.part, 0) is False
    dataset.write(dataset.rows[2], "network")
    assert shards.assemble_if_complete(dataset.part, 0) is True
    assert dataset.part.is_committed(0)
    assert not dataset.part.is_committed(1)
    for planned in dataset.rows[3:]:
        dataset.write(planned)
    assert shards.assemble_if_complete(dataset.part, 1) is True  # of two rows, where others have three


def test_objects_go_when_their_shard_stands_even_those_that_came_late(dataset):
    dataset.complete()
    assert objects.existing_objects(dataset.part, 0) == frozenset()
    dataset.store.put(dataset.part.object_key(dataset.rows[0]), b"late")
    assert shards.assemble(dataset.part, 0) is False
    assert objects.existing_objects(dataset.part, 0) == frozenset()
    assert not dataset.path(".work/objects").exists()


def test_an_object_of_another_row_is_not_taken_into_a_shard(dataset):
    stranger = row(9)
    objects.create_object(dataset.part, dataset.rows[1], ledger_row(stranger), record_of(stranger).to_bytes())
    for planned in (dataset.rows[0], dataset.rows[2]):
        dataset.write(planned)
    with pytest.raises(CorruptShard, match="the object of video1_000001_000002 holds video9_000009_000010; remove .w"):
        shards.assemble(dataset.part, 0)
    assert not dataset.part.is_committed(0)
    assert not dataset.path("tfrecord").exists()
    assert len(objects.existing_objects(dataset.part, 0)) == 3


def test_objects_of_two_rows_of_one_clip_that_were_swapped_are_refused(tmp_path):
    first = row(0)
    rows = [first, small_dataset.duplicate(first, 1), row(2)]
    dataset = small_dataset.make(tmp_path / "out", rows=rows)
    objects.create_object(dataset.part, rows[0], ledger_row(rows[1], "duplicate_row"), None)
    for planned in rows[1:]:
        dataset.write(planned)
    with pytest.raises(CorruptShard, match="the object of video0_000000_000001 holds video0_000000_000001"):
        shards.assemble(dataset.part, 0)


def test_ledger_rows_that_are_too_few_are_refused():
    rows = [row(0), row(1)]
    shards.check_same_rows("a", rows, list(map(ledger_row, rows)), "object")
    with pytest.raises(CorruptShard, match="a: 2 rows are planned, and its ledger has 1"):
        shards.check_same_rows("a", rows, [ledger_row(rows[0])], "object")


def test_an_object_without_the_record_that_its_ledger_row_claims_is_refused(dataset):
    objects.create_object(dataset.part, dataset.rows[1], ledger_row(dataset.rows[1]), None)
    for planned in (dataset.rows[0], dataset.rows[2]):
        dataset.write(planned)
    with pytest.raises(CorruptShard, match=r"00000/00001 holds no record of a clip that is written"):
        shards.assemble(dataset.part, 0)
    assert not dataset.part.is_committed(0)
    assert len(objects.existing_objects(dataset.part, 0)) == 3


def test_two_assemblers_at_once_give_one_sound_shard(dataset):
    """The second begins while the first is about to remove the objects, and finds some of them gone."""
    for planned in dataset.rows[:3]:
        dataset.write(planned)
    saved = shutil.copytree(dataset.path(layout.WORK), dataset.folder.with_name("saved"))
    shards.assemble(dataset.part, 0)
    before = data_of(dataset)
    shutil.copytree(saved, dataset.path(layout.WORK), dirs_exist_ok=True)
    dataset.store.delete(dataset.part.object_key(dataset.rows[1]))
    is_committed = iter((False, True, True))
    with mock.patch.object(Part, "is_committed", lambda part, shard: next(is_committed)):
        assert shards.assemble(dataset.part, 0) is False
    assert data_of(dataset) == before


def test_many_assemblers_at_once_write_one_shard_and_one_of_them_says_so(dataset, tmp_path):
    alone = small_dataset.make(tmp_path / "alone").complete()
    for planned in dataset.rows:
        dataset.write(planned)
    for shard in range(2):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda _, shard=shard: shards.assemble(dataset.part, shard), range(8)))
        assert won.count(True) == 1
    assert data_of(dataset) == data_of(alone)
    assert list(objects.list_objects(dataset.store, 1)) == []


def test_at_whatever_write_an_assembly_is_killed_the_next_one_gives_the_same_bytes(dataset, tmp_path):
    expected = data_of(dataset.complete({1: "network"}))
    folders, datasets = (tmp_path / str(number) for number in range(100)), []

    def begin():
        copy = small_dataset.make(next(folders))
        for number, planned in enumerate(copy.rows):
            copy.write(planned, "network" if number == 1 else None)
        datasets.append(copy)
        return lambda: [shards.assemble(copy.part, shard) for shard in range(2)]

    for writes in each_kill(begin):
        part = datasets[-1].part
        for shard in range(2):
            if part.is_committed(shard) or objects.existing_objects(part, shard):
                shards.assemble(part, shard)
        assert data_of(datasets[-1]) == expected, writes
        assert list(objects.list_objects(part.store, 1)) == []
    assert data_of(datasets[-1]) == expected


def test_objects_stay_while_a_marker_s_name_is_only_taken(dataset):
    """Without hard links a writer that is killed may leave an empty file under the name of a marker."""
    for planned in dataset.rows[:3]:
        dataset.write(planned)
    dataset.path("markers").mkdir()
    dataset.path("markers/train-00000-of-00002.json").touch()
    assert shards.assemble(dataset.part, 0) is False
    assert not dataset.part.is_committed(0)
    assert len(objects.existing_objects(dataset.part, 0)) == 3
    dataset.store.delete("markers/train-00000-of-00002.json")
    assert shards.assemble(dataset.part, 0) is True


def test_a_search_is_never_assembled(dataset):
    search = dataclasses.replace(dataset.part, search=1)
    for planned in dataset.rows[:3]:
        objects.create_object(search, planned, ledger_row(planned, "geo"), None)
    assert shards.assemble(search, 0) is False
    assert shards.assemble_if_complete(search, 0) is False
    assert not dataset.path("markers").exists()
    assert len(objects.existing_objects(search, 0)) == 3


def data_of(dataset) -> dict[str, bytes]:
    """Every file of the shards, ledgers and markers."""
    folders = ("tfrecord/", "parquet/", "ledger/", "markers/")
    return {entry.key: dataset.store.read(entry.key) for folder in folders for entry in dataset.store.list(folder)}


def test_the_same_objects_give_the_same_bytes(dataset, tmp_path):
    dataset.complete({1: "network"})
    other = small_dataset.make(tmp_path / "other").complete({1: "network"})
    assert data_of(dataset) == data_of(other)
    assert len(data_of(dataset)) == 8


# Amending ----------------------------------------------------------------------------------------


def test_a_refusal_that_was_refused_again_gets_the_new_reason_and_keeps_its_shard(dataset):
    dataset.complete({1: "network", 4: "private"})
    again = ledger_row(dataset.rows[1], "geo", shard=77, seconds=9.0)
    data = (dataset.folder / "tfrecord" / "train-00000-of-00002.tfrecord").read_bytes()
    shards.amend_ledger(dataset.part, 0, {dataset.rows[1].clip_id: again})
    rows = list(ledger.read(dataset.store, FIRST_LEDGER))
    assert [(each.reason, each.shard, each.seconds) for each in rows] == [
        (None, 0, 0.0),
        ("geo", 0, 9.0),
        (None, 0, 0.0),
    ]
    marker = markers.read_marker(dataset.store, "train-00000-of-00002")
    assert (marker["rows"], marker["written"], marker["refused"]) == (3, 2, {"geo": 1})
    assert marker["ledger_sha256"] == sha256_of(dataset.path(FIRST_LEDGER))
    assert (dataset.folder / "tfrecord" / "train-00000-of-00002.tfrecord").read_bytes() == data


def test_a_written_row_is_never_amended(dataset):
    dataset.complete({1: "network"})
    again = {planned.clip_id: ledger_row(planned, "geo") for planned in dataset.rows}
    shards.amend_ledger(dataset.part, 0, again)
    assert [each.reason for each in ledger.read(dataset.store, FIRST_LEDGER)] == [None, "geo", None]


def test_an_amendment_without_news_writes_nothing(dataset):
    dataset.complete({1: "network"})
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in dataset.folder.rglob("*.*")}
    shards.amend_ledger(dataset.part, 0, {})
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in before} == before


def test_an_amendment_of_which_only_the_ledger_was_written_is_done_again(dataset):
    dataset.complete({1: "network"})
    again = {dataset.rows[1].clip_id: ledger_row(dataset.rows[1], "geo")}
    with contextlib.suppress(Killed), killed_at(1):
        shards.amend_ledger(dataset.part, 0, again)
    assert markers.read_marker(dataset.store, "train-00000-of-00002")["refused"] == {"network": 1}
    shards.amend_ledger(dataset.part, 0, again)
    marker = markers.read_marker(dataset.store, "train-00000-of-00002")
    assert marker["refused"] == {"geo": 1}
    assert marker["ledger_sha256"] == sha256_of(dataset.path(FIRST_LEDGER))


def test_a_clip_found_later_leaves_the_ledger_and_its_duplicate_stays(tmp_path):
    rows = [row(0), row(1), small_dataset.duplicate(row(1), 2)]
    dataset = small_dataset.make(tmp_path / "out", rows=rows)
    dataset.complete({1: "not_found"})
    key = layout.plan_key("train-refresh1")
    entry = plan.write(dataset.store, key, [rows[1]])
    part = dataclasses.replace(dataset.part, later=((key, entry.file_sha256),))
    shards.amend_ledger(part, 0, {})
    remaining = list(ledger.read(dataset.store, ONLY_LEDGER))
    assert [(each.clip_id, each.reason) for each in remaining] == [
        (rows[0].clip_id, None),
        (rows[1].clip_id, "duplicate_row"),
    ]
    marker = markers.read_marker(dataset.store, "train-00000-of-00001")
    assert (marker["rows"], marker["written"], marker["refused"]) == (2, 1, {"duplicate_row": 1})
    assert part.count_rows(0) == 2


def test_records_of_an_object_are_read_as_they_were_written(dataset):
    dataset.write(dataset.rows[0])
    data = objects.read_object(dataset.store, dataset.part.object_key(dataset.rows[0]))[1]
    assert Record.from_bytes(data)["clip/media_id"] == "video0"
