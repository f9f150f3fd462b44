"""Locks between threads and processes. The system releases them when a process ends, however it ends."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from kinetics_prep.errors import FolderInUse
from kinetics_prep.storage.files import reporting_full_disk

if sys.platform != "win32":
    import fcntl

_THREADS_LOCK = threading.RLock()
"""Used instead of file locks on Windows, which has no `flock`."""


@contextlib.contextmanager
def locked_file(path: Path) -> Iterator[TextIO]:
    """Opens a file for reading and writing and waits until nobody else holds it; creates it if missing.

    Windows has no such locks: there only the threads of one process exclude each other.

    Raises:
      NoRoom: if the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(reporting_full_disk(path))
        if sys.platform == "win32":
            stack.enter_context(_THREADS_LOCK)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        file = stack.enter_context(open(descriptor, "r+", encoding="utf-8", errors="replace"))
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file  # closed, and so flushed, before the lock is released


@contextlib.contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder; does nothing on Windows. The lock is on the folder itself: no file is made.

    Raises:
      FolderInUse: if another run holds the folder.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise FolderInUse(f"another run is writing to {folder}; wait, or choose another --output") from None
    try:
        yield
    finally:
        os.close(descriptor)
