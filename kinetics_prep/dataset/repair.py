"""Repair: what is damaged is made anew from what is sound, and only what is lost is left to be prepared again.

    documents     recipe.json, state.json, purged.json, labels.txt, plans; each from the others, see `survey.py`
    shards        data in one format from another; a marker from its files; what is left of a shard becomes objects, as
                  if the run that prepared it had been killed before its last clip
    dataset.json  from the markers, by the run that follows

Every step can be given up at any write: what it had not mended is found again. Nothing sound is deleted, and no file
that is not of the data set is touched.
"""

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlannedRow, PlanRow
from kinetics_prep.dataset import (
    layout,
    ledger,
    markers,
    objects,
    plan,
    purged,
    rebuild,
    recipe_file,
    replace,
    search,
    shards,
    survey,
)
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.adopt import drop_unfinished
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.part import Part, list_searches, rows_of
from kinetics_prep.dataset.record_problems import record_problems
from kinetics_prep.dataset.shard_survey import ShardSurvey, expected_shards, survey_shard, unknown_files
from kinetics_prep.dataset.state import Search, State
from kinetics_prep.dataset.survey import Problem, Survey
from kinetics_prep.errors import CorruptShard
from kinetics_prep.errors import Purged as PurgedError
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record
from kinetics_prep.storage.store import Store

CHANGE = {"kind": "repair"}
"""In the folder's state while lost rows are prepared again."""


