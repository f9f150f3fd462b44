"""A run from the outside: what is asked for, the plan it leads to, and what came of it.

    job = Job(Selection(("k400_val.csv",)), Fetching(("videos",)), Path("out"), recipe)
    with planned(job) as plan:
        ...
        summary = finish(plan)

Where the dots stand, any engine carries out every row of the plan.
"""

import collections
import contextlib
import dataclasses
import json
import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import kinetics_prep
from kinetics_prep import flow, sources
from kinetics_prep.annotations import selection
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.annotations.selection import SelectedRows, Selection
from kinetics_prep.dataset import folder, ledger, manifest, plan, recipe, shards
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.dataset.shards import Layout, ShardTask
from kinetics_prep.errors import RETRYABLE, BadOption
from kinetics_prep.flow import ANY_HARDWARE, Hardware
from kinetics_prep.runs.clip import Workshop
from kinetics_prep.sources import Fetching
from kinetics_prep.storage.files import room_needed


@dataclasses.dataclass(frozen=True)
class Job:
    """What the user asks for."""

    selection: Selection
    fetching: Fetching
    output: Path
    recipe: Recipe
    retry: tuple[str, ...] = ()
    """Reasons: rows that were refused for one of them are tried again."""
    hardware: Hardware = ANY_HARDWARE

    def __post_init__(self):
        expect_retryable("--retry", self.retry)
        _expect_gpu(self.hardware, self.recipe.engine)


def expect_retryable(option: str, reasons: tuple[str, ...]) -> None:
    """Makes sure that rows which were refused for some reasons can be tried again.

    Raises:
      BadOption: if they cannot, or there is no such reason.
    """
    hopeless = sorted(set(reasons) - set(RETRYABLE))
    if hopeless:
        raise BadOption(f"{option} {', '.join(hopeless)}: expected one or more of {', '.join(RETRYABLE)}")


def _expect_gpu(hardware: Hardware, engine: str) -> None:
    if hardware != ANY_HARDWARE and not flow.ENGINES[engine].RUNS_ON_GPU:
        raise BadOption(f"--gpus and --gpu-memory: engine {engine} ({flow.why(engine)}) does not run on a GPU")


@dataclasses.dataclass(frozen=True)
class Resumption:
    """What the user asks for of a folder that was begun."""

    output: Path
    reasons: tuple[str, ...]
    """Rows that were refused for one of them are tried again."""
    fetching: Fetching
    hardware: Hardware = ANY_HARDWARE

    def __post_init__(self):
        expect_retryable("--reason", self.reasons)


@dataclasses.dataclass(frozen=True)
class Planned:
    """A job whose plan stands on disk."""

    layout: Layout
    tasks: tuple[ShardTask, ...]
    workshop: Workshop
    labels: LabelMap
    annotations: tuple[str, ...]
    """Of each annotation file, in words: its name, format and rows."""

    @property
    def rows(self) -> int:
        """Annotation rows, all splits together."""
        return sum(task.rows for task in self.tasks if not task.refresh)

    def pending(self) -> Iterator[tuple[ShardTask, int]]:
        """The shards that are not committed yet."""
        for task in self.tasks:
            for shard in range(task.of):
                if not task.is_committed(shard):
                    yield task, shard


@dataclasses.dataclass(frozen=True)
class Summary:
    """What came of a run."""

    rows: int
    written: int
    refused: dict[str, int]
    bytes: int

    @property
    def refused_rows(self) -> int:
        return sum(self.refused.values())

    def __str__(self):
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.refused.items())
        return f"{self.rows} rows, {self.written} written, {self.refused_rows} refused" + (reasons and f" ({reasons})")


@contextlib.contextmanager
def planned(job: Job) -> Iterator[Planned]:
    """Plans a job, or finds the plan it had when it was interrupted, and locks the output folder.

    Raises:
      OtherRecipe: if the folder holds the output of another recipe, label map or plan.
      BadAnnotations, BadOption: if the job makes no sense.
    """
    with RowStore() as rows, _planned(job, rows) as found:
        yield found


@contextlib.contextmanager
def _planned(job: Job, rows: RowStore) -> Iterator[Planned]:
    layout = Layout(job.output.absolute())  # workers elsewhere have another working directory
    chosen = selection.select_rows(job.selection, rows)
    fetching = dataclasses.replace(sources.absolute(job.fetching), ask_again=job.retry)
    sources.open_sources(fetching, layout.scratch)  # a mistake in it should not wait until the plan is made
    with room_needed(job.output), folder.locked(layout):
        folder.forget_if_unused(layout)
        digest = folder.agree_on_recipe(layout, job.recipe)
        labels = folder.agree_on_labels(layout, chosen.labels, chosen.given_labels is not None)
        tasks = [_task(job, layout, digest, chosen, split, labels) for split in chosen.splits]
        later = [part for part in shards.parts(layout) if part[0] in chosen.splits and part[1]]
        tasks += _tasks_found(layout, job.recipe, digest, later)
        rows.close()  # the run may take days, and needs no more than the plan
        folder.note_sources(layout, fetching)
        _reopen(layout, tasks, job.retry)
        workshop = _workshop(layout, job.recipe, digest, fetching, job.hardware)
        yield Planned(layout, tuple(tasks), workshop, labels, tuple(map(str, chosen.files)))


