"""Locks among processes of one machine. They end with the process, however it ends."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from kinetics_prep.errors import OtherRecipe
from kinetics_prep.storage.files import room_needed

if sys.platform == "win32":  # which has no such locks
    _HAS_LOCKS = False
else:
    import fcntl

    _HAS_LOCKS = True

_WITHOUT_LOCKS = threading.RLock()


@contextlib.contextmanager
def locked_file(path: Path) -> Iterator[TextIO]:
    """Opens a file for reading and writing, made if missing, that no other process has open this way meanwhile.

    Where the system has no such locks it excludes only other threads of this process.

    Raises:
      NoRoom: if the disk, or a quota, is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(room_needed(path))
        if not _HAS_LOCKS:
            stack.enter_context(_WITHOUT_LOCKS)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        file = stack.enter_context(open(descriptor, "r+", encoding="utf-8", errors="replace"))
        if _HAS_LOCKS:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
        file.flush()  # before the lock ends


@contextlib.contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder, by a lock on the folder itself.

    Raises:
      OtherRecipe: if another run uses it.
    """
    if not _HAS_LOCKS:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OtherRecipe(f"another run is writing to {folder}; wait, or choose another --output") from None
    try:
        yield
    finally:
        os.close(descriptor)
