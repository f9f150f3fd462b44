"""A run from the outside: what is asked for, the plan it leads to, and what came of it.

    job = Job(("k400_val.csv",), Fetching(("videos",)), Path("out"), recipe)
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
from kinetics_prep import datasets, folder, ledger, manifest, plan, recipe, shards, sources
from kinetics_prep.annotations import SPLITS, LabelMap
from kinetics_prep.atomic import room_needed
from kinetics_prep.datasets import id_list
from kinetics_prep.errors import RETRYABLE, BadAnnotations, BadOption
from kinetics_prep.flow import ANY_HARDWARE, Hardware
from kinetics_prep.prepare import Workshop
from kinetics_prep.recipe import Recipe
from kinetics_prep.shards import Layout, ShardTask
from kinetics_prep.sources import Fetching
from kinetics_prep.spool import Selected, Spool


@dataclasses.dataclass(frozen=True)
class Job:
    """What the user asks for."""

    annotations: tuple[str, ...]
    fetching: Fetching
    output: Path
    recipe: Recipe
    splits: tuple[str, ...] = ()
    """Empty for every split that the annotations hold."""
    labels: Path | None = None
    """A label map, one label a line; None for the sorted labels of the annotations."""
    only: tuple[str, ...] = ()
    limit: int | None = None
    retry: tuple[str, ...] = ()
    """Reasons: rows that were refused for one of them are tried again."""
    hardware: Hardware = ANY_HARDWARE
    dataset: str | None = None
    """The annotations' format, a name of `datasets.DATASETS`; None to tell it by their content."""
    ids: Path | None = None
    """A list of video ids, one a line: only their rows are prepared."""

    def __post_init__(self):
        hopeless = sorted(set(self.retry) - set(RETRYABLE))
        if hopeless:
            raise BadOption(f"--retry {', '.join(hopeless)}: expected one or more of {', '.join(RETRYABLE)}")
        if self.limit is not None and self.limit < 1:
            raise BadOption(f"--limit is {self.limit}, expected at least 1")
        if self.dataset is not None and self.dataset not in datasets.DATASETS:
            raise BadOption(f"--dataset {self.dataset}: expected one of {', '.join(datasets.DATASETS)}")


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
        return sum(task.rows for task in self.tasks)

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


@dataclasses.dataclass(frozen=True)
class AnnotationFile:
    """What an annotation file holds."""

    path: Path
    dataset: str
    """The name of its format."""
    rows: int

    def __str__(self):
        return f"{self.path.name}: {self.dataset}, {self.rows} rows"


def read_annotations(
    rows: Spool, paths: tuple[str, ...], default_split: str | None, dataset: str | None, labels: LabelMap | None = None
) -> list[AnnotationFile]:
    """Reads some annotation files, of which at least one holds a row that can be read.

    Args:
      rows: takes in what they hold.
      default_split: of rows that do not say theirs.
      dataset: their format; None to tell it by their content.
      labels: what numbers stand for where a file has those instead of labels.

    Raises:
      BadAnnotations: if a file is not there, or is no annotation file.
    """
    files = [_annotation_file(rows, Path(path), default_split, dataset, labels) for path in paths]
    if not rows.holds():
        first = rows.first()
        if first is None:
            raise BadAnnotations(f"--annotations {', '.join(paths)}: a header, and no row under it")
        count = sum(file.rows for file in files)
        raise BadAnnotations(f"none of the {count} rows can be read; the first: {first.error}")
    return files


