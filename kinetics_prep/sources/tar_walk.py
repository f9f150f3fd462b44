"""Going through a tar archive once, forwards: what is in it, and at which byte.

Tar's own reader is not used for that: it believes a header that says how long a name is, and it keeps every member in
memory. Names, links and devices are only looked at, never made; nothing here writes.
"""

import dataclasses
import tarfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

GZIP_MAGIC = b"\x1f\x8b"

_TAR_BLOCK_BYTES = 512
_BLOCK_BYTES = 1 << 20
_STREAM_BYTES = 1 << 16  # what a gzip stream costs at least: there may be millions of empty ones
_LONGEST_NAME_BYTES = 1 << 20
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)


class Broken(Exception):
    """From here on the archive cannot be read."""


class NoTar(Exception):
    """It does not begin as a tar archive does."""


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
        self._file, self._size_bytes, self.position = file, size_bytes, 0

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

    def __init__(self, packed, budget: Budget):
        self._blocks, self.position = _inflated(packed, budget), 0
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


def _inflated(packed, budget: Budget) -> Iterator[bytes]:
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


def _unpacked(unpacker, data: bytes) -> bytes:
    try:
        return unpacker.decompress(data, _BLOCK_BYTES)
    except zlib.error as error:
        # That a checksum is wrong is known at the end of the stream, and says nothing about where.
        where = "somewhere before" if "incorrect" in str(error) and "check" in str(error) else "there"
        raise Broken(f"its gzip stream is damaged {where}: {error}") from None


class Part:
    """A stretch of another tape, with that one's positions."""

    def __init__(self, tape, size_bytes: int):
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


@dataclasses.dataclass(frozen=True)
class Member:
    """A member of a tar archive whose data come next on the tape."""

    path: str
    """Bytes that are no UTF-8 stand in it as surrogates, as in Python's own paths."""
    size_bytes: int
    is_plain: bool
    """Whether it is a file that stands there byte for byte: no folder, link, device, or sparse file."""
    is_folder: bool = False


def members(tape) -> Iterator[Member]:
    """Each member of the archive on a tape; who takes one may read it, and the rest is passed over.

    What was appended behind the archive's end mark is read too, as when somebody joined two.

    Raises:
      NoTar: if it does not begin with a header.
      Broken: where it cannot be read on, at the end too if that bears no mark.
    """
    said, ended, begins = {}, False, tape.position
    while True:
        at = tape.position
        header = tape.read(_TAR_BLOCK_BYTES)
        if len(header) == _TAR_BLOCK_BYTES and not any(header):
            ended = True
            continue
        info = _header(header)
        if info is None:
            if ended:  # the rest is padding, or nothing of ours
                return
            if at == begins:
                raise NoTar(f"it begins with {header[:16]!r}" if header else "it is empty")
            raise Broken(f"at byte {at} it breaks off" if len(header) < _TAR_BLOCK_BYTES else f"at byte {at} is damage")
        ended = False
        if info.type in (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            _listen(info, _short(tape, info.size), said)
            continue
        member = _member(tape, header, info, said)
        end = tape.position + -(-member.size_bytes // _TAR_BLOCK_BYTES) * _TAR_BLOCK_BYTES
        yield member
        tape.pass_over(end - tape.position)
        said = {key: value for key, value in said.items() if key[0] == "g"}


def _header(header: bytes) -> tarfile.TarInfo | None:
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return None
    return info if info.size >= 0 else None


def _short(tape, size_bytes: int) -> bytes:
    """The data of a header that speaks of the next member."""
    if size_bytes > _LONGEST_NAME_BYTES:
        raise Broken(f"at byte {tape.position} is a header of {size_bytes} bytes")
    data = tape.read(size_bytes)
    tape.pass_over(-size_bytes % _TAR_BLOCK_BYTES)
    return data


def _listen(info: tarfile.TarInfo, data: bytes, said: dict) -> None:
    """Notes what a header says: under ("g", word) of all members to come, under ("x", word) of the next one."""
    if info.type == tarfile.GNUTYPE_LONGNAME:
        said["x", "path"] = data.rstrip(b"\0")
    elif info.type != tarfile.GNUTYPE_LONGLINK:
        scope = "g" if info.type == tarfile.XGLTYPE else "x"
        said.update({(scope, word): value for word, value in _pax_records(data)})


def _pax_records(data: bytes) -> Iterator[tuple[str, bytes]]:
    while data.strip(b"\0"):
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or not len(length) + 3 <= int(length[:8]) <= len(data):
            raise Broken("a header is damaged")
        record, data = rest[: int(length) - len(length) - 2], data[int(length) :]
        word, _, value = record.partition(b"=")
        yield word.decode("utf-8", "replace"), value


def _member(tape, header: bytes, info: tarfile.TarInfo, said: dict) -> Member:
    words = {word: value for scope in "gx" for (where, word), value in said.items() if where == scope}
    path = words["path"].decode("utf-8", "surrogateescape") if "path" in words else info.name
    sparse = info.type == tarfile.GNUTYPE_SPARSE or any(word.startswith("GNU.sparse.") for word in words)
    if info.type == tarfile.GNUTYPE_SPARSE:
        extended = header[482]
        while extended:  # more of the map of its holes
            more = tape.read(_TAR_BLOCK_BYTES)
            extended = len(more) == _TAR_BLOCK_BYTES and more[504]
    has_data = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
    size = words.get("size", b"%d" % info.size)
    if not size.isdigit() or len(size) > 19:
        raise Broken("a header is damaged")
    is_plain = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) and not sparse
    return Member(path.replace("\0", "?"), int(size) if has_data else 0, is_plain, info.isdir())
