"""Tapes: an archive's bytes read once, forwards, from a file, out of a gzip stream, or a stretch of another tape."""

import dataclasses
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

GZIP_MAGIC = b"\x1f\x8b"

_BLOCK_BYTES = 1 << 20
_STREAM_BYTES = 1 << 16  # what a gzip stream costs at least: there may be millions of empty ones


class Broken(Exception):
    """The archive cannot be read any further."""


class Tape(Protocol):
    """Bytes that are read once, forwards."""

    @property
    def position(self) -> int:
        """Bytes that have been read or passed over."""

    def read(self, wanted_bytes: int) -> bytes:
        """The next bytes; fewer at the end."""

    def peek(self, wanted_bytes: int) -> bytes:
        """The same bytes, without going on."""

    def pass_over(self, passed_bytes: int) -> int | None:
        """Goes on by so many bytes. Returns their CRC-32 if they were read on the way.

        Raises:
          Broken: if there are fewer.
        """


@dataclasses.dataclass
class Budget:
    """How much may come out of an archive, with all that is packed in it: a bomb is not unpacked to its end."""

    left_bytes: int

    def spend(self, spent_bytes: int) -> None:
        self.left_bytes -= spent_bytes
        if self.left_bytes < 0:
            raise Broken("it unpacks to over a hundred times its size")


class FileTape:
    """A file that is gone through forwards; what is passed over is not read."""

    def __init__(self, file: BinaryIO, size_bytes: int):
        self._file, self._size_bytes = file, size_bytes
        self.position = 0

    def read(self, wanted_bytes: int) -> bytes:
        self._file.seek(self.position)
        data = self._file.read(wanted_bytes)
        self.position += len(data)
        return data

    def peek(self, wanted_bytes: int) -> bytes:
        self._file.seek(self.position)
        return self._file.read(wanted_bytes)

    def pass_over(self, passed_bytes: int) -> int | None:
        """Goes on by so many bytes. Returns their CRC-32 if they went by."""
        if self.position + passed_bytes > self._size_bytes:
            raise Broken(f"it breaks off after {self._size_bytes} bytes")
        self.position += passed_bytes
        return None


class GzipTape:
    """What comes out of a gzip stream on another tape."""

    def __init__(self, packed: Tape, budget: Budget):
        self._blocks = _inflated(packed, budget)
        self.position = 0
        self._buffer = memoryview(b"")  # a view: there may be a thousand small members in a block
        self._broken: Broken | None = None

    def peek(self, wanted_bytes: int) -> bytes:
        while len(self._buffer) < wanted_bytes and (block := self._next()):
            self._buffer = memoryview(bytes(self._buffer) + block)
        return bytes(self._buffer[:wanted_bytes])

    def read(self, wanted_bytes: int) -> bytes:
        data = self.peek(wanted_bytes)
        self._buffer = self._buffer[len(data) :]
        self.position += len(data)
        return data

    def pass_over(self, passed_bytes: int) -> int:
        crc, left_bytes = 0, passed_bytes
        while left_bytes:
            block = self._buffer or memoryview(self._next())
            if not block:
                raise Broken(f"it breaks off after {self.position} bytes")
            taken, self._buffer = block[:left_bytes], block[left_bytes:]
            crc = zlib.crc32(taken, crc)
            self.position += len(taken)
            left_bytes -= len(taken)
        return crc

    def _next(self) -> bytes:
        if self._broken:  # a generator that has raised would look like one that is through
            raise self._broken
        try:
            return next(self._blocks, b"")
        except Broken as broken:
            self._broken = broken
            raise


def _inflated(packed: Tape, budget: Budget) -> Iterator[bytes]:
    data = packed.read(_BLOCK_BYTES)
    while data[:2] == GZIP_MAGIC:  # several streams one after the other make one
        budget.spend(_STREAM_BYTES)
        unpacker = zlib.decompressobj(wbits=31)
        while not unpacker.eof:
            data = data or packed.read(_BLOCK_BYTES)
            block = _unpacked(unpacker, data)
            budget.spend(len(block))
            if block:
                yield block
            elif not data and not unpacker.eof:
                raise Broken("its gzip stream breaks off")
            data = unpacker.unconsumed_tail
        data = unpacker.unused_data.lstrip(b"\0")
        while len(data) < len(GZIP_MAGIC) and (more := packed.read(_BLOCK_BYTES)):
            data = (data + more).lstrip(b"\0")


def _unpacked(unpacker: "zlib._Decompress", data: bytes) -> bytes:
    try:
        return unpacker.decompress(data, _BLOCK_BYTES)
    except zlib.error as error:
        # That a checksum is wrong is known at the end of the stream, and says nothing about where.
        where = "somewhere before" if "incorrect" in str(error) and "check" in str(error) else "there"
        raise Broken(f"its gzip stream is damaged {where}: {error}") from None


class Stretch:
    """A stretch of another tape, with that one's positions."""

    def __init__(self, tape: Tape, size_bytes: int):
        self._tape, self._end = tape, tape.position + size_bytes

    @property
    def position(self) -> int:
        return self._tape.position

    def read(self, wanted_bytes: int) -> bytes:
        return self._tape.read(min(wanted_bytes, self._end - self.position))

    def peek(self, wanted_bytes: int) -> bytes:
        return self._tape.peek(min(wanted_bytes, self._end - self.position))

    def pass_over(self, passed_bytes: int) -> int | None:
        if self.position + passed_bytes > self._end:
            raise Broken("it breaks off within the archive that it is packed in")
        return self._tape.pass_over(passed_bytes)
