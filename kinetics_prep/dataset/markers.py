"""Markers: the file that says a shard is complete, with counts and checksums. It is written last."""

import functools
import json
from pathlib import Path

import jsonschema

from kinetics_prep import schemas
from kinetics_prep.dataset import ledger
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.errors import CorruptShard
from kinetics_prep.storage.files import write_json


def write_marker(layout: Layout, name: str, marker: dict) -> None:
    """Writes the marker of a shard."""
    schemas.validate(marker, "marker")
    write_json(layout.marker(name), marker, layout.scratch)


def read_marker(path: Path) -> dict:
    """Reads a shard's marker.

    Raises:
      FileNotFoundError: if there is none.
      CorruptShard: if the file is not a marker.
    """
    try:
        marker = json.loads(path.read_text("utf-8"))
        schemas.validate(marker, "marker")
    except (ValueError, jsonschema.ValidationError) as error:
        raise CorruptShard(f"{path} is not a marker: {getattr(error, 'message', error)}") from None
    return marker


def committed_counts(path: Path) -> dict[str, int] | None:
    """Rows of a committed shard by status, None if it is not committed. Each marker is read once."""
    try:
        return _counts(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None


@functools.lru_cache(maxsize=100_000)
def _counts(path: Path, written_ns: int) -> dict[str, int]:
    marker = read_marker(path)
    return {ledger.WRITTEN: marker["written"], ledger.REFUSED: sum(marker["refused"].values())}
