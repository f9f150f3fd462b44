"""Shard names, clip objects, assembly, markers: how nothing gets lost.

    OUTPUT/
      dataset.json  labels.txt  recipe.json     what it is
      tfrecord/train-00000-of-00002.tfrecord    the shards
      parquet/train-00000-of-00002.parquet
      ledger/train-00000-of-00002.parquet       what became of each row
      sources.json                              where videos were looked for
      plan/train.parquet                        which row goes where
      markers/train-00000-of-00002.json         written last: this shard is whole
      */train-refresh1-00000-of-00001.*         what a later look found; see refresh.py
      .work/                                    clips on their way; gone when all is done

A clip is the unit of work. When it is done, its record, or the reason why there is none, stands in
an object of its own. A shard is assembled when each of its rows has an object, never before, and
then its objects go. Whatever bears its final name is whole: it was written under another name,
on the same disk, and renamed.
"""

import contextlib
import dataclasses
import functools
import json
import os
import re
import shutil
from pathlib import Path

import jsonschema

from kinetics_prep import schemas
from kinetics_prep.annotations.planned import PlanRow, RefusedRow
from kinetics_prep.dataset import ledger, plan
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.errors import RETRYABLE, CorruptShard, IncompleteShard
from kinetics_prep.records import SHARD_FORMATS, tfrecord
from kinetics_prep.records.record import Record
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import atomic, sha256_of, write_json

_PART = re.compile(r"(?P<split>train|val|test)(?:-refresh(?P<refresh>[1-9]\d{0,5}))?")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where everything stands in an output folder."""

    output: Path

    @property
    def manifest(self) -> Path:
        return self.output / "dataset.json"

    @property
    def labels(self) -> Path:
        return self.output / "labels.txt"

    @property
    def recipe(self) -> Path:
        return self.output / "recipe.json"

    @property
    def sources(self) -> Path:
        return self.output / "sources.json"

    @property
    def work(self) -> Path:
        return self.output / ".work"

    @property
    def scratch(self) -> Path:
        """For files that do not bear their final name yet."""
        return self.work / "tmp"

    def plan(self, part: str) -> Path:
        return self.output / "plan" / f"{part}.parquet"

    def objects(self, part: str, shard: int) -> Path:
        return self.work / part / f"{shard:05d}"

    def shard(self, name: str, suffix: str) -> Path:
        return self.output / suffix / f"{name}.{suffix}"

    def ledger(self, name: str) -> Path:
        return self.output / "ledger" / f"{name}.parquet"

    def marker(self, name: str) -> Path:
        return self.output / "markers" / f"{name}.json"


def part_name(split: str, refresh: int) -> str:
    """Under what a split's plan and shards are filed: as first planned, or found by the refresh of that number."""
    return f"{split}-refresh{refresh}" if refresh else split


def parts(layout: Layout) -> list[tuple[str, int]]:
    """(split, number of the refresh) of each plan in a folder; 0 is the plan that it was begun with."""
    names = (_PART.fullmatch(path.stem) for path in (layout.output / "plan").glob("*.parquet"))
    return sorted((name["split"], int(name["refresh"] or 0)) for name in names if name)


def is_looking(layout: Layout) -> bool:
    """Whether a refresh is under way."""
    return any(layout.work.glob("look-*.parquet"))


def shard_name(part: str, shard: int, of: int) -> str:
    """Such as train-00003-of-00312, the form that tf.data and Hugging Face users glob for."""
    return f"{part}-{shard:05d}-of-{of:05d}"


# Clip objects ---------------------------------------------------------------------------------


def commit_clip(task: "ShardTask", row: PlanRow, settled: LedgerRow, record: bytes | None) -> None:
    """Writes a clip's object: its ledger row, and its record if it has one.

    It is not forced to disk: after a power cut its checksums tell, and the clip is done again.
    """
    payloads = [json.dumps(settled.as_dict()).encode()] + ([record] if record is not None else [])
    with atomic(task.object(row, settled.status), task.layout.scratch, durable=False) as temporary:
        tfrecord.write_bytes(temporary, payloads)


