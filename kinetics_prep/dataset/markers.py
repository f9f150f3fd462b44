"""Markers: the file that says a shard is complete, with counts and checksums. It is written last."""

import functools
from typing import Any

import jsonschema

from kinetics_prep import schemas
from kinetics_prep.dataset import documents, layout
from kinetics_prep.errors import CorruptShard
from kinetics_prep.storage.store import Store


def encode(marker: dict[str, Any]) -> bytes:
    """The marker of a shard as its file holds it."""
    schemas.validate({"version": documents.VERSION, **marker}, "marker")
    return documents.encode(marker)


def create_marker(store: Store, name: str, marker: dict[str, Any]) -> bool:
    """Commits a shard. Returns False if it was committed already."""
    return store.create(layout.marker_key(name), encode(marker))


def replace_marker(store: Store, name: str, marker: dict[str, Any]) -> None:
    """Writes the marker of a committed shard anew: its ledger has changed."""
    store.put(layout.marker_key(name), encode(marker))


def read_marker(store: Store, name: str) -> dict[str, Any]:
    """Reads a shard's marker.

    Raises:
      FileNotFoundError: if there is none.
      CorruptShard: if the file is not a marker.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    key = layout.marker_key(name)
    marker = documents.read(store, key)
    try:
        schemas.validate(marker, "marker")
    except jsonschema.ValidationError as error:
        raise CorruptShard(f"{store.place}/{key} is not a marker: {error.message}") from None
    return marker


def is_committed(store: Store, name: str) -> bool:
    """Whether a shard has its marker."""
    try:
        with store.local(layout.marker_key(name)):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def committed_shards(store: Store) -> frozenset[str]:
    """The names of all committed shards, by one listing."""
    names = (entry.key.removeprefix("markers/") for entry in store.list("markers/") if entry.bytes)
    return frozenset(name.removesuffix(".json") for name in names if name.endswith(".json"))


def remove_reserved(store: Store) -> None:
    """Removes names of markers that a killed writer took and wrote nothing under: the shard could not be committed."""
    for entry in list(store.list("markers/")):
        if not entry.bytes:
            store.delete(entry.key)


@functools.lru_cache(maxsize=100_000)
def counts(store: Store, name: str) -> tuple[int, int]:
    """(written, refused) of a committed shard. Each marker is read once: for progress."""
    marker = read_marker(store, name)
    return marker["written"], sum(marker["refused"].values())
