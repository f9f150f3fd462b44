"""Looks once more for clips that were refused, and leaves every shard that there is as it is.

    with refresh.looking(Path("k400"), reasons=("not_found",), fetching=fetching) as looks:
        flow.run(looks.planned, workers, options)
        refresh.finish(looks)

What is missing gets a plan of its own in the work folder, and is looked for as in any run. What was found then stands
there as objects; they are packed into new shards, `train-refresh1-00000-of-00002` and so on, under a plan that holds
nothing else. Last, found clips leave the ledgers of the shards in which they had been missing, and those that were
refused again get the new reason. Each row is in one ledger, once; a run that was killed goes on where it was.
"""

import contextlib
import dataclasses
import itertools
import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetics_prep.annotations.planned import PlannedRow, PlanRow
from kinetics_prep.dataset import ledger, plan, shards
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.shards import ShardTask
from kinetics_prep.errors import BadOption, IncompleteShard
from kinetics_prep.flow import ANY_HARDWARE, Hardware
from kinetics_prep.runs import prepare as job
from kinetics_prep.runs.prepare import Planned
from kinetics_prep.sources import Fetching
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import atomic


@dataclasses.dataclass(frozen=True)
class Looks:
    """A refresh under way."""

    folder: Planned
    """All that is in the folder already."""
    planned: Planned
    """What is looked for."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a refresh."""

    looked_for: int
    found: int
    refused: dict[str, int]
    """Rows that still are, by reason."""
    shards: int
    """How many were written."""
    summary: job.Summary
    """Of the whole folder."""

    def __str__(self):
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.refused.items())
        shards = f"{self.shards} new {'shard' if self.shards == 1 else 'shards'}"
        found = f"{self.found} found" + (f", in {shards}" if self.shards else "")
        return f"looked for {self.looked_for} rows again: {found}" + (f"; still refused: {reasons}" if reasons else "")


@contextlib.contextmanager
def looking(
    output: Path, reasons: tuple[str, ...], fetching: Fetching, hardware: Hardware = ANY_HARDWARE
) -> Iterator[Looks]:
    """Plans a look at what was refused for some reasons, or finds the one that was interrupted.

    Raises:
      BadOption: if the folder is not finished.
    """
    with job.resumed(output, fetching, hardware, ask_again=reasons) as found:
        unfinished = [task.name(shard) for task, shard in found.pending() if not _is_being_packed(task)]
        if unfinished:
            raise BadOption(
                f"{output} is not finished: {len(unfinished)} shards are missing, such as {unfinished[0]}; give its "
                "`kinetics-prep flow` command once more first"
            )
        looks = [_look(task, reasons) for task in found.tasks if not task.refresh]
        yield Looks(found, dataclasses.replace(found, tasks=tuple(look for look in looks if look.rows)))


def finish(looks: Looks) -> Outcome:
    """Packs what was found, once every row has been looked for, and brings ledgers and manifest up to it.

    Raises:
      IncompleteShard: if a row has not been looked for.
    """
    tasks, refused = list(looks.folder.tasks), []
    written = 0
    for look in looks.planned.tasks:
        packed = _pack(look)
        if packed:
            tasks = [task for task in tasks if task.part != packed.part] + [packed]
            written += packed.of
        again = {row.clip_id: row for row in _refused(look)}
        refused += again.values()
        base = next(task for task in tasks if (task.split, task.refresh) == (look.split, 0))
        for shard in range(base.of):
            shards.amend(base, shard, again)
    looked_for = sum(look.rows for look in looks.planned.tasks)
    for look in looks.planned.tasks:
        _forget(look)
    summary = job.finish(dataclasses.replace(looks.folder, tasks=tuple(tasks)))
    return Outcome(looked_for, looked_for - len(refused), ledger.refusals(refused), written, summary)


# Looking ----------------------------------------------------------------------------------------


