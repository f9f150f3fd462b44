"""The JSON of the ActivityNet challenges, in which Kinetics was given out, too: entries under "database".

See `json_entries`. A video has any number of annotations; one of the test set has none, and so no times.
"""

from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.formats import json_entries
from kinetics_prep.annotations.rows import Row

_BESIDE = ("taxonomy", "version")
"""What may stand before the database, and be long."""


def recognises(path: Path) -> bool:
    """Whether a file of JSON leads to a database before it leads to anything unknown."""
    if not json_entries.is_json(path):
        return False
    tops = (keys[0] for keys in json_entries.keys(path) if keys[0] not in _BESIDE)
    return next(tops, None) == "database"


def read(path: Path, default_split: str | None = None) -> Iterator[Row]:
    """See `json_entries.read`."""
    return json_entries.read(path, "database", default_split)
