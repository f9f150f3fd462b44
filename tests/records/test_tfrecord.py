"""TFRecord, against its specification."""

import os
import random
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from example_records import flipped, records, write

from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import tfrecord


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
    before = []
    with pytest.raises(CorruptShard, match=f"at byte {offsets[2]}: file ends inside a record"):
        before.extend(tfrecord.read_shard(path))
    assert before == records(2)


# A length that is not to be believed


def header(length: int) -> bytes:
    """The header of a record, with the right checksum."""
    packed = struct.pack("<Q", length)
    return packed + struct.pack("<I", masked(packed))


def peak_bytes(path: Path, message: str) -> int:
    """The memory that reading a file takes until it is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(CorruptShard, match=message):
            list(tfrecord.read_bytes(path))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [(4 << 30) + 1, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1])
def test_a_monstrous_length_with_a_right_checksum_is_refused_and_takes_no_memory(tmp_path, length):
    path = tmp_path / "some.tfrecord"
    path.write_bytes(header(length) + bytes(100))
    assert peak_bytes(path, f"at byte 0: a record of {length} bytes, expected {4 << 30} at most") < 1 << 20


def test_a_length_beyond_the_end_of_the_file_takes_no_memory(tmp_path):
    path = tmp_path / "some.tfrecord"
    path.write_bytes(header(4 << 30) + bytes(100))
    assert peak_bytes(path, f"file ends inside a record of {4 << 30} bytes") < 1 << 20


def test_a_record_over_the_limit_is_refused_though_the_file_holds_it(tmp_path, monkeypatch):
    path = tmp_path / "some.tfrecord"
    tfrecord.write_bytes(path, [bytes(1000), bytes(1001)])
    monkeypatch.setattr(tfrecord, "_LARGEST_BYTES", 1000)
    read = tfrecord.read_bytes(path)
    assert next(read) == bytes(1000)
    with pytest.raises(CorruptShard, match="at byte 1016: a record of 1001 bytes, expected 1000 at most"):
        next(read)


def test_the_length_of_a_record_is_checked_before_its_data(tmp_path):
    path = tmp_path / "some.tfrecord"
    tfrecord.write_bytes(path, [b"some data"])
    whole = path.read_bytes()
    for place in range(12):
        path.write_bytes(flipped(whole, place, 3))
        with pytest.raises(CorruptShard, match="length's checksum is wrong"):
            list(tfrecord.read_bytes(path))
    for place in range(12, len(whole)):
        path.write_bytes(flipped(whole, place, 3))
        with pytest.raises(CorruptShard, match="data's checksum is wrong"):
            list(tfrecord.read_bytes(path))


# One record at its place


@pytest.fixture
def three(tmp_path) -> tuple[Path, list[bytes], list[int]]:
    """A file of three records, the last longer than what is read at a time."""
    chance = random.Random(0)
    payloads = [b"first", chance.randbytes(1000), chance.randbytes(3 * (1 << 19) + 17)]
    path = tmp_path / "some.tfrecord"
    return path, payloads, tfrecord.write_bytes(path, payloads)


def buffer_for(payload: bytes) -> np.ndarray:
    return np.full(len(payload) + 16, 0xAA, np.uint8)


def test_a_record_is_read_at_its_offset_into_the_buffer(three):
    path, payloads, offsets = three
    assert offsets == [0, 21, 21 + 1016]
    for payload, offset in zip(payloads, offsets):
        buffer = buffer_for(payload)
        data = tfrecord.read_at(path, offset, buffer)
        assert data == payload and np.shares_memory(np.frombuffer(data, np.uint8), buffer)


@pytest.mark.parametrize("size", [-1, 1])
def test_a_buffer_of_another_length_than_the_record_is_refused(three, size):
    path, payloads, offsets = three
    with pytest.raises(CorruptShard, match=rf"at byte 21: no record of {1016 + size} bytes begins here"):
        tfrecord.read_at(path, offsets[1], np.empty(len(payloads[1]) + 16 + size, np.uint8))


@pytest.mark.parametrize("offset", [1, 20, 22])
def test_a_place_where_no_record_begins_is_refused(three, offset):
    path, payloads, _ = three
    with pytest.raises(CorruptShard, match="no record of 1016 bytes begins here"):
        tfrecord.read_at(path, offset, buffer_for(payloads[1]))


def test_the_end_of_the_file_is_noticed_wherever_it_is(three):
    path, payloads, offsets = three
    os.truncate(path, offsets[2] + 12 + 700_000)
    with pytest.raises(CorruptShard, match="file ends inside a record of"):
        tfrecord.read_at(path, offsets[2], buffer_for(payloads[2]))
    os.truncate(path, offsets[2] + 11)
    with pytest.raises(CorruptShard, match="file ends inside a record's header"):
        tfrecord.read_at(path, offsets[2], buffer_for(payloads[2]))
    os.truncate(path, offsets[2] - 1)
    for verify in (True, False):
        with pytest.raises(CorruptShard, match="data's checksum is wrong"):  # the checksum itself is cut
            tfrecord.read_at(path, offsets[1], buffer_for(payloads[1]), verify)
    with pytest.raises(CorruptShard, match="cannot be read: No such file"):
        tfrecord.read_at(path.with_name("other"), 0, buffer_for(payloads[0]))


@pytest.mark.parametrize("place", [12, 12 + (1 << 19) - 1, 12 + (1 << 19), 12 + 3 * (1 << 19) + 16, -1, -4])
def test_a_flipped_bit_is_noticed_in_every_piece_unless_checks_are_off(three, place):
    path, payloads, offsets = three
    begin, whole = offsets[2], path.read_bytes()
    place = begin + place if place >= 0 else len(whole) + place
    path.write_bytes(flipped(whole, place, 5))
    with pytest.raises(CorruptShard, match="data's checksum is wrong"):
        tfrecord.read_at(path, begin, buffer_for(payloads[2]))
    data = tfrecord.read_at(path, begin, buffer_for(payloads[2]), verify=False)
    assert sum(a != b for a, b in zip(data.tobytes(), payloads[2])) == (place < len(whole) - 4)


def test_the_length_is_checked_though_checks_are_off(three):
    path, payloads, _ = three
    path.write_bytes(flipped(path.read_bytes(), 9, 0))
    with pytest.raises(CorruptShard, match="no record of 21 bytes begins here"):
        tfrecord.read_at(path, 0, buffer_for(payloads[0]), verify=False)