@dataclasses.dataclass
class Report:
    """What a repair came to."""

    done: list[str] = dataclasses.field(default_factory=list)
    """What was mended, in words."""
    left: list[Problem] = dataclasses.field(default_factory=list)
    """What cannot be mended, and what to do."""
    strangers: list[str] = dataclasses.field(default_factory=list)
    """Keys of files that are not of the data set, and stay as they are."""
    lost: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    """(split, clip id, name of the shard) of each row that is to be prepared again."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.done or self.left or self.lost)


def mend(
    store: Store, report: Report, workers: int = 1, done: Callable[[ShardSurvey], None] = lambda looked: None
) -> Survey:
    """Makes everything anew that can be, but for dataset.json. Returns the survey of the documents after it.

    Args:
      workers: shards that are read at a time.
      done: called after each shard that was read.

    Raises:
      CorruptShard: if nothing was begun in the folder, or too little is left of it.
      NewerFormat: if only a newer kinetics-prep can read a document.
    """
    found = separate(mend_documents(store, report), report)
    looked = survey_shards(found, workers, done)
    is_damaged = not report.is_clean or any(each.leaving or not each.is_sound for each in looked)
    if is_damaged and not found.is_damaged(layout.STATE) and states.read(store) is None:
        found = adopt(found)
        looked = survey_shards(found, workers, lambda looked: None)
    mend_shards(found, looked, report)
    report.strangers = [problem.where for problem in unknown_files(found)]
    return found


# Documents and plans ----------------------------------------------------------------------------


def mend_documents(store: Store, report: Report) -> Survey:
    """Writes damaged documents and plans anew, those first that others are made from. Returns the survey after it.

    Raises:
      CorruptShard: if nothing was begun in the folder, or too little is left of it.
      NewerFormat: if only a newer kinetics-prep can read a document.
    """
    for mend in (_finish_moves, _mend_recipe, _mend_state, _mend_purged, _mend_labels, _mend_plans, _mend_labels):
        found = survey.take(store)
        if found.newer is not None:
            raise found.newer
        mend(found, report)
    if survey.take(store).is_damaged(layout.SOURCES):
        store.delete(layout.SOURCES)
        report.done.append(f"{layout.SOURCES}: was damaged, and nothing else has its content; it was removed: give "
                           "--videos or --cache to the next retry or refresh")  # fmt: skip
    found = survey.take(store)
    of_shards = {layout.MANIFEST}  # it is made from markers, after the shards
    report.left += [
        Problem(key, what)
        for key, what in found.problems.items()
        if key not in of_shards and key not in {problem.where for problem in report.left}
    ]
    return found


def _finish_moves(found: Survey, report: Report) -> None:
    """Goes on with a change that was putting files into their places, also if state.json is damaged."""
    if found.is_damaged(layout.STATE) and replace.is_listed(found.store):
        replace.finish(found.store)
        report.done.append(f"{layout.STATE}: taken from the change that was under way, which was finished")
    elif found.state.name == states.CHANGING:
        replace.finish(found.store)


def _mend_recipe(found: Survey, report: Report) -> None:
    if not found.is_damaged(layout.RECIPE):
        return
    if found.is_shape:
        found.store.delete(layout.RECIPE)
        _leave(report, found, layout.RECIPE, f"is damaged, and so is {layout.MANIFEST}, which repeats it")
        return
    recipe_file.write(found.store, found.recipe)
    report.done.append(f"{layout.RECIPE}: written anew from {layout.MANIFEST}")


def _mend_state(found: Survey, report: Report) -> None:
    if not found.is_damaged(layout.STATE):
        return
    if found.unknown:
        _leave(report, found, layout.STATE, f"is damaged, and nothing describes {layout.plan_key(found.unknown[0])}")
        return
    states.write(found.store, found.state)
    report.done.append(f"{layout.STATE}: written anew from plans and markers")


def _mend_purged(found: Survey, report: Report) -> None:
    if not found.is_damaged(layout.PURGED):
        return
    ids = rebuild.purged_ids(found)
    purged.write(found.store, ids)
    report.done.append(
        f"{layout.PURGED}: written anew from the ledgers, with {len(ids.because)} ids; ids of no row are lost: "
        "give them to `kinetics-prep purge` once more"
    )


def _mend_labels(found: Survey, report: Report) -> None:
    if not found.is_damaged(layout.LABELS):
        return
    report.left[:] = [problem for problem in report.left if problem.where != layout.LABELS]
    try:
        labels = rebuild.label_map(found)
    except CorruptShard as error:
        found.store.delete(layout.LABELS)
        _leave(report, found, layout.LABELS, str(error))
        return
    found.store.put(layout.LABELS, labels.text().encode("utf-8"))
    report.done.append(f"{layout.LABELS}: written anew from the plans")


def _mend_plans(found: Survey, report: Report) -> None:
    # What was found later first: the first plan holds its rows too.
    for part in sorted(found.parts, key=lambda part: -part.refresh):
        if found.is_damaged(part.plan):
            found = _mend_plan(found, part, report)


def _mend_plan(found: Survey, part: Part, report: Report) -> Survey:
    store = found.store
    try:
        rows = rebuild.plan_rows(found, part)
    except CorruptShard as error:
        _leave(report, found, part.plan, f"cannot be made from the ledgers: {error}")
        return found
    entry = plan.write(store, part.plan, rows, part.shards)
    if entry != found.state.plans[part.name]:  # another version of Parquet
        changed = dataclasses.replace(found.state, plans={**found.state.plans, part.name: entry})
        if not found.is_damaged(layout.STATE):
            states.write(store, changed)
    report.done.append(f"{part.plan}: written anew from the ledgers")
    return survey.take(store)


def _leave(report: Report, found: Survey, key: str, what: str) -> None:
    advice = f"give the same `kinetics-prep flow` command for {found.store.place} once more, then repair"
    report.left.append(Problem(key, f"{what}: {advice}"))


# Format 1 ---------------------------------------------------------------------------------------


def adopt(found: Survey) -> Survey:
    """Writes the state of a folder of format 1, so that it goes on as one of this format."""
    store = found.store
    if states.read(store) is not None:
        return found
    named = survey.manifest_plans(found.manifest).keys()
    states.write(store, drop_unfinished(store, found.state, found.recipe, named))
    return survey.take(store)


# Rows in two ledgers ----------------------------------------------------------------------------


def separate(found: Survey, report: Report) -> Survey:
    """Takes rows out of what a search found that the parts before it have written too.

    What is left of the search's finds is filed as the finds of a new search, which the run that follows packs.
    """
    for part in found.parts:
        doubles = _doubles(found, part)
        if doubles:
            _drop_rows(adopt(found), part, doubles)
            report.done.append(f"{part.plan}: {len(doubles)} rows of it were written before; they left its shards")
            return separate(survey.take(found.store), report)
    return found


def _doubles(found: Survey, part: Part) -> frozenset[str]:
    """The clips of a part that an earlier part has written."""
    if not part.refresh or found.is_damaged(part.plan):
        return frozenset()
    planned = {row.clip_id for row in plan.read(found.store, part.plan)}
    written: set[str] = set()
    earlier_parts = (each for each in found.parts if each.split == part.split and each.refresh < part.refresh)
    for earlier in earlier_parts:
        for shard in range(earlier.shards):
            key = layout.ledger_key(earlier.shard_name(shard))
            with contextlib.suppress(CorruptShard):  # it is made anew, without rows that were found later
                rows = ledger.read_columns(found.store, key, "clip_id", "status")
                written.update(row["clip_id"] for row in rows if row["status"] == ledger.WRITTEN)
    return frozenset(planned & written)


def _drop_rows(found: Survey, part: Part, doubles: frozenset[str]) -> None:
    store, current = found.store, found.state
    names = [part.shard_name(shard) for shard in range(part.shards)]
    keys = [key for name in names for key in _keys(part, name)]
    plans = {name: entry for name, entry in current.plans.items() if name != part.name}
    new = dataclasses.replace(current, plans=plans, change=CHANGE, is_complete=False, search=None)
    rest = [row for row in plan.read(store, part.plan) if row.clip_id not in doubles]
    kept = {row.clip_id: row for row in rest if isinstance(row, PlannedRow)}
    if kept:
        new = _file_as_search(found, part, new, kept)
    replace.commit(store, current, new, [], [part.plan, *keys])
    replace.finish(store)


def _file_as_search(found: Survey, part: Part, current: State, kept: dict[str, PlannedRow]) -> State:
    """Files clips of a part as objects of a new search; returns the state in which it is under way."""
    store, serial = found.store, current.searches + 1
    numbers = filter(None, map(layout.split_part_name, current.plans))
    rows = list(kept.values())
    entry = search.write_plan(store, layout.search_plan_key(part.split), rows, part.clips_per_shard)
    begun = Search(1 + max(number for _, number in numbers), serial, (), {part.split: entry})
    new = dataclasses.replace(current, searches=serial, search=begun)
    (target,) = list_searches(store, new, found.recipe)
    places = {row.clip_id: row for row in plan.read(store, target.plan)}
    for shard in range(part.shards):
        looked = survey_shard(found, part, shard)
        for row, ledger_row, data in _kept_rows(found, looked):
            if row.clip_id in kept and data is not None:
                store.create(target.object_key(places[row.clip_id]), objects.encode(ledger_row, data))
    return new


def _keys(part: Part, name: str) -> list[str]:
    data = [layout.data_key(name, SHARD_FORMATS[form].SUFFIX) for form in part.formats]
    return [layout.marker_key(name), layout.ledger_key(name), *data]


# Shards -----------------------------------------------------------------------------------------


def mend_shards(found: Survey, looked: Sequence[ShardSurvey], report: Report) -> None:
    """Makes what is damaged of each shard from what is sound of it, and takes apart those that have lost clips."""
    for each in looked:
        _mend_shard(found, each, report)


def survey_shards(found: Survey, workers: int, done: Callable[[ShardSurvey], None]) -> list[ShardSurvey]:
    """Looks at every shard that must be there.

    Args:
      workers: shards that are read at a time.
      done: called after each shard.
    """
    looked = []
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for each in pool.map(lambda pair: survey_shard(found, *pair), expected_shards(found)):
            looked.append(each)
            done(each)
    return looked


def _mend_shard(found: Survey, looked: ShardSurvey, report: Report) -> None:
    part = looked.part
    if looked.is_sound:
        _amend(found, looked, report)
        return
    if looked.is_odd:
        advice = "it is as it was written, so it was left alone; a newer kinetics-prep may read it"
        report.left += [Problem(problem.where, f"{problem.what}: {advice}") for problem in looked.problems]
        return
    plans = (part.plan, *(key for key, _ in part.later))
    if not _is_told(looked) and any(map(found.is_damaged, (layout.LABELS, *plans))):
        report.left += looked.problems  # until what it is measured by has been made anew
        return
    if _hides_purged(found, looked):
        report.left.append(
            Problem(
                layout.ledger_key(looked.name),
                f"is damaged, and rows of it were purged that {layout.PURGED} does not name; they must not come back. "
                f"Give their ids to `kinetics-prep purge {found.store.place}` once more, then repair",
            )
        )
        return
    rows = _mended_ledger(found, looked)
    if rows is not None and (looked.sound_formats or not _written(rows)):
        _mend_in_place(looked, rows, report)
        _amend(found, looked, report)
    else:
        _take_apart(found, looked, report)


def _amend(found: Survey, looked: ShardSurvey, report: Report) -> None:
    """Has rows leave a ledger that a later search found, unless the search is being packed and will do so."""
    is_packing = found.state.search is not None and found.state.search.is_packing
    if looked.leaving and not is_packing:
        shards.amend_ledger(looked.part, looked.shard, {})
        key = layout.ledger_key(looked.name)
        report.done.append(f"{key}: {looked.leaving} rows left it that are in the ledger of a later search")


def _is_told(looked: ShardSurvey) -> bool:
    """Whether recorded checksums vouch for enough of a shard to make the rest of it without its plan."""
    is_empty = looked.truth is not None and not looked.truth["files"]
    return looked.has_ledger and looked.truth is not None and (is_empty or bool(looked.sound_formats))


def _hides_purged(found: Survey, looked: ShardSurvey) -> bool:
    """Whether a ledger that is lost named rows that were purged, and purged.json does not."""
    if looked.has_ledger or looked.truth is None:
        return False
    out = purged.read(found.store)
    refused = looked.truth.get("refused")
    if refused is None:  # dataset.json has no such count for each shard
        return found.manifest is not None and found.manifest.get("purged", 0) > len(out.because)
    known = sum(out.reason_for(row) is not None for row in rows_of(looked.part, looked.shard))
    return refused.get(PurgedError.reason, 0) > known


def _written(rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    return [row for row in rows if row.status == ledger.WRITTEN]


def _mended_ledger(found: Survey, looked: ShardSurvey) -> list[LedgerRow] | None:
    """The rows of a shard's ledger, also of a damaged one if its clips and its plan tell all of them."""
    part, store = looked.part, found.store
    if looked.has_ledger:
        return list(ledger.read(store, layout.ledger_key(looked.name)))
    if not looked.sound_formats:
        return None
    known = {_key(row): ledger_row for row, ledger_row, _ in _kept_rows(found, looked)}
    rows = [known.get(_key(row)) for row in rows_of(part, looked.shard)]
    return [row for row in rows if row is not None] if None not in rows else None


