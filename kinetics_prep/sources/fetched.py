"""What a source has brought: a local file, and which part of the video it holds."""

import dataclasses
from pathlib import Path

from kinetics_prep.errors import ClipError


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A local file. Named with times, it is a piece of the video that begins at `begins_seconds`."""

    path: Path
    name: str
    """The file's own name, for the record."""
    origin: str
    """Where it came from, for the ledger: a path below the folder, a member of an archive, or a URL."""
    begins_seconds: float | None = None
    """Where on the video's clock the file begins; None for a file that should be the whole video."""
    attempts: int = 1
    """How often it was asked for."""
    sha256: str | None = None
    """Of the file, where it is known already."""
    source: str | None = None
    """The kind of source that it came from, a name of `SOURCES`."""
    notes: tuple[str, ...] = ()
    """What else one should know of it."""
    is_new: bool = False
    """Whether it was downloaded just now."""


def with_source_name(error: ClipError, path: Path, name: str, attempts: int) -> ClipError:
    """What is wrong with a file, with the name that it had where it came from rather than that of our copy."""
    return type(error)(str(error).replace(path.name, name), attempts)
