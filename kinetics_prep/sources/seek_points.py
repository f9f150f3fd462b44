"""Reading a gzip stream from the middle.

Inflating can begin at a point where the position in the packed stream, to the bit, and the 32 KiB that came out before
it are known. indexed_gzip collects such points while it reads the stream once, and inflates from one point to the next.
It gets each point alone, as an index of 33 KB: so the points of an archive need not be in memory, and threads share
nothing.
"""

import bisect
import contextlib
import dataclasses
import io
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Protocol

import indexed_gzip

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

WINDOW_BYTES = 1 << 15
SPACING_BYTES = 8 << 20
"""Between two points. For 1.5 GB of videos the points take 6 MB, and a clip costs 4 MB inflated in vain on average."""

_MOST_POINTS = 1 << 12  # points must not fill the memory if a stream unpacks to a thousand times its size
_LONGEST_GAP_BYTES = 1 << 28
_HEAD = struct.Struct("<5sBBQQIII")
_POINT = struct.Struct("<QQBB")
_MAGIC, _VERSION = b"GZIDX", 1


class ByteSource(Protocol):
    """Bytes that can be read at any offset."""

    def read(self, offset: int, wanted_bytes: int) -> bytes:
        """The bytes from `offset` on; fewer only at the end."""

    def blocks(self, offset: int, wanted_bytes: int) -> Iterator[bytes | memoryview]:
        """The same, in blocks."""


@dataclasses.dataclass(frozen=True)
class FileBytes:
    """A file as a `ByteSource`."""

    file: BinaryIO

    def read(self, offset: int, wanted_bytes: int) -> bytes:
        """The bytes from `offset` on; fewer only at the end."""
        self.file.seek(offset)
        return self.file.read(wanted_bytes)

    def blocks(self, offset: int, wanted_bytes: int) -> Iterator[bytes]:
        """The same, in blocks of 1 MiB."""
        end = offset + wanted_bytes
        while offset < end and (block := self.read(offset, min(1 << 20, end - offset))):
            offset += len(block)
            yield block


