"""What is in an archive and where, kept on disk so that the archive is read through once.

An index is a zip file of plain arrays: the members, their names, the words that they are looked up by, and the points
at which inflating can begin. Zip has a checksum for each. It is read as if a stranger had written it.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from kinetics_prep.errors import BadOption
from kinetics_prep.sources import seek_points
from kinetics_prep.sources.archive_bytes import FileBytes, Layer
from kinetics_prep.sources.archive_scan import MEMBER, POINT, Scan
from kinetics_prep.sources.seek_points import Gzip, Point, Slice
from kinetics_prep.sources.tar_walk import NoTar
from kinetics_prep.storage.files import atomic_write, room_needed

VERSION = 1

_LOGGER = logging.getLogger("kinetics_prep.sources")

_LONGEST_JSON_BYTES = 1 << 24
_ABANDONED_SECONDS = 86400

_OTHER_KINDS = {
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}


Buffer: TypeAlias = "bytes | memoryview"


class Damaged(Exception):
    """An index does not read back as it was written."""


@dataclasses.dataclass(frozen=True)
class Stamp:
    """What tells that an archive is still the same."""

    path: str
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, stat: os.stat_result) -> "Stamp":
        return cls(os.fsencode(path).decode("utf-8", "backslashreplace"), stat.st_size, stat.st_mtime_ns)


@dataclasses.dataclass(frozen=True)
class ArchivedVideo:
    """A video in an archive: a stretch of a layer."""

    path: str
    """In the innermost archive."""
    within: tuple[str, ...]
    """The paths of the archives that it is packed in, in this one, from outside in."""
    layer: int
    offset: int
    size_bytes: int
    crc: int | None
    """CRC-32 of it, if it was read when the archive was gone through."""


@dataclasses.dataclass(frozen=True)
class Index:
    """What is in one archive. Windows stay on disk."""

    file: Path
    stamp: Stamp
    layers: tuple[Layer, ...]
    warnings: tuple[str, ...]
    points: np.ndarray
    keys: np.ndarray
    """uint64: the words that videos are looked up by; see `word_key`."""
    numbers: np.ndarray
    """uint32: which video each is a word of."""
    members: np.ndarray
    names: bytes

    def __len__(self) -> int:
        return len(self.members)

    def video(self, number: int) -> ArchivedVideo:
        """The video of that number."""
        member = self.members[number]
        name_at, crc = int(member["name_at"]), int(member["crc"])
        name = self.names[name_at : name_at + int(member["name_bytes"])]
        *within, path = name.decode("utf-8", "surrogateescape").split("\0")
        known = None if crc < 0 else crc
        return ArchivedVideo(
            path, tuple(within), int(member["layer"]), int(member["offset"]), int(member["size"]), known
        )

    def blocks(self, file: BinaryIO, video: ArchivedVideo) -> Iterator[Buffer]:
        """The bytes of a video, given the open archive.

        Raises:
          Damaged: if the index is.
          OSError, ValueError: if the archive is.
        """
        return self._source(file, video.layer).blocks(video.offset, video.size_bytes)

    def _source(self, file: BinaryIO, number: int) -> "FileBytes | Gzip":
        if number == 0:
            return FileBytes(file)
        layer = self.layers[number]
        first, stop = np.searchsorted(self.points["layer"], [number, number + 1])
        points = [Point(*point) for _, *point in self.points[first:stop].tolist()]
        packed = Slice(self._source(file, layer.parent), layer.offset, layer.size_bytes)
        return Gzip(packed, layer.size_bytes, points, lambda k: self._window(int(first) + k))

    def _window(self, point: int) -> bytes:
        with _as_damage(), zipfile.ZipFile(self.file) as archive:
            window = archive.read(f"windows/{point}")
            if len(window) != seek_points.WINDOW_BYTES:
                raise Damaged("a window has another length")
            return window


def open_index(path: Path, folder: Path) -> Index:
    """The index of an archive: the one in `folder` if it is of this archive as it is now, else a new one.

    Raises:
      BadOption: if it is no archive, or cannot be read.
    """
    with _as_bad_option(path):
        stamp = Stamp.of(path, path.stat())
    try:
        index = _load(_place(path, folder), stamp)
    except Damaged:
        index = build_index(path, folder)
    for warning in index.warnings:
        _LOGGER.warning("archive %s: %s", path, warning)
    return index


def build_index(path: Path, folder: Path) -> Index:
    """Goes through an archive and writes its index.

    Raises:
      BadOption: if it is no archive, or cannot be read.
    """
    began = time.monotonic()
    with _as_bad_option(path), open(path, "rb") as file:
        stamp = Stamp.of(path, os.fstat(file.fileno()))
        scan = Scan(file, stamp.size_bytes)
        try:
            scan.go_through()
        except NoTar as error:
            raise BadOption(_no_archive(path, file, error)) from None
        points, windows = scan.points()
        if Stamp.of(path, os.fstat(file.fileno())) != stamp:
            raise BadOption(f"{path} changed while it was read through: is it still being written?")
    place = _place(path, folder)
    _clear_abandoned(folder)
    _save(place, stamp, scan, points, windows)
    try:
        index = _load(place, stamp)
    except Damaged as error:
        raise BadOption(f"the index of {path} cannot be read back: {error}") from None
    _LOGGER.info("archive %s: %d videos, %.1f s", path, len(index), time.monotonic() - began)
    return index


@contextlib.contextmanager
def _as_bad_option(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadOption(f"--videos: cannot read {path}: {error.strerror or error}") from None


def _no_archive(path: Path, file: BinaryIO, error: NoTar) -> str:
    file.seek(0)
    magic = file.read(8)
    for begins, kind in _OTHER_KINDS.items():
        if magic.startswith(begins):
            return (
                f"--videos: {path} is {kind}, in which a video cannot be read without everything before it: unpack it "
                "into a folder, or repack it as .tar or .tar.gz"
            )
    return f"--videos: {path} is no tar archive: {error}"


def _place(path: Path, folder: Path) -> Path:
    return folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.index"


def _save(place: Path, stamp: Stamp, scan: Scan, points: np.ndarray, windows: list[bytes]) -> None:
    about = {
        "version": VERSION,
        "archive": dataclasses.asdict(stamp),
        "layers": [dataclasses.astuple(layer) for layer in scan.layers],
        "warnings": scan.warnings,
    }
    keys, numbers = scan.words_of_last()
    with room_needed(place), atomic_write(place, place.parent) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr("about.json", json.dumps(about))
        for name, content in (("members", scan.members), ("names", scan.names), ("keys", keys), ("numbers", numbers)):
            archive.writestr(name, bytes(content))
        archive.writestr("points", points.tobytes())
        for number, window in zip(np.flatnonzero(points["has_window"]), windows):
            archive.writestr(f"windows/{number}", window)


def _load(place: Path, stamp: Stamp) -> Index:
    """Reads an index back.

    Raises:
      Damaged: if it is not there, is of something else, or makes no sense.
    """
    with _as_damage(), zipfile.ZipFile(place) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise Damaged("it is packed")
        about = json.loads(archive.read("about.json")[:_LONGEST_JSON_BYTES])
        if (about["version"], about["archive"]) != (VERSION, dataclasses.asdict(stamp)):
            raise Damaged("it is of another archive")
        index = Index(
            file=place,
            stamp=stamp,
            layers=tuple(Layer(*map(int, layer)) for layer in about["layers"]),
            warnings=tuple(map(str, about["warnings"])),
            points=np.frombuffer(archive.read("points"), POINT),
            keys=np.frombuffer(archive.read("keys"), "<u8"),
            numbers=np.frombuffer(archive.read("numbers"), "<u4"),
            members=np.frombuffer(archive.read("members"), MEMBER),
            names=archive.read("names"),
        )
        _check_sense(index)
        return index


def _check_sense(index: Index) -> None:
    members, points, largest = index.members, index.points, np.uint64(1 << 62)
    layers = np.arange(1, len(index.layers), dtype=np.uint32)
    ends = members["name_at"] + members["name_bytes"]
    rises = (np.diff(points["unpacked"].astype(np.int64)) > 0) | (np.diff(points["layer"].astype(np.int64)) > 0)
    sense = (
        len(index.keys) == len(index.numbers)
        and bool((index.numbers < len(members)).all())
        and bool((members["layer"] < len(index.layers)).all())
        and all(bool((members[field] < largest).all()) for field in ("offset", "size", "name_at"))
        and bool((ends <= len(index.names)).all())
        and bool((members["crc"] < 1 << 32).all())
        and all(bool((points[field] < largest).all()) for field in ("unpacked", "packed"))
        and bool((points["bits"] < 8).all())
        and bool((np.diff(points["layer"].astype(np.int64)) >= 0).all() and rises.all())
        and np.array_equal(points["layer"][points["unpacked"] == 0], layers)
        and all(
            layer.parent < max(1, k) and min(dataclasses.astuple(layer)) >= 0 for k, layer in enumerate(index.layers)
        )
    )
    if not sense:
        raise Damaged("it makes no sense")


@contextlib.contextmanager
def _as_damage() -> Iterator[None]:
    # A zip file, and what is in it, can be wrong in a dozen ways, each of which has its own exception.
    try:
        yield
    except Damaged:
        raise
    except Exception as error:
        raise Damaged(f"{type(error).__name__}: {error}") from None


def _clear_abandoned(folder: Path) -> None:
    """Removes what killed processes began to write long ago."""
    for path in folder.glob("*-*.index"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()
        except OSError:
            continue
