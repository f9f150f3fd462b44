"""Videos in tar archives, plain or gzipped, which are never unpacked.

Mirrors of Kinetics are hundreds of archives of 1.5 GB. Each is gone through once; from then on its index says where
each video stands, and of a gzipped one where inflating can begin, so that any video is some milliseconds away.
"""

import concurrent.futures
import contextlib
import glob
import os
import re
import threading
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BadOption, NotFound, TooLarge, UnreadableFile
from kinetics_prep.sources import archive_index, archive_scan, naming
from kinetics_prep.sources.archive_index import ArchivedVideo, Buffer, Damaged, Index, Stamp
from kinetics_prep.sources.fetched import Fetched
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.storage.files import room_needed

_SUFFIXES = (".tar", ".tar.gz", ".tgz")
# Accepted so that `open` can say what to do with them.
_OTHER_SUFFIXES = (
    ".tar.xz",
    ".txz",
    ".tar.bz2",
    ".tbz2",
    ".tbz",
    ".tar.zst",
    ".tzst",
    ".tar.lz4",
    ".zip",
    ".7z",
    ".rar",
)


class Archives:
    """Tar archives: one, those of a folder, or those that a pattern such as `part_*.tar.gz` means."""

    is_remote = False

    @staticmethod
    def accepts(text: str) -> bool:
        if "://" in text:
            return False
        if os.path.isdir(text):
            return _holds_only_archives(text)
        if os.path.lexists(text):
            return text.lower().endswith(_SUFFIXES + _OTHER_SUFFIXES)
        return bool(_matches(text))

    @classmethod
    def open(cls, text: str, fetching: Fetching, scratch: Path) -> "Archives":
        """Looks into each archive that was not looked into yet.

        Raises:
          BadOption: if one is no archive, or there is no video in any.
        """
        root, paths = _listed(text)
        folder = (Path(fetching.cache) if fetching.cache else scratch.parent) / "archives"
        archives = cls(root, paths, _indexes(paths, folder), fetching, scratch)
        if not len(archives._keys):
            raise BadOption(f"--videos {text!r}: there is no video in {_counted(len(paths))}")
        return archives

    def __init__(self, root: Path, paths: list[Path], indexes: list[Index], fetching: Fetching, scratch: Path):
        self._root, self._paths, self._indexes = root, paths, indexes
        self._fetching, self._scratch = fetching, scratch
        self._stamps = [index.stamp for index in indexes]
        self._mending = threading.Lock()
        # Plain arrays, sixteen bytes for a word of a video: there may be a million.
        keys = np.concatenate([index.keys for index in indexes])
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._numbers = np.concatenate([index.numbers for index in indexes])[order]
        counts = [len(index.keys) for index in indexes]
        self._archives = np.repeat(np.arange(len(indexes), dtype=np.uint32), counts)[order]

    def has(self, row: PlannedRow) -> bool:
        """Whether some archive has a file for a row; none is opened."""
        return any(True for _ in self._candidates(row))

    @contextlib.contextmanager
    def fetch(self, row: PlannedRow) -> Iterator[Fetched]:
        """Copies the video of a row to a file that goes when the context ends; the best one, if several would do.

        Raises:
          NotFound: if no archive has it.
          TooLarge: if it is larger than the limit.
          UnreadableFile: if the archive is damaged there, or is not the one any more that was looked into.
        """
        candidates = sorted(self._candidates(row))
        if not candidates:
            where = _counted(len(self._paths))
            raise NotFound(f"no file {row.media_id}.* or {row.media_id}_<start>_<end>.* in {where} of --videos")
        _, _, origin, begins_seconds, archive, number = candidates[0]
        name = os.path.basename(_shown(self._indexes[archive].video(number).path))
        self._scratch.mkdir(parents=True, exist_ok=True)
        # Only letters of the member's name become part of a local one; messages say it.
        path = self._scratch / f"{uuid.uuid4().hex}-{re.sub('[^A-Za-z0-9_-]', '_', name)[:60]}"
        try:
            with room_needed(path):
                self._copy(archive, number, origin, path)
            yield Fetched(path, name, origin, begins_seconds, source="archive")
        finally:
            path.unlink(missing_ok=True)

    def _candidates(self, row: PlannedRow) -> Iterator[tuple]:
        """(how well it fits, ..., origin, where it begins, which archive, which of its videos)"""
        key = np.uint64(archive_scan.word_key(row.media_id))
        first, stop = np.searchsorted(self._keys, key, "left"), np.searchsorted(self._keys, key, "right")
        for archive, number in zip(self._archives[first:stop].tolist(), self._numbers[first:stop].tolist()):
            video = self._indexes[archive].video(number)
            if fits := naming.candidate(video.path, row):
                how_well, unusual, _, begins_seconds = fits
                yield how_well, unusual, self._origin(archive, video), begins_seconds, archive, number

    def _origin(self, archive: int, video: ArchivedVideo) -> str:
        packed_in = os.path.relpath(self._paths[archive], self._root)
        return ": ".join(map(_shown, (packed_in, *video.within, video.path)))

    def _copy(self, archive: int, number: int, origin: str, path: Path) -> None:
        index = self._indexes[archive]
        video = index.video(number)
        if video.size_bytes > self._fetching.largest_bytes:
            raise TooLarge(f"{origin}: {video.size_bytes} bytes, --largest allows {self._fetching.largest_bytes}")
        try:
            self._copy_by(index, archive, video, origin, path)
        except Damaged:
            index = self._rebuilt(archive, index)
            try:
                self._copy_by(index, archive, video, origin, path)
            except Damaged as error:
                raise UnreadableFile(f"{origin}: its index {index.file} cannot be read: {error}") from None

    def _copy_by(self, index: Index, archive: int, video: ArchivedVideo, origin: str, path: Path) -> None:
        with self._opened(archive, origin) as file, open(path, "wb") as copy:
            crc, copied_bytes, blocks = 0, 0, index.blocks(file, video)
            while block := _next(blocks, origin):
                copy.write(block)
                crc, copied_bytes = zlib.crc32(block, crc), copied_bytes + len(block)
        if copied_bytes != video.size_bytes:
            raise UnreadableFile(f"{origin}: the archive ends after {copied_bytes} of its {video.size_bytes} bytes")
        if video.crc not in (None, crc):
            raise UnreadableFile(f"{origin}: its bytes have changed since the archive was indexed")

    @contextlib.contextmanager
    def _opened(self, archive: int, origin: str) -> Iterator[BinaryIO]:
        path = self._paths[archive]
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open(path, "rb"))
            except OSError as error:
                raise UnreadableFile(f"{origin}: cannot open the archive: {error.strerror}") from None
            self._check_same(archive, file, origin)
            yield file
            self._check_same(archive, file, origin)

    def _check_same(self, archive: int, file: BinaryIO, origin: str) -> None:
        if Stamp.of(self._paths[archive], os.fstat(file.fileno())) != self._stamps[archive]:
            raise UnreadableFile(f"{origin}: the archive has changed since it was looked into; run again")

    def _rebuilt(self, archive: int, damaged: Index) -> Index:
        with self._mending:
            if self._indexes[archive] is damaged:
                try:
                    mended = archive_index.build_index(self._paths[archive], damaged.file.parent)
                except BadOption as error:
                    raise UnreadableFile(str(error)) from None
                if mended.stamp != damaged.stamp or mended.names != damaged.names:
                    raise UnreadableFile(f"{self._paths[archive]} has changed since it was looked into; run again")
                self._indexes[archive] = mended
            return self._indexes[archive]


