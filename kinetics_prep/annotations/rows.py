"""Row: what one line of an annotation file says, or why it cannot be read."""

import dataclasses

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.errors import MalformedRow


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A line of an annotation file: an annotation, or an error; never both."""

    file: str
    """Base name of the file."""
    line: int
    """Number of the line, from 1; in JSON that of the annotation."""
    annotation: Annotation | None = None
    error: MalformedRow | None = None
    split: str | None = None
    """The annotation's split; of an unreadable row the split if at least that could be read."""

    def __post_init__(self):
        if (self.annotation is None) == (self.error is None):
            raise ValueError("a row holds either an annotation or an error")

    @property
    def clip_id(self) -> str:
        """The clip's name; of an unreadable row `<file>:<line>`, which no clip is called."""
        return self.annotation.clip_id if self.annotation else f"{self.file}:{self.line}"
