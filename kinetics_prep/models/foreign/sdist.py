"""Reads one file out of a .tar.gz into memory. Writes nothing to disk, whatever names the archive holds."""

import gzip
import io
import tarfile
import zlib
from pathlib import Path

from kinetics_prep.errors import BadWeights

MOST_BYTES = 256 << 20
"""Limit on what is inflated before the file is reached, and on the file."""


class _LimitedStream(io.BufferedIOBase):
    """A stream that raises once it has read more than `most` bytes: a gzip may inflate a thousandfold, without end."""

    def __init__(self, stream: io.BufferedIOBase, most: int) -> None:
        self.stream, self.left = stream, most

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        data = self.stream.read(self.left + 1 if size is None or size < 0 else min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise BadWeights(f"inflates to more than {MOST_BYTES} bytes")
        return data


def read_member(path: Path, ending: str) -> bytes:
    """The content of the first regular file in the archive whose name ends with `ending`.

    Raises:
      BadWeights: if there is none, or the archive is damaged or too large.
    """
    try:
        with (
            gzip.open(path, "rb") as inflated,
            tarfile.open(fileobj=_LimitedStream(inflated, MOST_BYTES), mode="r|") as archive,
        ):
            for entry in archive:
                if entry.isreg() and entry.name.endswith(ending):
                    return _read(archive, entry)
    except BadWeights as error:
        raise BadWeights(f"{path}: {error}") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, OverflowError) as error:
        raise BadWeights(f"{path} does not read as .tar.gz: {error}") from None
    raise BadWeights(f"{path} holds no file {ending}")


def _read(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    if entry.size > MOST_BYTES:
        raise BadWeights(f"{entry.name} is of {entry.size} bytes, expected at most {MOST_BYTES}")
    file = archive.extractfile(entry)
    data = file.read() if file else b""
    if len(data) != entry.size:
        raise BadWeights(f"{entry.name} breaks off after {len(data)} of {entry.size} bytes")
    return data
