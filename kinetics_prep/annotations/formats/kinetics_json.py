"""The JSON files that DeepMind publishes beside the CSV of Kinetics: see `json_entries`."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from kinetics_prep.annotations.formats import json_entries
from kinetics_prep.annotations.rows import Row


def recognises(path: Path) -> bool:
    """Whether the first value in a JSON file is an entry."""
    if not json_entries.is_json(path):
        return False
    after_first = itertools.islice(json_entries.keys(path), 1, None)
    keys_of_entry = itertools.takewhile(lambda keys: len(keys) == 2, after_first)
    return any(key in ("annotations", "subset") for _, key in keys_of_entry)


def read(path: Path, default_split: str | None = None) -> Iterator[Row]:
    """See `json_entries.read`."""
    return json_entries.read(path, "", default_split)
