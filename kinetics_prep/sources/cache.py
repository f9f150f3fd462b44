"""The folder that keeps downloads, and refusals, for the next run.

    CACHE/
      videos/3f/3f9a…      the files, each named by the sha256 of its bytes
      entries/a0/….json    which file holds a video, or a piece of a video, where it came from, what is wrong with it
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
import errno
import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BadOption, ClipError, FetchError, NotFound
from kinetics_prep.sources import entry as entry_file
from kinetics_prep.sources.entry import Entry, Finding, without_half_characters
from kinetics_prep.sources.fetched import Fetched
from kinetics_prep.sources.refusals import Refusals, path_of_key
from kinetics_prep.sources.source import Candidate
from kinetics_prep.storage.files import sha256_of, sync, write_json
from kinetics_prep.storage.locks import locked_file

_LOCKS = 4096


class Cache:
    """A folder of downloads.

    Args:
      reads_bytes: whether a file is compared with its sha256 each time it is fetched; else only its size is compared,
        which is enough if the file will not be read.
      ask_again: reasons; a file that was refused for one of them is requested again, see `Remote`.
      run: the run's id, within which a source is asked for a video once; None for an id of its own.

    Raises:
      BadOption: if the folder cannot be made.
    """

    def __init__(self, folder: Path, reads_bytes: bool = True, ask_again: tuple[str, ...] = (), run: str | None = None):
        self.folder, self.reads_bytes, self.ask_again = folder, reads_bytes, ask_again
        self.run = run or uuid.uuid4().hex
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadOption(f"--cache {folder} cannot be made: {error.strerror}") from None
        self.refusals = Refusals(folder / "refusals", folder / "partial", self.run)

    @staticmethod
    def key(row: PlannedRow, is_piece: bool) -> str:
        """The key of a file: that of the clip itself, or of the whole video."""
        return f"clip {_clip_id(row)}" if is_piece else f"video {row.media_id}"

    def candidates(self, row: PlannedRow) -> Iterator[Candidate]:
        """Yields the files of a row's clip, then those of its whole video.

        Raises:
          NotFound: if there is none in the cache.
        """
        seen = set[tuple[str, str]]()  # two servers may have given the same file
        for entry in self._entries_of(row):
            if (entry.key, entry.sha256) not in seen and self.is_sound(entry):
                seen.add((entry.key, entry.sha256))
                yield contextlib.nullcontext(self.fetched(entry, row))
        if not seen:
            raise NotFound(f"{row.media_id} is not in --cache", attempts=0)

    def has(self, row: PlannedRow) -> bool:
        """Whether there is an entry for a row that need not be requested again; its file is not read."""
        return any(self._doubt(entry, row) is None for entry in self._entries_of(row))

    def entries(self, key: str) -> list[Entry]:
        """The entries for a key, in the order in which their files are tried. The files may have changed since."""
        return entry_file.read(self._entry_path(key), key)

    def _entries_of(self, row: PlannedRow) -> Iterator[Entry]:
        for is_piece in (True, False):
            yield from self.entries(self.key(row, is_piece))

    def fetched(self, entry: Entry, row: PlannedRow) -> Fetched:
        """The file of an entry, with the doubt whether it is of use for a row."""
        fetched = entry.fetched(self._video_path(entry.sha256), is_new=False)
        return dataclasses.replace(fetched, doubt=self._doubt(entry, row))

    def _doubt(self, entry: Entry, row: PlannedRow) -> ClipError | None:
        finding = entry.found.get(_clip_id(row))
        return finding.error(entry.attempts) if finding and finding.reason in self.ask_again else None

    def is_sound(self, entry: Entry, reads_bytes: bool | None = None) -> bool:
        """Whether the file of an entry is as it was downloaded.

        Args:
          reads_bytes: whether it is read; None for what the cache does with every file.
        """
        path = self._video_path(entry.sha256)
        try:
            if path.stat().st_size != entry.bytes:
                return False
            reads_bytes = self.reads_bytes if reads_bytes is None else reads_bytes
            return not reads_bytes or sha256_of(path) == entry.sha256
        except OSError:
            return False

    def keep(self, new: Entry, path: Path, instead_of: Entry | None = None) -> Fetched:
        """Moves the file at `path` into the cache, and deletes the refusal of its place. Hold the key's lock.

        Other files of the video stay, and are tried after it: they may be of use for other clips.

        Args:
          instead_of: the entry before which the new one is tried; None to try it last.
        """
        entries = [old for old in self.entries(new.key) if old == instead_of or self.is_sound(old, reads_bytes=True)]
        place = next((number for number, old in enumerate(entries) if old == instead_of), len(entries))
        found = [old.found for old in entries if old.sha256 == new.sha256 and self.is_sound(old, reads_bytes=True)]
        new = dataclasses.replace(new, found=found[0] if found else {})
        destination = self._video_path(new.sha256)
        destination.parent.mkdir(parents=True, exist_ok=True)
        sync(path)  # else a power cut could leave the entry without the bytes
        os.replace(path, destination)
        entries.insert(place, new)
        self._write([old for old in entries if old is new or (old.place, old.sha256) != (new.place, new.sha256)])
        self.refusals.forget(new.key, new.place)
        return new.fetched(destination, is_new=True)

    def amend(self, old: Entry, new: Entry) -> None:
        """Writes an entry anew. Hold the key's lock."""
        self._write([new if other == old else other for other in self.entries(old.key)])

    def note_refused(self, row: PlannedRow, fetched: Fetched, error: ClipError) -> None:
        """Notes with a file of the cache that it is no use for a row, and why; does nothing in a read-only cache."""
        key, clip_id = fetched.key, _clip_id(row)
        if key is None or isinstance(error, FetchError):
            return
        finding = Finding(error.reason, without_half_characters(str(error)), time.time())
        if not any(_lacks(entry, fetched, clip_id, finding) for entry in self.entries(key)):
            return
        with _ignoring_read_only(), self.locked(key):
            entries = self.entries(key)
            for number, entry in enumerate(entries):
                if _lacks(entry, fetched, clip_id, finding):
                    entries[number] = dataclasses.replace(entry, found={**entry.found, clip_id: finding})
            self._write(entries)

    def _write(self, entries: Sequence[Entry]) -> None:
        if entries:  # else they were damaged or deleted meanwhile
            write_json(self._entry_path(entries[0].key), entry_file.as_json(entries), self.folder / "partial")

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


def _clip_id(row: PlannedRow) -> str:
    return row.annotation.clip_id


def _lacks(entry: Entry, fetched: Fetched, clip_id: str, finding: Finding) -> bool:
    """Whether an entry is of that file, and does not say yet what was found."""
    known = entry.found.get(clip_id)
    return entry.sha256 == fetched.sha256 and (known is None or known.reason != finding.reason)


@contextlib.contextmanager
def _ignoring_read_only() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
