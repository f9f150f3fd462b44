"""Fetched: a local file with a row's video, and which part of the video it holds."""

import dataclasses
from pathlib import Path

from kinetics_prep.errors import ClipError


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A local file. If its name has times, it is a piece of the video that begins at `begins_seconds`."""

    path: Path
    name: str
    """The file's own name, for the record."""
    origin: str
    """Where it came from, for the ledger: a path below the folder, a member of an archive, or a URL."""
    begins_seconds: float | None = None
    """Where on the video's clock the file begins; None for a file that should be the whole video."""
    attempts: int = 1
    """How often it was requested."""
    sha256: str | None = None
    """Of the file, if it is known already."""
    source: str | None = None
    """The kind of source that it came from, a name of `SOURCES`."""
    notes: tuple[str, ...] = ()
    """Notes for the ledger."""
    is_new: bool = False
    """Whether it was downloaded just now."""
    key: str | None = None
    """Of its entry in the cache; None if it is elsewhere."""
    doubt: ClipError | None = None
    """Why an earlier run refused it for the row; only if such files are to be requested again."""


@dataclasses.dataclass(frozen=True)
class Refused:
    """A file that is no use for a row, and why."""

    fetched: Fetched
    error: ClipError


def with_source_name(error: ClipError, path: Path, name: str, attempts: int) -> ClipError:
    """The same error, with the file's name at its source in place of the name of our copy.

    Args:
      path: our copy.
      name: the file's name at its source.
      attempts: how often the file was requested.
    """
    return type(error)(str(error).replace(path.name, name), attempts)
