"""The folder that keeps downloads, and refusals, for the next run.

    CACHE/
      videos/3f/3f9a…      the files, each named by the sha256 of its bytes
      entries/a0/….json    which file holds a video, or a piece of a video, and where it came from
      refusals/a0/….json   why a source did not give a video
      partial/  locks/     downloads that are under way
      hosts/               when each host may get the next request, and until when it is paused
      archives/            where each video stands in tar archives
      ledger/              the outcome of each annotation row, by `kinetics-prep download`

The id of a video is its key, whatever source it came from. So data sets may share a cache if they share ids, as those
of YouTube do.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BadOption, NotFound
from kinetics_prep.sources.fetched import Fetched
from kinetics_prep.sources.refusals import Refusals, path_of_key
from kinetics_prep.sources.source import Candidate
from kinetics_prep.storage.files import sha256_of, write_json
from kinetics_prep.storage.locks import locked_file

_LOCKS = 4096


@dataclasses.dataclass(frozen=True)
class Entry:
    """Which file holds a video, or a piece of a video, and where it came from; the content of a file in `entries/`."""

    key: str
    name: str
    origin: str
    source: str
    begins_seconds: float | None
    attempts: int
    sha256: str
    bytes: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # The sha256 becomes part of a path.
        is_sha256 = len(self.sha256) == 64 and set(self.sha256) <= set("0123456789abcdef")
        if not is_sha256 or not isinstance(self.bytes, int) or not isinstance(self.name, str):
            raise ValueError("not an entry of a cache")

    def fetched(self, path: Path, is_new: bool) -> Fetched:
        """The file of this entry, which stands at `path`."""
        return Fetched(
            path=path,
            name=self.name,
            origin=self.origin,
            begins_seconds=self.begins_seconds,
            attempts=self.attempts,
            sha256=self.sha256,
            source=self.source,
            notes=tuple(map(str, self.notes)),
            is_new=is_new,
        )


class Cache:
    """A folder of downloads.

    Args:
      reads_bytes: whether a file is compared with its sha256 each time it is fetched; else only its size is compared,
        which is enough if the file will not be read.

    Raises:
      BadOption: if the folder cannot be made.
    """

    def __init__(self, folder: Path, reads_bytes: bool = True):
        self.folder, self.reads_bytes = folder, reads_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadOption(f"--cache {folder} cannot be made: {error.strerror}") from None
        self.refusals = Refusals(folder / "refusals", folder / "partial")

    @staticmethod
    def key(row: PlannedRow, is_piece: bool) -> str:
        """The key of a file: that of the clip itself, or of the whole video."""
        if is_piece:
            annotation = Annotation(row.media_id, row.start_seconds, row.end_seconds, row.split)
            return f"clip {annotation.clip_id}"
        return f"video {row.media_id}"

    def candidates(self, row: PlannedRow) -> Iterator[Candidate]:
        """Yields the clip of a row, and its whole video.

        Raises:
          NotFound: if neither is in the cache.
        """
        is_empty = True
        for is_piece in (True, False):
            if fetched := self.find_key(self.key(row, is_piece)):
                is_empty = False
                yield contextlib.nullcontext(fetched)
        if is_empty:
            raise NotFound(f"{row.media_id} is not in --cache", attempts=0)

    def find_key(self, key: str) -> Fetched | None:
        """The file with this key; None if there is none, or if it has changed since it was downloaded."""
        try:
            entry = Entry(**json.loads(self._entry_path(key).read_text("utf-8")))
            path = self._video_path(entry.sha256)
            if entry.key == key and self._is_sound(entry, path):
                return entry.fetched(path, is_new=False)
        except (OSError, ValueError, TypeError):
            pass  # a damaged entry counts as none
        return None

    def _is_sound(self, entry: Entry, path: Path) -> bool:
        if path.stat().st_size != entry.bytes:
            return False
        return not self.reads_bytes or sha256_of(path) == entry.sha256

    def has(self, row: PlannedRow) -> bool:
        """Whether there is an entry for a row; its file is not read."""
        return any(self._entry_path(self.key(row, is_piece)).exists() for is_piece in (True, False))

    def keep(self, entry: Entry, path: Path) -> Fetched:
        """Moves the file at `path` into the cache, and deletes the refusals with its key."""
        destination = self._video_path(entry.sha256)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb") as file:
            os.fsync(file.fileno())  # else a power cut could leave the entry without the bytes
        os.replace(path, destination)
        write_json(self._entry_path(entry.key), dataclasses.asdict(entry), self.folder / "partial")
        self.refusals.forget(entry.key)
        return entry.fetched(destination, is_new=True)

    def partial(self, name: str) -> Path:
        """A path for a download that is under way."""
        folder = self.folder / "partial"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Keeps other threads and processes from downloading the same file at the same time."""
        number = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % _LOCKS
        with locked_file(self.folder / "locks" / f"{number:04d}"):
            yield

    def _entry_path(self, key: str) -> Path:
        return path_of_key(self.folder / "entries", key)

    def _video_path(self, sha256: str) -> Path:
        return self.folder / "videos" / sha256[:2] / sha256
