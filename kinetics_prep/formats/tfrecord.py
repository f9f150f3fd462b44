"""TFRecord, uncompressed, without TensorFlow.

Each record: uint64 length, masked CRC-32C of it, data, masked CRC-32C of it, little endian.
Source: tensorflow/core/lib/io/record_writer.h. Uncompressed because Model Garden reads no other.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c

from kinetics_prep.errors import CorruptShard
from kinetics_prep.record import Record

SUFFIX = "tfrecord"

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LARGEST_BYTES = 4 << 30
_MASK_DELTA = 0xA282EAD8


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """`data` between its TFRecord header and footer."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _FOOTER.pack(_masked_crc(length)), data, _FOOTER.pack(_masked_crc(data))))


def write_bytes(path: Path, payloads: Iterable[bytes]) -> list[int]:
    """Writes raw records; returns the byte at which each begins."""
    offsets = []
    with open(path, "wb") as file:
        for payload in payloads:
            offsets.append(file.tell())
            file.write(frame(payload))
    return offsets


def read_bytes(path: Path) -> Iterator[bytes]:
    """Reads raw records.

    Raises:
      CorruptShard: where a checksum is wrong or the file ends inside a record.
    """
    with open(path, "rb") as file:
        while header := file.read(_HEADER.size):
            where = f"{path} at byte {file.tell() - len(header)}"
            if len(header) < _HEADER.size:
                raise CorruptShard(f"{where}: file ends inside a record's header")
            length, length_crc = _HEADER.unpack(header)
            if length_crc != _masked_crc(header[:8]) or length > _LARGEST_BYTES:
                raise CorruptShard(f"{where}: not a TFRecord, or damaged (length's checksum is wrong)")
            body = file.read(length + _FOOTER.size)
            if len(body) < length + _FOOTER.size:
                raise CorruptShard(f"{where}: file ends inside a record of {length} bytes")
            data = body[:length]
            if _FOOTER.unpack(body[length:])[0] != _masked_crc(data):
                raise CorruptShard(f"{where}: data's checksum is wrong")
            yield data


def write_shard(path: Path, records: Iterable[Record]) -> list[int]:
    """Writes records as SequenceExamples; returns the byte at which each begins."""
    return write_bytes(path, (record.to_bytes() for record in records))


def read_shard(path: Path) -> Iterator[Record]:
    """Reads records back, checking every checksum.

    Raises:
      CorruptShard: where the file does not read back as written.
    """
    return map(Record.from_bytes, read_bytes(path))
