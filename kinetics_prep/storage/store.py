"""Store: whole objects under keys. What a prepared data set is written to, and nothing more than it needs.

A key is a relative path with "/" between its parts. An object is there whole or not at all, whenever a writer dies.
`create` has exactly one winner among all threads, processes and machines; the protocol of `dataset/` rests on that.

A store is opened for writing by the holder of a `Lease`. When another process takes the lease over, every write of the
former holder fails from then on, also a write that began before.
"""

import dataclasses
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class Entry:
    """An object of a listing."""

    key: str
    bytes: int


class Store(Hashable, Protocol):
    """Whole objects under keys. One store serves many threads, and crosses process borders."""

    @property
    def place(self) -> str:
        """Where the objects are, in words for people: a folder or a URL."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """The objects whose keys begin with `prefix`, which ends with "/" or is empty, in the order of their keys."""

    def read(self, key: str) -> bytes:
        """The content of an object.

        Raises:
          FileNotFoundError: if there is none.
        """

    def local(self, key: str) -> AbstractContextManager[Path]:
        """A file with the content of an object, to be read until the context ends.

        Raises:
          FileNotFoundError: if there is none.
        """

    def temporary(self, name: str) -> AbstractContextManager[Path]:
        """A path for a file that is to be `put`; what is there at the end of the context is deleted."""

    def create(self, key: str, content: bytes) -> bool:
        """Writes an object unless there is one. Returns whether this call wrote it.

        Raises:
          FolderInUse: if another process has taken the lease over.
          NoRoom: if the disk is full.
        """

    def put(self, key: str, content: bytes | Path) -> None:
        """Writes an object, or replaces it.

        Args:
          content: bytes, or a file: one under a path of `temporary` is moved, another one stays where it is.

        Raises:
          FolderInUse: if another process has taken the lease over.
          NoRoom: if the disk is full.
        """

    def delete(self, key: str) -> None:
        """Deletes an object; does nothing if there is none.

        Raises:
          FolderInUse: if another process has taken the lease over.
        """
