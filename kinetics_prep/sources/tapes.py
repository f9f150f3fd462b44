"""Bytes that go by once, forwards: those of a file, of a gzip stream, and of a stretch of either.

A tape never goes back, so that archives within archives of any size pass in constant memory.
"""

import dataclasses
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

GZIP_MAGIC = b"\x1f\x8b"

_BLOCK_BYTES = 1 << 20
_STREAM_BYTES = 1 << 16  # charged for each gzip stream: there may be millions of empty ones


class Broken(Exception):
    """From here on the archive cannot be read."""


@dataclasses.dataclass
class Budget:
    """How many bytes may come out of an archive and of all that is packed in it: a bomb is not unpacked to its end."""

    left_bytes: int

    def spend(self, spent_bytes: int) -> None:
        """Takes so many bytes from what is left.

        Raises:
          Broken: if less is left.
        """
        self.left_bytes -= spent_bytes
        if self.left_bytes < 0:
            raise Broken("it unpacks to over a hundred times its size")


class Tape(Protocol):
    """Bytes that go by."""

    @property
    def position(self) -> int:
        """The bytes that have gone by."""

    def peek(self, wanted_bytes: int) -> bytes:
        """The next bytes, without going on; fewer only at the end."""

    def read(self, wanted_bytes: int) -> bytes:
        """The next bytes; fewer only at the end."""

    def skip(self, skipped_bytes: int) -> int | None:
        """Goes on by so many bytes. Returns their CRC-32, or None if they were not read.

        Raises:
          Broken: if the tape ends before.
        """


class FileTape:
    """The bytes of a file. Skipped bytes are not read."""

    def __init__(self, file: BinaryIO, size_bytes: int):
        self._file, self._size_bytes, self.position = file, size_bytes, 0

    def peek(self, wanted_bytes: int) -> bytes:
        """The next bytes, without going on."""
        self._file.seek(self.position)
        return self._file.read(wanted_bytes)

    def read(self, wanted_bytes: int) -> bytes:
        """The next bytes."""
        data = self.peek(wanted_bytes)
        self.position += len(data)
        return data

    def skip(self, skipped_bytes: int) -> None:
        """Goes on by so many bytes, unread.

        Raises:
          Broken: if the file ends before.
        """
        if self.position + skipped_bytes > self._size_bytes:
            raise Broken(f"it breaks off after {self._size_bytes} bytes")
        self.position += skipped_bytes


class GzipTape:
    """The bytes that come out of a gzip stream on another tape."""

    def __init__(self, packed: Tape, budget: Budget):
        self._blocks, self.position = _inflated(packed, budget), 0
        self._buffer = memoryview(b"")  # a view: there may be a thousand small members in a block
        self._broken: Broken | None = None

    def peek(self, wanted_bytes: int) -> bytes:
        """The next bytes, without going on."""
        while len(self._buffer) < wanted_bytes and (block := self._next_block()):
            self._buffer = memoryview(bytes(self._buffer) + block)
        return bytes(self._buffer[:wanted_bytes])

    def read(self, wanted_bytes: int) -> bytes:
        """The next bytes."""
        data = self.peek(wanted_bytes)
        self._buffer = self._buffer[len(data) :]
        self.position += len(data)
        return data

    def skip(self, skipped_bytes: int) -> int:
        """Goes on by so many bytes; returns their CRC-32.

        Raises:
          Broken: if the stream ends before.
        """
        crc, left_bytes = 0, skipped_bytes
        while left_bytes:
            block = self._buffer or memoryview(self._next_block())
            if not block:
                raise Broken(f"it breaks off after {self.position} bytes")
            skipped, self._buffer = block[:left_bytes], block[left_bytes:]
            crc = zlib.crc32(skipped, crc)
            self.position += len(skipped)
            left_bytes -= len(skipped)
        return crc

    def _next_block(self) -> bytes:
        if self._broken:  # a generator that has raised would seem to be at its end
            raise self._broken
        try:
            return next(self._blocks, b"")
        except Broken as broken:
            self._broken = broken
            raise


class TapePart:
    """A stretch of another tape. Its positions are those of the whole tape."""

    def __init__(self, tape: Tape, size_bytes: int):
        self._tape, self._end = tape, tape.position + size_bytes

    @property
    def position(self) -> int:
        """The position on the whole tape."""
        return self._tape.position

    def peek(self, wanted_bytes: int) -> bytes:
        """The next bytes, without going on."""
        return self._tape.peek(min(wanted_bytes, self._end - self.position))

    def read(self, wanted_bytes: int) -> bytes:
        """The next bytes."""
        return self._tape.read(min(wanted_bytes, self._end - self.position))

    def skip(self, skipped_bytes: int) -> int | None:
        """Goes on by so many bytes; returns their CRC-32 if they were read.

        Raises:
          Broken: if the stretch ends before.
        """
        if self.position + skipped_bytes > self._end:
            raise Broken("it breaks off within the archive that it is packed in")
        return self._tape.skip(skipped_bytes)


def _inflated(packed: Tape, budget: Budget) -> Iterator[bytes]:
    data = packed.read(_BLOCK_BYTES)
    while data[:2] == GZIP_MAGIC:  # several streams, one after the other, are read as one
        budget.spend(_STREAM_BYTES)
        unpacker = zlib.decompressobj(wbits=31)
        while not unpacker.eof:
            data = data or packed.read(_BLOCK_BYTES)
            try:
                block = unpacker.decompress(data, _BLOCK_BYTES)
            except zlib.error as error:
                raise _damage(error) from None
            budget.spend(len(block))
            if block:
                yield block
            elif not data and not unpacker.eof:
                raise Broken("its gzip stream breaks off")
            data = unpacker.unconsumed_tail
        data = unpacker.unused_data.lstrip(b"\0")
        while len(data) < len(GZIP_MAGIC) and (more := packed.read(_BLOCK_BYTES)):
            data = (data + more).lstrip(b"\0")


def _damage(error: zlib.error) -> Broken:
    # A wrong checksum is noticed at the end of the stream; where the damage is remains unknown.
    where = "somewhere before" if "incorrect" in str(error) and "check" in str(error) else "there"
    return Broken(f"its gzip stream is damaged {where}: {error}")
