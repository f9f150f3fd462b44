"""Records that hold more features than we know, or fewer: what is unknown is passed over, what is required is named."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_records import record, records, write

from kinetics_prep.errors import CorruptShard, NewerFormat
from kinetics_prep.reading import parquet_clip, tfrecord_clip
from kinetics_prep.reading.record_part import CONTEXT
from kinetics_prep.reading.stored_clip import StoredClip
from kinetics_prep.records import parquet, sequence_example, tfrecord
from kinetics_prep.records.features import FEATURES
from kinetics_prep.records.record import Record
from kinetics_prep.storage.tables import VERSION_KEY

OPTIONAL = [name for name, feature in FEATURES.items() if not feature.required]
REQUIRED = [name for name, feature in FEATURES.items() if feature.required]


def grown(one: Record, without: str = "") -> bytes:
    """A record as a newer version may serialize it: one feature more and one list more, which is shorter."""
    parts: dict[bool, dict] = {False: {"a/new": ("bytes", b"x")}, True: {"b/new": ("float", [0.5])}}
    for name, value in one.features.items():
        if name != without:
            feature = FEATURES[name]
            plain = value.encode() if isinstance(value, str) else value
            parts[feature.is_list][name] = (feature.kind, plain)
    return sequence_example.serialize(parts[False], parts[True])


def stored(path, place: int, size: int = 0) -> StoredClip:
    return StoredClip(path, place, size, "clip", 0, frames=3, height=16, width=16)


def as_tfrecord(tmp_path, payload: bytes) -> StoredClip:
    path = tmp_path / "shard.tfrecord"
    tfrecord.write_bytes(path, [payload])
    return stored(path, 0, path.stat().st_size)


def rewritten(tmp_path, change, count: int = 3):
    """A Parquet shard of some records, written again with something changed."""
    path, _ = write(tmp_path, "parquet", records(count))
    pq.write_table(change(pq.read_table(path)), path, row_group_size=1)
    return path


def test_features_that_a_newer_version_added_are_passed_over_in_tfrecord(tmp_path):
    clip = as_tfrecord(tmp_path, grown(record(1)))
    assert list(tfrecord.read_shard(clip.path)) == [record(1)]
    assert tfrecord_clip.read_record(clip) == record(1)
    part = tfrecord_clip.read_part(clip, {"rgb": [0, 2], "flow": [1]})
    assert part.context == {name: record(1)[name] for name in CONTEXT}
    assert bytes(part.encoded["flow"][1]) == record(1).images("FORWARD_FLOW/image/encoded")[1]
    assert part.frames == {"rgb": 3, "flow": 3}


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_feature_that_is_missing_is_named_in_tfrecord(tmp_path, name):
    clip = as_tfrecord(tmp_path, grown(record(1), without=name))
    for read in (lambda: list(tfrecord.read_shard(clip.path)), lambda: tfrecord_clip.read_record(clip)):
        with pytest.raises(CorruptShard, match=rf"record lacks \['{name}'\]"):
            read()


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_feature_that_is_missing_is_absent(tmp_path, name):
    whole = records(3)[1]
    expected = Record({key: value for key, value in whole.features.items() if key != name})
    assert tfrecord_clip.read_record(as_tfrecord(tmp_path, grown(whole, without=name))) == expected
    path = rewritten(tmp_path, lambda table: table.drop_columns([FEATURES[name].column]))
    assert parquet_clip.read_record(stored(path, 1)) == expected
    assert list(parquet.read_shard(path))[1] == expected
    assert parquet_clip.read_part(stored(path, 1), {"rgb": [0]}).context.get(name) is None


def with_more(table: pa.Table) -> pa.Table:
    """A table with unknown columns, before and between the known ones, in another order."""
    count = len(table)
    table = table.select(table.column_names[::-1])
    table = table.append_column("image_encoded.more", pa.array(["x"] * count))
    return table.add_column(0, "new", pa.array([{"image_encoded": 1}] * count))


def test_columns_that_a_newer_version_added_are_passed_over_in_any_order(tmp_path):
    path = rewritten(tmp_path, with_more)
    assert list(parquet.read_shard(path)) == records(3)
    assert [parquet_clip.read_record(stored(path, row)) for row in range(3)] == records(3)
    part = parquet_clip.read_part(stored(path, 1), {"rgb": [0, 2]})
    assert part.context == {name: records(3)[1][name] for name in CONTEXT}
    assert bytes(part.encoded["rgb"][2]) == records(3)[1].images("image/encoded")[2]
    assert parquet.read_row(path, 0, ["example_id", "image_encoded"]).column_names == ["example_id", "image_encoded"]


@pytest.mark.parametrize("name", ["example/id", "image/encoded", "kinetics_prep/ends_early"])
def test_a_required_column_that_is_missing_or_of_another_type_is_named(tmp_path, name):
    column = FEATURES[name].column
    path = rewritten(tmp_path, lambda table: table.drop_columns([column]))
    with pytest.raises(CorruptShard, match=f"{path} has no column {column}, expected one of type"):
        parquet_clip.read_part(stored(path, 0), {"rgb": [0]})
    numbers = pa.array([0.5] * 3)
    path = rewritten(tmp_path, lambda table: table.drop_columns([column]).append_column(column, numbers))
    with pytest.raises(CorruptShard, match=f"{path}: its column {column} is of type double, expected "):
        list(parquet.read_shard(path))


@pytest.mark.parametrize("version, error", [("2", NewerFormat), ("0", CorruptShard), ("two", CorruptShard)])
def test_the_number_of_the_format_is_read_with_every_row(tmp_path, version, error):
    path = rewritten(tmp_path, lambda table: table.replace_schema_metadata({VERSION_KEY: version}))
    for read in (lambda: list(parquet.read_shard(path)), lambda: parquet_clip.read_part(stored(path, 0), {"rgb": [0]})):
        with pytest.raises(error, match=rf"{path} has format '?{version}"):
            read()