class Slice(io.RawIOBase):
    """A stretch of a source, as a file object."""

    def __init__(self, source: ByteSource, offset: int, size_bytes: int):
        self._source, self._offset, self._size_bytes, self._at = source, offset, size_bytes, 0
        # In a stream within a stream each piece costs half a spacing more, so pieces are large.
        self.piece_bytes = SPACING_BYTES if isinstance(source, Gzip) else 1 << 20

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position in the stretch."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a position in the stretch; one before its beginning counts as its beginning."""
        self._at = max(0, offset + (0, self._at, self._size_bytes)[whence])
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fills a buffer, or less of it at the end of the stretch."""
        view = memoryview(buffer).cast("B")
        wanted_bytes = max(0, min(len(view), self._size_bytes - self._at))
        data = self._source.read(self._offset + self._at, wanted_bytes) if wanted_bytes else b""
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


@dataclasses.dataclass(frozen=True)
class Point:
    """A place at which inflating can begin."""

    unpacked: int
    """Offset in the unpacked bytes."""
    packed: int
    """Offset in the packed bytes."""
    bits: int
    """How many bits of the byte before `packed` belong to what follows."""
    has_window: bool
    """Whether the 32 KiB before it are needed: not where a gzip stream begins."""


_BEGINNING = Point(0, 0, 0, False)


def find_points(packed: Slice, unpacked_bytes: int) -> tuple[list[Point], list[bytes]]:
    """Reads a gzip stream as far as `unpacked_bytes`.

    Returns:
      Its points, and the windows (32 KiB each) of those that have one; of a damaged stream, those before the damage.
    """
    if unpacked_bytes <= SPACING_BYTES:
        return [_BEGINNING], []
    spacing_bytes = max(SPACING_BYTES, unpacked_bytes // _MOST_POINTS)
    exported = io.BytesIO()
    with indexed_gzip.IndexedGzipFile(
        fileobj=packed,
        spacing=spacing_bytes,
        readbuf_size=packed.piece_bytes,
        buffer_size=WINDOW_BYTES,
        skip_crc_check=True,
    ) as file:
        with contextlib.suppress(OSError, ValueError):  # the damage was noted when the archive was scanned
            file.seek(unpacked_bytes)
        file.export_index(fileobj=exported)
    return _parsed(exported.getbuffer(), unpacked_bytes, spacing_bytes // 2)


def _parsed(exported: memoryview, unpacked_bytes: int, least_bytes: int) -> tuple[list[Point], list[bytes]]:
    """Points and windows from an index that indexed_gzip wrote, without points closer than `least_bytes`."""
    magic, version, _, _, _, _, window_bytes, count = _HEAD.unpack_from(exported)
    if (magic, version, window_bytes) != (_MAGIC, _VERSION, WINDOW_BYTES):
        raise RuntimeError(f"indexed_gzip {indexed_gzip.__version__} writes another kind of index")
    points, windows, at = [_BEGINNING], [], _HEAD.size + count * _POINT.size
    for k in range(count):
        packed, unpacked, bits, has_window = _POINT.unpack_from(exported, _HEAD.size + k * _POINT.size)
        # indexed_gzip adds a point wherever a stream begins, however close to the last.
        if points[-1].unpacked + least_bytes <= unpacked < unpacked_bytes:
            points.append(Point(unpacked, packed, bits, bool(has_window)))
            windows += [bytes(exported[at : at + WINDOW_BYTES])] if has_window else []
        at += WINDOW_BYTES if has_window else 0
    return points, windows


class Gzip:
    """A gzip stream that can be read at any offset. A `ByteSource`; not for several threads at once.

    Args:
      packed: the stream.
      packed_bytes: its length.
      points: where inflating can begin; the first at its beginning.
      window: window(k) is the 32 KiB before point k, if that point has a window.
    """

    def __init__(self, packed: Slice, packed_bytes: int, points: list[Point], window: Callable[[int], bytes]):
        self._packed, self._packed_bytes, self._points, self._window = packed, packed_bytes, points, window

    def read(self, offset: int, wanted_bytes: int) -> bytes:
        """The unpacked bytes from `offset` on; fewer only at the end."""
        return b"".join(self.blocks(offset, wanted_bytes))

    def blocks(self, offset: int, wanted_bytes: int) -> Iterator[memoryview]:
        """The same, in blocks that end where points are.

        Raises:
          OSError, ValueError: if it is damaged there.
        """
        end = offset + wanted_bytes
        number = self._point_before(offset)
        while offset < end:
            begins = self._points[number].unpacked
            next_point = self._points[number + 1].unpacked if number + 1 < len(self._points) else end
            stops = min(end, next_point)
            if stops - begins > _LONGEST_GAP_BYTES and number + 1 < len(self._points):
                raise ValueError(f"there is no point to begin at for {stops - begins} bytes")
            block = self._from_point(number, min(stops, begins + _LONGEST_GAP_BYTES) - begins)
            yield block[offset - begins :]
            if begins + len(block) < stops:
                return
            offset, number = stops, number + 1

    def _point_before(self, offset: int) -> int:
        return bisect.bisect_right(self._points, offset, key=lambda point: point.unpacked) - 1

    def _from_point(self, number: int, wanted_bytes: int) -> memoryview:
        # Always from the point itself: indexed_gzip may search forever for a place in between.
        point, buffer = self._points[number], bytearray(wanted_bytes)
        with indexed_gzip.IndexedGzipFile(
            fileobj=self._packed, auto_build=False, readbuf_size=self._packed.piece_bytes, buffer_size=WINDOW_BYTES
        ) as file:
            file.import_index(fileobj=io.BytesIO(self._index_of(number)))
            file.seek(point.unpacked)
            return memoryview(buffer)[: file.readinto(buffer)]

    def _index_of(self, number: int) -> bytes:
        """An index in the format of indexed_gzip that holds one point."""
        point = self._points[number]
        # The first point of an index must be the stream's beginning.
        beginning = [] if number == 0 else [_POINT.pack(0, 0, 0, 0)]
        here = _POINT.pack(point.packed, point.unpacked, point.bits, point.has_window)
        count = len(beginning) + 1
        head = _HEAD.pack(_MAGIC, _VERSION, 0, self._packed_bytes, 0, WINDOW_BYTES, WINDOW_BYTES, count)
        return b"".join([head, *beginning, here, self._window(number) if point.has_window else b""])