def _key(row: PlanRow | LedgerRow) -> tuple[str, str, int]:
    return row.clip_id, row.annotation_file, row.annotation_line


def _mend_in_place(looked: ShardSurvey, rows: Sequence[LedgerRow], report: Report) -> None:
    """Writes what is damaged of a shard of which all clips are sound in one format; its marker last."""
    part, store, name = looked.part, looked.part.store, looked.name
    sound = looked.sound_formats
    files: dict[str, Any] = {}
    for form in part.formats if _written(rows) else ():
        if form in sound and looked.truth is not None:
            files[form] = looked.truth["files"][form]
            continue
        # Of a sound one whose description is lost only the description is made: the same bytes are not written again.
        source = form if form in sound else sound[0]
        files[form] = shards.write_data(store, name, form, _records(store, name, source))
        if form != source:
            report.done.append(f"{files[form]['path']}: written anew from {source}")
    key = layout.ledger_key(name)
    if looked.has_ledger:
        description = ledger.describe(store, key)
    else:
        description = ledger.write(store, key, rows)
        report.done.append(f"{key}: written anew from the records")
    marker = shards.describe(part, looked.shard, rows, files) | description
    if not looked.has_marker or not _says(markers.read_marker(store, name), marker):
        markers.replace_marker(store, name, marker)
        if not looked.has_marker:
            report.done.append(f"{layout.marker_key(name)}: written anew from the shard's files")


