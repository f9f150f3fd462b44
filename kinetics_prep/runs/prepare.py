"""A run of `flow`, `retry` or `refresh`: opened, carried out by any engine, finished.

    with open_run(job) as run:
        ...
        summary = finish(run)

Where the dots are, any engine calls `clip.prepare_and_commit` for each row of `run.pending()` that has no object yet.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kinetics_prep import sources
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.annotations.selection import SelectedRows, Selection, select_rows
from kinetics_prep.dataset import (
    door,
    labels,
    layout,
    ledger,
    manifest,
    objects,
    plan,
    purged,
    recipe_file,
    search,
    tools,
)
from kinetics_prep.dataset.door import OpenFolder, open_for_writing
from kinetics_prep.dataset.markers import committed_shards, counts, read_marker
from kinetics_prep.dataset.part import Part, list_parts, list_searches
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.dataset.recipe_file import RecipeFile, Tools
from kinetics_prep.dataset.search import Outcome
from kinetics_prep.dataset.sources_file import with_recorded_sources, write_sources
from kinetics_prep.dataset.state import COMPLETE, SEARCHING, Planned, State
from kinetics_prep.errors import BadOption, CorruptShard, IncompleteShard, OtherRecipe
from kinetics_prep.flow import Hardware
from kinetics_prep.runs.context import RunContext
from kinetics_prep.runs.fingerprint import fingerprint
from kinetics_prep.runs.job import Job, Resumption, check_gpu
from kinetics_prep.sources import Fetching
from kinetics_prep.storage.files import reporting_full_disk, sha256_of
from kinetics_prep.storage.store import Store


@dataclasses.dataclass(frozen=True)
class PrepareRun:
    """A run whose plan is on disk. Crosses process borders."""

    folder: OpenFolder
    """Of use in the process that opened it."""
    parts: tuple[Part, ...]
    """Those of the splits that the run is about."""
    searches: tuple[Part, ...]
    """Refused rows that are tried once more."""
    context: RunContext
    labels: LabelMap
    annotations: tuple[str, ...]
    """Each annotation file in words: its name, format and rows."""

    @property
    def store(self) -> Store:
        """The output folder."""
        return self.folder.store

    @property
    def rows(self) -> int:
        """Rows to be accounted for: of all splits together, and those that are tried once more."""
        return sum(part.rows for part in (*self.parts, *self.searches) if not part.refresh)

    def pending(self) -> Iterator[tuple[Part, int, tuple[str, ...]]]:
        """(part, shard, keys of the objects that it has) of each shard that is not committed, by two listings."""
        committed = committed_shards(self.store)
        there: dict[str, list[str]] = collections.defaultdict(list)
        for prefix, key in objects.list_objects(self.store, self.folder.state.epoch):
            there[prefix].append(key)
        for part in (*self.parts, *self.searches):
            for shard in range(part.shards):
                if part.search or part.shard_name(shard) not in committed:
                    yield part, shard, tuple(there[part.objects_prefix(shard)])

    def count_rows(self) -> dict[str, int]:
        """How many rows are done so far, by status. Two listings, and what is new is read once."""
        committed, done = committed_shards(self.store), collections.Counter(dict.fromkeys(ledger.STATUSES, 0))
        uncommitted = set[str]()
        for part in (*self.parts, *self.searches):
            for shard in range(part.shards):
                if not part.search and part.shard_name(shard) in committed:
                    written, refused = counts(self.store, part.shard_name(shard))
                    done.update({ledger.WRITTEN: written, ledger.REFUSED: refused})
                else:
                    uncommitted.add(part.objects_prefix(shard))
        for prefix, key in objects.list_objects(self.store, self.folder.state.epoch):
            if prefix in uncommitted:
                done.update(_status(self.store, key))
        return dict(done)


@functools.lru_cache(maxsize=100_000)
def _status(store: Store, key: str) -> tuple[str, ...]:
    """The status of an object, which never changes, as a tuple; an empty one if it is gone or damaged."""
    try:
        return (objects.read_ledger_row(store, key).status,)
    except (FileNotFoundError, CorruptShard):
        return ()


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run came to."""

    rows: int
    written: int
    refused: dict[str, int]
    """Rows by reason."""
    bytes: int
    outcome: Outcome | None = None
    """Of the rows that were tried once more; None if there were none."""

    @property
    def refused_rows(self) -> int:
        """Rows refused, for any reason."""
        return sum(self.refused.values())

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.refused.items())
        return f"{self.rows} rows, {self.written} written, {self.refused_rows} refused" + (reasons and f" ({reasons})")


