"""Assembly: a shard is exactly its rows' objects, or nothing at all."""

import json
import shutil

import pytest
import small_dataset
from small_dataset import ledger_row, record_of, row

from kinetics_prep.dataset import ledger, markers, objects, shards
from kinetics_prep.errors import CorruptShard, IncompleteShard
from kinetics_prep.records import SHARD_FORMATS, tfrecord
from kinetics_prep.records.record import Record
from kinetics_prep.storage.files import sha256_of


@pytest.fixture
def dataset(tmp_path):
    return small_dataset.make(tmp_path / "out")


def test_a_shard_holds_the_written_clips_in_the_order_of_the_plan(dataset):
    for planned, reason in zip(dataset.rows[:3], (None, "network", None), strict=True):
        dataset.write(planned, reason)
    assert shards.assemble(dataset.part, 0) is True
    for name, module in SHARD_FORMATS.items():
        path = dataset.layout.output / name / f"train-00000-of-00002.{name}"
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
    assert list(ledger.read(dataset.layout.ledger("train-00000-of-00002"))) == expected


def test_the_marker_says_what_the_shard_is(dataset):
    dataset.complete({1: "network", 2: "network"})
    marker = markers.read_marker(dataset.layout.marker("train-00000-of-00002"))
    tfrecord_path = dataset.layout.output / "tfrecord" / "train-00000-of-00002.tfrecord"
    ledger_path = dataset.layout.output / "ledger" / "train-00000-of-00002.parquet"
    assert {key: value for key, value in marker.items() if key != "files"} == {
        "version": 1,
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
    }
    assert marker["files"]["tfrecord"] == {
        "path": "tfrecord/train-00000-of-00002.tfrecord",
        "bytes": tfrecord_path.stat().st_size,
        "sha256": sha256_of(tfrecord_path),
        "records": 1,
        "offsets": [0],
    }
    assert marker["files"]["parquet"]["offsets"] == [0]
    last = markers.read_marker(dataset.layout.marker("train-00001-of-00002"))
    first_bytes = len(tfrecord._packed(record_of(dataset.rows[3]).to_bytes()))
    assert (last["rows"], last["written"], last["refused"]) == (2, 2, {})
    assert last["files"]["tfrecord"]["offsets"] == [0, first_bytes]


def test_a_shard_of_refusals_alone_has_a_ledger_and_no_data(dataset):
    for planned in dataset.rows[:3]:
        dataset.write(planned, "removed")
    shards.assemble(dataset.part, 0)
    assert not (dataset.layout.output / "tfrecord").exists()
    assert markers.read_marker(dataset.layout.marker("train-00000-of-00002"))["files"] == {}
    assert len(list(ledger.read(dataset.layout.ledger("train-00000-of-00002")))) == 3


def test_nothing_is_written_while_a_row_is_unaccounted_for(dataset):
    dataset.write(dataset.rows[0])
    dataset.write(dataset.rows[2])
    with pytest.raises(IncompleteShard, match=r"train-00000-of-00002: 1 of 3 rows .* such as video1_000001_000002$"):
        shards.assemble(dataset.part, 0)
    assert {path.name for path in dataset.layout.output.iterdir()} == {"plan", ".work", "labels.txt", "recipe.json"}
    assert len(objects.missing_rows(dataset.part, dataset.rows_in(0))) == 1


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
    assert not dataset.layout.objects("train", 0).exists()
    dataset.write(dataset.rows[0])
    assert shards.assemble(dataset.part, 0) is False
    assert not dataset.layout.objects("train", 0).exists()


def test_an_object_of_another_row_is_not_taken_into_a_shard(dataset):
    for planned in dataset.rows[:3]:
        dataset.write(planned)
    others = dataset.part.object(dataset.rows[1], "written")
    stranger = row(9)
    objects.write_object(dataset.part, dataset.rows[1], ledger_row(stranger), record_of(stranger).to_bytes())
    assert others.exists()
    with pytest.raises(CorruptShard, match="the object of video1_000001_000002 holds video9_000009_000010; remove .w"):
        shards.assemble(dataset.part, 0)
    assert not dataset.part.is_committed(0)
    assert not (dataset.layout.output / "tfrecord").exists()


def test_objects_of_two_rows_of_one_clip_that_were_swapped_are_refused(tmp_path):
    first = row(0)
    rows = [first, small_dataset.duplicate(first, 1), row(2)]
    dataset = small_dataset.make(tmp_path / "out", rows=rows)
    for planned in rows:
        dataset.write(planned)
    objects.write_object(dataset.part, rows[0], ledger_row(rows[1], "duplicate_row"), None)
    dataset.part.object(rows[0], "written").unlink()
    with pytest.raises(CorruptShard, match="the object of video0_000000_000001 holds video0_000000_000001"):
        shards.assemble(dataset.part, 0)


def test_ledger_rows_that_are_too_few_are_refused():
    rows = [row(0), row(1)]
    shards.check_same_rows("a", rows, list(map(ledger_row, rows)), "object")
    with pytest.raises(CorruptShard, match="a: 2 rows are planned, and its ledger has 1"):
        shards.check_same_rows("a", rows, [ledger_row(rows[0])], "object")


