"""Scanning an archive once: its videos, those of archives within it, and the points at which inflating can begin."""

import dataclasses
import hashlib
import os
import struct
from typing import BinaryIO

import numpy as np

from kinetics_prep.sources import naming, seek_points, tapes, tar_walk
from kinetics_prep.sources.archive_index import MEMBER, POINT, Array, Contents, Layer, word_key
from kinetics_prep.sources.seek_points import ByteSource, FileBytes, Gzip, Slice
from kinetics_prep.sources.tapes import Broken, Budget, FileTape, GzipTape, Tape, TapePart
from kinetics_prep.sources.tar_walk import Member, NotATar

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")

_DEEPEST = 3
# How much may come out of an archive. Videos do not shrink, so only bombs exceed it.
_MOST_TIMES_ITS_SIZE = 100
_SMALL_BYTES = 1 << 30
_MOST_WARNINGS = 20
_PACKED_MEMBER = struct.Struct("<IQQqQI")  # the bytes of `archive_index.MEMBER`, written faster than by NumPy


def scan(file: BinaryIO, size_bytes: int) -> tuple[Contents, list[bytes]]:
    """Reads an archive.

    Args:
      file: the archive, open.
      size_bytes: its size.

    Returns:
      Its contents, and the windows of those points that have one. Where the archive is damaged the contents end, with a
      warning.

    Raises:
      NotATar: if it is not a tar archive.
    """
    notes = _Scan(file, size_bytes)
    notes.read_archive()
    points, windows = notes.find_points()
    keys, numbers = notes.words_of_last()
    contents = Contents(
        layers=tuple(notes.layers),
        warnings=tuple(notes.warnings),
        members=np.frombuffer(bytes(notes.members), MEMBER),
        names=bytes(notes.names),
        keys=keys,
        numbers=numbers,
        points=points,
    )
    return contents, windows


class _Scan:
    """Collects the contents of an archive while its bytes go by. Byte arrays, as there may be a million members."""

    def __init__(self, file: BinaryIO, size_bytes: int):
        self._file, self._size_bytes = file, size_bytes
        self._budget = Budget(_MOST_TIMES_ITS_SIZE * size_bytes + _SMALL_BYTES)
        self.layers = [Layer(0, 0, size_bytes)]
        self._gzip_tapes: dict[int, GzipTape] = {}
        """By the number of the layer that comes out of it."""
        self.members, self.names, self._keys, self._numbers = bytearray(), bytearray(), bytearray(), bytearray()
        self._name_digests = bytearray()
        self.warnings: list[str] = []
        self._links = 0

    def read_archive(self) -> None:
        """Reads the whole archive; a damaged one as far as possible, with a warning."""
        try:
            self._read_tar(FileTape(self._file, self._size_bytes), 0, self._size_bytes, ())
        except Broken as error:
            self._warn(f"{error}; only videos before that place can be read")
        if self._links:
            self._warn(f"links and sparse files are not read: {self._links} that bear the names of videos")

    def find_points(self) -> tuple[Array, list[bytes]]:
        """The points of every gzip stream, and their windows."""
        rows: list[tuple[int, ...]] = []
        all_windows: list[bytes] = []
        sources: dict[int, ByteSource] = {0: FileBytes(self._file)}
        for number, tape in self._gzip_tapes.items():  # an outer stream before those in it
            layer = self.layers[number]
            source = sources[layer.parent]
            points, windows = seek_points.find_points(Slice(source, layer.offset, layer.size_bytes), tape.position)
            rows += [(number, *dataclasses.astuple(point)) for point in points]
            all_windows += windows
            by_point = dict(zip((k for k, point in enumerate(points) if point.has_window), windows))
            packed = Slice(source, layer.offset, layer.size_bytes)
            sources[number] = Gzip(packed, layer.size_bytes, points, by_point.__getitem__)
        return np.array(rows, POINT), all_windows

    def words_of_last(self) -> tuple[Array, Array]:
        """Keys and numbers, without those of members that have a later one of the same name: in tar the last counts."""
        keys, numbers = np.frombuffer(bytes(self._keys), "<u8"), np.frombuffer(bytes(self._numbers), "<u4")
        digests = np.frombuffer(bytes(self._name_digests), "<u8")[::-1]
        is_last = np.zeros(len(digests), bool)
        is_last[len(digests) - 1 - np.unique(digests, return_index=True)[1]] = True
        kept = is_last[numbers]
        return keys[kept], numbers[kept]

    def _read_tar(self, tape: Tape, layer: int, size_bytes: int, within: tuple[str, ...]) -> None:
        if tape.peek(2) == tapes.GZIP_MAGIC:
            self.layers.append(Layer(layer, tape.position, size_bytes))
            layer = len(self.layers) - 1
            tape = self._gzip_tapes[layer] = GzipTape(tape, self._budget)
        for member in tar_walk.members(tape):
            self._read_member(tape, layer, member, within)

    def _read_member(self, tape: Tape, layer: int, member: Member, within: tuple[str, ...]) -> None:
        *folders, name = member.path.split("/")
        if any(folder.startswith(".") and folder not in (".", "..") for folder in folders) or name.startswith("."):
            return
        if name.lower().endswith(TAR_SUFFIXES) and member.is_plain:
            self._read_nested(tape, layer, member, within)
        elif naming.may_be_video(name) and not member.is_folder:
            if member.is_plain:
                offset, crc = tape.position, tape.skip(member.size_bytes)
                self._note("\0".join((*within, member.path)), layer, offset, member.size_bytes, crc)
            else:
                self._links += 1

    def _read_nested(self, tape: Tape, layer: int, member: Member, within: tuple[str, ...]) -> None:
        if len(within) + 1 >= _DEEPEST:
            self._warn(f"{member.path} is an archive in an archive in an archive: it is not read")
            return
        try:
            self._read_tar(TapePart(tape, member.size_bytes), layer, member.size_bytes, (*within, member.path))
        except NotATar as error:
            self._warn(f"{member.path} in it is no tar archive: {error}")
        except Broken as error:
            self._warn(f"{member.path} in it: {error}; only videos before that place can be read")

    def _note(self, name: str, layer: int, offset: int, size_bytes: int, crc: int | None) -> None:
        number, encoded = len(self.members) // MEMBER.itemsize, name.encode("utf-8", "surrogateescape")
        known_crc = -1 if crc is None else crc
        self.members += _PACKED_MEMBER.pack(layer, offset, size_bytes, known_crc, len(self.names), len(encoded))
        self.names += encoded
        self._name_digests += hashlib.blake2b(encoded, digest_size=8).digest()
        for word in naming.lookup_words(name.rsplit("\0", 1)[-1]):
            self._keys += word_key(word).to_bytes(8, "little")
            self._numbers += number.to_bytes(4, "little")

    def _warn(self, warning: str) -> None:
        if len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(os.fsencode(warning).decode("utf-8", "replace")[:1000])