# Opening ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_run(job: Job) -> Iterator[PrepareRun]:
    """Takes the output folder and plans the job, or checks that the plan of an interrupted run is the same.

    Raises:
      OtherRecipe: if the folder holds the output of another recipe, label map or plan.
      OtherTools: if programs or libraries give other bytes.
      ForeignFolder, FolderInUse: if the folder is not ours to write to.
      BadAnnotations, BadOption: if the job makes no sense.
    """
    with RowStore() as rows:
        reader = _AnnotationReader(job.selection, rows)
        digest = _inputs_digest(job.selection, job.recipe.clips_per_shard)
        if not _knows_selection(job.output, digest):
            reader.read()  # a mistake in the annotations leaves no folder behind
        fetching = dataclasses.replace(sources.absolute(job.fetching), ask_again=job.retry)
        _expect_sources(fetching, job.output)
        with reporting_full_disk(job.output), open_for_writing(job.output, creates=True) as folder:
            store = folder.store
            _forget_unused_settings(folder)
            recipe = _write_or_check_recipe(store, job.recipe, job.hardware, job.accept_tools)
            if digest not in folder.state.selections or not _has_plans(folder):
                _plan(folder, reader, digest, job.recipe.clips_per_shard)
            rows.close()  # the run may take days, and needs no more than the plan
            planned = folder.state.selections[digest]
            write_sources(store, fetching)
            yield _run(folder, recipe, job.recipe, planned, fetching, job.hardware, job.retry)


@contextlib.contextmanager
def resume_run(request: Resumption, needs_complete: bool = False) -> Iterator[PrepareRun]:
    """Takes a folder that was begun, and opens its run from what is in it, without the annotation files.

    Args:
      needs_complete: whether rows that were never tried are an error.

    Raises:
      BadOption: if nothing was begun there, or it is not finished and should be.
      OtherTools: if programs or libraries give other bytes.
      FolderInUse: if another run writes to it.
    """
    with reporting_full_disk(request.output), open_for_writing(request.output) as folder:
        yield resume(folder, request, needs_complete)


def resume(folder: OpenFolder, request: Resumption, needs_complete: bool = False) -> PrepareRun:
    """The run of a folder that is open; see `resume_run`."""
    store = folder.store
    there = recipe_file.read(store)
    if there is None or not folder.state.plans:
        raise BadOption(f"{request.output} holds no plan: give its `kinetics-prep flow` command once more first")
    recipe = there.recipe
    check_gpu(request.hardware, recipe.engine)
    fetching = sources.absolute(with_recorded_sources(store, request.fetching))
    fetching = dataclasses.replace(fetching, short_side=recipe.short_side, ask_again=request.reasons)
    _expect_sources(fetching, request.output)
    accepted = _accept_tools(store, there, recipe, request.hardware, request.accept_tools)
    if needs_complete:
        _expect_complete(folder, accepted)
    planned = Planned(folder.state.splits, ())
    return _run(folder, accepted, recipe, planned, fetching, request.hardware, request.reasons)


def _expect_sources(fetching: Fetching, output: Path) -> None:
    """Opens the places of videos: a mistake in them should not wait until the plan is made."""
    sources.open_sources(fetching, output.absolute() / layout.WORK / "videos")


def _run(
    folder: OpenFolder,
    file: RecipeFile,
    recipe: Recipe,
    planned: Planned,
    fetching: Fetching,
    hardware: Hardware,
    reasons: tuple[str, ...],
) -> PrepareRun:
    store = folder.store
    _begin_search(folder, file, planned.splits, reasons)
    parts = [part for part in list_parts(store, folder.state, file) if part.split in planned.splits]
    if folder.state.is_complete and not _is_committed(store, parts):
        folder.save(dataclasses.replace(folder.state, is_complete=False))
    context = RunContext(
        recipe=recipe,
        digest=file.digest,
        fetching=fetching,
        scratch=str(folder.downloads),
        fingerprints=file.fingerprints - {""},
        hardware=hardware,
        purged=purged.read(store),
    )
    return PrepareRun(
        folder=folder,
        parts=tuple(parts),
        searches=tuple(list_searches(store, folder.state, file)),
        context=context,
        labels=labels.read_labels(store),
        annotations=planned.files,
    )


# Planning ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class _AnnotationReader:
    """Reads annotations once, when they are asked for."""

    selection: Selection
    rows: RowStore
    _chosen: SelectedRows | None = None

    def read(self) -> SelectedRows:
        if self._chosen is None:
            self._chosen = select_rows(self.selection, self.rows)
        return self._chosen


def _inputs_digest(chosen: Selection, clips_per_shard: int) -> str:
    """Digest of everything that a plan is made from; of a file that cannot be read, its name."""
    files = [*map(Path, chosen.annotations), *filter(None, (chosen.labels, chosen.ids))]
    settings = dataclasses.asdict(chosen) | {"annotations": None, "labels": None, "ids": None}
    content = [[path.name, sha256_of(path) if path.is_file() else None] for path in files]
    given = [chosen.labels is not None, chosen.ids is not None]
    return hashlib.sha256(json.dumps([content, given, settings, clips_per_shard]).encode()).hexdigest()


