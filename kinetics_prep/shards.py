"""Shard names, clip objects, assembly, markers: how nothing gets lost.

    OUTPUT/
      dataset.json  labels.txt  recipe.json     what it is
      tfrecord/train-00000-of-00002.tfrecord    the shards
      parquet/train-00000-of-00002.parquet
      ledger/train-00000-of-00002.parquet       what became of each row
      plan/train.parquet                        which row goes where
      markers/train-00000-of-00002.json         written last: this shard is whole
      .work/                                    clips on their way; gone when all is done

A clip is the unit of work. When it is done, its record, or the reason why there is none, stands in
an object of its own. A shard is assembled when each of its rows has an object, never before, and
then its objects go. Whatever bears its final name is whole: it was written under another name,
on the same disk, and renamed.
"""

import contextlib
import dataclasses
import json
import os
import shutil
from pathlib import Path

import jsonschema

from kinetics_prep import ledger, plan, schemas, tables
from kinetics_prep.atomic import atomic, sha256_of, write_json
from kinetics_prep.errors import CorruptShard, IncompleteShard
from kinetics_prep.formats import FORMATS, tfrecord
from kinetics_prep.ledger import LedgerRow
from kinetics_prep.plan import PlanRow
from kinetics_prep.record import Record


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
    def work(self) -> Path:
        return self.output / ".work"

    @property
    def scratch(self) -> Path:
        """For files that do not bear their final name yet."""
        return self.work / "tmp"

    def plan(self, split: str) -> Path:
        return self.output / "plan" / f"{split}.parquet"

    def object(self, row: PlanRow, status: str) -> Path:
        return self.objects(row.split, row.shard) / f"{row.index:05d}.{status}"

    def objects(self, split: str, shard: int) -> Path:
        return self.work / split / f"{shard:05d}"

    def shard(self, name: str, suffix: str) -> Path:
        return self.output / suffix / f"{name}.{suffix}"

    def ledger(self, name: str) -> Path:
        return self.output / "ledger" / f"{name}.parquet"

    def marker(self, name: str) -> Path:
        return self.output / "markers" / f"{name}.json"


def shard_name(split: str, shard: int, of: int) -> str:
    """Such as train-00003-of-00312, the form that tf.data and Hugging Face users glob for."""
    return f"{split}-{shard:05d}-of-{of:05d}"


# Clip objects ---------------------------------------------------------------------------------


def commit_clip(layout: Layout, row: PlanRow, settled: LedgerRow, record: bytes | None) -> None:
    """Writes a clip's object: its ledger row, and its record if it has one.

    It is not forced to disk: after a power cut its checksums tell, and the clip is done again.
    """
    payloads = [json.dumps(settled.as_dict()).encode()] + ([record] if record is not None else [])
    with atomic(layout.object(row, settled.status), layout.scratch, durable=False) as temporary:
        tfrecord.write_bytes(temporary, payloads)


def read_clip(path: Path) -> tuple[LedgerRow, bytes | None]:
    """Reads a clip's object.

    Raises:
      FileNotFoundError: if there is none.
      CorruptShard: if it is damaged.
    """
    first, *rest = tfrecord.read_bytes(path)
    return LedgerRow(**json.loads(first)), (rest[0] if rest else None)


def find_object(layout: Layout, row: PlanRow) -> Path | None:
    """A clip's object, of whichever status; None if there is none."""
    paths = (layout.object(row, status) for status in ledger.STATUSES)
    return next((path for path in paths if path.exists()), None)


def _remove_if_damaged(path: Path) -> None:
    try:
        read_clip(path)
    except FileNotFoundError:
        pass
    except (CorruptShard, ValueError, TypeError):  # TypeError: of a version with other ledger columns
        path.unlink(missing_ok=True)


def objects_committed(layout: Layout, split: str, shard: int) -> dict[str, int]:
    """How many of a shard's rows have an object, by status. Names say it, so that asking is cheap."""
    names = []
    with contextlib.suppress(FileNotFoundError):
        names = [entry.name.rpartition(".") for entry in os.scandir(layout.objects(split, shard))]
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

    @property
    def layout(self) -> Layout:
        return Layout(Path(self.output))

    @property
    def of(self) -> int:
        """Number of shards."""
        return -(-self.rows // self.clips_per_shard)

    def rows_in(self, shard: int) -> int:
        return min(self.clips_per_shard, self.rows - shard * self.clips_per_shard)

    def name(self, shard: int) -> str:
        return shard_name(self.split, shard, self.of)

    def is_committed(self, shard: int) -> bool:
        return self.layout.marker(self.name(shard)).exists()


def assemble(task: ShardTask, shard: int) -> bool:
    """Writes a shard from its clips' objects, its marker last, and removes the objects.

    Two callers may do so at once: both write the same bytes.

    Returns:
      False if the shard stood already.

    Raises:
      IncompleteShard: if a row has no object; nothing is written then.
    """
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
    rows = list(plan.read(task.layout.plan(task.split), shard))
    for row in rows:
        if path := find_object(task.layout, row):
            _remove_if_damaged(path)
    missing = [row for row in rows if find_object(task.layout, row) is None]
    if not missing:
        assemble(task, shard)
    return missing


def assemble_if_complete(task: ShardTask, shard: int) -> bool:
    """Assembles a shard whose last clip is done, so that finished shards do not wait for the others."""
    if sum(objects_committed(task.layout, task.split, shard).values()) < task.rows_in(shard):
        return False
    return assemble(task, shard)


def _commit(task: ShardTask, shard: int) -> None:
    layout, name = task.layout, task.name(shard)
    rows = list(plan.read(layout.plan(task.split), shard))
    paths = [find_object(layout, row) for row in rows]
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
    jsonschema.validate(marker, schemas.load("marker"))
    write_json(layout.marker(name), marker, layout.scratch)


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
    rows = list(plan.read(layout.plan(task.split), shard))
    if not task.is_committed(shard):
        paths = [layout.object(row, ledger.REFUSED) for row in rows]
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
    layout, module = task.layout, FORMATS[task.formats[0]]
    written = any(found.status == ledger.WRITTEN for found in settled)
    records = module.read_shard(layout.shard(name, module.SUFFIX)) if written else iter(())
    for row, found in zip(rows, settled):
        record = next(records, None) if found.status == ledger.WRITTEN else None
        if found.status == ledger.WRITTEN and (record is None or record["example/id"] != row.clip_id):
            held = record["example/id"] if record else "nothing"
            raise CorruptShard(f"{name} holds {held} where its ledger says {row.clip_id}")
        if found.reason not in reasons:
            commit_clip(layout, row, found, record.to_bytes() if record else None)


def _write_format(task: ShardTask, name: str, form: str, objects: list[Path]) -> dict:
    layout, module = task.layout, FORMATS[form]
    path = layout.shard(name, module.SUFFIX)
    records = (Record.from_bytes(read_clip(object_path)[1]) for object_path in objects)
    with atomic(path, layout.scratch) as temporary:
        offsets = module.write_shard(temporary, records)
        described = {"bytes": temporary.stat().st_size, "sha256": sha256_of(temporary)}
    return {"path": _relative(layout, path), **described, "records": len(offsets), "offsets": offsets}


def _relative(layout: Layout, path: Path) -> str:
    return path.relative_to(layout.output).as_posix()


def _remove_objects(task: ShardTask, shard: int) -> None:
    shutil.rmtree(task.layout.objects(task.split, shard), ignore_errors=True)


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
