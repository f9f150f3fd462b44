"""The JSON files that DeepMind publishes beside the CSV of Kinetics: see `json_entries`."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.formats import json_entries
from kinetics_prep.annotations.rows import Row


def recognises(path: Path) -> bool:
    """Whether the first thing in a file of JSON is an entry."""
    if not json_entries.is_json(path):
        return False
    first = itertools.takewhile(lambda keys: len(keys) == 2, itertools.islice(json_entries.keys(path), 1, None))
    return any(key in ("annotations", "subset") for _, key in first)


def read(path: Path, default_split: str | None = None) -> Iterator[Row]:
    """See `json_entries.read`."""
    return json_entries.read(path, "", default_split)
