"""TFRecord, uncompressed, without TensorFlow.

Each record: uint64 length, masked CRC-32C of it, data, masked CRC-32C of it, little endian.
Source: tensorflow/core/lib/io/record_writer.h. Uncompressed because Model Garden reads no other.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c
import numpy as np

from kinetics_prep.errors import CorruptShard
from kinetics_prep.record import Record

SUFFIX = "tfrecord"

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LARGEST_BYTES = 4 << 30
_MASK_DELTA = 0xA282EAD8


def _masked_crc(data: bytes | np.ndarray) -> int:
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


def read_at(path: Path, offset: int, buffer: np.ndarray) -> memoryview:
    """The one raw record that begins at `offset` and fills `buffer`, header and footer included.

    Args:
      buffer: uint8 [bytes], which is overwritten; what is returned is a part of it. To read many records into one
        is faster than into fresh memory each, and to check an array's sum keeps no other thread waiting.

    Raises:
      CorruptShard: if the file cannot be read, or there is no such record.
    """
    where, view = f"{path} at byte {offset}", memoryview(buffer)
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            filled = 0
            while filled < len(view) and (count := file.readinto(view[filled:])):
                filled += count
    except OSError as error:
        raise CorruptShard(f"{where}: cannot be read: {error.strerror}") from None
    if filled < max(len(view), _HEADER.size + _FOOTER.size):
        raise CorruptShard(f"{where}: file ends inside a record of {len(view)} bytes")
    length, length_crc = _HEADER.unpack_from(view)
    if length_crc != _masked_crc(bytes(view[:8])) or length != len(view) - _HEADER.size - _FOOTER.size:
        raise CorruptShard(f"{where}: no record of {len(view)} bytes begins here")
    if _FOOTER.unpack_from(view, _HEADER.size + length)[0] != _masked_crc(buffer[_HEADER.size : -_FOOTER.size]):
        raise CorruptShard(f"{where}: data's checksum is wrong")
    return view[_HEADER.size : -_FOOTER.size]


def write_shard(path: Path, records: Iterable[Record]) -> list[int]:
    """Writes records as SequenceExamples; returns the byte at which each begins."""
    return write_bytes(path, (record.to_bytes() for record in records))


def read_shard(path: Path) -> Iterator[Record]:
    """Reads records back, checking every checksum.

    Raises:
      CorruptShard: where the file does not read back as written.
    """
    return map(Record.from_bytes, read_bytes(path))
