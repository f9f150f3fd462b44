"""The plan of a split on disk."""

import contextlib
import dataclasses
import random
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_dataset

from kinetics_prep.annotations.planned import PlannedRow, RefusedRow
from kinetics_prep.dataset import plan
from kinetics_prep.errors import CorruptShard, NewerFormat, OtherRecipe
from kinetics_prep.storage.files import sha256_of
from kinetics_prep.storage.tables import VERSION_KEY

pytestmark = pytest.mark.usefixtures("unflushed")

KEY = "plan/train.parquet"


@pytest.fixture
def store(tmp_path):
    return small_dataset.store_of(tmp_path / "out")


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


def test_a_plan_reads_back_as_written(store):
    planned = [*rows(9), dataclasses.replace(rows(10)[-1], label=None, label_index=None, end_seconds=None), refused(10)]
    plan.write(store, KEY, planned)
    assert list(plan.read(store, KEY)) == planned


def test_a_plan_reads_back_per_shard(store):
    planned = rows(10, clips_per_shard=4)
    plan.write(store, KEY, planned)
    for shard in range(3):
        assert list(plan.read(store, KEY, shard)) == planned[4 * shard : 4 * shard + 4]


@pytest.mark.parametrize("shards, row_groups", [(1, 1), (1024, 1024), (1025, 513), (2049, 683)])
def test_a_plan_has_a_thousand_row_groups_at_most_and_reads_back_per_shard(store, shards, row_groups):
    planned = rows(2 * shards - 1, clips_per_shard=2)
    plan.write(store, KEY, planned, shards)
    assert pq.read_metadata(store.root / KEY).num_row_groups == row_groups
    for shard in {0, 1, 511, 512, 1023, 1024, shards - 1} & set(range(shards)):
        assert list(plan.read(store, KEY, shard)) == planned[2 * shard : 2 * shard + 2]
    assert list(plan.read(store, KEY)) == planned


def test_a_plan_of_one_shard_a_row_group_is_read_whatever_their_number(store):
    planned = rows(1100, clips_per_shard=1)
    plan.write(store, KEY, planned)
    assert list(plan.read(store, KEY, 1099)) == planned[1099:]


def test_the_same_plan_has_the_same_bytes(store):
    entries = [plan.write(store, name, rows(10)) for name in ("one", "two")]
    assert entries[0] == entries[1]
    assert store.read("one") == store.read("two")


def flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def test_damage_to_a_plan_is_corruption_and_nothing_else(store):
    path = store.root / KEY
    plan.write(store, KEY, [*rows(9), refused(9)])
    whole, chance, noticed = path.read_bytes(), random.Random(0), 0
    for _ in range(300):
        path.write_bytes(flipped(whole, chance.randrange(len(whole)), chance.randrange(8)))
        try:
            list(plan.read(store, KEY))
        except CorruptShard:
            noticed += 1
    assert noticed > 30


def test_damage_to_the_rows_of_a_plan_is_noticed(store):
    path = store.root / KEY
    planned = [*rows(9), refused(9)]
    plan.write(store, KEY, planned)
    whole, chance = path.read_bytes(), random.Random(0)
    footer_begins = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for _ in range(200):
        path.write_bytes(flipped(whole, chance.randrange(footer_begins), chance.randrange(8)))
        with contextlib.suppress(CorruptShard):  # or it hit what nobody reads
            assert list(plan.read(store, KEY)) == planned


@pytest.mark.parametrize("content", [b"", b"PAR1", b"label,youtube_id\n"])
def test_a_file_that_is_no_table_is_no_plan(store, content):
    store.put(KEY, content)
    with pytest.raises(CorruptShard, match=r"train\.parquet is (?:not a Parquet file|missing)"):
        list(plan.read(store, KEY))


def test_a_missing_plan_is_refused_in_words(store):
    for read in (plan.entry_of, lambda *place: list(plan.read(*place)), lambda *place: list(plan.read(*place, 0))):
        with pytest.raises(CorruptShard, match=r"out/plan/train\.parquet is missing"):
            read(store, KEY)


