"""A run of `flow` or `retry`: opened, carried out by any engine, finished.

    with open_run(job) as run:
        reopen_refused(run, job.retry)
        ...
        summary = finish(run)

Where the dots are, any engine calls `clip.prepare_and_commit` for each row that has no object yet.
"""

import collections
import contextlib
import dataclasses
import json
import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import kinetics_prep
from kinetics_prep import sources
from kinetics_prep.annotations import selection
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.annotations.selection import SelectedRows
from kinetics_prep.dataset import folder, labels, ledger, manifest, plan, recipe_file, tools
from kinetics_prep.dataset.layout import Layout, is_refreshing, list_parts, part_name
from kinetics_prep.dataset.markers import committed_counts
from kinetics_prep.dataset.objects import count_objects
from kinetics_prep.dataset.part import Part, ids_found_later
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.dataset.reopen import reopen
from kinetics_prep.dataset.shards import amend_ledger
from kinetics_prep.dataset.sources_file import with_recorded_sources, write_sources
from kinetics_prep.errors import BadOption
from kinetics_prep.flow import ANY_HARDWARE, Hardware
from kinetics_prep.runs.context import RunContext
from kinetics_prep.runs.job import Job, check_gpu
from kinetics_prep.sources import Fetching
from kinetics_prep.storage.files import reporting_full_disk


