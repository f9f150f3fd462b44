"""Parquet shards: their columns, and reading one row."""

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_records import flipped, records, write

from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import parquet
from kinetics_prep.records.features import FEATURES


@pytest.fixture
def parquet_shard(tmp_path):
    """The path of a Parquet shard of six records."""
    return write(tmp_path, "parquet", records(6))[0]


def columns(path, feature):
    """The footer's description of a feature's column in each row group."""
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    return [
        group.column(k)
        for group in groups
        for k in range(group.num_columns)
        if group.column(k).path_in_schema.split(".")[0] == FEATURES[feature].column
    ]


def test_each_clip_has_a_row_group_of_its_own(parquet_shard):
    metadata = pq.read_metadata(parquet_shard)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [1] * 6


@pytest.mark.parametrize("feature", ["image/encoded", "FORWARD_FLOW/image/encoded"])
def test_images_have_no_dictionary_no_statistics_and_no_second_compression(parquet_shard, feature):
    image_columns = columns(parquet_shard, feature)
    assert len(image_columns) == 6
    for column in image_columns:
        assert not column.has_dictionary_page
        assert not column.is_stats_set
        assert column.compression == "UNCOMPRESSED"


def test_labels_have_a_dictionary_and_statistics(parquet_shard):
    for column in columns(parquet_shard, "clip/label/text"):
        assert column.has_dictionary_page
        assert column.is_stats_set


def test_the_columns_are_those_of_the_schema(parquet_shard):
    types = {"text": pa.string(), "bytes": pa.binary(), "int64": pa.int64(), "float": pa.float32()}
    schema = pq.read_schema(parquet_shard)
    assert schema.names == [feature.column for feature in FEATURES.values()]
    for column, feature in zip(schema, FEATURES.values()):
        assert (column.type.value_type if feature.is_list else column.type) == types[feature.type]
        assert column.nullable == (not feature.required)
        assert column.metadata[b"feature"].decode() == feature.name


def test_duckdb_reads_parquet(parquet_shard):
    selected = "example_id, clip_label_text, len(image_encoded), image_encoded[2], image_timestamp"
    assert duckdb.sql(f"SELECT {selected} FROM '{parquet_shard}'").fetchall() == [
        (
            record["example/id"],
            record.get("clip/label/text"),
            len(record),
            record["image/encoded"][1],
            record["image/timestamp"],
        )
        for record in records(6)
    ]


def test_a_table_with_other_columns_is_no_shard(tmp_path):
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table({"example_id": ["a"]}), path)
    with pytest.raises(CorruptShard, match="has no column clip_media_id"):
        list(parquet.read_shard(path))


def test_a_table_with_columns_of_other_types_is_no_shard(tmp_path):
    path = tmp_path / "some.parquet"
    rows = {column: ["1"] for column in parquet.SCHEMA.names}
    pq.write_table(pa.table(rows), path)
    with pytest.raises(CorruptShard):
        list(parquet.read_shard(path))


def test_a_table_with_nulls_where_values_are_required_is_no_shard(tmp_path):
    path = tmp_path / "some.parquet"
    schema = pa.schema([column.with_nullable(True) for column in parquet.SCHEMA])
    pq.write_table(pa.Table.from_pylist([{"example_id": "a"}], schema=schema), path)
    with pytest.raises(CorruptShard, match="record lacks"):
        list(parquet.read_shard(path))


# One row


def mixed_groups(path, sizes=(2, 1, 3)) -> None:
    """A shard of others, with several rows in a row group."""
    rows = [{FEATURES[name].column: value for name, value in record.features.items()} for record in records(sum(sizes))]
    with pq.ParquetWriter(path, parquet.SCHEMA) as writer:
        for size in sizes:
            writer.write_table(pa.Table.from_pylist(rows[:size], schema=parquet.SCHEMA))
            del rows[:size]


@pytest.mark.parametrize("grouping", ["ours", "mixed"])
@pytest.mark.parametrize("row", range(6))
def test_a_row_is_that_row_in_whatever_group_it_stands(tmp_path, parquet_shard, grouping, row):
    path = parquet_shard
    if grouping == "mixed":
        path = tmp_path / "mixed.parquet"
        mixed_groups(path)
    columns = ["example_id", "image_encoded", "image_timestamp"]
    table = parquet.read_row(path, row, columns)
    expected = records(6)[row]
    assert table.num_rows == 1 and sorted(table.column_names) == columns
    assert table.to_pylist() == [{column: expected[feature_of(column)] for column in columns}]


def feature_of(column: str) -> str:
    return next(name for name, feature in FEATURES.items() if feature.column == column)


@pytest.mark.parametrize("row", [6, 7, 1000])
def test_a_row_after_the_last_is_refused(parquet_shard, row):
    with pytest.raises(CorruptShard, match="fewer rows than dataset.json says"):
        parquet.read_row(parquet_shard, row, ["example_id"])


def test_records_of_any_grouping_read_back_in_order(tmp_path):
    path = tmp_path / "mixed.parquet"
    mixed_groups(path)
    assert list(parquet.read_shard(path)) == records(6)


def test_checksums_of_a_row_are_checked_unless_checks_are_off(parquet_shard):
    image = records(6)[4]["image/encoded"][1]
    whole = parquet_shard.read_bytes()
    parquet_shard.write_bytes(flipped(whole, whole.index(image) + 100, 3))
    with pytest.raises(CorruptShard, match="does not read as Parquet"):
        parquet.read_row(parquet_shard, 4, ["image_encoded"])
    read = parquet.read_row(parquet_shard, 4, ["image_encoded"], verify=False).to_pylist()[0]["image_encoded"]
    assert [a == b for a, b in zip(read, records(6)[4]["image/encoded"])] == [True, False] + [True] * (len(read) - 2)
    assert parquet.read_row(parquet_shard, 3, ["example_id"]).num_rows == 1  # others are not read


def test_a_row_of_a_table_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table({"example_id": ["a"]}), path)
    with pytest.raises(CorruptShard, match="has no column clip_media_id"):
        parquet.read_row(path, 0, ["example_id"])
