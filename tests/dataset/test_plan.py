"""The plan of a split on disk."""

import contextlib
import dataclasses
import random

import pyarrow.parquet as pq
import pytest

from kinetics_prep.annotations.planned import PlannedRow, RefusedRow
from kinetics_prep.dataset import plan
from kinetics_prep.errors import CorruptShard


def rows(count, clips_per_shard=4):
    """Planned rows, dealt into shards."""
    return [
        PlannedRow(
            *divmod(k, clips_per_shard), f"v{k}_000000_000010", f"v{k}", "zumba", 1, "train", 0.0, 10.0, "a.csv", k
        )
        for k in range(count)
    ]


def refused(count, clips_per_shard=4):
    """A row that cannot be read, placed after `count` others."""
    place = divmod(count, clips_per_shard)
    reason, message = "malformed_row", "a.csv:30: no such thing"
    return RefusedRow(*place, "a.csv:30", None, None, None, "train", None, None, "a.csv", 30, reason, message)


def test_a_plan_reads_back_as_written(tmp_path):
    planned = [*rows(9), dataclasses.replace(rows(10)[-1], label=None, label_index=None, end_seconds=None), refused(10)]
    plan.write(tmp_path / "train.parquet", planned)
    assert list(plan.read(tmp_path / "train.parquet")) == planned


def test_a_plan_reads_back_per_shard(tmp_path):
    planned = rows(10, clips_per_shard=4)
    plan.write(tmp_path / "train.parquet", planned)
    for shard in range(3):
        assert list(plan.read(tmp_path / "train.parquet", shard)) == planned[4 * shard : 4 * shard + 4]


@pytest.mark.parametrize("shards, row_groups", [(1, 1), (1024, 1024), (1025, 513), (2049, 683)])
def test_a_plan_has_a_thousand_row_groups_at_most_and_reads_back_per_shard(tmp_path, shards, row_groups):
    planned, path = rows(2 * shards - 1, clips_per_shard=2), tmp_path / "train.parquet"
    plan.write(path, planned, shards)
    assert pq.read_metadata(path).num_row_groups == row_groups
    for shard in {0, 1, 511, 512, 1023, 1024, shards - 1} & set(range(shards)):
        assert list(plan.read(path, shard)) == planned[2 * shard : 2 * shard + 2]
    assert list(plan.read(path)) == planned


def test_a_plan_of_one_shard_a_row_group_is_read_whatever_their_number(tmp_path):
    planned = rows(1100, clips_per_shard=1)
    plan.write(tmp_path / "train.parquet", planned)
    assert list(plan.read(tmp_path / "train.parquet", 1099)) == planned[1099:]


def test_the_same_plan_has_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        plan.write(tmp_path / name, rows(10))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def test_damage_to_a_plan_is_corruption_and_nothing_else(tmp_path):
    path = tmp_path / "train.parquet"
    plan.write(path, [*rows(9), refused(9)])
    whole, chance, noticed = path.read_bytes(), random.Random(0), 0
    for _ in range(300):
        path.write_bytes(flipped(whole, chance.randrange(len(whole)), chance.randrange(8)))
        try:
            list(plan.read(path))
        except CorruptShard:
            noticed += 1
    assert noticed > 30


def test_damage_to_the_rows_of_a_plan_is_noticed(tmp_path):
    path = tmp_path / "train.parquet"
    planned = [*rows(9), refused(9)]
    plan.write(path, planned)
    whole, chance = path.read_bytes(), random.Random(0)
    footer_begins = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for _ in range(200):
        path.write_bytes(flipped(whole, chance.randrange(footer_begins), chance.randrange(8)))
        with contextlib.suppress(CorruptShard):  # or it hit what nobody reads
            assert list(plan.read(path)) == planned


@pytest.mark.parametrize("content", [b"", b"PAR1", b"label,youtube_id\n"])
def test_a_file_that_is_no_table_is_no_plan(tmp_path, content):
    path = tmp_path / "train.parquet"
    path.write_bytes(content)
    with pytest.raises(CorruptShard, match=r"train\.parquet is not a Parquet file"):
        list(plan.read(path))
