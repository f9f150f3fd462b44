"""TFRecord, uncompressed, without TensorFlow.

Each record: uint64 length, masked CRC-32C of it, data, masked CRC-32C of it, little endian.
Source: tensorflow/core/lib/io/record_writer.h. Uncompressed because Model Garden reads no other.
"""

import contextlib
import io
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from kinetics_prep.errors import CorruptShard
from kinetics_prep.records.record import Record

SUFFIX = "tfrecord"

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LARGEST_BYTES = 4 << 30
"""Of a record. A 10 s clip has some megabytes."""
_MASK_DELTA = 0xA282EAD8
_PIECE_BYTES = 1 << 19
"""Read and added to the checksum at a time: few enough to be still in the processor's cache."""


def _masked_crc(data: bytes) -> int:
    return _masked(google_crc32c.value(data))


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def pack(data: bytes) -> bytes:
    """`data` between its TFRecord header and footer."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _FOOTER.pack(_masked_crc(length)), data, _FOOTER.pack(_masked_crc(data))))


def write_bytes(path: Path, payloads: Iterable[bytes]) -> list[int]:
    """Writes raw records; returns the byte at which each begins."""
    offsets = []
    with open(path, "wb") as file:
        for payload in payloads:
            offsets.append(file.tell())
            file.write(pack(payload))
    return offsets


def read_bytes(path: Path) -> Iterator[bytes]:
    """Yields raw records.

    Raises:
      CorruptShard: if a checksum is wrong, a record is over 4 GiB, or the file ends inside a record.
    """
    with open(path, "rb") as file:
        while (data := _read_next(file, path)) is not None:
            yield data


def read_bytes_at(path: Path, offsets: Iterable[int]) -> Iterator[bytes]:
    """Yields the raw records that begin at some bytes.

    Raises:
      CorruptShard: as `read_bytes` does, and if there is no record.
    """
    with open(path, "rb") as file:
        for offset in offsets:
            file.seek(offset)
            data = _read_next(file, path)
            if data is None:
                raise CorruptShard(f"{path} at byte {offset}: file ends before this record")
            yield data


def _read_next(file: BinaryIO, path: Path) -> bytes | None:
    """The raw record that begins where the file is; None at its end."""
    header = file.read(_HEADER.size)
    if not header:
        return None
    where = f"{path} at byte {file.tell() - len(header)}"
    if len(header) < _HEADER.size:
        raise CorruptShard(f"{where}: file ends inside a record's header")
    length, length_crc = _HEADER.unpack(header)
    if length_crc != _masked_crc(header[:8]):
        raise CorruptShard(f"{where}: not a TFRecord, or damaged (length's checksum is wrong)")
    if length > _LARGEST_BYTES:
        raise CorruptShard(f"{where}: a record of {length} bytes, expected {_LARGEST_BYTES} at most")
    size = length + _FOOTER.size
    # read() allocates memory before it reads: so the length is first compared with the file.
    body = file.read(size) if size <= os.fstat(file.fileno()).st_size - file.tell() else b""
    if len(body) < size:
        raise CorruptShard(f"{where}: file ends inside a record of {length} bytes")
    data = body[:length]
    if _FOOTER.unpack(body[length:])[0] != _masked_crc(data):
        raise CorruptShard(f"{where}: data's checksum is wrong")
    return data


def read_at(path: Path, offset: int, buffer: np.ndarray, verify: bool = True) -> memoryview:
    """Reads the raw record that begins at `offset`.

    Args:
      buffer: uint8 [bytes], as long as the record with its header and footer; overwritten. Reuse it for many
        records: fresh memory costs time.
      verify: whether to check the data's checksum. The length's checksum is always checked.

    Returns:
      The record's data, a part of `buffer`.

    Raises:
      CorruptShard: if the file cannot be read, or no record of this length begins at `offset`.
    """
    where, view, end = f"{path} at byte {offset}", buffer.data, len(buffer) - _FOOTER.size
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            if _fill(file, view[: _HEADER.size]) != _HEADER.size:
                raise CorruptShard(f"{where}: file ends inside a record's header")
            length, length_crc = _HEADER.unpack_from(view)
            if length_crc != _masked_crc(view[:8].tobytes()) or length != end - _HEADER.size:
                raise CorruptShard(f"{where}: no record of {len(view)} bytes begins here")
            crc = 0
            for begin in range(_HEADER.size, end, _PIECE_BYTES):
                piece = slice(begin, min(begin + _PIECE_BYTES, end))
                if _fill(file, view[piece]) != piece.stop - begin:
                    raise CorruptShard(f"{where}: file ends inside a record of {length} bytes")
                if verify:
                    crc = google_crc32c.extend(crc, buffer[piece])  # of an array, so that other threads can run
            whole = _fill(file, view[end:]) == _FOOTER.size
            if not whole or (verify and _FOOTER.unpack_from(view, end)[0] != _masked(crc)):
                raise CorruptShard(f"{where}: data's checksum is wrong")
    except OSError as error:
        raise CorruptShard(f"{where}: cannot be read: {error.strerror}") from None
    return view[_HEADER.size : end]


def _fill(file: io.RawIOBase, view: memoryview) -> int:
    """Fills a view from a file; returns how many bytes there were, fewer if the file ends."""
    filled = 0
    while filled < len(view) and (count := file.readinto(view[filled:])):
        filled += count
    return filled


def write_shard(path: Path, records: Iterable[Record]) -> list[int]:
    """Writes records as SequenceExamples; returns the byte at which each begins."""
    return write_bytes(path, (record.to_bytes() for record in records))


def read_shard(path: Path) -> Iterator[Record]:
    """Yields the records of a file and checks every checksum.

    Raises:
      CorruptShard: if the file does not read back as written.
    """
    return map(Record.from_bytes, read_bytes(path))


def read_sound(path: Path, places: Sequence[int]) -> Iterator[Record]:
    """Yields the records of a damaged file that are sound by their own checksums.

    Args:
      places: the bytes at which records begin; empty if unknown: then each record says where the next begins, up to the
        first one that does not.
    """
    ends = [*places[1:], path.stat().st_size]
    bounds = zip(places, ends, strict=True) if places else _bounds(path)
    for begin, end in bounds:
        with contextlib.suppress(CorruptShard):
            yield Record.from_bytes(_whole_record(path, begin, end))


def _bounds(path: Path) -> Iterator[tuple[int, int]]:
    """The bytes at which each record begins and ends, as the headers say that have the right checksum."""
    begin, file_bytes = 0, path.stat().st_size
    with open(path, "rb") as file:
        while True:
            file.seek(begin)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return
            length, length_crc = _HEADER.unpack(header)
            end = begin + _HEADER.size + length + _FOOTER.size
            if length_crc != _masked_crc(header[:8]) or end > file_bytes:
                return
            yield begin, end
            begin = end


def _whole_record(path: Path, begin: int, end: int) -> bytes:
    """The data between two bytes of a file.

    Raises:
      CorruptShard: if they are not those of one sound record.
    """
    size, file_bytes = end - begin, path.stat().st_size
    if not (begin >= 0 and _HEADER.size + _FOOTER.size <= size <= _LARGEST_BYTES and end <= file_bytes):
        raise CorruptShard(f"{path} holds no record from byte {begin} to byte {end}")
    return bytes(read_at(path, begin, np.empty(size, np.uint8)))


def read_places(path: Path, places: Iterable[int]) -> Iterator[Record]:
    """Yields the records that begin at some bytes of a file, and checks their checksums.

    Raises:
      CorruptShard: if there are none, or they do not read back as written.
    """
    return map(Record.from_bytes, read_bytes_at(path, places))
