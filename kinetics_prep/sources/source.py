"""What a source has, and what it says of a file that it has downloaded.

A source is local or remote. A local source opens the video of a row. A remote source downloads it, one attempt per
call; `Remote` adds further attempts, the host's pace and the cache.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.sources.fetched import Fetched
from kinetics_prep.sources.fetching import Fetching

Candidate = AbstractContextManager[Fetched]
"""A file that may hold the clip of a row. It exists within the context; opening raises a `ClipError` if it cannot."""


@dataclasses.dataclass(frozen=True)
class Download:
    """A complete download."""

    name: str
    """The file's own name, for the record."""
    notes: tuple[str, ...] = ()
    """Notes for the ledger."""


class LocalSource(Protocol):
    """A source whose files are on this machine: a folder, archives, the cache."""

    def has(self, row: PlannedRow) -> bool:
        """Whether there is a file for a row; no file is opened."""

    def candidates(self, row: PlannedRow) -> Iterator[Candidate]:
        """Yields the files that may hold the clip of a row, the best match first.

        Raises:
          NotFound: if there is none.
        """


@runtime_checkable
class RemoteSource(Protocol):
    """A source that downloads. One object serves many threads."""

    @property
    def host(self) -> str:
        """The host that gets the first request for each video."""

    @property
    def gives_pieces(self) -> bool:
        """Whether a download is the clip of a row; else it is the whole video."""

    @property
    def attempts_if_forbidden(self) -> int:
        """How often a video is requested if the answer is `Forbidden`."""

    def origin(self, row: PlannedRow) -> str:
        """The address of a row's video for the ledger, without passwords."""

    def download(self, row: PlannedRow, path: Path, before_request: Callable[[str], None]) -> Download:
        """Downloads the video of a row to `path`, in one attempt. There is no file at `path` unless it is complete.

        Args:
          before_request: called with the host before a request; returns when the request may be made.

        Raises:
          ClipError: the reason why there is no video. Its `attempts` is 0 if nothing was requested.
        """


class SourceKind(Protocol):
    """A row of `SOURCES`: the class of a source."""

    @property
    def is_remote(self) -> bool:
        """Whether the sources are `RemoteSource`s; else they are `LocalSource`s."""

    def accepts(self, text: str) -> bool:
        """Whether the text after --videos means a source of this kind."""

    def open(self, text: str, fetching: Fetching, scratch: Path) -> LocalSource | RemoteSource:
        """The source that `text` means.

        Args:
          scratch: a folder for temporary files; need not exist.

        Raises:
          RunError: if it cannot be used.
        """
