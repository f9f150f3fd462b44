"""What is in an archive and where, kept on disk so that it is gone through once.

An index is a zip file of plain arrays: the members, their names, the words that they are looked up by, and the points
at which inflating can begin. Zip has a checksum for each. It is read as something that a stranger may have written.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import struct
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kinetics_prep.errors import BadOption
from kinetics_prep.sources import naming, seek_points, tar_walk
from kinetics_prep.sources.seek_points import Gzip, Point, Slice
from kinetics_prep.sources.tar_walk import Broken, Budget, FileTape, GzipTape, Member, NoTar, Part
from kinetics_prep.storage.files import atomic, room_needed

VERSION = 1

_LOGGER = logging.getLogger("kinetics_prep.sources")

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_DEEPEST = 3
# What may come out of an archive: videos do not shrink, so this is for bombs alone.
_BOMB = 100
_SMALL_BYTES = 1 << 30
_LONGEST_JSON_BYTES = 1 << 24
_MOST_WARNINGS = 20
_ABANDONED_SECONDS = 86400

_OTHER_KINDS = {
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}

_MEMBER = np.dtype(
    [("layer", "<u4"), ("offset", "<u8"), ("size", "<u8"), ("crc", "<i8"), ("name_at", "<u8"), ("name_bytes", "<u4")]
)
_PACKED_MEMBER = struct.Struct("<IQQqQI")  # the same, quicker
_POINT = np.dtype([("layer", "<u4"), ("unpacked", "<u8"), ("packed", "<u8"), ("bits", "u1"), ("has_window", "?")])


class Damaged(Exception):
    """An index is not as it was written."""


@dataclasses.dataclass(frozen=True)
class Stamp:
    """By what one sees that an archive is still the same."""

    path: str
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, stat: os.stat_result) -> "Stamp":
        return cls(os.fsencode(path).decode("utf-8", "backslashreplace"), stat.st_size, stat.st_mtime_ns)


@dataclasses.dataclass(frozen=True)
class Layer:
    """Layer 0 is the archive's own bytes, any other what comes out of a gzip stream within an earlier one."""

    parent: int
    offset: int
    size_bytes: int


@dataclasses.dataclass(frozen=True)
class Found:
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


