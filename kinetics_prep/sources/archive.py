"""Videos in tar archives, plain or gzipped, which are never unpacked.

Mirrors of Kinetics are hundreds of archives of 1.5 GB. Each is scanned once; from then on its index says at which byte
each video stands and, in a gzipped archive, where inflating can begin. So any video is read in some milliseconds.
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
from typing import BinaryIO, NamedTuple

import numpy as np

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BadOption, NotFound, TooLarge, UnreadableFile
from kinetics_prep.sources import archive_index, archive_indexing, naming
from kinetics_prep.sources.archive_index import DamagedIndex, Index, PackedVideo, Stamp
from kinetics_prep.sources.archive_scan import TAR_SUFFIXES
from kinetics_prep.sources.fetched import Fetched
from kinetics_prep.sources.fetching import Fetching
from kinetics_prep.sources.source import Candidate
from kinetics_prep.storage.files import reporting_full_disk

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


class PackedMatch(NamedTuple):
    """A member that fits a row. Sorts the best match first, as `naming.Match`."""

    rank: int
    is_unusual: bool
    origin: str
    begins_seconds: float | None
    archive: int
    """The number of its archive."""
    number: int
    """Its number in the index of that archive."""


class Archives:
    """Tar archives: one, those of a folder, or those that match a pattern such as `part_*.tar.gz`. A `LocalSource`."""

    is_remote = False

    @staticmethod
    def accepts(text: str) -> bool:
        """Whether a value of --videos is an archive, a folder of archives without loose videos, or a pattern."""
        if "://" in text:
            return False
        if os.path.isdir(text):
            return _has_only_archives(text)
        if os.path.lexists(text):
            return text.lower().endswith(TAR_SUFFIXES + _OTHER_SUFFIXES)
        return bool(_matches(text))

    @classmethod
    def open(cls, text: str, fetching: Fetching, scratch: Path) -> "Archives":
        """Opens the archives; scans each that has no index yet.

        Raises:
          BadOption: if one is not a tar archive, or there is no video in any.
        """
        root, paths = _list_archives(text)
        folder = (Path(fetching.cache) if fetching.cache else scratch.parent) / "archives"
        archives = cls(root, paths, _load_indexes(paths, folder), fetching, scratch)
        if not len(archives._keys):
            raise BadOption(f"--videos {text!r}: there is no video in {_counted(len(paths))}")
        return archives

    def __init__(self, root: Path, paths: list[Path], indexes: list[Index], fetching: Fetching, scratch: Path):
        self._root, self._paths, self._indexes = root, paths, indexes
        self._fetching, self._scratch = fetching, scratch
        self._stamps = [index.stamp for index in indexes]
        self._rebuilding = threading.Lock()
        # Plain arrays, sixteen bytes for each word of a video: there may be a million videos.
        keys = np.concatenate([index.contents.keys for index in indexes])
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._numbers = np.concatenate([index.contents.numbers for index in indexes])[order]
        counts = [len(index.contents.keys) for index in indexes]
        self._archives = np.repeat(np.arange(len(indexes), dtype=np.uint32), counts)[order]

    def has(self, row: PlannedRow) -> bool:
        """Whether an archive has a file for a row; no archive is opened."""
        return any(True for _ in self._matches(row))

    def candidates(self, row: PlannedRow) -> Iterator[Candidate]:
        """Yields the members that may hold the clip of a row, the best match first.

        Raises:
          NotFound: if no archive has one.
        """
        matches = sorted(self._matches(row))
        if not matches:
            where = _counted(len(self._paths))
            raise NotFound(f"no file {row.media_id}.* or {row.media_id}_<start>_<end>.* in {where} of --videos")
        yield from map(self._copied, matches)

    @contextlib.contextmanager
    def _copied(self, match: PackedMatch) -> Iterator[Fetched]:
        """Copies a member to a file that is deleted when the context ends.

        Raises:
          TooLarge: if it is larger than the limit.
          UnreadableFile: if the archive is damaged there, or has changed since it was scanned.
        """
        name = os.path.basename(_printable(self._indexes[match.archive].video(match.number).path))
        self._scratch.mkdir(parents=True, exist_ok=True)
        # Only letters and digits of the member's name go into the local one, which messages mention.
        path = self._scratch / f"{uuid.uuid4().hex}-{re.sub('[^A-Za-z0-9_-]', '_', name)[:60]}"
        try:
            with reporting_full_disk(path):
                self._copy(match, path)
            yield Fetched(path, name, match.origin, match.begins_seconds, source="archive")
        finally:
            path.unlink(missing_ok=True)

    def _matches(self, row: PlannedRow) -> Iterator[PackedMatch]:
        key = np.uint64(archive_index.word_key(row.media_id))
        first, stop = np.searchsorted(self._keys, key, "left"), np.searchsorted(self._keys, key, "right")
        for archive, number in zip(self._archives[first:stop].tolist(), self._numbers[first:stop].tolist()):
            video = self._indexes[archive].video(number)
            if match := naming.match(video.path, row):
                origin = self._origin(archive, video)
                yield PackedMatch(match.rank, match.is_unusual, origin, match.begins_seconds, archive, number)

    def _origin(self, archive: int, video: PackedVideo) -> str:
        packed_in = os.path.relpath(self._paths[archive], self._root)
        return ": ".join(map(_printable, (packed_in, *video.within, video.path)))

    def _copy(self, match: PackedMatch, path: Path) -> None:
        archive, origin = match.archive, match.origin
        index = self._indexes[archive]
        video = index.video(match.number)
        if video.size_bytes > self._fetching.largest_bytes:
            raise TooLarge(f"{origin}: {video.size_bytes} bytes, --largest allows {self._fetching.largest_bytes}")
        try:
            self._copy_with_index(index, archive, video, origin, path)
        except DamagedIndex:
            index = self._rebuilt_index(archive, index)
            try:
                self._copy_with_index(index, archive, video, origin, path)
            except DamagedIndex as error:
                raise UnreadableFile(f"{origin}: its index {index.file} cannot be read: {error}") from None

    def _copy_with_index(self, index: Index, archive: int, video: PackedVideo, origin: str, path: Path) -> None:
        with self._opened(archive, origin) as file, open(path, "wb") as copy:
            crc, copied_bytes, blocks = 0, 0, index.blocks(file, video)
            while block := _next_block(blocks, origin):
                copy.write(block)
                crc, copied_bytes = zlib.crc32(block, crc), copied_bytes + len(block)
        if copied_bytes != video.size_bytes:
            raise UnreadableFile(f"{origin}: the archive ends after {copied_bytes} of its {video.size_bytes} bytes")
        if video.crc not in (None, crc):
            raise UnreadableFile(f"{origin}: its bytes have changed since the archive was scanned")

    @contextlib.contextmanager
    def _opened(self, archive: int, origin: str) -> Iterator[BinaryIO]:
        path = self._paths[archive]
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open(path, "rb"))
            except OSError as error:
                raise UnreadableFile(f"{origin}: cannot open the archive: {error.strerror}") from None
            self._expect_same(archive, file, origin)
            yield file
            self._expect_same(archive, file, origin)

    def _expect_same(self, archive: int, file: BinaryIO, origin: str) -> None:
        if Stamp.of(self._paths[archive], os.fstat(file.fileno())) != self._stamps[archive]:
            raise UnreadableFile(f"{origin}: the archive has changed since it was scanned; run again")

    def _rebuilt_index(self, archive: int, damaged: Index) -> Index:
        with self._rebuilding:
            if self._indexes[archive] is damaged:
                try:
                    rebuilt = archive_indexing.rebuild_index(self._paths[archive], damaged.file.parent)
                except BadOption as error:
                    raise UnreadableFile(str(error)) from None
                if rebuilt.stamp != damaged.stamp or rebuilt.contents.names != damaged.contents.names:
                    raise UnreadableFile(f"{self._paths[archive]} has changed since it was scanned; run again")
                self._indexes[archive] = rebuilt
            return self._indexes[archive]


def _next_block(blocks: Iterator[bytes | memoryview], origin: str) -> bytes | memoryview:
    # Only around reading: an error while writing means a bad or full disk, and stops the run.
    try:
        return next(blocks, b"")
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error.__cause__, DamagedIndex):  # in an archive within the archive
            raise error.__cause__ from None
        raise UnreadableFile(f"{origin}: the archive is damaged there: {error}") from None


def _load_indexes(paths: list[Path], folder: Path) -> list[Index]:
    # Threads suffice: inflating releases the interpreter lock.
    pool = concurrent.futures.ThreadPoolExecutor(min(len(paths), os.cpu_count() or 1))
    try:
        return list(pool.map(lambda path: archive_indexing.index_of(path, folder), paths))
    finally:
        pool.shutdown(cancel_futures=True)


def _list_archives(text: str) -> tuple[Path, list[Path]]:
    """The folder that names in the ledger are relative to, and the archives.

    Raises:
      BadOption: if there is no archive.
    """
    if os.path.isdir(text):
        root = Path(text).absolute()
        return root, sorted(Path(path).absolute() for path in _files(text) if path.lower().endswith(TAR_SUFFIXES))
    matches = [text] if os.path.lexists(text) else _matches(text)
    paths = sorted(Path(path).absolute() for path in matches)
    if not paths:
        raise BadOption(f"--videos {text!r}: there is no such archive")
    return Path(os.path.commonpath([path.parent for path in paths])), paths


def _matches(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        return []
    paths = glob.iglob(pattern, recursive=True)
    return [path for path in paths if os.path.isfile(path) and path.lower().endswith(TAR_SUFFIXES)]


def _has_only_archives(folder: str) -> bool:
    has_archive = False
    for path in _files(folder):
        if naming.is_video(path):
            return False
        has_archive = has_archive or path.lower().endswith(TAR_SUFFIXES)
    return has_archive


def _files(folder: str) -> Iterator[str]:
    return (os.path.join(folder, path) for path in naming.walk(folder))


def _counted(archives: int) -> str:
    return "the archive" if archives == 1 else f"any of the {archives} archives"


def _printable(name: str) -> str:
    """A name with replacement characters for bytes that are not UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")
