"""A run of `repair`: what can be made anew is made, then what is lost is prepared again as in any other run.

    with open_repair(request) as repair:
        ...
        finish(repair)

Where the dots are, any engine carries out `repair.run`, if there is one.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

from kinetics_prep.dataset import door, layout, ledger, manifest, repair, search
from kinetics_prep.dataset.door import OpenFolder
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.markers import committed_shards
from kinetics_prep.dataset.part import list_parts, list_searches
from kinetics_prep.dataset.recipe_file import RecipeFile
from kinetics_prep.dataset.repair import CHANGE, Report
from kinetics_prep.dataset.shard_survey import ShardSurvey
from kinetics_prep.dataset.survey import Survey
from kinetics_prep.errors import CorruptShard
from kinetics_prep.runs import prepare
from kinetics_prep.runs.job import Resumption
from kinetics_prep.runs.prepare import PrepareRun
from kinetics_prep.storage.files import reporting_full_disk


@dataclasses.dataclass(frozen=True)
class Repair:
    """A repair of which everything is done but what must be prepared again."""

    report: Report
    folder: OpenFolder | None
    """None if nothing was wrong, or if what is left to mend keeps the folder from being opened."""
    run: PrepareRun | None
    """Prepares what is lost; None if nothing is."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a repair came to."""

    report: Report
    again: tuple[LedgerRow, ...] = ()
    """The rows that were lost, as they are now."""
    is_finished: bool = True
    """Whether the folder is complete."""


@contextlib.contextmanager
def open_repair(
    request: Resumption, workers: int = 1, done: Callable[[ShardSurvey], None] = lambda looked: None
) -> Iterator[Repair]:
    """Takes a folder and makes anew what is damaged in it, from what is sound.

    Args:
      request: where to search the videos of lost clips; it has no reasons.
      workers: shards that are read at a time.
      done: called after each shard that was read.

    Raises:
      BadOption: if the folder cannot be written to, or clips are lost and nothing says where videos are.
      CorruptShard: if nothing was begun there, or too little is left of it.
      NewerFormat: if only a newer kinetics-prep can read it.
      OtherTools: if clips are lost, and programs or libraries here give other bytes.
      FolderInUse: if another run writes to it.
    """
    with reporting_full_disk(request.output), door.open_for_repair(request.output) as store:
        report = Report()
        found = repair.mend(store, report, workers, done)
        is_under_way = found.state.change == CHANGE
        is_clean = report.is_clean and not is_under_way and _has_right_manifest(found)
        if is_clean or _is_barred(report):
            yield Repair(report, None, None)
            return
        is_lost = bool(report.lost) or _lacks_finds(found)
        folder = door.enter(store, CHANGE if is_lost or is_under_way else None)
        if not is_lost:
            prepare.close_search(folder)
            is_lost = is_under_way and not _is_committed(folder, found.recipe)
        yield Repair(report, folder, prepare.resume(folder, request) if is_lost else None)


def _has_right_manifest(found: Survey) -> bool:
    """Whether dataset.json says what the markers say; true if there is none and none is due."""
    if found.is_damaged(layout.MANIFEST):
        return False
    return found.manifest is None or manifest.holds(manifest.build(found.store, found.state), found.manifest)


def _is_barred(report: Report) -> bool:
    """Whether something is left without which no command opens the folder."""
    needed = (layout.RECIPE, layout.STATE, layout.LABELS)
    return any(problem.where in needed or problem.where.startswith("plan/") for problem in report.left)


def _lacks_finds(found: Survey) -> bool:
    """Whether a search that repair itself has begun lacks a clip; another search is closed as far as it has come."""
    begun = found.state.search
    is_own = begun is not None and not begun.reasons and not begun.is_packing
    return is_own and any(map(search.count_untried, list_searches(found.store, found.state, found.recipe)))


def _is_committed(folder: OpenFolder, recipe: RecipeFile) -> bool:
    committed, parts = committed_shards(folder.store), list_parts(folder.store, folder.state, recipe)
    return all(part.shard_name(shard) in committed for part in parts for shard in range(part.shards))


def finish(opened: Repair) -> Outcome:
    """Writes dataset.json, if it is not right, and says what became of the rows that were lost.

    Raises:
      IncompleteShard: if a row was not prepared.
    """
    folder = opened.folder
    if folder is None:
        return Outcome(opened.report, is_finished=not opened.report.left)
    if opened.run is not None:
        prepare.finish(opened.run)
    else:
        _write_manifest(folder, opened.report)
    folder.save(dataclasses.replace(folder.state, change=None))
    return Outcome(opened.report, tuple(_lost_rows(folder, opened.report)), folder.state.is_complete)


def _write_manifest(folder: OpenFolder, report: Report) -> None:
    store = folder.store
    content = manifest.build(store, folder.state, checks_sizes=True)
    try:
        is_right = manifest.holds(content, manifest.read(store))
    except CorruptShard:
        is_right = False
    if content["splits"] and not is_right:
        manifest.write(store, content)
        report.done.append(f"{layout.MANIFEST}: written anew from the markers")
    is_complete = set(content["splits"]) == set(folder.state.splits)
    folder.save(dataclasses.replace(folder.state, is_complete=is_complete and folder.state.search is None))


def _lost_rows(folder: OpenFolder, report: Report) -> Iterator[LedgerRow]:
    lost: dict[str, set[str]] = {}
    for _, clip_id, name in report.lost:
        lost.setdefault(name, set()).add(clip_id)
    for name, clip_ids in lost.items():
        for row in ledger.read(folder.store, layout.ledger_key(name)):
            if row.clip_id in clip_ids:
                yield row
