"""Files that are whole or absent; and a disk that is full is named."""

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kinetics_prep.errors import NoRoom

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BLOCK_BYTES = 1 << 20


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or a quota, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextlib.contextmanager
def room_needed(path: Path) -> Iterator[None]:
    """Turns an error that says "disk full" into a `NoRoom` that names the file.

    Raises:
      NoRoom: if the disk, or a quota, is full.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise NoRoom(
            f"no room to write {path}: {os.strerror(error.errno or 0)}. Nothing is lost: make room and run the same "
            "command again, it goes on from here"
        ) from None


@contextlib.contextmanager
def atomic_write(path: Path, scratch: Path, durable: bool = True) -> Iterator[Path]:
    """Yields a temporary path; renames it to `path` on success, deletes it on error.

    Args:
      scratch: a folder for the temporary file, on the same disk.
      durable: whether the file must survive a power cut: it is forced to disk before it gets its name.

    Raises:
      NoRoom: if the disk, or a quota, is full.
    """
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


def write_json(path: Path, content: Mapping[str, Any], scratch: Path) -> None:
    """Writes JSON, whole or not at all."""
    with atomic_write(path, scratch) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
