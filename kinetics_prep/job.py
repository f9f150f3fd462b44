"""A run from the outside: what is asked for, the plan it leads to, and what came of it.

job = Job(annotations=("k400_val.csv",), videos="videos", output=Path("out"), recipe=recipe)
with planned(job) as plan:
    ...                      # carry out every row, on any engine
    summary = finish(plan)
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import kinetics_prep
from kinetics_prep import datasets, manifest, plan, recipe, shards
from kinetics_prep.annotations import SPLITS, LabelMap
from kinetics_prep.atomic import atomic, room_needed, write_json
from kinetics_prep.datasets import Row
from kinetics_prep.errors import REASONS, BadAnnotations, BadOption, OtherRecipe
from kinetics_prep.plan import PlanRow
from kinetics_prep.prepare import Workshop
from kinetics_prep.recipe import Recipe
from kinetics_prep.shards import Layout, ShardTask


@dataclasses.dataclass(frozen=True)
class Job:
    """What the user asks for."""

    annotations: tuple[str, ...]
    videos: str
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

    def __post_init__(self):
        unknown = sorted(set(self.retry) - set(REASONS))
        if unknown:
            raise BadOption(f"--retry {', '.join(unknown)}: expected one or more of {', '.join(REASONS)}")
        if self.limit is not None and self.limit < 1:
            raise BadOption(f"--limit is {self.limit}, expected at least 1")


@dataclasses.dataclass(frozen=True)
class Planned:
    """A job whose plan stands on disk."""

    layout: Layout
    tasks: tuple[ShardTask, ...]
    workshop: Workshop

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


def read_annotations(paths: Iterable[str], default_split: str | None) -> list[Row]:
    """Every row of some annotation files.

    Raises:
      BadAnnotations: if a file is not there, or is no annotation file.
    """
    rows = []
    for path in map(Path, paths):
        if not path.is_file():
            raise BadAnnotations(f"--annotations {path}: there is no such file")
        rows.extend(datasets.DATASETS["kinetics-csv"].read(path, default_split))
    if not any(row.annotation for row in rows):
        reason = f"; the first one: {rows[0].error}" if rows else ""
        raise BadAnnotations(f"none of {len(rows)} rows can be read{reason}")
    return rows


@contextlib.contextmanager
def planned(job: Job) -> Iterator[Planned]:
    """Plans a job, or finds the plan it had when it was interrupted, and locks the output folder.

    Raises:
      OtherRecipe: if the folder holds the output of another recipe, label map or plan.
      BadAnnotations, BadOption: if the job makes no sense.
    """
    layout = Layout(job.output.absolute())  # workers elsewhere have another working directory
    rows = read_annotations(job.annotations, job.splits[0] if len(job.splits) == 1 else None)
    labels = _label_map(job, rows)
    splits = job.splits or tuple(split for split in SPLITS if any(row.split == split for row in rows))
    plans = {split: list(_arranged(job, rows, labels, split)) for split in splits}
    if not any(plans.values()) or not all(plans[split] for split in job.splits):
        raise BadOption(f"--only {', '.join(job.only)}: no row of the split bears any of these labels")
    splits = [split for split in splits if plans[split]]
    with room_needed(job.output):
        job.output.mkdir(parents=True, exist_ok=True)
    with _locked(layout):
        digest = _same_recipe(layout, job.recipe)
        _same_labels(layout, labels)
        tasks = [_task(layout, job.recipe, digest, split, plans[split]) for split in splits]
        versions = json.dumps({"kinetics-prep": kinetics_prep.__version__} | recipe.versions(job.recipe))
        videos = job.videos if "://" in job.videos else os.path.abspath(job.videos)
        workshop = Workshop(job.recipe, digest, versions, videos, str(layout.scratch))
        if job.retry:
            _reopen(layout, tasks, job.retry)
        yield Planned(layout, tuple(tasks), workshop)


def _reopen(layout: Layout, tasks: list[ShardTask], reasons: tuple[str, ...]) -> None:
    # Until the run is through, the folder is unfinished, and must not look otherwise.
    layout.manifest.unlink(missing_ok=True)
    for task in tasks:
        for shard in range(task.of):
            shards.reopen(task, shard, reasons)


def _label_map(job: Job, rows: list[Row]) -> LabelMap:
    if job.labels is None:
        return LabelMap.from_labels(row.annotation.label for row in rows if row.annotation)
    try:
        return LabelMap.parse(job.labels.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadOption(f"--labels {job.labels} cannot be read: {error}") from None


def _arranged(job: Job, rows: list[Row], labels: LabelMap, split: str) -> Iterator[PlanRow]:
    chosen = plan.select(rows, split, job.only)
    return plan.arrange(chosen, split, labels, job.recipe.clips_per_shard, job.limit)


@contextlib.contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    """Keeps other runs out of the folder, and gives scratch space. The lock dies with the process."""
    try:
        import fcntl
    except ImportError:  # no such lock on Windows
        fcntl = None
    folder = os.open(layout.output, os.O_RDONLY) if fcntl else None
    try:
        if fcntl:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # What a killed run left under no final name goes.
        shutil.rmtree(layout.scratch, ignore_errors=True)
        layout.scratch.mkdir(parents=True)
        yield
    except BlockingIOError:
        raise OtherRecipe(
            f"another run is writing to {layout.output}; wait for it, or choose another --output"
        ) from None
    finally:
        for empty in (layout.scratch, layout.work):  # if it is: work that is not through stays
            with contextlib.suppress(OSError):
                empty.rmdir()
        if folder is not None:
            os.close(folder)


def _same_recipe(layout: Layout, wanted: Recipe) -> str:
    tools = recipe.versions(wanted)
    digest = recipe.digest(wanted, tools)
    content = {"version": 1, "digest": digest, "recipe": wanted.settings(), "versions": tools}
    if not layout.recipe.exists():
        write_json(layout.recipe, content, layout.scratch)
        return digest
    found = recipe.read(layout.recipe)
    if found["digest"] != digest:
        differences = [*_differences(found, content, "recipe"), *_differences(found, content, "versions")]
        raise OtherRecipe(
            f"{layout.output} was prepared by another recipe: {'; '.join(differences)}. "
            "Use the same settings and versions to go on, or another --output"
        )
    return digest


def _differences(found: dict, wanted: dict, part: str) -> list[str]:
    there, here = found[part], wanted[part]
    keys = sorted(there.keys() | here.keys())
    return [
        f"{key} is {there.get(key)} there and {here.get(key)} here" for key in keys if there.get(key) != here.get(key)
    ]


def _same_labels(layout: Layout, labels: LabelMap) -> None:
    text = "".join(f"{label}\n" for label in labels.labels)
    if not layout.labels.exists():
        with atomic(layout.labels, layout.scratch) as temporary:
            temporary.write_text(text, encoding="utf-8")
    elif layout.labels.read_text("utf-8") != text:
        found = len(layout.labels.read_text("utf-8").splitlines())
        raise OtherRecipe(
            f"{layout.labels} holds other labels ({found}) than these annotations ({len(labels)}), so class ids would "
            "disagree. Give both runs the same --labels FILE, or choose another --output"
        )


def _task(layout: Layout, wanted: Recipe, digest: str, split: str, rows: list[PlanRow]) -> ShardTask:
    path, sha256 = layout.plan(split), plan_sha256(rows)
    if not path.exists():
        with atomic(path, layout.scratch) as temporary:
            plan.write(temporary, rows)
    else:
        found = list(plan.read(path))
        if plan_sha256(found) != sha256:
            raise OtherRecipe(
                f"{path} plans other rows: {len(found)} there, {len(rows)} here. A plan never changes: use the same "
                "--annotations, --only and --limit to go on, or another --output"
            )
    return ShardTask(str(layout.output), split, len(rows), wanted.clips_per_shard, wanted.formats, digest, sha256)


def plan_sha256(rows: Iterable[PlanRow]) -> str:
    """Of a plan's content, whatever version of Parquet holds it."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(dataclasses.astuple(row)).encode() + b"\n")
    return digest.hexdigest()


def settled(done: Planned) -> dict[str, int]:
    """How many rows are done so far: {"written": ..., "refused": ...}. Cheap enough to ask every second.

    Rows done whose shard is not assembled yet count as "waiting".
    """
    counts = {"written": 0, "refused": 0, "waiting": 0}
    for task in done.tasks:
        for shard in range(task.of):
            marker = manifest.marker_counts(task.layout.marker(task.name(shard)))
            if marker:
                counts["written"] += marker[0]
                counts["refused"] += marker[1]
            else:
                counts["waiting"] += shards.objects_committed(task.layout, task.split, shard)
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
    refused, rows, written, size = {}, 0, 0, 0
    for split in splits:
        part = content["splits"][split]
        rows, written = rows + part["rows"], written + part["written"]
        size += sum(file["bytes"] for shard in part["shards"] for file in shard["files"].values())
        for reason, count in part["refused"].items():
            refused[reason] = refused.get(reason, 0) + count
    return Summary(rows, written, dict(sorted(refused.items(), key=lambda item: -item[1])), size)