def _says(marker: dict[str, Any], content: dict[str, Any]) -> bool:
    """Whether a marker, perhaps of format 1, says the same."""
    return all(content.get(name) == value for name, value in marker.items() if name != "version")


def _records(store: Store, name: str, form: str) -> Iterator[Record]:
    module = SHARD_FORMATS[form]
    with store.local(layout.data_key(name, module.SUFFIX)) as path:
        yield from module.read_shard(path)


def _take_apart(found: Survey, looked: ShardSurvey, report: Report) -> None:
    """Files what is sound of a shard as objects, so that a run prepares what is lost and assembles it again."""
    part, store = looked.part, found.store
    current = states.read(store) or found.state
    states.write(store, dataclasses.replace(current, is_complete=False, change=CHANGE))
    sound = set(objects.remove_damaged(store, objects.existing_objects(part, looked.shard)))
    for row, ledger_row, data in _kept_rows(found, looked):
        if part.object_key(row) not in sound:
            store.create(part.object_key(row), objects.encode(ledger_row, data))
            sound.add(part.object_key(row))
    store.delete(layout.marker_key(looked.name))
    rows = rows_of(part, looked.shard)
    lost = [row for row in rows if part.object_key(row) not in sound]
    report.lost += [(part.split, row.clip_id, looked.name) for row in lost]
    damaged = ", ".join(dict.fromkeys(problem.where for problem in looked.problems if problem.where != layout.MANIFEST))
    report.done.append(f"{looked.name}: {len(rows) - len(lost)} of its {len(rows)} rows were kept ({damaged})")
    if not lost:
        shards.assemble(part, looked.shard)