def read_clip(path: Path) -> tuple[LedgerRow, bytes | None]:
    """Reads a clip's object.

    Raises:
      FileNotFoundError: if there is none.
      CorruptShard: if it is damaged.
    """
    first, *rest = tfrecord.read_bytes(path)
    return LedgerRow(**json.loads(first)), (rest[0] if rest else None)


def find_object(task: "ShardTask", row: PlanRow) -> Path | None:
    """A clip's object, of whichever status; None if there is none."""
    paths = (task.object(row, status) for status in ledger.STATUSES)
    return next((path for path in paths if path.exists()), None)


def _remove_if_damaged(path: Path) -> None:
    try:
        read_clip(path)
    except FileNotFoundError:
        pass
    except (CorruptShard, ValueError, TypeError):  # TypeError: of a version with other ledger columns
        path.unlink(missing_ok=True)


def objects_committed(layout: Layout, part: str, shard: int) -> dict[str, int]:
    """How many of a shard's rows have an object, by status. Names say it, so that asking is cheap."""
    names = []
    with contextlib.suppress(FileNotFoundError):
        names = [entry.name.rpartition(".") for entry in os.scandir(layout.objects(part, shard))]
    found = {status: {row for row, _, ending in names if ending == status} for status in ledger.STATUSES}
    # Two workers that did the same row may have come to different ends; find_object takes the written one.
    return {
        ledger.WRITTEN: len(found[ledger.WRITTEN]),
        ledger.REFUSED: len(found[ledger.REFUSED] - found[ledger.WRITTEN]),
    }


