"""Which video, or which piece of it, a file's name means; the same in folders and in archives.

`<id>.*` is the whole video; `<id>_<start>_<end>.*`, with any zero padding, is that piece of it.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kinetics_prep.annotations.annotation import TIMED_NAME
from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BadOption

_VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".3gp", ".mpg", ".mpeg", ".ts", ".mts")
    + (".wmv", ".ogv", ".ogg", ".gif", ".vob", ".mxf", ".f4v")
)
# Files that yt-dlp and people leave beside videos.
_OTHER_SUFFIXES = frozenset(
    (".part", ".ytdl", ".json", ".txt", ".csv", ".tsv", ".jpg", ".jpeg", ".png", ".webp", ".vtt", ".srt", ".ass")
    + (".description", ".xml", ".html", ".m4a", ".mp3", ".wav", ".opus", ".aac", ".flac", ".npy", ".npz", ".pkl")
    + (".zip", ".tar", ".gz", ".tgz", ".md5", ".sha256", ".log", ".tmp", ".temp")
)

_EXACT_PIECE, _LONGER_PIECE, _WHOLE_VIDEO = range(3)


class Match(NamedTuple):
    """How well a file fits a row. Sorts the best match first."""

    rank: int
    """0 for exactly the clip, 1 for a longer piece of the video, 2 for the whole video."""
    is_unusual: bool
    """Whether its suffix is not one of videos."""
    path: str
    begins_seconds: float | None
    """Where on the video's clock the file begins; None for the whole video."""


def is_video(name: str) -> bool:
    """Whether a file has a video's suffix."""
    return os.path.splitext(name)[1].lower() in _VIDEO_SUFFIXES


def may_be_video(name: str) -> bool:
    """Whether a file's suffix is none of those of files that lie beside videos."""
    return os.path.splitext(name)[1].lower() not in _OTHER_SUFFIXES


def lookup_words(path: str) -> tuple[str, ...]:
    """The words under which a file is looked up: its stem, and the id in it if it is named with times."""
    stem = os.path.splitext(os.path.basename(path))[0]
    timed = TIMED_NAME.match(stem)
    return (stem, timed["id"]) if timed else (stem,)


def match(path: str, row: PlannedRow) -> Match | None:
    """How well a file fits a row; None if it does not hold the row's clip."""
    stem = os.path.splitext(os.path.basename(path))[0]
    is_unusual = not is_video(path)
    if stem == row.media_id:
        return Match(_WHOLE_VIDEO, is_unusual, path, None)
    timed = TIMED_NAME.match(stem)
    if not timed or timed["id"] != row.media_id:
        return None
    begins, ends = float(timed["start"]), float(timed["end"])
    if (begins, ends) == (row.start_seconds, row.end_seconds):
        return Match(_EXACT_PIECE, is_unusual, path, begins)
    if row.end_seconds is not None and begins <= row.start_seconds and row.end_seconds <= ends:
        return Match(_LONGER_PIECE, is_unusual, path, begins)
    return None


def walk(root: str | Path) -> Iterator[str]:
    """Yields the files below a folder, as paths relative to it, without hidden ones. Follows links, each folder once.

    Raises:
      BadOption: if a folder cannot be listed.
    """
    seen = set()
    for folder, names, files in os.walk(str(root), followlinks=True, onerror=_raise_bad_option):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(folder, name), root)


def _raise_bad_option(error: OSError) -> None:
    if os.path.basename(error.filename) != "lost+found":  # which only root may list
        raise BadOption(f"--videos: cannot list {error.filename}: {error.strerror}") from None
