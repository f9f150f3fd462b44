"""Runs that are killed before a write, for tests of what goes on after them."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from unittest import mock

from kinetics_prep.storage.folder_store import FolderStore


class Killed(BaseException):
    """The process ended here."""


@contextlib.contextmanager
def killed_at(write: int) -> Iterator[None]:
    """Raises `Killed` instead of the store's write of that number, from 0, and of each that follows.

    The lease's own files are left alone: in a test the process that holds it lives on.
    """
    numbers = itertools.count()

    def or_killed(original: Callable) -> Callable:
        @functools.wraps(original)
        def method(store: FolderStore, key: str, *arguments):
            if not key.startswith(".work/lease/") and next(numbers) >= write:
                raise Killed(key)
            return original(store, key, *arguments)

        return method

    with contextlib.ExitStack() as stack:
        for name in ("create", "put", "delete"):
            stack.enter_context(mock.patch.object(FolderStore, name, or_killed(getattr(FolderStore, name))))
        yield


def each_kill(begin: Callable[[], Callable[[], object]]) -> Iterator[int]:
    """Kills an action at each of its writes; yields after each kill the number of writes that were done.

    Args:
      begin: makes what the action acts on anew, and returns the action.
    """
    for write in itertools.count():
        action = begin()
        with killed_at(write):
            try:
                action()
                return
            except Killed:
                pass
        yield write