def word_key(word: str) -> int:
    """A number for a word: there may be a million, and two with the same number do no harm."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(word), digest_size=8).digest(), "little")


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

    def __len__(self):
        return len(self.members)

    def video(self, number: int) -> Found:
        """The video of that number."""
        member = self.members[number]
        name_at, crc = int(member["name_at"]), int(member["crc"])
        name = self.names[name_at : name_at + int(member["name_bytes"])]
        *within, path = name.decode("utf-8", "surrogateescape").split("\0")
        known = None if crc < 0 else crc
        return Found(path, tuple(within), int(member["layer"]), int(member["offset"]), int(member["size"]), known)

    def blocks(self, file: BinaryIO, found: Found) -> Iterator[bytes]:
        """The bytes of a video, given the open archive.

        Raises:
          Damaged: if the index is.
          OSError, ValueError: if the archive is.
        """
        return self._source(file, found.layer).blocks(found.offset, found.size_bytes)

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


@dataclasses.dataclass(frozen=True)
class FileBytes:
    """A file as a source of bytes."""

    file: BinaryIO

    def read(self, offset: int, wanted_bytes: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(wanted_bytes)

    def blocks(self, offset: int, wanted_bytes: int) -> Iterator[bytes]:
        end = offset + wanted_bytes
        while offset < end and (block := self.read(offset, min(1 << 20, end - offset))):
            offset += len(block)
            yield block


def of_archive(path: Path, folder: Path) -> Index:
    """The index of an archive: the one in `folder` if it is of this archive as it is now, else a new one.

    Raises:
      BadOption: if it is no archive, or cannot be read.
    """
    with _as_bad_option(path):
        stamp = Stamp.of(path, path.stat())
    try:
        index = _load(_place(path, folder), stamp)
    except Damaged:
        index = anew(path, folder)
    for warning in index.warnings:
        _LOGGER.warning("archive %s: %s", path, warning)
    return index


def anew(path: Path, folder: Path) -> Index:
    """Goes through an archive and writes its index.

    Raises:
      BadOption: if it is no archive, or cannot be read.
    """
    began = time.monotonic()
    with _as_bad_option(path), open(path, "rb") as file:
        stamp = Stamp.of(path, os.fstat(file.fileno()))
        scan = _Scan(file, stamp.size_bytes)
        try:
            scan.go_through()
        except NoTar as error:
            raise BadOption(_no_archive(path, file, error)) from None
        points, windows = scan.points()
        if Stamp.of(path, os.fstat(file.fileno())) != stamp:
            raise BadOption(f"{path} changed while it was gone through: is it still being written?")
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
                f"--videos: {path} is {kind}, in which one cannot read a video without all before it: unpack it into a "
                "folder, or repack it as .tar or .tar.gz"
            )
    return f"--videos: {path} is no tar archive: {error}"


def _place(path: Path, folder: Path) -> Path:
    return folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.index"


class _Scan:
    """Notes what is in an archive while that goes by."""

    def __init__(self, file: BinaryIO, size_bytes: int):
        self._file, self._size_bytes = file, size_bytes
        self._budget = Budget(_BOMB * size_bytes + _SMALL_BYTES)
        self.layers = [Layer(0, 0, size_bytes)]
        self._tapes: dict[int, GzipTape] = {}
        self.members, self.names, self.keys, self.numbers = bytearray(), bytearray(), bytearray(), bytearray()
        self._identities = bytearray()
        self.warnings: list[str] = []
        self._links = 0

    def go_through(self) -> None:
        """Raises NoTar if the archive is none; what breaks off is noted as a warning."""
        try:
            self._archive(FileTape(self._file, self._size_bytes), 0, self._size_bytes, ())
        except Broken as error:
            self._warn(f"{error}; only what stands before can be had")
        if self._links:
            self._warn(f"links and sparse files are not read: {self._links} that bear the names of videos")

    def _warn(self, warning: str) -> None:
        if len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(os.fsencode(warning).decode("utf-8", "replace")[:1000])

    def _archive(self, tape, layer: int, size_bytes: int, within: tuple[str, ...]) -> None:
        if tape.peek(2) == tar_walk.GZIP_MAGIC:
            self.layers.append(Layer(layer, tape.position, size_bytes))
            layer, tape = len(self.layers) - 1, GzipTape(tape, self._budget)
            self._tapes[layer] = tape
        for member in tar_walk.members(tape):
            self._member(tape, layer, member, within)

    def _member(self, tape, layer: int, member: Member, within: tuple[str, ...]) -> None:
        *folders, name = member.path.split("/")
        if any(folder.startswith(".") and folder not in (".", "..") for folder in folders) or name.startswith("."):
            return
        if name.lower().endswith(_TAR_SUFFIXES) and member.is_plain:
            self._nested(tape, layer, member, within)
        elif naming.may_be_video(name) and not member.is_folder:
            if member.is_plain:
                offset, crc = tape.position, tape.pass_over(member.size_bytes)
                self._note("\0".join((*within, member.path)), layer, offset, member.size_bytes, crc)
            else:
                self._links += 1

    def _nested(self, tape, layer: int, member: Member, within: tuple[str, ...]) -> None:
        if len(within) + 1 >= _DEEPEST:
            self._warn(f"{member.path} is an archive in an archive in an archive: it is not looked into")
            return
        try:
            self._archive(Part(tape, member.size_bytes), layer, member.size_bytes, (*within, member.path))
        except NoTar as error:
            self._warn(f"{member.path} in it is no tar archive: {error}")
        except Broken as error:
            self._warn(f"{member.path} in it: {error}; only what stands before can be had")

    def _note(self, name: str, layer: int, offset: int, size_bytes: int, crc: int | None) -> None:
        number, encoded = len(self.members) // _MEMBER.itemsize, name.encode("utf-8", "surrogateescape")
        known = -1 if crc is None else crc
        self.members += _PACKED_MEMBER.pack(layer, offset, size_bytes, known, len(self.names), len(encoded))
        self.names += encoded
        self._identities += hashlib.blake2b(encoded, digest_size=8).digest()
        for word in naming.words(name.rsplit("\0", 1)[-1]):
            self.keys += word_key(word).to_bytes(8, "little")
            self.numbers += number.to_bytes(4, "little")

    def words_of_last(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys and numbers without those of members of which there is a later one under the same name, as in tar."""
        keys, numbers = np.frombuffer(self.keys, "<u8"), np.frombuffer(self.numbers, "<u4")
        identities = np.frombuffer(self._identities, "<u8")[::-1]
        last = np.zeros(len(identities), bool)
        last[len(identities) - 1 - np.unique(identities, return_index=True)[1]] = True
        kept = last[numbers]
        return keys[kept], numbers[kept]

    def points(self) -> tuple[np.ndarray, list[bytes]]:
        """Those of every gzip stream, and their windows."""
        rows, windows, sources = [], [], {0: FileBytes(self._file)}
        for number, tape in self._tapes.items():  # an outer one before those that are in it
            layer = self.layers[number]
            source = sources[layer.parent]
            points, own = seek_points.find(Slice(source, layer.offset, layer.size_bytes), tape.position)
            rows += [(number, *dataclasses.astuple(point)) for point in points]
            windows += own
            kept = dict(zip((k for k, point in enumerate(points) if point.has_window), own))
            packed = Slice(source, layer.offset, layer.size_bytes)
            sources[number] = Gzip(packed, layer.size_bytes, points, kept.__getitem__)
        return np.array(rows, _POINT), windows


def _save(place: Path, stamp: Stamp, scan: _Scan, points: np.ndarray, windows: list[bytes]) -> None:
    about = {
        "version": VERSION,
        "archive": dataclasses.asdict(stamp),
        "layers": [dataclasses.astuple(layer) for layer in scan.layers],
        "warnings": scan.warnings,
    }
    keys, numbers = scan.words_of_last()
    with room_needed(place), atomic(place, place.parent) as temporary, zipfile.ZipFile(temporary, "w") as archive:
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
            points=np.frombuffer(archive.read("points"), _POINT),
            keys=np.frombuffer(archive.read("keys"), "<u8"),
            numbers=np.frombuffer(archive.read("numbers"), "<u4"),
            members=np.frombuffer(archive.read("members"), _MEMBER),
            names=archive.read("names"),
        )
        _expect_sense(index)
        return index


def _expect_sense(index: Index) -> None:
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