# Assembly -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """What assembly must know of a shard besides its rows. Crosses process borders."""

    output: str
    split: str
    rows: int
    clips_per_shard: int
    formats: tuple[str, ...]
    recipe: str
    plan_sha256: str
    refresh: int = 0
    """Which look at what was missing found these clips; 0 for those of the first plan."""
    is_look: bool = False
    """Whether its clips are only looked for: their objects are packed into shards later, if they are there."""

    @property
    def part(self) -> str:
        """Under what its plan, shards and objects are filed."""
        return f"look-{self.split}" if self.is_look else part_name(self.split, self.refresh)

    @property
    def plan(self) -> Path:
        return self.layout.work / f"{self.part}.parquet" if self.is_look else self.layout.plan(self.part)

    def object(self, row: PlanRow, status: str) -> Path:
        return self.layout.objects(self.part, row.shard) / f"{row.index:05d}.{status}"

    @property
    def layout(self) -> Layout:
        return Layout(Path(self.output))

    @property
    def of(self) -> int:
        """Number of shards."""
        return -(-self.rows // self.clips_per_shard)

    def rows_in(self, shard: int) -> int:
        if found_later(self):
            return len(rows_of(self, shard))
        return min(self.clips_per_shard, self.rows - shard * self.clips_per_shard)

    def name(self, shard: int) -> str:
        return shard_name(self.part, shard, self.of)

    def is_committed(self, shard: int) -> bool:
        return not self.is_look and self.layout.marker(self.name(shard)).exists()


def found_later(task: ShardTask) -> frozenset[str]:
    """Ids of the task's clips that stand in the shards of a refresh, and in its ledger."""
    if task.refresh or task.is_look:
        return frozenset()
    names = [part_name(split, refresh) for split, refresh in parts(task.layout) if refresh and split == task.split]
    paths = [task.layout.plan(name) for name in names]
    return _clip_ids(tuple((path, path.stat().st_mtime_ns) for path in paths)) if paths else frozenset()


@functools.lru_cache(maxsize=10)
def _clip_ids(paths: tuple[tuple[Path, int], ...]) -> frozenset[str]:
    return frozenset(row.clip_id for path, _ in paths for row in plan.read(path))


def rows_of(task: ShardTask, shard: int) -> list[PlanRow]:
    """The plan rows that a shard accounts for: all of them, but those that were found later."""
    elsewhere = found_later(task)
    rows = plan.read(task.plan, shard)
    # A duplicate of a clip that was found bears its id, and stays.
    return [row for row in rows if isinstance(row, RefusedRow) or row.clip_id not in elsewhere]


def assemble(task: ShardTask, shard: int) -> bool:
    """Writes a shard from its clips' objects, its marker last, and removes the objects.

    Two callers may do so at once: both write the same bytes.

    Returns:
      False if the shard stood already.

    Raises:
      IncompleteShard: if a row has no object; nothing is written then.
    """
    if task.is_look:
        return False
    if task.is_committed(shard):
        _remove_objects(task, shard)
        return False
    try:
        _commit(task, shard)
    except (IncompleteShard, FileNotFoundError):
        if not task.is_committed(shard):  # else another caller was faster and has tidied up
            raise
        return False
    _remove_objects(task, shard)
    return True


def unsettled(task: ShardTask, shard: int) -> list[PlanRow]:
    """The rows of a shard that have no sound object. If that is none, the shard is assembled.

    Damage is looked for here, before any row is worked on, so that nobody counts on an object that
    is about to be removed.
    """
    rows = rows_of(task, shard)
    for row in rows:
        if path := find_object(task, row):
            _remove_if_damaged(path)
    missing = [row for row in rows if find_object(task, row) is None]
    if not missing:
        assemble(task, shard)
    return missing


def assemble_if_complete(task: ShardTask, shard: int) -> bool:
    """Assembles a shard whose last clip is done, so that finished shards do not wait for the others."""
    if task.is_look or sum(objects_committed(task.layout, task.part, shard).values()) < task.rows_in(shard):
        return False
    return assemble(task, shard)


def _commit(task: ShardTask, shard: int) -> None:
    layout, name = task.layout, task.name(shard)
    rows = rows_of(task, shard)
    paths = [find_object(task, row) for row in rows]
    missing = [row.clip_id for row, path in zip(rows, paths) if path is None]
    if missing:
        raise IncompleteShard(f"{name}: {len(missing)} of {len(rows)} rows unaccounted for, such as {missing[0]}")
    settled = [read_clip(path)[0] for path in paths]
    _expect_same_clips(name, rows, settled)
    written = [path for path, row in zip(paths, settled) if row.status == ledger.WRITTEN]
    files = {form: _write_format(task, name, form, written) for form in task.formats if written}
    ledger_path = layout.ledger(name)
    with atomic(ledger_path, layout.scratch) as temporary:
        tables.write(temporary, "ledger", [[row.as_dict() for row in settled]])
    marker = {
        "version": 1,
        "split": task.split,
        "shard": shard,
        "of": task.of,
        "recipe": task.recipe,
        "plan_sha256": task.plan_sha256,
        "rows": len(rows),
        "written": len(written),
        "refused": ledger.refusals(settled),
        "files": files,
        "ledger": _relative(layout, ledger_path),
        "ledger_sha256": sha256_of(ledger_path),
    }
    _write_marker(layout, name, marker)


def _write_marker(layout: Layout, name: str, marker: dict) -> None:
    jsonschema.validate(marker, schemas.load("marker"))
    write_json(layout.marker(name), marker, layout.scratch)


def amend(task: ShardTask, shard: int, refused_again: dict[str, LedgerRow]) -> None:
    """Brings a committed shard's ledger, and with it the marker, up to what a refresh has found: clips that stand in
    its shards leave, and refusals are those of the last look. The shard's data stay as they are.

    Args:
      refused_again: by clip id.
    """
    layout, name, elsewhere = task.layout, task.name(shard), found_later(task)
    if not task.is_committed(shard):
        return
    marker, path = read_marker(layout.marker(name)), layout.ledger(name)
    before = [LedgerRow(**row) for row in tables.read(path, "ledger")]
    rows = []
    for row in before:
        if row.reason in RETRYABLE:  # else it is written, or a duplicate that bears the id of a clip which is
            if row.clip_id in elsewhere:
                continue
            row = dataclasses.replace(refused_again.get(row.clip_id, row), shard=shard)
        rows.append(row)
    if rows == before and marker["ledger_sha256"] == sha256_of(path):
        return
    with atomic(path, layout.scratch) as temporary:
        tables.write(temporary, "ledger", [[row.as_dict() for row in rows]])
    counts = {"rows": len(rows), "refused": ledger.refusals(rows), "ledger_sha256": sha256_of(path)}
    _write_marker(layout, name, marker | counts)


def _expect_same_clips(name: str, rows: list[PlanRow], settled: list[LedgerRow]) -> None:
    for row, found in zip(rows, settled):
        if (row.clip_id, row.annotation_line) != (found.clip_id, found.annotation_line):
            raise CorruptShard(f"{name}: the object of {row.clip_id} holds {found.clip_id}; remove .work and run again")


def reopen(task: ShardTask, shard: int, reasons: tuple[str, ...]) -> int:
    """Forgets a shard's refusals for some reasons, so that these rows are tried again.

    A committed shard goes back to the objects it was assembled from. The marker goes last: a run
    killed here finds either the shard or all of its objects.

    Returns:
      How many rows are to be tried again.
    """
    layout, name = task.layout, task.name(shard)
    rows = rows_of(task, shard)
    if not task.is_committed(shard):
        paths = [task.object(row, ledger.REFUSED) for row in rows]
        for path in paths:
            _remove_if_damaged(path)
        found = [path for path in paths if path.exists()]
        again = [path for path in found if read_clip(path)[0].reason in reasons]
        for path in again:
            path.unlink()
        return len(again)
    settled = [LedgerRow(**row) for row in tables.read(layout.ledger(name), "ledger")]
    _expect_same_clips(name, rows, settled)
    again = sum(row.reason in reasons for row in settled)
    if again:
        # A run that was killed may have left some, with refusals that are now to be forgotten.
        _remove_objects(task, shard)
        _disassemble(task, name, rows, settled, reasons)
        layout.marker(name).unlink()
    return again


def _disassemble(task: ShardTask, name: str, rows: list[PlanRow], settled: list[LedgerRow], reasons) -> None:
    layout, module = task.layout, SHARD_FORMATS[task.formats[0]]
    written = any(found.status == ledger.WRITTEN for found in settled)
    records = module.read_shard(layout.shard(name, module.SUFFIX)) if written else iter(())
    for row, found in zip(rows, settled):
        record = next(records, None) if found.status == ledger.WRITTEN else None
        if found.status == ledger.WRITTEN and (record is None or record["example/id"] != row.clip_id):
            held = record["example/id"] if record else "nothing"
            raise CorruptShard(f"{name} holds {held} where its ledger says {row.clip_id}")
        if found.reason not in reasons:
            commit_clip(task, row, found, record.to_bytes() if record else None)


def _write_format(task: ShardTask, name: str, form: str, objects: list[Path]) -> dict:
    layout, module = task.layout, SHARD_FORMATS[form]
    path = layout.shard(name, module.SUFFIX)
    records = (Record.from_bytes(read_clip(object_path)[1]) for object_path in objects)
    with atomic(path, layout.scratch) as temporary:
        offsets = module.write_shard(temporary, records)
        described = {"bytes": temporary.stat().st_size, "sha256": sha256_of(temporary)}
    return {"path": _relative(layout, path), **described, "records": len(offsets), "offsets": offsets}


def _relative(layout: Layout, path: Path) -> str:
    return path.relative_to(layout.output).as_posix()


def _remove_objects(task: ShardTask, shard: int) -> None:
    shutil.rmtree(task.layout.objects(task.part, shard), ignore_errors=True)


def read_marker(path: Path) -> dict:
    """Reads a shard's marker.

    Raises:
      CorruptShard: if it is not one.
    """
    try:
        marker = json.loads(path.read_text("utf-8"))
        jsonschema.validate(marker, schemas.load("marker"))
    except (ValueError, jsonschema.ValidationError) as error:
        reason = getattr(error, "message", error)
        raise CorruptShard(f"{path} is not a marker: {reason}") from None
    return marker
