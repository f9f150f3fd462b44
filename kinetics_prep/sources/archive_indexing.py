"""Indexes in a folder: each archive is scanned once, and again when it or its index file has changed."""

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kinetics_prep.errors import BadOption
from kinetics_prep.sources import archive_index
from kinetics_prep.sources.archive_index import DamagedIndex, Index, Stamp
from kinetics_prep.sources.archive_scan import scan
from kinetics_prep.sources.tar_walk import NotATar

_LOGGER = logging.getLogger("kinetics_prep.sources")

_ABANDONED_SECONDS = 86400

_OTHER_KINDS = {
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}


def index_of(archive: Path, folder: Path) -> Index:
    """The index of an archive: the one in `folder` if the archive has not changed since, else a new one.

    Raises:
      BadOption: if it is not a tar archive, or cannot be read.
    """
    with _raising_bad_option(archive):
        stamp = Stamp.of(archive, archive.stat())
    try:
        index = archive_index.load(_index_file(archive, folder), stamp)
    except DamagedIndex:
        index = rebuild_index(archive, folder)
    for warning in index.contents.warnings:
        _LOGGER.warning("archive %s: %s", archive, warning)
    return index


def rebuild_index(archive: Path, folder: Path) -> Index:
    """Scans an archive and writes its index into `folder`.

    Raises:
      BadOption: if it is not a tar archive, cannot be read, or changes meanwhile.
      NoRoom: if the disk is full.
    """
    began = time.monotonic()
    with _raising_bad_option(archive), open(archive, "rb") as file:
        stamp = Stamp.of(archive, os.fstat(file.fileno()))
        try:
            contents, windows = scan(file, stamp.size_bytes)
        except NotATar as error:
            raise BadOption(_not_a_tar(archive, file, error)) from None
        if Stamp.of(archive, os.fstat(file.fileno())) != stamp:
            raise BadOption(f"{archive} changed while it was read: is it still being written?")
    index_file = _index_file(archive, folder)
    _delete_abandoned(folder)
    archive_index.save(index_file, stamp, contents, windows)
    try:
        index = archive_index.load(index_file, stamp)
    except DamagedIndex as error:
        raise BadOption(f"the index of {archive} cannot be read back: {error}") from None
    _LOGGER.info("archive %s: %d videos, %.1f s", archive, len(index), time.monotonic() - began)
    return index


def _index_file(archive: Path, folder: Path) -> Path:
    return folder / f"{hashlib.sha256(os.fsencode(archive)).hexdigest()[:32]}.index"


def _not_a_tar(archive: Path, file: BinaryIO, error: NotATar) -> str:
    file.seek(0)
    magic = file.read(8)
    for begins, kind in _OTHER_KINDS.items():
        if magic.startswith(begins):
            return (
                f"--videos: {archive} is {kind}, in which a video cannot be read without all data before it: unpack it "
                "into a folder, or repack it as .tar or .tar.gz"
            )
    return f"--videos: {archive} is no tar archive: {error}"


def _delete_abandoned(folder: Path) -> None:
    """Deletes temporary files that killed processes left long ago; younger ones may belong to a running process."""
    for path in folder.glob("*-*.index"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()
        except OSError:
            continue


@contextlib.contextmanager
def _raising_bad_option(archive: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadOption(f"--videos: cannot read {archive}: {error.strerror or error}") from None
