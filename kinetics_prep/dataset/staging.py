"""A folder as it will be after a change: a store over the folder's own, in which new files are built.

new = Staging(store, gone)
ledger.write(new, ...)              waits below .work/new/, see `replace.py`
manifest.build(new, new_state)      reads new files, and old ones where there is no new one
replace.commit(store, state, new_state, staged(store), gone)
"""

import contextlib
import dataclasses
import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from kinetics_prep.dataset import replace
from kinetics_prep.storage.store import Entry, Store


@dataclasses.dataclass(frozen=True)
class Staging:
    """A `Store`: what is written waits for its place; what is read is the new object if there is one, else the old."""

    store: Store
    gone: frozenset[str] = frozenset()
    """Keys of objects that the change deletes, unless it replaces them."""

    @property
    def place(self) -> str:
        """The folder."""
        return self.store.place

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """The objects that there will be, in the order of their keys."""
        new = staged(self.store, prefix)  # first: what moves meanwhile is then in the other listing
        old = {entry.key: entry for entry in self.store.list(prefix) if entry.key not in self.gone}
        yield from sorted((old | new).values(), key=lambda entry: entry.key)

    def read(self, key: str) -> bytes:
        """The content of an object."""
        try:
            return self.store.read(replace.staged(key))
        except (FileNotFoundError, NotADirectoryError):
            return self.store.read(self._old(key))

    @contextlib.contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """A file with the content of an object."""
        with contextlib.ExitStack() as stack:
            try:
                path = stack.enter_context(self.store.local(replace.staged(key)))
            except (FileNotFoundError, NotADirectoryError):
                path = stack.enter_context(self.store.local(self._old(key)))
            yield path

    def temporary(self, name: str) -> AbstractContextManager[Path]:
        """A path for a file that is to be `put`."""
        return self.store.temporary(name)

    def create(self, key: str, content: bytes) -> bool:
        """Writes a new object unless there is one. Returns whether this call wrote it."""
        return self.store.create(replace.staged(key), content)

    def put(self, key: str, content: bytes | Path) -> None:
        """Writes a new object, or replaces it."""
        self.store.put(replace.staged(key), content)

    def delete(self, key: str) -> None:
        """Deletes a new object; old ones go only if they are in `gone`."""
        self.store.delete(replace.staged(key))

    def _old(self, key: str) -> str:
        if key in self.gone:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.place}/{key}")
        return key


def staged(store: Store, prefix: str = "") -> dict[str, Entry]:
    """New objects that wait for their places, by the keys that they will have."""
    waiting = replace.staged("")
    return {
        entry.key.removeprefix(waiting): Entry(entry.key.removeprefix(waiting), entry.bytes)
        for entry in store.list(replace.staged(prefix))
    }