@contextlib.contextmanager
def resumed(
    output: Path,
    fetching: Fetching,
    hardware: Hardware = ANY_HARDWARE,
    retry: tuple[str, ...] = (),
    ask_again: tuple[str, ...] = (),
) -> Iterator[Planned]:
    """The job of a folder, from what stands in it, without the annotation files.

    Args:
      fetching: where videos are looked for; its places are those that the folder was begun with, if it names none.
      retry: reasons: rows that were refused for one of them are tried again.
      ask_again: reasons for which a source that refused before is asked once more, besides those.

    Raises:
      BadOption: if nothing was begun there.
      OtherRecipe: if programs or libraries that decide the bytes have changed.
    """
    layout = Layout(output.absolute())
    if not layout.recipe.exists() or not shards.parts(layout):
        raise BadOption(f"{output} holds no recipe.json and no plan: nothing was begun here by kinetics-prep flow")
    made = Recipe.from_settings(recipe.read(layout.recipe)["recipe"])
    _expect_gpu(hardware, made.engine)
    fetching = sources.absolute(folder.with_noted_sources(layout, fetching))
    fetching = dataclasses.replace(fetching, short_side=made.short_side, ask_again=retry + ask_again)
    sources.open_sources(fetching, layout.scratch)
    with room_needed(output), folder.locked(layout):
        digest = folder.agree_on_recipe(layout, made)
        tasks = _tasks_found(layout, made, digest, shards.parts(layout))
        _reopen(layout, tasks, retry)
        workshop = _workshop(layout, made, digest, fetching, hardware)
        yield Planned(layout, tuple(tasks), workshop, manifest.read_labels(layout), ())


def _workshop(layout: Layout, made: Recipe, digest: str, fetching: Fetching, hardware: Hardware) -> Workshop:
    tools = {"kinetics-prep": kinetics_prep.__version__} | recipe.versions(made)
    return Workshop(made, digest, json.dumps(tools), fetching, str(layout.scratch), hardware)


def _task(job: Job, layout: Layout, digest: str, chosen: SelectedRows, split: str, labels: LabelMap) -> ShardTask:
    per_shard, formats = job.recipe.clips_per_shard, job.recipe.formats
    arranged = chosen.plan_rows(split, labels, per_shard)
    agreed = folder.agree_on_plan(layout, split, arranged, math.ceil(chosen.count(split) / per_shard))
    return ShardTask(str(layout.output), split, agreed.rows, per_shard, formats, digest, agreed.sha256())


def _tasks_found(layout: Layout, made: Recipe, digest: str, parts: list[tuple[str, int]]) -> list[ShardTask]:
    """The tasks of plans that stand in a folder."""
    found = []
    for split, refresh in parts:
        agreed = plan.digest_of(layout.plan(shards.part_name(split, refresh)))
        settings = (agreed.rows, made.clips_per_shard, made.formats, digest, agreed.sha256(), refresh)
        found.append(ShardTask(str(layout.output), split, *settings))
    return found


def _reopen(layout: Layout, tasks: list[ShardTask], reasons: tuple[str, ...]) -> None:
    if not reasons:
        return
    _settle_refreshes(tasks)
    # Until the run is through, the folder is unfinished, and must not look otherwise.
    layout.manifest.unlink(missing_ok=True)
    for task in tasks:
        for shard in range(task.of):
            shards.reopen(task, shard, reasons)


def _settle_refreshes(tasks: Iterable[ShardTask]) -> None:
    """Has each clip that a refresh found in one ledger alone; one that was killed may not have come so far."""
    for task in tasks:
        if shards.found_later(task):
            for shard in range(task.of):
                shards.amend(task, shard, {})


def settled(done: Planned) -> dict[str, int]:
    """How many rows are done so far, by status. Cheap enough to ask every second."""
    counts = dict.fromkeys(ledger.STATUSES, 0)
    for task in done.tasks:
        for shard in range(task.of):
            marker = manifest.marker_counts(task.layout.marker(task.name(shard)))
            found = marker or shards.objects_committed(task.layout, task.part, shard)
            for status in counts:
                counts[status] += found[status]
    return counts


def finish(done: Planned) -> Summary:
    """Writes dataset.json and tidies up, once every shard is committed.

    Raises:
      IncompleteShard: if one is not.
    """
    _settle_refreshes(done.tasks)
    content = manifest.build(done.layout)
    manifest.expect_complete(done.tasks, content)
    manifest.write(done.layout, content)
    for task in done.tasks:
        shutil.rmtree(done.layout.work / task.part, ignore_errors=True)
    is_complete = set(content["splits"]) == {split for split, _ in shards.parts(done.layout)}
    if is_complete and not shards.is_looking(done.layout):
        shutil.rmtree(done.layout.work, ignore_errors=True)
    return summary(content, {task.split: None for task in done.tasks})


def summary(content: dict, splits: Iterable[str]) -> Summary:
    """Of some splits of a manifest."""
    parts = [content["splits"][split] for split in splits]
    files = (file for part in parts for shard in part["shards"] for file in shard["files"].values())
    refused = sum((collections.Counter(part["refused"]) for part in parts), collections.Counter())
    return Summary(
        rows=sum(part["rows"] for part in parts),
        written=sum(part["written"] for part in parts),
        refused=dict(refused.most_common()),
        bytes=sum(file["bytes"] for file in files),
    )
