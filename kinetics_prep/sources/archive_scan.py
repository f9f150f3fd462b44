"""Going through an archive, and the archives in it, to note which videos are where."""

import dataclasses
import hashlib
import os
import struct
from typing import BinaryIO

import numpy as np

from kinetics_prep.sources import naming, seek_points, tar_walk
from kinetics_prep.sources.archive_bytes import FileBytes, Layer
from kinetics_prep.sources.seek_points import Gzip, Slice
from kinetics_prep.sources.tapes import GZIP_MAGIC, Broken, Budget, FileTape, GzipTape, Stretch, Tape
from kinetics_prep.sources.tar_walk import Member, NoTar

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_DEEPEST = 3
# What may come out of an archive: videos do not shrink, so this is for bombs alone.
_BOMB = 100
_SMALL_BYTES = 1 << 30
_MOST_WARNINGS = 20

MEMBER = np.dtype(
    [("layer", "<u4"), ("offset", "<u8"), ("size", "<u8"), ("crc", "<i8"), ("name_at", "<u8"), ("name_bytes", "<u4")]
)
"""A video in the index."""
_PACKED_MEMBER = struct.Struct("<IQQqQI")  # the same, quicker
POINT = np.dtype([("layer", "<u4"), ("unpacked", "<u8"), ("packed", "<u8"), ("bits", "u1"), ("has_window", "?")])
"""A place in the index at which inflating can begin."""


def word_key(word: str) -> int:
    """A number for a word. There may be a million words; two with the same number do no harm."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(word), digest_size=8).digest(), "little")


class Scan:
    """What is in an archive, noted while its bytes go by."""

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
        """Goes through the archive; where it breaks off, a warning says so.

        Raises:
          NoTar: if it is not an archive.
        """
        try:
            self._archive(FileTape(self._file, self._size_bytes), 0, self._size_bytes, ())
        except Broken as error:
            self._warn(f"{error}; only what comes before it can be read")
        if self._links:
            self._warn(f"links and sparse files are not read: {self._links} that bear the names of videos")

    def _warn(self, warning: str) -> None:
        if len(self.warnings) < _MOST_WARNINGS:
            self.warnings.append(os.fsencode(warning).decode("utf-8", "replace")[:1000])

    def _archive(self, tape: Tape, layer: int, size_bytes: int, within: tuple[str, ...]) -> None:
        if tape.peek(2) == GZIP_MAGIC:
            self.layers.append(Layer(layer, tape.position, size_bytes))
            layer, tape = len(self.layers) - 1, GzipTape(tape, self._budget)
            self._tapes[layer] = tape
        for member in tar_walk.members(tape):
            self._member(tape, layer, member, within)

    def _member(self, tape: Tape, layer: int, member: Member, within: tuple[str, ...]) -> None:
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

    def _nested(self, tape: Tape, layer: int, member: Member, within: tuple[str, ...]) -> None:
        if len(within) + 1 >= _DEEPEST:
            self._warn(f"{member.path} is an archive in an archive in an archive: it is not looked into")
            return
        try:
            self._archive(Stretch(tape, member.size_bytes), layer, member.size_bytes, (*within, member.path))
        except NoTar as error:
            self._warn(f"{member.path} in it is no tar archive: {error}")
        except Broken as error:
            self._warn(f"{member.path} in it: {error}; only what comes before it can be read")

    def _note(self, name: str, layer: int, offset: int, size_bytes: int, crc: int | None) -> None:
        number, encoded = len(self.members) // MEMBER.itemsize, name.encode("utf-8", "surrogateescape")
        known = -1 if crc is None else crc
        self.members += _PACKED_MEMBER.pack(layer, offset, size_bytes, known, len(self.names), len(encoded))
        self.names += encoded
        self._identities += hashlib.blake2b(encoded, digest_size=8).digest()
        for word in naming.words(name.rsplit("\0", 1)[-1]):
            self.keys += word_key(word).to_bytes(8, "little")
            self.numbers += number.to_bytes(4, "little")

    def words_of_last(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys and numbers; of members with the same name only those of the last one, as tar does."""
        keys, numbers = np.frombuffer(self.keys, "<u8"), np.frombuffer(self.numbers, "<u4")
        identities = np.frombuffer(self._identities, "<u8")[::-1]
        last = np.zeros(len(identities), bool)
        last[len(identities) - 1 - np.unique(identities, return_index=True)[1]] = True
        kept = last[numbers]
        return keys[kept], numbers[kept]

    def points(self) -> tuple[np.ndarray, list[bytes]]:
        """The points of every gzip stream, and their windows."""
        rows: list[tuple] = []
        windows: list[bytes] = []
        sources: dict[int, FileBytes | Gzip] = {0: FileBytes(self._file)}
        for number, tape in self._tapes.items():  # an outer one before those that are in it
            layer = self.layers[number]
            source = sources[layer.parent]
            points, own = seek_points.find(Slice(source, layer.offset, layer.size_bytes), tape.position)
            rows += [(number, *dataclasses.astuple(point)) for point in points]
            windows += own
            kept = dict(zip((k for k, point in enumerate(points) if point.has_window), own))
            packed = Slice(source, layer.offset, layer.size_bytes)
            sources[number] = Gzip(packed, layer.size_bytes, points, kept.__getitem__)
        return np.array(rows, POINT), windows