@dataclasses.dataclass(frozen=True)
class PrepareRun:
    """A run whose plan is on disk. Crosses process borders."""

    layout: Layout
    parts: tuple[Part, ...]
    context: RunContext
    labels: LabelMap
    annotations: tuple[str, ...]
    """Each annotation file in words: its name, format and rows."""

    @property
    def rows(self) -> int:
        """Annotation rows, all splits together."""
        return sum(part.rows for part in self.parts if not part.refresh)

    def pending(self) -> Iterator[tuple[Part, int]]:
        """The shards that are not committed yet."""
        for part in self.parts:
            for shard in range(part.shards):
                if not part.is_committed(shard):
                    yield part, shard

    def count_rows(self) -> dict[str, int]:
        """How many rows are done so far, by status. Cheap enough to ask every second."""
        counts = dict.fromkeys(ledger.STATUSES, 0)
        for part in self.parts:
            for shard in range(part.shards):
                committed = committed_counts(part.layout.marker(part.shard_name(shard)))
                done = committed or count_objects(part.layout, part.name, shard)
                for status in counts:
                    counts[status] += done[status]
        return counts


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run came to."""

    rows: int
    written: int
    refused: dict[str, int]
    """Rows by reason."""
    bytes: int

    @property
    def refused_rows(self) -> int:
        """Rows refused, for any reason."""
        return sum(self.refused.values())

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.refused.items())
        return f"{self.rows} rows, {self.written} written, {self.refused_rows} refused" + (reasons and f" ({reasons})")


@contextlib.contextmanager
def open_run(job: Job) -> Iterator[PrepareRun]:
    """Locks the output folder and plans the job, or checks that the plan of an interrupted run is the same.

    Rows refused for a reason in `job.retry` are tried again only after `reopen_refused(run, job.retry)`.

    Raises:
      OtherRecipe: if the folder holds the output of another recipe, label map or plan.
      BadAnnotations, BadOption: if the job makes no sense.
    """
    with RowStore() as rows, _open_run(job, rows) as run:
        yield run


@contextlib.contextmanager
def _open_run(job: Job, rows: RowStore) -> Iterator[PrepareRun]:
    layout = Layout(job.output.absolute())  # workers elsewhere have another working directory
    chosen = selection.select_rows(job.selection, rows)
    fetching = dataclasses.replace(sources.absolute(job.fetching), ask_again=job.retry)
    sources.open_sources(fetching, layout.scratch)  # a mistake in it should not wait until the plan is made
    with reporting_full_disk(job.output), folder.exclusive(layout):
        if folder.is_unused(layout):
            folder.remove_settings(layout)
        digest = recipe_file.write_or_check(layout, job.recipe)
        label_map = labels.write_or_check(layout, chosen.labels, chosen.given_labels is not None)
        parts = [_plan_split(job.recipe, layout, digest, chosen, split, label_map) for split in chosen.splits]
        refreshes = [(split, refresh) for split, refresh in list_parts(layout) if split in chosen.splits and refresh]
        parts += _read_parts(layout, job.recipe, digest, refreshes)
        rows.close()  # the run may take days, and needs no more than the plan
        write_sources(layout, fetching)
        context = _context(layout, job.recipe, digest, fetching, job.hardware)
        yield PrepareRun(layout, tuple(parts), context, label_map, tuple(map(str, chosen.files)))


@contextlib.contextmanager
def resume_run(
    output: Path, fetching: Fetching, hardware: Hardware = ANY_HARDWARE, ask_again: tuple[str, ...] = ()
) -> Iterator[PrepareRun]:
    """Locks a folder that was begun, and opens its run from what is in it, without the annotation files.

    Args:
      fetching: where to search videos; if it names no place, those in sources.json.
      ask_again: a source that refused a video for one of these reasons is asked for it once more.

    Raises:
      BadOption: if nothing was begun there.
      OtherRecipe: if programs or libraries that decide the bytes have changed.
    """
    layout = Layout(output.absolute())
    if not layout.recipe.exists() or not list_parts(layout):
        raise BadOption(f"{output} holds no recipe.json and no plan: nothing was begun here by kinetics-prep flow")
    recipe = Recipe.from_settings(recipe_file.read(layout.recipe)["recipe"])
    check_gpu(hardware, recipe.engine)
    fetching = sources.absolute(with_recorded_sources(layout, fetching))
    fetching = dataclasses.replace(fetching, short_side=recipe.short_side, ask_again=ask_again)
    sources.open_sources(fetching, layout.scratch)
    with reporting_full_disk(output), folder.exclusive(layout):
        digest = recipe_file.write_or_check(layout, recipe)
        parts = _read_parts(layout, recipe, digest, list_parts(layout))
        context = _context(layout, recipe, digest, fetching, hardware)
        yield PrepareRun(layout, tuple(parts), context, labels.read_labels(layout), ())


def _context(layout: Layout, recipe: Recipe, digest: str, fetching: Fetching, hardware: Hardware) -> RunContext:
    versions = {"kinetics-prep": kinetics_prep.__version__} | tools.versions(recipe)
    return RunContext(recipe, digest, json.dumps(versions), fetching, str(layout.scratch), hardware)


def _plan_split(
    recipe: Recipe, layout: Layout, digest: str, chosen: SelectedRows, split: str, label_map: LabelMap
) -> Part:
    """Writes the plan of a split, or checks the one that is there."""
    rows = chosen.plan_rows(split, label_map, recipe.clips_per_shard)
    shards = math.ceil(chosen.count(split) / recipe.clips_per_shard)
    return _part(layout, split, 0, recipe, digest, plan.write_or_check(layout, split, rows, shards))


def _read_parts(layout: Layout, recipe: Recipe, digest: str, parts: Iterable[tuple[str, int]]) -> list[Part]:
    """The parts whose plans are in a folder."""
    return [
        _part(layout, split, refresh, recipe, digest, plan.digest_of(layout.plan(part_name(split, refresh))))
        for split, refresh in parts
    ]


def _part(layout: Layout, split: str, refresh: int, recipe: Recipe, digest: str, plan_digest: plan.PlanDigest) -> Part:
    return Part(
        output=str(layout.output),
        split=split,
        rows=plan_digest.rows,
        clips_per_shard=recipe.clips_per_shard,
        formats=recipe.formats,
        recipe=digest,
        plan_sha256=plan_digest.sha256(),
        refresh=refresh,
    )


def reopen_refused(run: PrepareRun, reasons: tuple[str, ...]) -> None:
    """Forgets refusals for some reasons, so that the run tries these rows again."""
    if not reasons:
        return
    drop_found_rows(run.parts)
    # Until the run is through the folder is unfinished, and must not look otherwise.
    run.layout.manifest.unlink(missing_ok=True)
    for part in run.parts:
        for shard in range(part.shards):
            reopen(part, shard, reasons)


def drop_found_rows(parts: Iterable[Part]) -> None:
    """Drops the rows of clips that a refresh found from the older ledgers; a killed refresh may not have done so."""
    for part in parts:
        if ids_found_later(part):
            for shard in range(part.shards):
                amend_ledger(part, shard, {})


def finish(run: PrepareRun) -> Summary:
    """Writes dataset.json and removes work files, once every shard is committed.

    Raises:
      IncompleteShard: if one is not.
    """
    layout = run.layout
    drop_found_rows(run.parts)
    content = manifest.build(layout)
    manifest.check_complete(run.parts, content)
    manifest.write(layout, content)
    for part in run.parts:
        shutil.rmtree(layout.work / part.name, ignore_errors=True)
    is_complete = set(content["splits"]) == {split for split, _ in list_parts(layout)}
    if is_complete and not is_refreshing(layout):
        shutil.rmtree(layout.work, ignore_errors=True)
    return summarize(content, dict.fromkeys(part.split for part in run.parts))


def summarize(content: dict[str, Any], splits: Iterable[str]) -> Summary:
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
    )