def _annotation_file(
    rows: Spool, path: Path, default_split: str | None, dataset: str | None, labels: LabelMap | None
) -> AnnotationFile:
    if not path.is_file():
        what = "is not a file" if path.exists() else "there is no such file"
        raise BadAnnotations(f"--annotations {path}: {what}")
    try:
        dataset = dataset or datasets.detect(path)
        module = datasets.DATASETS[dataset]
        found = module.read(path, default_split)
        if hasattr(module, "with_names"):
            found = module.with_names(path, found, labels)
        return AnnotationFile(path, dataset, rows.add(found))
    except OSError as error:
        raise BadAnnotations(f"--annotations {path} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def planned(job: Job) -> Iterator[Planned]:
    """Plans a job, or finds the plan it had when it was interrupted, and locks the output folder.

    Raises:
      OtherRecipe: if the folder holds the output of another recipe, label map or plan.
      BadAnnotations, BadOption: if the job makes no sense.
    """
    with Spool() as rows, _planned(job, rows) as found:
        yield found


@contextlib.contextmanager
def _planned(job: Job, rows: Spool) -> Iterator[Planned]:
    layout = Layout(job.output.absolute())  # workers elsewhere have another working directory
    given = read_labels(job.labels) if job.labels else None
    default_split = job.splits[0] if len(job.splits) == 1 else None
    files = read_annotations(rows, job.annotations, default_split, job.dataset, given)
    _keep_listed(job, rows)
    named = rows.splits()
    chosen = _chosen(job, rows, job.splits or tuple(split for split in SPLITS if split in named))
    fetching = sources.absolute(job.fetching)
    sources.open_sources(fetching, layout.scratch)  # a mistake in it should not wait until the plan is made
    tools = {"kinetics-prep": kinetics_prep.__version__} | recipe.versions(job.recipe)
    with room_needed(job.output), folder.locked(layout):
        folder.forget_if_unused(layout)
        digest = folder.agree_on_recipe(layout, job.recipe)
        wanted = LabelMap.from_labels(rows.labels()) if given is None else given
        labels = folder.agree_on_labels(layout, wanted, given is not None)
        tasks = [_task(job, layout, digest, split, chosen[split], labels) for split in chosen]
        rows.close()  # the run may take days, and needs no more than the plan
        if job.retry:
            _reopen(layout, tasks, job.retry)
        workshop = Workshop(job.recipe, digest, json.dumps(tools), fetching, str(layout.scratch), job.hardware)
        yield Planned(layout, tuple(tasks), workshop, labels, tuple(map(str, files)))


def _keep_listed(job: Job, rows: Spool) -> None:
    if job.ids is None:
        return
    try:
        rows.keep(id_list.read(job.ids))
    except OSError as error:
        raise BadAnnotations(f"--ids {job.ids} cannot be read: {error.strerror}") from None
    if not rows.holds():
        raise BadAnnotations(f"--ids {job.ids}: none of its ids is in the annotation files")


def _chosen(job: Job, rows: Spool, splits: Iterable[str]) -> dict[str, Selected]:
    """The rows of each split. One whose split cannot be read goes to the first, so that it is told of once."""
    chosen = {}
    for split in splits:
        found = plan.select(rows, split, job.only, strays=not chosen)
        if rows.holds(split, job.only):
            chosen[split] = found
        elif split in job.splits:
            raise BadOption(f"--only {', '.join(job.only)}: no row of split {split!r} bears any of these labels")
    return chosen


def _task(job: Job, layout: Layout, digest: str, split: str, rows: Selected, labels: LabelMap) -> ShardTask:
    per_shard, formats = job.recipe.clips_per_shard, job.recipe.formats
    count = len(rows) if job.limit is None else min(len(rows), job.limit)
    arranged = plan.arrange(rows, split, labels, per_shard, job.limit)
    agreed = folder.agree_on_plan(layout, split, arranged, math.ceil(count / per_shard))
    return ShardTask(str(layout.output), split, agreed.rows, per_shard, formats, digest, agreed.sha256())


def _reopen(layout: Layout, tasks: list[ShardTask], reasons: tuple[str, ...]) -> None:
    # Until the run is through, the folder is unfinished, and must not look otherwise.
    layout.manifest.unlink(missing_ok=True)
    for task in tasks:
        for shard in range(task.of):
            shards.reopen(task, shard, reasons)


def read_labels(path: Path) -> LabelMap:
    """A label map, one label a line.

    Raises:
      BadOption: if it cannot be read, or is none.
    """
    try:
        return LabelMap.parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"--labels {path} cannot be read: {error}") from None


def settled(done: Planned) -> dict[str, int]:
    """How many rows are done so far, by status. Cheap enough to ask every second."""
    counts = dict.fromkeys(ledger.STATUSES, 0)
    for task in done.tasks:
        for shard in range(task.of):
            marker = manifest.marker_counts(task.layout.marker(task.name(shard)))
            found = marker or shards.objects_committed(task.layout, task.split, shard)
            for status in counts:
                counts[status] += found[status]
    return counts


def finish(done: Planned) -> Summary:
    """Writes dataset.json and tidies up, once every shard is committed.

    Raises:
      IncompleteShard: if one is not.
    """
    content = manifest.build(done.layout)
    manifest.expect_complete(done.tasks, content)
    manifest.write(done.layout, content)
    for task in done.tasks:
        shutil.rmtree(done.layout.work / task.split, ignore_errors=True)
    if set(content["splits"]) == {path.stem for path in (done.layout.output / "plan").glob("*.parquet")}:
        shutil.rmtree(done.layout.work, ignore_errors=True)
    return summary(content, [task.split for task in done.tasks])


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
