"""Writing whole files or none, and naming the file when the disk is full."""

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from kinetics_prep.errors import NoRoom

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that a disk or a quota is full, or a file larger than the system allows."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


@contextlib.contextmanager
def reporting_full_disk(path: Path) -> Iterator[None]:
    """Turns an `OSError` of a full disk into a `NoRoom` that names `path`; other errors pass through.

    Raises:
      NoRoom: if the body met a full disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise NoRoom(
            f"no room to write {path}: {os.strerror(error.errno)}. Nothing is lost: make room and run the same "
            "command again, it goes on from here"
        ) from None


@contextlib.contextmanager
def atomic_write(path: Path, scratch: Path, durable: bool = True) -> Iterator[Path]:
    """Yields a temporary path; renames it to `path` on success, deletes it on error.

    Args:
      path: the final name. Its folder is created if missing.
      scratch: folder for the temporary file, created if missing; on the same file system as `path`.
      durable: whether the bytes are flushed to the disk before the rename, so that a power cut cannot leave `path`
        with missing content.

    Raises:
      NoRoom: if the disk is full.
    """
    with reporting_full_disk(path):
        scratch.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = scratch / f"{uuid.uuid4().hex}-{path.name}"
        try:
            yield temporary
            if durable:
                sync(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flushes a file's bytes to the disk, so that they survive a power cut."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any], scratch: Path) -> None:
    """Writes JSON, indented and in UTF-8, whole or not at all."""
    with atomic_write(path, scratch) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: BinaryIO) -> str:  # Python 3.10
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
