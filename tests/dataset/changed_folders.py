"""Small folders in each state, and runs that are killed at a write: for tests of `convert` and `purge`."""

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import small_dataset
from killing import Killed, killed_at

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.dataset import door, ledger, manifest, plan, recipe_file, search, state, status, validate
from kinetics_prep.dataset.door import OpenFolder, open_for_writing
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.objects import create_object
from kinetics_prep.dataset.part import list_parts, list_searches
from kinetics_prep.storage.folder_store import FolderStore

ROWS = [*(small_dataset.row(number) for number in range(6)), small_dataset.duplicate(small_dataset.row(5), 6)]
"""Three shards of three rows at most; the last row repeats the one before."""

REFUSED = {1: "network", 4: "not_found"}


def complete(folder: Path, refused: dict[int, str] | None = None) -> small_dataset.SmallDataset:
    """A complete folder with its manifest, whose videos of some rows were missing."""
    dataset = small_dataset.make(folder, rows=list(ROWS)).complete(refused or {})
    finish(folder)
    return dataset


def finish(folder: Path) -> None:
    """Does what `flow` does at its end."""
    with open_for_writing(folder) as opened:
        save_complete(opened)


def save_complete(opened: OpenFolder) -> None:
    manifest.write(opened.store, manifest.build(opened.store, opened.state))
    opened.save(dataclasses.replace(opened.state, is_complete=True))


def begin_search(folder: Path, found: tuple[int, ...], refused: tuple[int, ...] = ()) -> None:
    """Searches what was refused, has found some rows, and is stopped."""
    with open_for_writing(folder) as opened:
        recipe = recipe_file.read(opened.store)
        parts = list_parts(opened.store, opened.state, recipe)
        opened.save(search.begin(opened.store, opened.state, parts, ("network", "not_found")))
        (part,) = list_searches(opened.store, opened.state, recipe)
        for row in plan.read(opened.store, part.plan):
            number = row.annotation_line - 2
            if number in found:
                assert isinstance(row, PlannedRow)
                record = small_dataset.record_of(row).to_bytes()
                create_object(part, row, small_dataset.ledger_row(row, source=f"video{number}.mp4"), record)
            elif number in refused:
                create_object(part, row, small_dataset.ledger_row(row, "private"), None)


def refresh(folder: Path, found: tuple[int, ...], refused: tuple[int, ...] = ()) -> None:
    """A whole search."""
    begin_search(folder, found, refused)
    with open_for_writing(folder) as opened:
        opened.save(search.close(opened.store, opened.state, recipe_file.read(opened.store)))
        door.finish_packing(opened)
        save_complete(opened)
        door.clear_leftovers(opened.store, opened.state)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def of_data(files: dict[str, bytes]) -> dict[str, bytes]:
    """The data and plans among the files of a folder."""
    return {key: content for key, content in files.items() if key.split("/")[0] in ("tfrecord", "parquet", "plan")}


def rows_of(folder: Path) -> list[LedgerRow]:
    """Every ledger row. None may be there twice."""
    store = FolderStore(folder)
    rows = [row for entry in store.list("ledger/") for row in ledger.read(store, entry.key)]
    assert len({(row.split, row.clip_id, row.annotation_line) for row in rows}) == len(rows)
    return rows


def outcomes(folder: Path) -> dict[int, str]:
    """What became of each row, by its number."""
    return {row.annotation_line - 2: row.reason or row.status for row in rows_of(folder)}


def expect_sound(folder: Path) -> None:
    """Checks that a complete folder has nothing wrong, and nothing left over."""
    assert list(map(str, validate.problems(validate.open_folder(folder)))) == []
    assert len(rows_of(folder)) == len(ROWS)
    assert state.read(FolderStore(folder)).name == state.COMPLETE
    assert not (folder / ".work").exists()


def look(folder: Path) -> None:
    """What only reads may be asked at any time; it never finds more rows than are planned, nor loses one."""
    before = tree(folder)
    for split in status.read_status(folder):
        assert split.rows == len(ROWS) and split.to_go >= 0
    list(validate.problems(validate.open_folder(folder)))
    assert tree(folder) == before


# Killing ----------------------------------------------------------------------------------------


def each_kill(template: Path, folder: Path, action: Callable[[Path], object], step: int = 1) -> Iterator[str]:
    """Kills an action at each of its writes, on a fresh copy of a folder; yields where after each."""
    for write in itertools.count(0, step):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(template, folder)
        with killed_at(write):
            try:
                action(folder)
                return
            except Killed as where:
                killed = f"write {write}: {where}"
        yield killed