def _look(task: ShardTask, reasons: tuple[str, ...]) -> ShardTask:
    """The task of looking for what a split misses; its plan is written, unless it stands already."""
    look = dataclasses.replace(task, is_look=True, rows=0, plan_sha256="")
    if not look.plan.exists():
        shutil.rmtree(task.layout.work / look.part, ignore_errors=True)  # of an earlier one
        rows = list(_missing(task, reasons))
        if rows:
            _write_plan(look, rows)
    rows = sum(1 for _ in plan.read(look.plan)) if look.plan.exists() else 0
    return dataclasses.replace(look, rows=rows)


def _missing(task: ShardTask, reasons: tuple[str, ...]) -> Iterator[PlanRow]:
    for shard in range(task.of):
        refused = {
            row["clip_id"]
            for row in tables.read(task.layout.ledger(task.name(shard)), "ledger")
            if row["reason"] in reasons
        }
        yield from (
            row for row in shards.rows_of(task, shard) if isinstance(row, PlannedRow) and row.clip_id in refused
        )


def _write_plan(task: ShardTask, rows: list[PlanRow]) -> None:
    with atomic(task.plan, task.layout.scratch) as temporary:
        plan.write(temporary, _dealt(rows, task.clips_per_shard), math.ceil(len(rows) / task.clips_per_shard))


def _dealt(rows: Iterable[PlanRow], clips_per_shard: int) -> Iterator[PlanRow]:
    """The same rows in shards of their own."""
    for position, row in enumerate(rows):
        shard, index = divmod(position, clips_per_shard)
        yield dataclasses.replace(row, shard=shard, index=index)


def _settled(look: ShardTask) -> Iterator[tuple[PlanRow, Path]]:
    """Each row, and the object that says what became of it. The object's name tells whether it was found."""
    for row in plan.read(look.plan):
        path = shards.find_object(look, row)
        if path is None:
            raise IncompleteShard(f"{row.clip_id} has not been looked for")
        yield row, path


def _refused(look: ShardTask) -> Iterator[LedgerRow]:
    return (shards.read_clip(path)[0] for _, path in _settled(look) if path.suffix == f".{ledger.REFUSED}")


def _forget(look: ShardTask) -> None:
    look.plan.unlink()  # first: what is left of it without a plan is swept away by the next one
    shutil.rmtree(look.layout.work / look.part, ignore_errors=True)


# Packing ----------------------------------------------------------------------------------------


def _is_being_packed(task: ShardTask) -> bool:
    """Whether a shard of this task is missing because a refresh was killed while it wrote it."""
    return task.refresh > 0 and dataclasses.replace(task, is_look=True).plan.exists()


def _pack(look: ShardTask) -> ShardTask | None:
    """Puts the objects of what was found into new shards; None if nothing was found."""
    found = [row for row, path in _settled(look) if path.suffix == f".{ledger.WRITTEN}"]
    if not found:
        return None
    packed = dataclasses.replace(look, is_look=False, rows=len(found), refresh=_number_for(look, found))
    if not packed.plan.exists():
        _write_plan(packed, found)
    packed = dataclasses.replace(packed, plan_sha256=plan.digest_of(packed.plan).sha256())
    pairs = zip(found, plan.read(packed.plan), strict=True)
    for shard, members in itertools.groupby(pairs, key=lambda pair: pair[1].shard):
        if not packed.is_committed(shard):
            for was, row in members:
                _move(look, was, packed, row)
            shards.assemble(packed, shard)
    return packed


def _number_for(look: ShardTask, found: list[PlanRow]) -> int:
    """Of the refresh: the next one, or the last one if these are its clips already, as a killed run left it."""
    last = max(refresh for split, refresh in shards.parts(look.layout) if split == look.split)
    if last:
        begun = next(plan.read(look.layout.plan(shards.part_name(look.split, last))))
        if begun.clip_id in {row.clip_id for row in found}:
            return last
    return last + 1


def _move(look: ShardTask, was: PlanRow, packed: ShardTask, row: PlanRow) -> None:
    settled, record = shards.read_clip(shards.find_object(look, was))
    shards.commit_clip(packed, row, dataclasses.replace(settled, shard=row.shard), record)
