"""A row of an annotation file: `ReadableRow` says which clip, `UnreadableRow` says why it cannot be read."""

import dataclasses

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.errors import MalformedRow


@dataclasses.dataclass(frozen=True, slots=True)
class ReadableRow:
    """A row that names a clip."""

    file: str
    """Base name of the file."""
    line: int
    """Number of the line, from 1; in JSON that of the annotation."""
    annotation: Annotation

    @property
    def clip_id(self) -> str:
        """The clip's name."""
        return self.annotation.clip_id

    @property
    def split(self) -> str:
        """The annotation's split."""
        return self.annotation.split


@dataclasses.dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row that names no clip, and the reason."""

    file: str
    """Base name of the file."""
    line: int
    """Number of the line, from 1; in JSON that of the annotation."""
    error: MalformedRow
    split: str | None = None
    """The row's split, if at least that could be read."""

    @property
    def clip_id(self) -> str:
        """`<file>:<line>`, which no clip is called."""
        return f"{self.file}:{self.line}"


Row = ReadableRow | UnreadableRow
