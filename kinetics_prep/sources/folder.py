"""Videos in a local folder, at any depth.

`<id>.*` is the whole video; `<id>_<start>_<end>.*`, with any zero padding, is that piece of it.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations import TIMED_NAME
from kinetics_prep.errors import BadOption, NotFound
from kinetics_prep.plan import PlanRow
from kinetics_prep.sources.fetched import Fetched
from kinetics_prep.sources.fetching import Fetching

_VIDEOS = frozenset(
    (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".3gp", ".mpg", ".mpeg", ".ts", ".mts")
    + (".wmv", ".ogv", ".ogg", ".gif", ".vob", ".mxf", ".f4v")
)
# What yt-dlp and people leave beside videos.
_OTHERS = frozenset(
    (".part", ".ytdl", ".json", ".txt", ".csv", ".tsv", ".jpg", ".jpeg", ".png", ".webp", ".vtt", ".srt", ".ass")
    + (".description", ".xml", ".html", ".m4a", ".mp3", ".wav", ".opus", ".aac", ".flac", ".npy", ".npz", ".pkl")
    + (".zip", ".tar", ".gz", ".md5", ".sha256", ".log", ".tmp", ".temp")
)


class Folder:
    """A folder and everything below it, listed when opened."""

    is_remote = False

    @staticmethod
    def accepts(text: str) -> bool:
        return "://" not in text

    @classmethod
    def open(cls, text: str, fetching: Fetching, scratch: Path) -> "Folder":
        if not os.path.isdir(text):
            raise BadOption(f"--videos {text!r} is not a folder")
        found = cls(Path(text).absolute())
        if not found._files:
            raise BadOption(f"--videos {text!r}: there is no video below this folder")
        return found

    def __init__(self, root: Path):
        self.root = root
        self._files: dict[str, list[str]] = {}
        """Paths below the root by stem, and also by id for files named with times."""
        for path in _walk(root):
            stem = os.path.splitext(os.path.basename(path))[0]
            self._files.setdefault(stem, []).append(path)
            if timed := TIMED_NAME.match(stem):
                self._files.setdefault(timed["id"], []).append(path)

    @contextlib.contextmanager
    def fetch(self, row: PlanRow) -> Iterator[Fetched]:
        """The file of a row; the best one, if several would do.

        Raises:
          NotFound: if there is none.
        """
        found = [_candidate(path, row) for path in self._files.get(row.media_id, ())]
        found = sorted(candidate for candidate in found if candidate and (self.root / candidate[2]).is_file())
        if not found:
            raise NotFound(f"no file {row.media_id}.* or {row.media_id}_<start>_<end>.* below --videos")
        _, _, path, begins_seconds = found[0]
        name = os.fsencode(path).decode("utf-8", "replace")
        yield Fetched(self.root / path, os.path.basename(name), name, begins_seconds, source="folder")


def _candidate(path: str, row: PlanRow) -> tuple | None:
    """(how well it fits, ..., path, where it begins), or None if it does not hold the clip."""
    stem, suffix = os.path.splitext(os.path.basename(path))
    unusual = suffix.lower() not in _VIDEOS
    if stem == row.media_id:
        return 2, unusual, path, None
    timed = TIMED_NAME.match(stem)
    if not timed or timed["id"] != row.media_id:
        return None
    begins, ends = float(timed["start"]), float(timed["end"])
    if (begins, ends) == (row.start_seconds, row.end_seconds):
        return 0, unusual, path, begins
    if row.end_seconds is not None and begins <= row.start_seconds and row.end_seconds <= ends:
        return 1, unusual, path, begins
    return None


def _cannot_list(error: OSError) -> None:
    if os.path.basename(error.filename) != "lost+found":
        raise BadOption(f"--videos: cannot list {error.filename}: {error.strerror}") from None


def _walk(root: Path) -> Iterator[str]:
    seen = set()
    for folder, names, files in os.walk(root, followlinks=True, onerror=_cannot_list):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() not in _OTHERS:
                yield os.path.relpath(os.path.join(folder, name), root)