def _knows_selection(output: Path, digest: str) -> bool:
    """Whether a folder has the plans of a selection already, so that its annotations need not be read."""
    try:
        _, state = door.open_for_reading(output)
    except CorruptShard:
        return False
    return digest in state.selections


def _forget_unused_settings(folder: OpenFolder) -> None:
    """Removes recipe, labels and plans of a folder in which nothing has been prepared, so that they may change."""
    store, state = folder.store, folder.state
    if committed_shards(store) or any(True for _ in objects.list_objects(store, state.epoch)) or state.search:
        return
    for key in (layout.RECIPE, layout.LABELS, *map(layout.plan_key, state.plans)):
        store.delete(key)
    folder.save(State())


def _write_or_check_recipe(store: Store, recipe: Recipe, hardware: Hardware, accept_tools: bool) -> RecipeFile:
    there = recipe_file.read(store)
    if there is None:
        _expect_same_digest(store, recipe)
        settings = json.loads(json.dumps(recipe.settings()))
        there = RecipeFile(settings, recipe_file.digest(recipe), (_tools_here(recipe, hardware),))
        recipe_file.write(store, there)
        return there
    recipe_file.expect_same_settings(store, there, recipe)
    return _accept_tools(store, there, recipe, hardware, accept_tools)


def _expect_same_digest(store: Store, recipe: Recipe) -> None:
    """Checks that shards of a folder that has lost its recipe.json were made with these settings.

    Raises:
      OtherRecipe: if they were made with others.
    """
    for name in sorted(committed_shards(store))[:1]:
        marker = read_marker(store, name)
        formats = set(marker["files"]) or set(recipe.formats)
        if (marker["recipe"], formats) != (recipe_file.digest(recipe), set(recipe.formats)):
            raise OtherRecipe(
                f"{store.place} has lost its {layout.RECIPE}, and its shards were made with other settings (digest "
                f"{marker['recipe']}, formats {', '.join(sorted(formats))}). Use the same to go on, or another --output"
            )


def _accept_tools(
    store: Store, there: RecipeFile, recipe: Recipe, hardware: Hardware, accept_tools: bool
) -> RecipeFile:
    accepted = recipe_file.with_tools(store, there, _tools_here(recipe, hardware), accept_tools)
    if accepted != there:
        recipe_file.write(store, accepted)
    return accepted


def _tools_here(recipe: Recipe, hardware: Hardware) -> Tools:
    return Tools(fingerprint(recipe, hardware), tools.versions(recipe))


def _has_plans(folder: OpenFolder) -> bool:
    """Whether the plans are there as they were written, and a label map."""
    store = folder.store
    try:
        store.read(layout.LABELS)
    except FileNotFoundError:
        return False
    return all(plan.is_whole(store, layout.plan_key(name), entry) for name, entry in folder.state.plans.items())


def _plan(folder: OpenFolder, reader: _AnnotationReader, digest: str, clips_per_shard: int) -> None:
    """Writes the plans and the label map of a selection, or checks those that are there."""
    store, chosen, plans = folder.store, reader.read(), dict(folder.state.plans)
    label_map = labels.write_or_check(store, chosen.labels, chosen.given_labels is not None)
    for split in chosen.splits:
        rows = chosen.plan_rows(split, label_map, clips_per_shard)
        if split in plans and plan.is_whole(store, layout.plan_key(split), plans[split]):
            plan.check_same(store, layout.plan_key(split), rows)
        else:
            shards = math.ceil(chosen.count(split) / clips_per_shard)
            plans[split] = plan.write_anew(store, layout.plan_key(split), rows, shards, plans.get(split))
    planned = Planned(tuple(chosen.splits), tuple(map(str, chosen.files)))
    selections = {**folder.state.selections, digest: planned}
    is_complete = folder.state.is_complete and plans.keys() == folder.state.plans.keys()
    folder.save(dataclasses.replace(folder.state, plans=plans, selections=selections, is_complete=is_complete))


# Trying again -----------------------------------------------------------------------------------


def _begin_search(folder: OpenFolder, file: RecipeFile, splits: Sequence[str], reasons: tuple[str, ...]) -> None:
    """Has rows tried again that were refused for some reasons; goes on with a search for the same that was begun."""
    store, current = folder.store, folder.state.search
    if current is not None and (set(current.reasons) != set(reasons) or not set(current.plans) <= set(splits)):
        close_search(folder)
        current = None
    if current is None and reasons:
        parts = [part for part in list_parts(store, folder.state, file) if part.split in splits]
        _forget_refusals(folder, parts, reasons)
        parts = [dataclasses.replace(part, epoch=folder.state.epoch) for part in parts]
        folder.save(search.begin(store, folder.state, parts, reasons))