def test_an_object_without_the_record_that_its_name_claims_is_refused(dataset):
    for planned in dataset.rows[:3]:
        dataset.write(planned)
    objects.write_object(dataset.part, dataset.rows[1], ledger_row(dataset.rows[1]), None)
    with pytest.raises(CorruptShard, match=r"00001\.written holds no record"):
        shards.assemble(dataset.part, 0)
    assert not dataset.part.is_committed(0)


def test_two_assemblers_at_once_give_one_sound_shard(dataset, monkeypatch):
    """The second begins while the first is about to remove the objects, and finds some of them gone."""
    for planned in dataset.rows[:3]:
        dataset.write(planned)
    saved = shutil.copytree(dataset.layout.work, dataset.layout.output.with_name("saved"))
    shards.assemble(dataset.part, 0)
    marker = dataset.layout.marker("train-00000-of-00002")
    before = {path: path.read_bytes() for path in (marker, dataset.layout.ledger("train-00000-of-00002"))}
    shutil.copytree(saved, dataset.layout.work, dirs_exist_ok=True)
    dataset.part.object(dataset.rows[1], "written").unlink()
    is_committed = iter((False, True))
    monkeypatch.setattr(type(dataset.part), "is_committed", lambda part, shard: next(is_committed))
    assert shards.assemble(dataset.part, 0) is False
    assert {path: path.read_bytes() for path in before} == before


def test_a_search_is_never_assembled(dataset):
    import dataclasses

    search = dataclasses.replace(dataset.part, is_search=True)
    assert shards.assemble(search, 0) is False
    assert shards.assemble_if_complete(search, 0) is False
    assert not dataset.layout.markers.exists()


def test_the_same_objects_give_the_same_bytes(dataset, tmp_path):
    dataset.complete({1: "network"})
    other = small_dataset.make(tmp_path / "other").complete({1: "network"})
    for path in sorted((dataset.layout.output / "tfrecord").iterdir()):
        assert path.read_bytes() == (other.layout.output / "tfrecord" / path.name).read_bytes()
    names = [path.name for path in sorted(dataset.layout.markers.iterdir())]
    for name in names:
        one, two = (json.loads((each.layout.markers / name).read_text()) for each in (dataset, other))
        assert one == two


# Amending ----------------------------------------------------------------------------------------


def test_a_refusal_that_was_refused_again_gets_the_new_reason_and_keeps_its_shard(dataset):
    dataset.complete({1: "network", 4: "private"})
    again = ledger_row(dataset.rows[1], "geo", shard=77, seconds=9.0)
    data = (dataset.layout.output / "tfrecord" / "train-00000-of-00002.tfrecord").read_bytes()
    shards.amend_ledger(dataset.part, 0, {dataset.rows[1].clip_id: again})
    rows = list(ledger.read(dataset.layout.ledger("train-00000-of-00002")))
    assert [(each.reason, each.shard, each.seconds) for each in rows] == [
        (None, 0, 0.0),
        ("geo", 0, 9.0),
        (None, 0, 0.0),
    ]
    marker = markers.read_marker(dataset.layout.marker("train-00000-of-00002"))
    assert (marker["rows"], marker["written"], marker["refused"]) == (3, 2, {"geo": 1})
    assert marker["ledger_sha256"] == sha256_of(dataset.layout.ledger("train-00000-of-00002"))
    assert (dataset.layout.output / "tfrecord" / "train-00000-of-00002.tfrecord").read_bytes() == data


def test_a_written_row_is_never_amended(dataset):
    dataset.complete({1: "network"})
    again = {planned.clip_id: ledger_row(planned, "geo") for planned in dataset.rows}
    shards.amend_ledger(dataset.part, 0, again)
    assert [each.reason for each in ledger.read(dataset.layout.ledger("train-00000-of-00002"))] == [None, "geo", None]


def test_an_amendment_without_news_writes_nothing(dataset):
    dataset.complete({1: "network"})
    marker = dataset.layout.marker("train-00000-of-00002")
    before = marker.stat().st_mtime_ns, marker.stat().st_ino
    shards.amend_ledger(dataset.part, 0, {})
    assert (marker.stat().st_mtime_ns, marker.stat().st_ino) == before


def test_a_shard_without_a_marker_is_not_amended(dataset):
    shards.amend_ledger(dataset.part, 0, {})
    assert not dataset.layout.ledger("train-00000-of-00002").exists()


def test_a_clip_found_later_leaves_the_ledger_and_its_duplicate_stays(tmp_path):
    from kinetics_prep.dataset import plan

    rows = [row(0), row(1), small_dataset.duplicate(row(1), 2)]
    dataset = small_dataset.make(tmp_path / "out", rows=rows)
    dataset.complete({1: "not_found"})
    plan.write(dataset.layout.plan("train-refresh1"), [rows[1]], 1)
    shards.amend_ledger(dataset.part, 0, {})
    remaining = list(ledger.read(dataset.layout.ledger("train-00000-of-00001")))
    assert [(each.clip_id, each.reason) for each in remaining] == [
        (rows[0].clip_id, None),
        (rows[1].clip_id, "duplicate_row"),
    ]
    assert markers.read_marker(dataset.layout.marker("train-00000-of-00001"))["rows"] == 2
    assert dataset.part.count_rows(0) == 2


def test_records_of_an_object_are_read_as_they_were_written(dataset):
    dataset.write(dataset.rows[0])
    data = objects.read_object(dataset.part.object(dataset.rows[0], "written"))[1]
    assert Record.from_bytes(data)["clip/media_id"] == "video0"
