"""Reads a prepared folder back, all of it, and names what is wrong.

Checked: each document by its own sha256, the manifest against the markers, each file against the recorded checksums,
the ledger and the shards against the plan, and of each record what `record_problems` checks. A damaged document does
not stop the check: what it said is taken from the others, see `survey.py`.
"""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.dataset import layout, ledger, manifest, objects, shard_survey, survey
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.part import Part, rows_of
from kinetics_prep.dataset.record_problems import record_problems
from kinetics_prep.dataset.state import State
from kinetics_prep.dataset.survey import Problem, Survey
from kinetics_prep.errors import CorruptShard, NewerFormat
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record
from kinetics_prep.storage.folder_store import FolderStore
from kinetics_prep.storage.store import Store

__all__ = ["FolderToCheck", "Problem", "Shard", "open_folder", "problems", "shard_problems"]


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard that must be there."""

    part: Part
    number: int
    written: int
    """Clips in it, as far as is known."""

    @property
    def name(self) -> str:
        """The name of its files."""
        return self.part.shard_name(self.number)


@dataclasses.dataclass(frozen=True)
class FolderToCheck:
    """A prepared folder as its own documents describe it."""

    survey: Survey
    shards: tuple[Shard, ...]


def open_folder(output: Path) -> FolderToCheck:
    """Reads what must be there to check the rest.

    Raises:
      CorruptShard: if nothing was begun there, or too little is left to check the rest.
      NewerFormat: if only a newer kinetics-prep can read a document.
    """
    found = survey.take(FolderStore(output.absolute()))
    if found.newer is not None:
        raise found.newer
    shards = (
        Shard(part, shard, (found.entry(part, shard) or {"written": 0})["written"])
        for part, shard in shard_survey.expected_shards(found)
    )
    return FolderToCheck(found, tuple(shards))


def problems(
    folder: FolderToCheck, workers: int = 1, done: Callable[[Shard], None] = lambda shard: None
) -> Iterator[Problem]:
    """Everything wrong with a folder.

    Args:
      workers: shards at a time.
      done: called after each shard.

    Raises:
      NewerFormat: if only a newer kinetics-prep can read a file: that is no damage, and not to be mended.
    """
    found = folder.survey
    documents = [Problem(key, what) for key, what in found.problems.items()]
    yield from documents
    is_sound = not documents
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for shard, wrong in zip(folder.shards, pool.map(functools.partial(_shard, found), folder.shards), strict=True):
            is_sound = is_sound and not wrong
            yield from wrong
            done(shard)
    yield from shard_survey.unknown_files(found)
    yield from _guarded(layout.STATE, lambda: _unfinished(found))
    if is_sound and found.manifest is not None:
        yield from _guarded(layout.MANIFEST, lambda: _manifest_problems(found))


def _shard(found: Survey, shard: Shard) -> list[Problem]:
    return list(_guarded(shard.name, lambda: shard_problems(found, shard)))


def _guarded(where: str, check: Callable[[], Iterable[Problem]]) -> Iterator[Problem]:
    """The problems that a check finds; an error of the check itself becomes a problem too."""
    try:
        yield from check()
    except (CorruptShard, OSError, KeyError, ValueError) as error:
        yield Problem(where, str(error) or type(error).__name__)


def _manifest_problems(found: Survey) -> Iterator[Problem]:
    assert found.manifest is not None
    built = manifest.build(found.store, found.state)
    if not manifest.holds(built, found.manifest):
        yield Problem(layout.MANIFEST, "does not say what the markers, recipe.json and labels.txt say")
    for split, entry in found.manifest["splits"].items():
        planned = sum(part.rows for part in found.parts if part.split == split and not part.refresh)
        done = entry["written"] + sum(entry["refused"].values())
        if not planned == entry["rows"] == done:
            yield Problem(layout.MANIFEST, f"{split}: {planned} rows are planned and {done} are written or refused")


def _unfinished(found: Survey) -> Iterator[Problem]:
    """What is under way, and the damaged objects of clips whose shard is not written yet."""
    what = _under_way(found.store, found.state)
    if what is not None:
        yield Problem(layout.STATE, what)
    for _, key in objects.list_objects(found.store, found.state.epoch):
        try:
            objects.read_object(found.store, key)
        except FileNotFoundError:
            pass
        except CorruptShard as error:
            yield Problem(key, f"{survey.without_place(str(error), found.store, key)}; its clip will be made again")


def _under_way(store: Store, current: State) -> str | None:
    """What a folder is in the middle of, and the command to give; None if it is complete."""
    folder = store.place
    reasons = ",".join(current.search.reasons) if current.search else ""
    if current.change is not None and (current.change.get("kind") == "repair" or current.name == states.CHANGING):
        kind = current.change.get("kind")
        return f"{kind} is under way ({current.name}): give `kinetics-prep {kind} {folder}` once more"
    return {
        states.PREPARING: "is not finished (preparing): give its `kinetics-prep flow` command once more",
        states.SEARCHING: f"rows are searched again (searching): give `kinetics-prep retry {folder} --reason "
        f"{reasons}` once more, or the `refresh` command that was given",
        states.PACKING: "what was found is put into shards (packing): `kinetics-prep retry`, `refresh` and `flow` "
        "each finish it first",
    }.get(current.name)


def shard_problems(found: Survey, shard: Shard) -> Iterator[Problem]:
    """Everything wrong with one shard."""
    looked = shard_survey.survey_shard(found, shard.part, shard.number)
    yield from looked.problems
    if looked.leaving and (found.state.search is None or not found.state.search.is_packing):
        yield Problem(
            layout.ledger_key(shard.name), f"{looked.leaving} rows of it were found later, and are in two ledgers"
        )
    plans = (shard.part.plan, *(key for key, _ in shard.part.later))
    if found.labels is None or any(map(found.is_damaged, plans)):
        return
    for form, is_sound in looked.files.items():
        key = layout.data_key(shard.name, SHARD_FORMATS[form].SUFFIX)
        yield from _guarded(key, functools.partial(_file_problems, found, shard, key, form, is_sound))


def _file_problems(found: Survey, shard: Shard, key: str, form: str, is_sound: bool) -> Iterator[Problem]:
    try:
        with found.store.local(key) as path:
            yield from _record_problems(found.labels, shard, key, SHARD_FORMATS[form].read_shard(path))
    except FileNotFoundError:
        pass  # named already
    except NewerFormat as error:
        if is_sound:
            raise
        yield Problem(key, survey.without_place(str(error), found.store, key))
    except CorruptShard as error:
        yield Problem(key, survey.without_place(str(error), found.store, key))


def _record_problems(labels: LabelMap | None, shard: Shard, where: str, records: Iterator[Record]) -> Iterator[Problem]:
    assert labels is not None
    # Without duplicates, which have the id of the clip that they repeat.
    rows = {row.clip_id: row for row in rows_of(shard.part, shard.number) if isinstance(row, PlannedRow)}
    clip_ids = []
    for record in records:
        clip_id = record.text("example/id")
        clip_ids.append(clip_id)
        for what in record_problems(record, rows.get(clip_id), shard.part.recipe, labels):
            yield Problem(f"{where}, {clip_id}", what)
    try:
        ledger_rows = ledger.read_columns(shard.part.store, layout.ledger_key(shard.name), "clip_id", "status")
        expected = [row["clip_id"] for row in ledger_rows if row["status"] == ledger.WRITTEN]
    except (CorruptShard, NewerFormat):
        return  # named already
    if clip_ids != expected:
        yield Problem(where, f"holds {len(clip_ids)} clips, not the {len(expected)} that the ledger says, in order")