# Its entry in state.json ------------------------------------------------------------------------


def test_an_entry_says_how_many_rows_there_are_and_what_they_are(store):
    planned = [*rows(9), refused(9)]
    entry = plan.write(store, KEY, planned, 3)
    assert entry.rows == 10
    assert entry.file_sha256 == sha256_of(store.root / KEY)
    assert plan.entry_of(store, KEY) == entry
    assert plan.write(store, "other", planned, 1).sha256 == entry.sha256


@pytest.mark.parametrize(
    "changes, is_same",
    [({"annotation_file": "b.csv"}, True), ({"label_index": 2}, False), ({"annotation_line": 99}, False)],
)
def test_only_the_name_of_an_annotation_file_does_not_count(changes, is_same, store):
    entry = plan.write(store, KEY, rows(3))
    other = plan.write(store, "other", [*rows(2), dataclasses.replace(rows(3)[-1], **changes)])
    assert (entry.sha256 == other.sha256) == is_same


def test_every_flipped_byte_changes_the_checksum_of_the_file(store):
    entry = plan.write(store, KEY, rows(3))
    whole, path, chance = store.read(KEY), store.root / KEY, random.Random(0)
    for place in chance.sample(range(len(whole)), 50):
        path.write_bytes(flipped(whole, place, chance.randrange(8)))
        with contextlib.suppress(CorruptShard):
            assert plan.entry_of(store, KEY).file_sha256 != entry.file_sha256


# The same plan once more ------------------------------------------------------------------------


def test_the_same_rows_are_the_same_plan_whatever_their_file_is_called_now(store):
    plan.write(store, KEY, rows(9))
    plan.check_same(store, KEY, iter(rows(9)))
    plan.check_same(store, KEY, [dataclasses.replace(row, annotation_file="renamed.csv") for row in rows(9)])


OTHERS = {
    "fewer": (rows(8), "9 there, 8 here; the first to differ is v8_000000_000010 .* there and nothing here"),
    "more": (rows(10), "9 there, 10 here; the first to differ is nothing there and v9_000000_000010"),
    "another class id": (
        [dataclasses.replace(row, label_index=7) for row in rows(9)],
        r"the first to differ is v0_000000_000010 \(line 0, label 'zumba', class id 1\) there and .*class id 7\) here",
    ),
    "another time": (
        [dataclasses.replace(row, end_seconds=11.0) for row in rows(9)],
        "the first to differ is one there and another of its name here",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_other_rows_are_refused_and_the_first_to_differ_is_named(other, store):
    plan.write(store, KEY, rows(9))
    there = store.read(KEY)
    with pytest.raises(OtherRecipe, match=OTHERS[other][1]):
        plan.check_same(store, KEY, OTHERS[other][0])
    assert store.read(KEY) == there


def rewritten(path, change) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def with_shards(values) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index("shard"), "shard", pa.array(values))


@pytest.mark.parametrize(
    "change, message",
    [
        (with_shards(["0", "0", "0"]), "its column shard is of type string, expected int64"),
        (with_shards([-1, -1, -1]), "says shard -1, expected a number from 0"),
        (lambda table: table.drop_columns(["shard"]), "has no column shard, expected one of type int64; found index,"),
    ],
)
def test_a_plan_whose_shards_make_no_sense_is_refused_in_words(store, change, message):
    plan.write(store, KEY, rows(3))
    rewritten(store.root / KEY, change)
    with pytest.raises(CorruptShard, match=message):
        list(plan.read(store, KEY, 0))


def test_a_plan_of_a_newer_format_is_known_by_its_number_whatever_it_holds(store):
    plan.write(store, KEY, rows(3))
    rewritten(store.root / KEY, lambda table: table.select(["clip_id"]).replace_schema_metadata({VERSION_KEY: "2"}))
    for shard in (None, 0):
        with pytest.raises(NewerFormat, match="has format 2, this kinetics-prep reads formats 1 to 1: upgrade"):
            list(plan.read(store, KEY, shard))
