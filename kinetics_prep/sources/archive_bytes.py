"""The bytes of an archive at random: of the file itself, and which layers of gzip are in it."""

import dataclasses
from collections.abc import Iterator
from typing import BinaryIO


@dataclasses.dataclass(frozen=True)
class Layer:
    """Layer 0 is the archive's own bytes; any other is what a gzip stream within an earlier layer unpacks to."""

    parent: int
    offset: int
    size_bytes: int


@dataclasses.dataclass(frozen=True)
class FileBytes:
    """A file as a source of bytes."""

    file: BinaryIO

    def read(self, offset: int, wanted_bytes: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(wanted_bytes)

    def blocks(self, offset: int, wanted_bytes: int) -> Iterator[bytes]:
        end = offset + wanted_bytes
        while offset < end and (block := self.read(offset, min(1 << 20, end - offset))):
            offset += len(block)
            yield block