def close_search(folder: OpenFolder) -> None:
    """Packs what a search that was begun has found so far; does nothing if there is none."""
    file = recipe_file.read(folder.store)
    if folder.state.search is not None and file is not None:
        folder.save(search.close(folder.store, folder.state, file))
        folder.finished = door.finish_packing(folder)


def _forget_refusals(folder: OpenFolder, parts: Iterable[Part], reasons: tuple[str, ...]) -> None:
    """Has rows of unfinished shards tried again.

    What stays is copied to a new epoch, so that what a late writer of the old one still writes does not count.
    """
    store, epoch = folder.store, folder.state.epoch
    kept, forgotten = [], 0
    prefixes = {layout.objects_prefix(epoch, part.name) for part in parts}
    for _, key in objects.list_objects(store, epoch):
        is_asked = any(key.startswith(prefix) for prefix in prefixes)
        if is_asked and _reason(store, key) in reasons:
            forgotten += 1
        else:
            kept.append(key)
    if not forgotten:
        return
    old, new = layout.objects_prefix(epoch), layout.objects_prefix(epoch + 1)
    for key in kept:
        store.create(new + key.removeprefix(old), store.read(key))
    folder.save(dataclasses.replace(folder.state, epoch=epoch + 1))
    door.clear_leftovers(store, folder.state)


def _reason(store: Store, key: str) -> str | None:
    try:
        return objects.read_ledger_row(store, key).reason
    except CorruptShard:
        return None


def _expect_complete(folder: OpenFolder, file: RecipeFile) -> None:
    """Raises `BadOption` if a shard is missing."""
    committed = committed_shards(folder.store)
    names = [
        part.shard_name(shard) for part in list_parts(folder.store, folder.state, file) for shard in range(part.shards)
    ]
    missing = [name for name in names if name not in committed]
    if missing or folder.state.name not in (COMPLETE, SEARCHING):
        example = f": {len(missing)} shards are missing, such as {missing[0]}" if missing else ""
        raise BadOption(
            f"{folder.store.place} is not finished{example}; give its `kinetics-prep flow` command once more first"
        )


def _is_committed(store: Store, parts: Iterable[Part]) -> bool:
    committed = committed_shards(store)
    return all(part.shard_name(shard) in committed for part in parts for shard in range(part.shards))


# Finishing --------------------------------------------------------------------------------------


def finish(run: PrepareRun) -> Summary:
    """Packs what a search found, writes dataset.json and removes work files, once every row is done.

    Raises:
      IncompleteShard: if one is not.
    """
    folder, store = run.folder, run.store
    file = recipe_file.read(store)
    if file is None:
        raise CorruptShard(f"{store.place} holds no {layout.RECIPE}")
    outcome = folder.finished
    if run.searches:
        untried = sum(map(search.count_untried, run.searches))
        if untried:
            raise IncompleteShard(f"{untried} rows have not been tried again")
        folder.save(search.close(store, folder.state, file))
        outcome = door.finish_packing(folder)
    content = manifest.build(store, folder.state, checks_sizes=True)
    splits = dict.fromkeys(part.split for part in run.parts)
    parts = list_parts(store, folder.state, file)
    manifest.check_complete([part for part in parts if part.split in splits], content)
    manifest.write(store, content)
    folder.save(dataclasses.replace(folder.state, is_complete=set(content["splits"]) == {part.split for part in parts}))
    if folder.state.is_complete:
        _clear_work(folder)
    return summarize(content, splits, outcome)


def _clear_work(folder: OpenFolder) -> None:
    for name in ("objects", "search"):
        objects.remove_objects(folder.store, f"{layout.WORK}/{name}/")
    for path in (folder.downloads.with_name("hosts"), folder.downloads):
        shutil.rmtree(path, ignore_errors=True)


def summarize(content: dict[str, Any], splits: Iterable[str], outcome: Outcome | None = None) -> Summary:
    """The summary of some splits of a manifest."""
    entries = [content["splits"][split] for split in splits]
    files = [file for entry in entries for shard in entry["shards"] for file in shard["files"].values()]
    refused: collections.Counter[str] = collections.Counter()
    for entry in entries:
        refused.update(entry["refused"])
    return Summary(
        rows=sum(entry["rows"] for entry in entries),
        written=sum(entry["written"] for entry in entries),
        refused=dict(refused.most_common()),
        bytes=sum(file["bytes"] for file in files),
        outcome=outcome,
    )
