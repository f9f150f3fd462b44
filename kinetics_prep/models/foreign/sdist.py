"""Reads one file out of a .tar.gz, into memory. Nothing is unpacked to disk, whatever the archive says of names."""

import gzip
import io
import tarfile
import zlib
from pathlib import Path

from kinetics_prep.errors import BadWeights

MOST_BYTES = 256 << 20
"""That an archive may inflate to before the file is found."""


class _AtMost(io.RawIOBase):
    """A stream that refuses to give more than so many bytes: a gzip may inflate a thousandfold, without end."""

    def __init__(self, stream, most: int):
        self.stream, self.left = stream, most

    def readable(self):
        return True

    def read(self, size=-1):
        data = self.stream.read(self.left + 1 if size < 0 else min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise BadWeights(f"inflates to more than {MOST_BYTES} bytes")
        return data


def member(path: Path, ending: str) -> bytes:
    """The first file in the archive whose name ends so.

    Raises:
      BadWeights: if there is none, or the archive is damaged or too large.
    """
    try:
        with gzip.open(path, "rb") as inflated, tarfile.open(fileobj=_AtMost(inflated, MOST_BYTES), mode="r|") as tar:
            for found in tar:
                if found.isreg() and found.name.endswith(ending):
                    return _read(tar, found)
    except BadWeights as error:
        raise BadWeights(f"{path}: {error}") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, OverflowError) as error:
        raise BadWeights(f"{path} does not read as .tar.gz: {error}") from None
    raise BadWeights(f"{path} holds no file {ending}")


def _read(tar: tarfile.TarFile, found: tarfile.TarInfo) -> bytes:
    if found.size > MOST_BYTES:
        raise BadWeights(f"{found.name} is of {found.size} bytes, expected at most {MOST_BYTES}")
    data = tar.extractfile(found).read()
    if len(data) != found.size:
        raise BadWeights(f"{found.name} breaks off after {len(data)} of {found.size} bytes")
    return data
