"""Reading a gzip stream from the middle.

Whoever inflates a stream can note down at some places what he would need to begin there: the position in the packed
stream, to the bit, and the 32 KiB that came out last. indexed_gzip does it while it goes through once; reading is its
work too, from one point to the next. A point is handed to it alone, as an index of its own of 33 KB: so the points of
an archive need not be in memory, and nothing is shared between threads.
"""

import contextlib
import dataclasses
import io
import struct
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import indexed_gzip

WINDOW_BYTES = 1 << 15
SPACING_BYTES = 8 << 20
"""Between two points. Of 1.5 GB of videos they take 6 MB, and 4 MB are inflated in vain for a clip, in the mean."""

_MOST_POINTS = 1 << 12  # a stream that grows a thousandfold must not fill memory with them
_LONGEST_GAP_BYTES = 1 << 28
_HEAD = struct.Struct("<5sBBQQIII")
_POINT = struct.Struct("<QQBB")
_MAGIC, _VERSION = b"GZIDX", 1


class Source(Protocol):
    """Bytes that can be read anywhere."""

    def read(self, offset: int, wanted_bytes: int) -> bytes:
        """What stands there; less of it at the end."""


class Slice(io.RawIOBase):
    """A stretch of a source, as a file."""

    def __init__(self, source: Source, offset: int, size_bytes: int):
        self._source, self._offset, self._size_bytes, self._at = source, offset, size_bytes, 0
        # Of a stream within a stream each piece costs half a spacing more, so they are large.
        self.piece_bytes = SPACING_BYTES if isinstance(source, Gzip) else 1 << 20

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size_bytes)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted_bytes = max(0, min(len(buffer), self._size_bytes - self._at))
        data = self._source.read(self._offset + self._at, wanted_bytes) if wanted_bytes else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@dataclasses.dataclass(frozen=True)
class Point:
    """A place at which inflating can begin."""

    unpacked: int
    """Offset in what comes out, in bytes."""
    packed: int
    bits: int
    """So many of the byte before `packed` belong to what comes."""
    has_window: bool
    """False where a gzip stream begins."""


_BEGINNING = Point(0, 0, 0, False)


def find(packed: Slice, unpacked_bytes: int) -> tuple[list[Point], list[bytes]]:
    """Goes through a gzip stream as far as `unpacked_bytes`.

    Returns its points, and the windows of those that have one; of a stream that breaks off, those as far as it goes.
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
        with contextlib.suppress(OSError, ValueError):  # the break was seen when the tape was gone through
            file.seek(unpacked_bytes)
        file.export_index(fileobj=exported)
    return _parsed(exported.getbuffer(), unpacked_bytes, spacing_bytes // 2)


def _parsed(exported: memoryview, unpacked_bytes: int, least_bytes: int) -> tuple[list[Point], list[bytes]]:
    magic, version, _, _, _, _, window_bytes, count = _HEAD.unpack_from(exported)
    if (magic, version, window_bytes) != (_MAGIC, _VERSION, WINDOW_BYTES):
        raise RuntimeError(f"indexed_gzip {indexed_gzip.__version__} writes another kind of index")
    points, windows, at = [_BEGINNING], [], _HEAD.size + count * _POINT.size
    for k in range(count):
        packed, unpacked, bits, has_window = _POINT.unpack_from(exported, _HEAD.size + k * _POINT.size)
        if points[-1].unpacked + least_bytes <= unpacked < unpacked_bytes:  # there is one wherever a stream begins
            points.append(Point(unpacked, packed, bits, bool(has_window)))
            windows += [bytes(exported[at : at + WINDOW_BYTES])] if has_window else []
        at += WINDOW_BYTES if has_window else 0
    return points, windows


class Gzip:
    """A gzip stream that can be read anywhere, given its points. A `Source`; not for several threads at once."""

    def __init__(self, packed: Slice, packed_bytes: int, points: list[Point], window: Callable[[int], bytes]):
        """`window(k)` is what came out before point k, if that has one."""
        self._packed, self._packed_bytes, self._points, self._window = packed, packed_bytes, points, window

    def read(self, offset: int, wanted_bytes: int) -> bytes:
        return b"".join(self.blocks(offset, wanted_bytes))

    def blocks(self, offset: int, wanted_bytes: int) -> Iterator[memoryview]:
        """A stretch of it, in blocks that end where points are. Less of it where the stream ends.

        Raises:
          OSError, ValueError: if it is damaged there.
        """
        end = offset + wanted_bytes
        number = self._before(offset)
        while offset < end:
            begins = self._points[number].unpacked
            follows = self._points[number + 1].unpacked if number + 1 < len(self._points) else end
            stops = min(end, follows)
            if stops - begins > _LONGEST_GAP_BYTES and number + 1 < len(self._points):
                raise ValueError(f"there is no point to begin at for {stops - begins} bytes")
            block = self._from_point(number, min(stops, begins + _LONGEST_GAP_BYTES) - begins)
            yield block[offset - begins :]
            if begins + len(block) < stops:
                return
            offset, number = stops, number + 1

    def _before(self, offset: int) -> int:
        low, high = 0, len(self._points)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._points[middle].unpacked <= offset else (low, middle)
        return low

    def _from_point(self, number: int, wanted_bytes: int) -> memoryview:
        # Always from the point itself: indexed_gzip looks for a place in between without end if there is none.
        point, buffer = self._points[number], bytearray(wanted_bytes)
        with indexed_gzip.IndexedGzipFile(
            fileobj=self._packed, auto_build=False, readbuf_size=self._packed.piece_bytes, buffer_size=WINDOW_BYTES
        ) as file:
            file.import_index(fileobj=io.BytesIO(self._index_of(number)))
            file.seek(point.unpacked)
            return memoryview(buffer)[: file.readinto(buffer)]

    def _index_of(self, number: int) -> bytes:
        point = self._points[number]
        # The first point of an index must be the stream's beginning.
        beginning = [] if number == 0 else [_POINT.pack(0, 0, 0, 0)]
        here = _POINT.pack(point.packed, point.unpacked, point.bits, point.has_window)
        count = len(beginning) + 1
        head = _HEAD.pack(_MAGIC, _VERSION, 0, self._packed_bytes, 0, WINDOW_BYTES, WINDOW_BYTES, count)
        return b"".join([head, *beginning, here, self._window(number) if point.has_window else b""])
