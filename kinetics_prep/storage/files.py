"""Writing files whole or not at all, and saying so when the disk is full."""

import contextlib
import errno
import hashlib
import json
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

from kinetics_prep.errors import NoRoom, OtherRecipe

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or a quota, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextlib.contextmanager
def room_needed(path: Path):
    """Turns "disk full" into a `NoRoom` that says where."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise NoRoom(
            f"no room to write {path}: {os.strerror(error.errno)}. Nothing is lost: make room and run the same "
            "command again, it goes on from here"
        ) from None


@contextlib.contextmanager
def atomic(path: Path, scratch: Path, durable: bool = True) -> Iterator[Path]:
    """Gives a path to write to, which becomes `path` when the body ends well, and vanishes when not."""
    with room_needed(path):
        scratch.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = scratch / f"{uuid.uuid4().hex}-{path.name}"
        try:
            yield temporary
            if durable:
                _sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_json(path: Path, content: dict, scratch: Path) -> None:
    """Writes JSON, whole or not at all."""
    with atomic(path, scratch) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file) -> str:  # Python 3.10
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


_WITHOUT_LOCKS = threading.RLock()


@contextlib.contextmanager
def locked_file(path: Path) -> Iterator[TextIO]:
    """A file, made if it is not there, open to be read and written, which nobody else has meanwhile.

    The lock dies with the process, however it ends. Where there are no such locks it holds among the threads of a
    process alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(room_needed(path))
        if fcntl is None:
            stack.enter_context(_WITHOUT_LOCKS)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        file = stack.enter_context(open(descriptor, "r+", encoding="utf-8", errors="replace"))
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
        file.flush()  # before the lock goes


@contextlib.contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder. The lock is on the folder itself, and dies with the process however it ends.

    Raises:
      OtherRecipe: if another run has it.
    """
    if fcntl is None:
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
