"""Download: what a source says of a file that it has downloaded."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Download:
    """A download that is whole."""

    name: str
    """The file's own name, for the record."""
    notes: tuple[str, ...] = ()
    """What else one should know of it."""