def _kept_rows(found: Survey, looked: ShardSurvey) -> Iterator[tuple[PlanRow, LedgerRow, bytes | None]]:
    """(row, its ledger row, its record if it was written) of what is sound of a shard; one record at a time."""
    part, store = looked.part, found.store
    rows, out = rows_of(part, looked.shard), purged.read(store)
    of_ledger = _sound_ledger_rows(looked)
    planned = {row.clip_id: row for row in rows if isinstance(row, PlannedRow) and out.reason_for(row) is None}
    engine, filed = "unknown", set[str]()
    for record in _sound_records(found, looked, planned, filed):
        clip_id, data = record.text("example/id"), record.to_bytes()
        row = planned[clip_id]
        ledger_row = of_ledger.get(_key(row), rebuild.row_of_record(row, record, len(data), part))
        if ledger_row.status == ledger.WRITTEN:
            engine = ledger_row.engine
            filed.add(clip_id)
            yield row, ledger_row, data
    for each in rows:
        ledger_row_or_none = of_ledger.get(_key(each)) or rebuild.refusal_of(each, out, part, engine)
        if ledger_row_or_none is not None and ledger_row_or_none.status == ledger.REFUSED:
            yield each, ledger_row_or_none, None


def _sound_ledger_rows(looked: ShardSurvey) -> dict[tuple[str, str, int], LedgerRow]:
    if not looked.has_ledger:
        return {}
    return {_key(row): row for row in ledger.read(looked.part.store, layout.ledger_key(looked.name))}


def _sound_records(
    found: Survey, looked: ShardSurvey, planned: dict[str, PlannedRow], filed: set[str]
) -> Iterator[Record]:
    """The records of planned rows that are sound in some format, each once.

    Args:
      filed: the ids of those that were taken, kept up to date by the caller.
    """
    labels = found.labels or LabelMap(())
    forms = sorted(looked.part.formats, key=lambda form: not looked.files.get(form, False))
    for form in forms:
        for record in _readable_records(looked, form):
            row = planned.get(str(record.get("example/id")))
            if row is None or row.clip_id in filed:
                continue
            if not any(_problems(record, row, looked.part.recipe, labels)):
                yield record


def _problems(record: Record, row: PlannedRow, recipe: str, labels: LabelMap) -> Iterator[str]:
    try:
        yield from record_problems(record, row, recipe, labels)
    except CorruptShard as error:
        yield str(error)


def _readable_records(looked: ShardSurvey, form: str) -> Iterator[Record]:
    module, places = SHARD_FORMATS[form], []
    if looked.truth is not None and form in looked.truth["files"]:
        places = looked.truth["files"][form].get("offsets", [])
    key = layout.data_key(looked.name, module.SUFFIX)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), looked.part.store.local(key) as path:
        yield from module.read_sound(path, places)
