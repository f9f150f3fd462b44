"""How a file's name says which video it is, or which piece of it; the same in a folder and in an archive.

`<id>.*` is the whole video; `<id>_<start>_<end>.*`, with any zero padding, is that piece of it.
"""

import os
from collections.abc import Iterator

from kinetics_prep.annotations.annotation import TIMED_NAME
from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import BadOption

_VIDEOS = frozenset(
    (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".3gp", ".mpg", ".mpeg", ".ts", ".mts")
    + (".wmv", ".ogv", ".ogg", ".gif", ".vob", ".mxf", ".f4v")
)
# What yt-dlp and people leave beside videos.
_OTHERS = frozenset(
    (".part", ".ytdl", ".json", ".txt", ".csv", ".tsv", ".jpg", ".jpeg", ".png", ".webp", ".vtt", ".srt", ".ass")
    + (".description", ".xml", ".html", ".m4a", ".mp3", ".wav", ".opus", ".aac", ".flac", ".npy", ".npz", ".pkl")
    + (".zip", ".tar", ".gz", ".tgz", ".md5", ".sha256", ".log", ".tmp", ".temp")
)


def is_video(name: str) -> bool:
    """Whether a file bears the suffix of a video."""
    return os.path.splitext(name)[1].lower() in _VIDEOS


def may_be_video(name: str) -> bool:
    """Whether a file is none of those that lie beside videos."""
    return os.path.splitext(name)[1].lower() not in _OTHERS


def words(path: str) -> tuple[str, ...]:
    """Under what a file is looked up: its stem, and the id in it if it is named with times."""
    stem = os.path.splitext(os.path.basename(path))[0]
    timed = TIMED_NAME.match(stem)
    return (stem, timed["id"]) if timed else (stem,)


def candidate(path: str, row: PlannedRow) -> tuple[int, bool, str, float | None] | None:
    """(how well it fits, ..., path, where it begins), the best one first; None if it does not hold the row's clip."""
    stem = os.path.splitext(os.path.basename(path))[0]
    unusual = not is_video(path)
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


def walk(root: str | os.PathLike[str]) -> Iterator[str]:
    """The files below a folder that are not hidden, as paths below it. Links are followed."""
    seen = set()
    for folder, names, files in os.walk(root, followlinks=True, onerror=_cannot_list):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            names.clear()
            continue
        seen.add(real)
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(folder, name), root)
