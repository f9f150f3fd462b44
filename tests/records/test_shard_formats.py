import random
import struct
import weakref

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import SHARD_FORMATS, parquet, tfrecord
from kinetics_prep.records.record import FEATURES, Record

FRAMES = 3


def value_of(feature, number: int, k: int = 0):
    """A value of the feature's type, different for each record and frame."""
    return {
        "text": f"{feature.column} {number} é",
        "bytes": bytes([number, k]) + random.Random(f"{feature.name} {number} {k}").randbytes(300),
        "int64": 1000 * number + k,
        "float": number + 0.5,
    }[feature.type]


def record(number: int, frames: int = FRAMES, labelled: bool = True) -> Record:
    """A record whose values say which one it is. Formats do not look into images."""
    return Record(
        {
            name: value_of(feature, number)
            if feature.where == "context"
            else [value_of(feature, number, k) for k in range(frames)]
            for name, feature in FEATURES.items()
            if labelled or feature.required
        }
    )


def records(count: int) -> list[Record]:
    """With clips of several lengths, and one in five unlabelled."""
    return [record(number, FRAMES + number % 3, labelled=number % 5 != 2) for number in range(count)]


def write(folder, name: str, records):
    path = folder / f"shard.{SHARD_FORMATS[name].SUFFIX}"
    return path, SHARD_FORMATS[name].write_shard(path, records)


def flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


# Every format ----------------------------------------------------------------------------------


@pytest.fixture(params=SHARD_FORMATS)
def name(request) -> str:
    """A row of the table."""
    return request.param


def test_a_format_is_named_after_its_suffix(name):
    assert name == SHARD_FORMATS[name].SUFFIX


def test_records_read_back_as_written_and_in_order(tmp_path, name):
    path, _ = write(tmp_path, name, iter(records(11)))
    assert list(SHARD_FORMATS[name].read_shard(path)) == records(11)


def test_a_record_has_an_offset(tmp_path, name):
    _, offsets = write(tmp_path, name, records(11))
    assert offsets[0] == 0
    assert len(offsets) == 11
    assert offsets == sorted(set(offsets))


def test_a_shard_may_be_empty(tmp_path, name):
    path, offsets = write(tmp_path, name, [])
    assert offsets == []
    assert list(SHARD_FORMATS[name].read_shard(path)) == []


def test_the_same_records_give_the_same_bytes(tmp_path, name):
    path, _ = write(tmp_path, name, records(5))
    once = path.read_bytes()
    write(tmp_path, name, records(5))
    assert path.read_bytes() == once


def test_a_shard_never_stands_in_memory_whole(tmp_path, name):
    alive, most = weakref.WeakValueDictionary(), []

    def watched(made):
        for number, one in enumerate(made):
            alive[number] = one
            most.append(len(alive))
            yield one

    path, _ = write(tmp_path, name, watched(record(number) for number in range(40)))
    assert max(most) < 12
    most.clear()
    for _ in watched(SHARD_FORMATS[name].read_shard(path)):
        pass
    assert len(most) == 40
    assert max(most) < 12


def test_a_truncated_shard_is_corrupt(tmp_path, name):
    path, offsets = write(tmp_path, name, records(6))
    whole = path.read_bytes()
    for length in {*range(1, 40), *range(40, len(whole), 211), len(whole) - 4, len(whole) - 1} - set(offsets):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptShard, match=path.name):
            list(SHARD_FORMATS[name].read_shard(path))


