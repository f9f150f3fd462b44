"""The one door to a prepared folder: every command that writes enters here, every command that reads too.

Entering for writing takes the folder's lease, refuses a folder that is not ours, finishes what a killed run was in the
middle of, and clears what it left. `state.MAY_FOLLOW` says what each command may do then.
"""

import contextlib
import dataclasses
import errno
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kinetics_prep.dataset import layout, markers, recipe_file, replace, search, survey
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.adopt import adopt, state_of_format_1
from kinetics_prep.dataset.markers import committed_shards
from kinetics_prep.dataset.objects import remove_objects
from kinetics_prep.dataset.part import list_parts
from kinetics_prep.dataset.staging import Staging
from kinetics_prep.dataset.state import CLOSES, MAY_FOLLOW, REFUSES, State
from kinetics_prep.errors import BadOption, CorruptShard, ForeignFolder
from kinetics_prep.storage.folder_store import FolderStore
from kinetics_prep.storage.lease import hold_lease
from kinetics_prep.storage.store import Store

_OF_THE_SYSTEM = frozenset({"lost+found", ".DS_Store", "Thumbs.db", "desktop.ini"})
"""What systems put into folders that are empty for their users."""

_NOT_WRITABLE = (errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of a folder that cannot be made, or is somebody else's to write to."""

_LEFTOVER = re.compile(re.escape(layout.WORK) + r"/objects/(?P<epoch>\d+)/(?:search(?P<search>\d+)-)?")


@dataclasses.dataclass
class OpenFolder:
    """An output folder that this run alone writes to."""

    store: Store
    state: State
    downloads: Path
    """A folder for downloads that are not kept; need not exist. It is not the scratch folder: a run that had lost the
    lease would make that anew with its next download, and could write again."""
    finished: search.Outcome | None = None
    """What a search came to that a killed run had been packing."""

    def save(self, state: State) -> None:
        """Writes the folder's state, if it has changed."""
        if state != self.state:
            states.write(self.store, state)
            self.state = state


@contextlib.contextmanager
def open_for_writing(
    output: Path, creates: bool = False, change: Mapping[str, Any] | None = None
) -> Iterator[OpenFolder]:
    """Opens a folder for writing; nobody else writes to it until the block ends.

    Args:
      creates: whether the folder may be new or empty.
      change: what the command is about to build, as JSON: its `kind` and settings. New files that a killed run of the
        same change has built are kept; those of others are dropped.

    Raises:
      BadOption: if the folder cannot be made or written to, or nothing was begun in it.
      ForeignFolder: if it holds files of others.
      FolderInUse: if another run writes to it.
      CorruptShard: if its state is damaged.
    """
    root = output.absolute()  # workers elsewhere have another working directory
    try:
        if creates:
            root.mkdir(parents=True, exist_ok=True)
        is_new = _expect_ours(FolderStore(root))
        if is_new and not creates:
            raise BadOption(f"{output} holds no {layout.STATE}: nothing was begun here by kinetics-prep flow")
        with hold_lease(root, layout.WORK) as store:
            yield enter(store, change)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE or not str(error.filename or root).startswith(str(root)):
            raise
        raise BadOption(f"--output {output} cannot be written to: {error.filename}: {error.strerror}") from None


@contextlib.contextmanager
def open_for_repair(output: Path) -> Iterator[FolderStore]:
    """Takes the lease of a folder whose documents may be damaged; `enter` opens it once they are mended.

    Raises:
      BadOption: if it cannot be written to.
      CorruptShard: if nothing was begun there, or too little is left of it.
      FolderInUse: if another run writes to it.
    """
    root = output.absolute()
    survey.take(FolderStore(root))
    try:
        with hold_lease(root, layout.WORK) as store:
            yield store
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise BadOption(f"{output} cannot be written to: {error.filename}: {error.strerror}") from None


def enter(store: FolderStore, change: Mapping[str, Any] | None) -> OpenFolder:
    """Opens a folder that this run alone writes to already, as `open_for_writing` does."""
    assert store.scratch is not None
    downloads = store.root / layout.WORK / f"videos-{store.scratch.name}"
    return _enter(OpenFolder(store, State(), downloads), change)


def open_for_reading(output: Path) -> tuple[Store, State]:
    """The store and the state of a folder, which others may write to meanwhile.

    While new files take their places, it is the folder as it will be then.

    Raises:
      CorruptShard: if nothing was begun there, or its state is damaged.
    """
    store: Store = FolderStore(output.absolute())
    state = _read_state(store) or state_of_format_1(store)
    if state is not None and _is_moving(state):
        store, state = _changed(store)
    if state is None or not state.plans:
        raise CorruptShard(f"{output} holds no plan: nothing was begun here")
    return store, state


def _is_moving(state: State) -> bool:
    return state.change is not None and bool(state.change.get("is_moving"))


def _changed(store: Store) -> tuple[Store, State | None]:
    """A folder as it will be once new files have taken their places."""
    try:
        new_state, gone = replace.read_change(store)
        return Staging(store, gone), new_state
    except CorruptShard:
        state = states.read(store)
        if state is not None and _is_moving(state):
            raise
        return store, state  # it was finished meanwhile


def _expect_ours(store: FolderStore) -> bool:
    """Checks that a folder may be written to; returns whether nothing was begun in it.

    Raises:
      ForeignFolder: if it holds files of others.
    """
    try:
        names = sorted(set(os.listdir(store.root)) - _OF_THE_SYSTEM)
    except FileNotFoundError:
        return True
    if layout.STATE in names:
        _read_state(store)
        return False
    others = [name for name in names if name != layout.WORK]
    work = _names(store.root / layout.WORK)
    if not others and work <= {"lease", "tmp"}:
        return True
    if state_of_format_1(store) is not None:
        return False
    with contextlib.suppress(CorruptShard):
        survey.take(store)
        raise BadOption(f"{store.root} has lost its {layout.STATE}: `kinetics-prep repair {store.root}` makes it anew")
    raise ForeignFolder(
        f"{store.root} holds files that kinetics-prep did not write, such as {(others or sorted(work))[0]}; nothing in "
        "it was touched. Choose an empty --output, or one that does not exist yet"
    )


def _read_state(store: Store) -> State | None:
    """The state of a folder; None if it has none. Its error names the command that helps."""
    try:
        return states.read(store)
    except CorruptShard as error:
        raise CorruptShard(f"{error}. `kinetics-prep repair {store.place}` makes it anew") from None


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _enter(folder: OpenFolder, change: Mapping[str, Any] | None) -> OpenFolder:
    """Brings a folder into a state to go on from."""
    store = folder.store
    markers.remove_reserved(store)
    current = states.read(store)
    if current is None:
        old = state_of_format_1(store)
        current = State() if old is None else adopt(store, old)
        states.write(store, current)
    folder.state = current
    if _is_moving(current):
        folder.state = replace.finish(store)
    if folder.state.search is not None and folder.state.search.is_packing:
        folder.finished = finish_packing(folder)
    if folder.state.change != change:
        replace.clear(store)
        folder.save(dataclasses.replace(folder.state, change=change))
    clear_leftovers(store, folder.state)
    return folder


def finish_packing(folder: OpenFolder) -> search.Outcome:
    """Packs what a closed search has found, and returns what it came to."""
    recipe = recipe_file.read(folder.store)
    if recipe is None:
        raise CorruptShard(f"{folder.store.place} holds no {layout.RECIPE}")
    state, outcome = search.pack(folder.store, folder.state, recipe)
    folder.save(state)
    return outcome


def admit(folder: OpenFolder, command: str) -> None:
    """Brings a folder into a state in which a command may begin, as `state.MAY_FOLLOW` says: closes a search.

    Raises:
      BadOption: if another command must come first.
    """
    if MAY_FOLLOW[folder.state.name][command] == CLOSES:
        recipe = recipe_file.read(folder.store)
        if recipe is None:
            raise CorruptShard(f"{folder.store.place} holds no {layout.RECIPE}")
        folder.save(search.close(folder.store, folder.state, recipe))
        folder.finished = finish_packing(folder)
        clear_leftovers(folder.store, folder.state)
    expect_may_follow(folder.store, folder.state, command)


def expect_may_follow(store: Store, state: State, command: str) -> None:
    """Checks that a command may begin in a state; one that needs all shards may if they are there.

    Raises:
      BadOption: if another command must come first.
    """
    if MAY_FOLLOW[state.name][command] != REFUSES:
        return
    recipe, committed = recipe_file.read(store), committed_shards(store)
    parts = list_parts(store, state, recipe) if recipe else []
    names = [part.shard_name(shard) for part in parts for shard in range(part.shards)]
    missing = [name for name in names if name not in committed]
    if missing or not names:
        example = f": {len(missing)} of {len(names)} shards are missing, such as {missing[0]}" if missing else ""
        raise BadOption(
            f"{store.place} is not finished{example}; {command} needs all of it: give its `kinetics-prep flow` command "
            "once more first"
        )


def clear_leftovers(store: Store, state: State) -> None:
    """Deletes work files that no longer count."""
    if state.change is None:
        replace.clear(store)
    for entry in list(store.list(f"{layout.WORK}/objects/")):
        match = _LEFTOVER.match(entry.key)
        serial = int(match["search"] or 0) if match else None
        is_searched = serial in (0, state.search.serial if state.search else None)
        if match is None or int(match["epoch"]) != state.epoch or not is_searched or not entry.bytes:
            store.delete(entry.key)
    if state.search is None:
        remove_objects(store, f"{layout.WORK}/search/")
