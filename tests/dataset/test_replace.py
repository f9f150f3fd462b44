"""Replacing many files at once: all of them or none, at whatever write the run is killed."""

import contextlib
import dataclasses
import errno
import os
from pathlib import Path

import pytest
import small_dataset
from killing import Killed, each_kill, killed_at

from kinetics_prep.dataset import documents, layout, replace
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.state import State
from kinetics_prep.errors import CorruptShard
from kinetics_prep.storage.folder_store import FolderStore

BEFORE = {
    "dataset.json": b"old manifest",
    "labels.txt": b"labels",
    "ledger/a.parquet": b"old ledger",
    "tfrecord/a.tfrecord": b"old a",
    "tfrecord/b.tfrecord": b"old b",
}
NEW = {
    "dataset.json": b"new manifest",
    "ledger/a.parquet": b"new ledger",
    "labels.txt": b"",
    "parquet/c.parquet": b"c",
    "tfrecord/a.tfrecord": b"new a",
}
DELETES = ["tfrecord/b.tfrecord", "tfrecord/a.tfrecord", "nothing"]
AFTER = {**BEFORE, **NEW}
del AFTER["tfrecord/b.tfrecord"]
CHANGE = {"kind": "convert"}
OLD = State(change=CHANGE, is_complete=True)


def objects(store: FolderStore) -> dict[str, bytes]:
    """Everything in a folder but the state and the scratch folder."""
    entries = [entry.key for entry in store.list() if not entry.key.startswith(".work/tmp/")]
    return {key: store.read(key) for key in entries if key != layout.STATE}


def make(folder: Path) -> FolderStore:
    store = small_dataset.store_of(folder)
    for key, data in BEFORE.items():
        store.put(key, data)
    states.write(store, OLD)
    return store


def stage(store: FolderStore) -> None:
    for key, data in NEW.items():
        store.put(replace.staged(key), data)


def change(store: FolderStore, new_state: State | None = None) -> State:
    stage(store)
    replace.commit(store, OLD, new_state or State(epoch=2, is_complete=True), [*NEW, "labels.txt"], DELETES)
    return replace.finish(store)


def test_new_files_take_their_places_and_old_ones_go(tmp_path):
    store = make(tmp_path)
    assert change(store) == states.read(store) == State(epoch=2, is_complete=True)
    assert objects(store) == AFTER


def test_nothing_has_changed_until_it_is_decided(tmp_path):
    store = make(tmp_path)
    stage(store)
    assert {key: data for key, data in objects(store).items() if not key.startswith(".work")} == BEFORE
    assert states.read(store) == OLD
    committed = replace.commit(store, OLD, State(), list(NEW), DELETES)
    assert committed == states.read(store) == dataclasses.replace(OLD, change={**CHANGE, "is_moving": True})
    assert committed.name == states.CHANGING
    assert {key: data for key, data in objects(store).items() if not key.startswith(".work")} == BEFORE


@pytest.mark.parametrize("has_links", [True, False])
def test_whatever_write_a_change_is_killed_at_it_is_whole_in_the_end_or_was_not_begun(has_links, tmp_path, monkeypatch):
    if not has_links:

        def link(source, target):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", link)
    folders = (tmp_path / str(number) for number in range(100))
    stores = []

    def begin():
        stores.append(make(next(folders)))
        return lambda: change(stores[-1])

    ends = []
    for _ in each_kill(begin):
        store = stores[-1]
        state = states.read(store)
        if state.name == states.CHANGING:
            assert replace.finish(store) == states.read(store) == State(epoch=2, is_complete=True)
            assert objects(store) == AFTER
        else:
            replace.clear(store)
            # Killed after its last word on the state, a change has nothing left to do but to throw its list away.
            assert (state, objects(store)) in [(OLD, BEFORE), (State(epoch=2, is_complete=True), AFTER)]
        ends.append(state.name)
    assert ends == sorted(ends, key=[states.COMPLETE, states.CHANGING].index) or ends[-1] == states.COMPLETE
    assert ends.count(states.CHANGING) >= len(NEW) + 2
    assert objects(stores[-1]) == AFTER


