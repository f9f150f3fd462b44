"""A row of an annotation file: a `ReadableRow` names a clip, an `UnreadableRow` says why it cannot."""

import dataclasses

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.errors import MalformedRow


@dataclasses.dataclass(frozen=True, slots=True)
class ReadableRow:
    """A row that names a clip."""

    file: str
    """Base name of the file."""
    line: int
    """Number of the line, from 1; in JSON the number of the annotation."""
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
    """A row that cannot be read, and the reason."""

    file: str
    """Base name of the file."""
    line: int
    """Number of the line, from 1; in JSON the number of the annotation."""
    error: MalformedRow
    split: str | None = None
    """The row's split, if at least the split can be read."""

    @property
    def clip_id(self) -> str:
        """`<file>:<line>`, which is never the name of a clip."""
        return f"{self.file}:{self.line}"


Row = ReadableRow | UnreadableRow