def test_a_flipped_bit_is_corruption_and_nothing_else(tmp_path, name):
    path, _ = write(tmp_path, name, records(6))
    whole, chance, noticed = path.read_bytes(), random.Random(0), 0
    # Half of them in the last tenth, where Parquet says what stands before it.
    places = [chance.randrange(len(whole)) for _ in range(300)]
    places += [chance.randrange(len(whole) * 9 // 10, len(whole)) for _ in range(300)]
    for place in places:
        path.write_bytes(flipped(whole, place, chance.randrange(8)))
        try:
            list(SHARD_FORMATS[name].read_shard(path))
        except CorruptShard:
            noticed += 1
    assert noticed > 100


@pytest.mark.parametrize("feature", ["image/encoded", "FORWARD_FLOW/image/encoded", "example/id"])
def test_a_flipped_bit_in_a_value_is_noticed(tmp_path, name, feature):
    path, _ = write(tmp_path, name, records(6))
    whole, chance = path.read_bytes(), random.Random(0)
    value = records(6)[4][feature]
    needle = value.encode() if isinstance(value, str) else value[1]
    begins = whole.index(needle)
    for _ in range(20):
        path.write_bytes(flipped(whole, begins + chance.randrange(len(needle)), chance.randrange(8)))
        with pytest.raises(CorruptShard):
            list(SHARD_FORMATS[name].read_shard(path))


@pytest.mark.parametrize("content", [b"label,youtube_id\n", b"PAR1", bytes(100), b"\xff" * 100])
def test_a_file_of_another_kind_is_corrupt(tmp_path, name, content):
    path = tmp_path / "some.file"
    path.write_bytes(content)
    with pytest.raises(CorruptShard, match=r"some\.file"):
        list(SHARD_FORMATS[name].read_shard(path))


# TFRecord --------------------------------------------------------------------------------------


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def read_by_the_spec(data: bytes):
    """Records of a TFRecord file, as tensorflow/core/lib/io/record_writer.h describes it."""
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert data[8:12] == struct.pack("<I", masked(data[:8]))
        record, footer, data = data[12 : 12 + length], data[12 + length : 16 + length], data[16 + length :]
        assert footer == struct.pack("<I", masked(record))
        yield record


def test_the_checksum_of_these_tests_is_crc32c():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C, RFC 3720


def test_tfrecord_is_what_its_specification_says(tmp_path):
    path, _ = write(tmp_path, "tfrecord", records(3))
    assert list(read_by_the_spec(path.read_bytes())) == [record.to_bytes() for record in records(3)]


@pytest.mark.parametrize("payloads", [[b""], [b"a", b"", bytes(70_000), b"\xff" * 12]])
def test_tfrecord_holds_any_bytes(tmp_path, payloads):
    path = tmp_path / "some.tfrecord"
    tfrecord.write_bytes(path, payloads)
    assert list(tfrecord.read_bytes(path)) == list(read_by_the_spec(path.read_bytes())) == payloads


def test_tfrecord_offsets_are_where_records_begin(tmp_path):
    path, offsets = write(tmp_path, "tfrecord", records(4))
    for number, offset in enumerate(offsets):
        assert next(read_by_the_spec(path.read_bytes()[offset:])) == records(4)[number].to_bytes()


def test_tfrecord_gives_what_stands_before_the_damage(tmp_path):
    path, offsets = write(tmp_path, "tfrecord", records(3))
    path.write_bytes(path.read_bytes()[:-1])
    found = []
    with pytest.raises(CorruptShard, match=f"at byte {offsets[2]}: file ends inside a record"):
        found.extend(SHARD_FORMATS["tfrecord"].read_shard(path))
    assert found == records(2)


# Parquet ---------------------------------------------------------------------------------------


@pytest.fixture
def parquet_shard(tmp_path):
    """The path of a Parquet shard of six records."""
    return write(tmp_path, "parquet", records(6))[0]


def columns(path, feature):
    """What the footer says of a feature's column in each row group."""
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
    found = columns(parquet_shard, feature)
    assert len(found) == 6
    for column in found:
        assert not column.has_dictionary_page
        assert not column.is_stats_set
        assert column.compression == "UNCOMPRESSED"


def test_labels_have_a_dictionary_and_statistics(parquet_shard):
    for column in columns(parquet_shard, "clip/label/text"):
        assert column.has_dictionary_page
        assert column.is_stats_set


def test_the_columns_are_those_of_the_schema(parquet_shard):
    types = {"text": pa.string(), "bytes": pa.binary(), "int64": pa.int64(), "float": pa.float32()}
    found = pq.read_schema(parquet_shard)
    assert found.names == [feature.column for feature in FEATURES.values()]
    for column, feature in zip(found, FEATURES.values()):
        listed = feature.where == "feature_list"
        assert (column.type.value_type if listed else column.type) == types[feature.type]
        assert column.nullable == (not feature.required)
        assert column.metadata[b"feature"].decode() == feature.name


def test_duckdb_reads_parquet(parquet_shard):
    asked = "example_id, clip_label_text, len(image_encoded), image_encoded[2], image_timestamp"
    assert duckdb.sql(f"SELECT {asked} FROM '{parquet_shard}'").fetchall() == [
        (
            one["example/id"],
            one.get("clip/label/text"),
            len(one),
            one["image/encoded"][1],
            one["image/timestamp"],
        )
        for one in records(6)
    ]


def test_a_table_with_other_columns_is_no_shard(tmp_path):
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table({"example_id": ["a"]}), path)
    with pytest.raises(CorruptShard, match="other columns than schemas/record.json"):
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
