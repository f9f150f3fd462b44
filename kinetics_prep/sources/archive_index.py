"""The index of an archive: which videos are in it, at which bytes. On disk, so that an archive is scanned once.

An index file is a zip file of plain arrays: the members, their names, the words under which they are looked up, and
the points at which inflating can begin. Zip has a checksum for each. The file is checked as if a stranger had written
it.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from kinetics_prep.sources import seek_points
from kinetics_prep.sources.seek_points import ByteSource, FileBytes, Gzip, Point, Slice
from kinetics_prep.storage.files import atomic_write

VERSION = 1

MEMBER = np.dtype(
    [("layer", "<u4"), ("offset", "<u8"), ("size", "<u8"), ("crc", "<i8"), ("name_at", "<u8"), ("name_bytes", "<u4")]
)
"""A member as the index file holds it; crc is -1 if unknown."""

POINT = np.dtype([("layer", "<u4"), ("unpacked", "<u8"), ("packed", "<u8"), ("bits", "u1"), ("has_window", "?")])
"""A `seek_points.Point` as the index file holds it."""

_LONGEST_JSON_BYTES = 1 << 24

Array = npt.NDArray[Any]


class DamagedIndex(Exception):
    """An index file is missing, belongs to another archive, or does not hold what was written."""


@dataclasses.dataclass(frozen=True)
class Stamp:
    """What identifies the state of an archive: its path, size and time of last change."""

    path: str
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, stat: os.stat_result) -> "Stamp":
        """The stamp of the archive at `path`."""
        return cls(os.fsencode(path).decode("utf-8", "backslashreplace"), stat.st_size, stat.st_mtime_ns)


@dataclasses.dataclass(frozen=True)
class Layer:
    """Layer 0 is the archive's own bytes; any other is the unpacked bytes of a gzip stream in an earlier layer."""

    parent: int
    offset: int
    size_bytes: int


@dataclasses.dataclass(frozen=True)
class PackedVideo:
    """A video in an archive: a stretch of a layer."""

    path: str
    """In the innermost archive."""
    within: tuple[str, ...]
    """The paths of the archives inside this one that hold it, the outermost first."""
    layer: int
    offset: int
    size_bytes: int
    crc: int | None
    """CRC-32 of its bytes, if they were read when the archive was scanned."""


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a scan has noted of an archive. The arrays are as in the index file."""

    layers: tuple[Layer, ...]
    warnings: tuple[str, ...]
    members: Array
    """`MEMBER` [M]"""
    names: bytes
    """UTF-8 of all names; those of the archives around a member stand before its own, with NUL between."""
    keys: Array
    """uint64 [W]: the words under which videos are looked up; see `word_key`."""
    numbers: Array
    """uint32 [W]: the number of the member that each word belongs to."""
    points: Array
    """`POINT` [P], sorted by layer and offset."""


def word_key(word: str) -> int:
    """A 64-bit number for a word: there may be a million words, and two with the same number do no harm."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(word), digest_size=8).digest(), "little")


@dataclasses.dataclass(frozen=True)
class Index:
    """The index of one archive. Windows are read from its file when they are needed."""

    file: Path
    stamp: Stamp
    contents: Contents

    def __len__(self) -> int:
        return len(self.contents.members)

    def video(self, number: int) -> PackedVideo:
        """The video of that number."""
        member = self.contents.members[number]
        name_at, crc = int(member["name_at"]), int(member["crc"])
        name = self.contents.names[name_at : name_at + int(member["name_bytes"])]
        *within, path = name.decode("utf-8", "surrogateescape").split("\0")
        return PackedVideo(
            path=path,
            within=tuple(within),
            layer=int(member["layer"]),
            offset=int(member["offset"]),
            size_bytes=int(member["size"]),
            crc=None if crc < 0 else crc,
        )

    def blocks(self, archive: BinaryIO, video: PackedVideo) -> Iterator[bytes | memoryview]:
        """Yields the bytes of a video.

        Args:
          archive: the archive, open.
          video: a video of this index.

        Raises:
          DamagedIndex: if a window cannot be read from the index file.
          OSError, ValueError: if the archive is damaged there.
        """
        return self._source(archive, video.layer).blocks(video.offset, video.size_bytes)

    def _source(self, archive: BinaryIO, number: int) -> ByteSource:
        if number == 0:
            return FileBytes(archive)
        layer, rows = self.contents.layers[number], self.contents.points
        first, stop = np.searchsorted(rows["layer"], [number, number + 1])
        points = [Point(*point) for _, *point in rows[first:stop].tolist()]
        packed = Slice(self._source(archive, layer.parent), layer.offset, layer.size_bytes)
        return Gzip(packed, layer.size_bytes, points, lambda k: self._window(int(first) + k))

    def _window(self, point: int) -> bytes:
        with _raising_damaged_index(), zipfile.ZipFile(self.file) as archive:
            window = archive.read(f"windows/{point}")
            if len(window) != seek_points.WINDOW_BYTES:
                raise DamagedIndex("a window has another length")
            return window


