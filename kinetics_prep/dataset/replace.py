"""Replacing many files of a folder at once: all of them, or none, whenever the run is killed.

    store.put(staged("labels.txt"), ...)    new files are built below .work/new/, under the keys that they will have
    state = commit(store, state, new_state, moves, deletes)
    state = finish(store)                   moves and deletes; any command does so first if a run was killed here

A run that was killed while it built new files goes on with them, if the same command is given: it opens the folder with
`open_for_writing(output, change={"kind": ..., its settings})`. Any other command drops them.

While files change places there is no dataset.json, so a reader says that the folder is not finished.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from kinetics_prep.dataset import documents, layout
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.state import State
from kinetics_prep.errors import CorruptShard
from kinetics_prep.storage.store import Store

_NEW = f"{layout.WORK}/new/"
_LIST = f"{layout.WORK}/new.json"


def staged(key: str) -> str:
    """Where a new file waits for its place."""
    return _NEW + key


def clear(store: Store) -> None:
    """Deletes new files that a killed run left before it committed them, and a list that is done or counts no more."""
    for entry in list(store.list(_NEW)):
        store.delete(entry.key)
    store.delete(_LIST)


def is_listed(store: Store) -> bool:
    """Whether there is a sound list of what a change puts into place.

    It is there before the state says so, and until after the state says that it is done: to go on with it is right in
    both cases, as long as no other command has opened the folder, which calls `clear`.
    """
    try:
        _read_list(store)
    except CorruptShard:
        return False
    return True


def commit(store: Store, state: State, new_state: State, moves: Sequence[str], deletes: Iterable[str]) -> State:
    """Decides that staged files take their places. Nothing has moved yet; `finish` does it.

    Args:
      new_state: of the folder, once all is in place.
      moves: keys of staged files, dataset.json among them if there is a new one.
      deletes: keys of files that go.

    Returns:
      The state to go on from: "changing".
    """
    moved = set(moves)
    content = {"state": new_state.to_document(), "moves": list(moves), "deletes": sorted(set(deletes) - moved)}
    documents.write(store, _LIST, content)
    changing = dataclasses.replace(state, change={**(state.change or {}), "is_moving": True})
    states.write(store, changing)
    return changing


def finish(store: Store) -> State:
    """Moves staged files to their places and deletes what goes; again and again if killed. Returns the new state.

    Raises:
      CorruptShard: if the list of what is to be done is damaged.
    """
    new_state, moves, deletes = _read_list(store)
    waiting = {entry.key: entry.bytes for entry in store.list(_NEW)}  # an earlier run has moved the others
    if layout.MANIFEST not in moves or staged(layout.MANIFEST) in waiting:  # else it is the new one, moved last
        store.delete(layout.MANIFEST)
    for key in [key for key in moves if key != layout.MANIFEST] + [key for key in moves if key == layout.MANIFEST]:
        if (size_bytes := waiting.pop(staged(key), None)) is not None:
            _move(store, key, size_bytes)
    for key in deletes:
        store.delete(key)
    states.write(store, new_state)
    store.delete(_LIST)
    return new_state


def read_change(store: Store) -> tuple[State, frozenset[str]]:
    """The state that a change leads to, and the keys of what it deletes.

    Raises:
      CorruptShard: if there is no list of what is to be done, or it is damaged.
    """
    new_state, _, deletes = _read_list(store)
    return new_state, frozenset(deletes)


def _move(store: Store, key: str, size_bytes: int) -> None:
    if size_bytes:
        with store.local(staged(key)) as path:
            store.put(key, path)
    else:  # the label map of an unlabelled set; the store takes an empty file for a name that is only taken
        store.put(key, b"")
    store.delete(staged(key))


def _read_list(store: Store) -> tuple[State, list[str], list[str]]:
    try:
        content = documents.read(store, _LIST)
        moves, deletes = list(map(str, content["moves"])), list(map(str, content["deletes"]))
        if not all(map(_is_plain, (*moves, *deletes))):
            raise ValueError("keys that leave the folder")
        return State.from_document(content["state"]), moves, deletes
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptShard(f"{store.place}/{_LIST} does not say what to go on with: {error!r:.200}") from None


def _is_plain(key: Any) -> bool:
    return bool(key) and key.isprintable() and not key.startswith("/") and ".." not in key.split("/")
