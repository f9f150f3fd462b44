"""The JSON of the ActivityNet challenges, in which Kinetics was published too: entries under the key "database".

See `json_entries`. A video has any number of annotations. A video of the test set has no annotation, and so no times.
"""

from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.formats import json_entries
from kinetics_prep.annotations.rows import Row

_OTHER_KEYS = ("taxonomy", "version")
"""These may stand before the database, with long values."""


def recognises(path: Path) -> bool:
    """Whether the first key of a JSON file, apart from `_OTHER_KEYS`, is "database"."""
    if not json_entries.is_json(path):
        return False
    top_keys = (keys[0] for keys in json_entries.keys(path) if keys[0] not in _OTHER_KEYS)
    return next(top_keys, None) == "database"


def read(path: Path, default_split: str | None = None) -> Iterator[Row]:
    """See `json_entries.read`."""
    return json_entries.read(path, "database", default_split)