def save(file: Path, stamp: Stamp, contents: Contents, windows: Sequence[bytes]) -> None:
    """Writes an index file.

    Args:
      file: its path.
      stamp: of the archive.
      contents: of the archive.
      windows: of those points that have one, in their order.

    Raises:
      NoRoom: if the disk is full.
    """
    about = {
        "version": VERSION,
        "archive": dataclasses.asdict(stamp),
        "layers": [dataclasses.astuple(layer) for layer in contents.layers],
        "warnings": list(contents.warnings),
    }
    with atomic_write(file, file.parent) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr("about.json", json.dumps(about))
        archive.writestr("members", contents.members.tobytes())
        archive.writestr("names", contents.names)
        archive.writestr("keys", contents.keys.tobytes())
        archive.writestr("numbers", contents.numbers.tobytes())
        archive.writestr("points", contents.points.tobytes())
        for number, window in zip(np.flatnonzero(contents.points["has_window"]), windows):
            archive.writestr(f"windows/{number}", window)


def load(file: Path, stamp: Stamp) -> Index:
    """Reads an index file.

    Raises:
      DamagedIndex: if it is missing, belongs to an archive of another stamp, or is damaged.
    """
    with _raising_damaged_index(), zipfile.ZipFile(file) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise DamagedIndex("it is packed")  # we never pack: it may be a bomb
        about = json.loads(archive.read("about.json")[:_LONGEST_JSON_BYTES])
        if (about["version"], about["archive"]) != (VERSION, dataclasses.asdict(stamp)):
            raise DamagedIndex("it is of another archive")
        contents = Contents(
            layers=tuple(Layer(*map(int, layer)) for layer in about["layers"]),
            warnings=tuple(map(str, about["warnings"])),
            members=np.frombuffer(archive.read("members"), MEMBER),
            names=archive.read("names"),
            keys=np.frombuffer(archive.read("keys"), "<u8"),
            numbers=np.frombuffer(archive.read("numbers"), "<u4"),
            points=np.frombuffer(archive.read("points"), POINT),
        )
        if not _is_consistent(contents):
            raise DamagedIndex("it is not consistent")
        return Index(file, stamp, contents)


def _is_consistent(contents: Contents) -> bool:
    """Whether every number in the arrays refers to something that exists, and points are sorted."""
    layers = contents.layers
    return (
        len(contents.keys) == len(contents.numbers)
        and bool((contents.numbers < len(contents.members)).all())
        and _are_members_consistent(contents)
        and _are_points_consistent(contents.points, len(layers))
        and all(layer.parent < max(1, k) and min(dataclasses.astuple(layer)) >= 0 for k, layer in enumerate(layers))
    )


_LARGEST = np.uint64(1 << 62)


def _are_members_consistent(contents: Contents) -> bool:
    members = contents.members
    name_ends = members["name_at"] + members["name_bytes"]
    return (
        bool((members["layer"] < len(contents.layers)).all())
        and all(bool((members[field] < _LARGEST).all()) for field in ("offset", "size", "name_at"))
        and bool((name_ends <= len(contents.names)).all())
        and bool((members["crc"] < 1 << 32).all())
    )


def _are_points_consistent(points: Array, layers: int) -> bool:
    """Whether each layer but the first has a point at its beginning, and points are sorted by layer and offset."""
    layer_steps = np.diff(points["layer"].astype(np.int64))
    rises = (np.diff(points["unpacked"].astype(np.int64)) > 0) | (layer_steps > 0)
    return (
        all(bool((points[field] < _LARGEST).all()) for field in ("unpacked", "packed"))
        and bool((points["bits"] < 8).all())
        and bool((layer_steps >= 0).all() and rises.all())
        and np.array_equal(points["layer"][points["unpacked"] == 0], np.arange(1, layers, dtype=np.uint32))
    )


@contextlib.contextmanager
def _raising_damaged_index() -> Iterator[None]:
    # A zip file and its members can be wrong in a dozen ways, each with an exception of its own.
    try:
        yield
    except DamagedIndex:
        raise
    except Exception as error:
        raise DamagedIndex(f"{type(error).__name__}: {error}") from None