def _next(blocks: Iterator[Buffer], origin: str) -> Buffer:
    # Only reading is guarded: an error of writing is the disk's, and stops the run.
    try:
        return next(blocks, b"")
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error.__cause__, Damaged):  # of an archive in the archive
            raise error.__cause__ from None
        raise UnreadableFile(f"{origin}: the archive is damaged there: {error}") from None


def _indexes(paths: list[Path], folder: Path) -> list[Index]:
    # Inflating leaves the interpreter alone, so threads do.
    pool = concurrent.futures.ThreadPoolExecutor(min(len(paths), os.cpu_count() or 1))
    try:
        return list(pool.map(lambda path: archive_index.open_index(path, folder), paths))
    finally:
        pool.shutdown(cancel_futures=True)


def _listed(text: str) -> tuple[Path, list[Path]]:
    """The folder that names are told from, and the archives.

    Raises:
      BadOption: if there is none.
    """
    if os.path.isdir(text):
        root = Path(text).absolute()
        return root, sorted(Path(path).absolute() for path in _files(text) if path.lower().endswith(_SUFFIXES))
    matches = [text] if os.path.lexists(text) else _matches(text)
    paths = sorted(Path(path).absolute() for path in matches)
    if not paths:
        raise BadOption(f"--videos {text!r}: there is no such archive")
    return Path(os.path.commonpath([path.parent for path in paths])), paths


def _matches(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        return []
    files = (path for path in glob.iglob(pattern, recursive=True) if os.path.isfile(path))
    return [path for path in files if path.lower().endswith(_SUFFIXES)]


def _holds_only_archives(folder: str) -> bool:
    has_archive = False
    for path in _files(folder):
        if naming.is_video(path):
            return False
        has_archive = has_archive or path.lower().endswith(_SUFFIXES)
    return has_archive


def _files(folder: str) -> Iterator[str]:
    return (os.path.join(folder, path) for path in naming.walk(folder))


def _counted(archives: int) -> str:
    return "the archive" if archives == 1 else f"any of the {archives} archives"


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")
