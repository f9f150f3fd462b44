"""Reopening a shard for a retry: what is forgotten, what stays, and that the shard comes out as if found at once."""

import pytest
import small_dataset
from kinetics_prep.dataset.reopen import reopen
from small_dataset import ledger_row

from kinetics_prep.dataset import ledger, objects
from kinetics_prep.dataset.shards import assemble
from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import tfrecord

NAME = "train-00000-of-00002"


@pytest.fixture
def dataset(tmp_path):
    return small_dataset.make(tmp_path / "out")


def data(dataset) -> dict[str, bytes]:
    return {
        f"{folder}/{path.name}": path.read_bytes()
        for folder in ("tfrecord", "parquet")
        for path in sorted((dataset.layout.output / folder).iterdir())
    }


def test_a_committed_shard_goes_back_to_its_objects_without_the_refusals_to_forget(dataset):
    dataset.complete({0: "network", 1: "private"})
    assert reopen(dataset.part, 0, ("network", "geo")) == 1
    assert not dataset.part.is_committed(0)
    assert objects.missing_rows(dataset.part, dataset.rows_in(0)) == [dataset.rows[0]]
    kept, record = objects.read_object(dataset.part.object(dataset.rows[1], "refused"))
    assert (kept, record) == (ledger_row(dataset.rows[1], "private"), None)
    kept, record = objects.read_object(dataset.part.object(dataset.rows[2], "written"))
    assert kept == ledger_row(dataset.rows[2])
    assert record == small_dataset.record_of(dataset.rows[2]).to_bytes()


def test_a_retry_gives_the_shard_that_a_first_run_would_have_given(dataset, tmp_path):
    dataset.complete({0: "network"})
    reopen(dataset.part, 0, ("network",))
    dataset.write(dataset.rows[0])
    assemble(dataset.part, 0)
    at_once = small_dataset.make(tmp_path / "at once").complete()
    assert data(dataset) == data(at_once)


def test_a_shard_without_such_refusals_stays_as_it_is(dataset):
    dataset.complete({0: "network"})
    before = data(dataset)
    assert reopen(dataset.part, 0, ("geo",)) == 0
    assert reopen(dataset.part, 1, ("network",)) == 0
    assert dataset.part.is_committed(0) and dataset.part.is_committed(1)
    assert data(dataset) == before
    assert not list(dataset.layout.work.glob("train/*/*"))


def test_objects_of_an_uncommitted_shard_are_forgotten_by_reason(dataset):
    for planned, reason in zip(dataset.rows[:3], ("network", "private", None), strict=True):
        dataset.write(planned, reason)
    assert reopen(dataset.part, 0, ("network",)) == 1
    assert objects.missing_rows(dataset.part, dataset.rows_in(0)) == [dataset.rows[0]]
    assert reopen(dataset.part, 0, ("network",)) == 0


def test_a_damaged_object_of_an_uncommitted_shard_is_removed_and_not_read(dataset):
    dataset.write(dataset.rows[0], "network")
    dataset.part.object(dataset.rows[0], "refused").write_bytes(b"damaged")
    assert reopen(dataset.part, 0, ("network",)) == 0
    assert objects.missing_rows(dataset.part, dataset.rows_in(0)) == dataset.rows[:3]


@pytest.mark.parametrize("damage", [b"damaged", b""])
def test_a_damaged_refusal_beside_a_written_object_of_the_same_row_is_removed(damage, dataset):
    """Two workers did the row, with two outcomes, and the power went while the refusal was written."""
    dataset.write(dataset.rows[0])
    dataset.write(dataset.rows[0], "network")
    dataset.part.object(dataset.rows[0], "refused").write_bytes(damage)
    assert reopen(dataset.part, 0, ("network",)) == 0
    assert not dataset.part.object(dataset.rows[0], "refused").exists()
    assert objects.missing_rows(dataset.part, dataset.rows_in(0)) == dataset.rows[1:3]


def test_refusals_left_by_a_killed_run_do_not_survive(dataset):
    """A reopening was killed before the marker went: its objects are there beside the committed shard."""
    dataset.complete({0: "network", 1: "private"})
    dataset.write(dataset.rows[1], "private")
    dataset.write(dataset.rows[0], "network")
    assert reopen(dataset.part, 0, ("network", "private")) == 2
    assert objects.missing_rows(dataset.part, dataset.rows_in(0)) == dataset.rows[:2]


def test_the_marker_goes_last(dataset, monkeypatch):
    dataset.complete({0: "network"})
    monkeypatch.setattr(tfrecord, "read_shard", lambda path: iter(()))
    with pytest.raises(CorruptShard, match=f"{NAME} holds nothing where its ledger says video1_000001_000002"):
        reopen(dataset.part, 0, ("network",))
    assert dataset.part.is_committed(0)


def test_a_shard_in_another_order_than_its_ledger_is_refused(dataset, monkeypatch):
    dataset.complete({0: "network"})
    records = list(tfrecord.read_shard(dataset.layout.shard(NAME, "tfrecord")))
    monkeypatch.setattr(tfrecord, "read_shard", lambda path: iter(records[::-1]))
    with pytest.raises(CorruptShard, match=f"{NAME} holds video2_000002_000003 where its ledger says video1_0"):
        reopen(dataset.part, 0, ("network",))


def test_a_ledger_of_other_rows_is_refused(dataset):
    from kinetics_prep.storage import tables

    dataset.complete({0: "network"})
    path = dataset.layout.ledger(NAME)
    rows = list(ledger.read(path))
    tables.write(path, "ledger", [[row.as_dict() for row in rows[::-1]]])
    with pytest.raises(CorruptShard, match="the ledger row of video0_000000_000001 holds video2_000002_000003$"):
        reopen(dataset.part, 0, ("network",))
    tables.write(path, "ledger", [[row.as_dict() for row in rows[:2]]])
    with pytest.raises(CorruptShard, match="3 rows are planned, and its ledger has 2"):
        reopen(dataset.part, 0, ("network",))
    assert dataset.part.is_committed(0)


def test_a_shard_of_refusals_alone_is_reopened_without_data(dataset):
    dataset.complete(dict.fromkeys(range(5), "removed"))
    assert reopen(dataset.part, 0, ("removed",)) == 3
    assert objects.missing_rows(dataset.part, dataset.rows_in(0)) == dataset.rows[:3]