def test_a_second_kill_while_it_is_finished_does_no_harm_either(tmp_path):
    folders = (tmp_path / str(number) for number in range(1000))

    def begin_at(writes: int):
        """A folder in which a change was killed after so many writes, and what finishes it."""

        def begin():
            stores.append(make(next(folders)))
            with contextlib.suppress(Killed), killed_at(writes):
                change(stores[-1])
            return lambda: replace.finish(stores[-1])

        return begin

    stores: list[FolderStore] = []
    first = len(NEW) + 2  # staged and committed
    for writes in range(first, first + 12, 2):
        for _ in each_kill(begin_at(writes)):
            if states.read(stores[-1]).name == states.CHANGING:
                replace.finish(stores[-1])
            replace.clear(stores[-1])
            assert objects(stores[-1]) == AFTER


def test_while_files_change_places_there_is_no_manifest(tmp_path, monkeypatch):
    store = make(tmp_path)
    put, seen = FolderStore.put, []

    def watch(self, key, content):
        if key in NEW and key != layout.MANIFEST:
            seen.append((key, (tmp_path / layout.MANIFEST).exists()))
        put(self, key, content)

    stage(store)
    replace.commit(store, OLD, State(), list(NEW), DELETES)
    monkeypatch.setattr(FolderStore, "put", watch)
    replace.finish(store)
    assert seen == [(key, False) for key in NEW if key != layout.MANIFEST]
    assert store.read(layout.MANIFEST) == b"new manifest"


def test_a_change_without_a_new_manifest_leaves_none(tmp_path):
    store = make(tmp_path)
    store.put(replace.staged("labels.txt"), b"others")
    replace.commit(store, OLD, State(), ["labels.txt"], [])
    replace.finish(store)
    assert objects(store) == {key: data for key, data in BEFORE.items() if key != layout.MANIFEST} | {
        "labels.txt": b"others"
    }


def test_new_files_of_a_change_that_was_not_decided_are_dropped(tmp_path):
    store = make(tmp_path)
    stage(store)
    replace.clear(store)
    assert objects(store) == BEFORE


HOSTILE = {
    "nothing": lambda content: content.clear(),
    "no moves": lambda content: content.pop("moves"),
    "moves in a number": lambda content: content.update(moves=3),
    "a move out of the folder": lambda content: content.update(moves=["../labels.txt"]),
    "a move to the root": lambda content: content.update(moves=["/labels.txt"]),
    "a move to nowhere": lambda content: content.update(moves=[""]),
    "a move to no name": lambda content: content.update(moves=["a\0b"]),
    "a deletion out of the folder": lambda content: content.update(deletes=["a/../../labels.txt"]),
    "a deletion of a number": lambda content: content.update(deletes=3),
    "a state that is none": lambda content: content.update(state={}),
    "a state in a list": lambda content: content.update(state=[]),
}


@pytest.mark.parametrize("damage", HOSTILE)
def test_a_list_that_makes_no_sense_moves_nothing(damage, tmp_path):
    store = make(tmp_path / "out")
    (tmp_path / "labels.txt").write_bytes(b"of somebody else")
    stage(store)
    replace.commit(store, OLD, State(), list(NEW), DELETES)
    content = documents.read(store, ".work/new.json")
    HOSTILE[damage](content)
    documents.write(store, ".work/new.json", content)
    before = objects(store)
    with pytest.raises(CorruptShard, match=r"out/\.work/new\.json does not say what to go on with"):
        replace.finish(store)
    assert objects(store) == before
    assert (tmp_path / "labels.txt").read_bytes() == b"of somebody else"


@pytest.mark.parametrize("data", [None, b"", b"{"])
def test_a_list_that_is_missing_or_damaged_moves_nothing(data, tmp_path):
    store = make(tmp_path / "out")
    stage(store)
    replace.commit(store, OLD, State(), list(NEW), DELETES)
    if data is None:
        store.delete(".work/new.json")
    else:
        (tmp_path / "out" / ".work" / "new.json").write_bytes(data)
    with pytest.raises(CorruptShard, match=r"out/\.work/new\.json"):
        replace.finish(store)
    assert store.read(layout.MANIFEST) == b"old manifest"
