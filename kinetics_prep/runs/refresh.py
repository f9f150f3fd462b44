"""A run of `refresh`: searches refused clips once more and leaves every shard as it is.

    with open_search(Path("k400"), reasons=("not_found",), fetching=fetching) as search:
        graph.run(search.run, workers, options)
        outcome = finish(search)

What is missing gets a plan of its own in the work folder and is searched as in any run. What was
found is there as objects then; they are packed into new shards, `train-refresh1-00000-of-00002`
and so on, under a plan that holds nothing else. Last, found clips leave the ledgers of the shards
in which they were missing, and those refused again get the new reason. Each row is in one ledger,
once; a killed run resumes.
"""

import contextlib
import dataclasses
import itertools
import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetics_prep.annotations.planned import PlannedRow, PlanRow
from kinetics_prep.dataset import ledger, plan
from kinetics_prep.dataset.layout import list_parts, part_name
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.objects import find_object, read_object, write_object
from kinetics_prep.dataset.part import Part, rows_of
from kinetics_prep.dataset.shards import amend_ledger, assemble
from kinetics_prep.errors import BadOption, IncompleteShard
from kinetics_prep.flow import ANY_HARDWARE, Hardware
from kinetics_prep.runs import prepare
from kinetics_prep.runs.prepare import PrepareRun, Summary
from kinetics_prep.sources import Fetching
from kinetics_prep.storage.files import atomic_write


@dataclasses.dataclass(frozen=True)
class Search:
    """A refresh that was begun."""

    folder: PrepareRun
    """Everything that is in the folder already."""
    run: PrepareRun
    """What is searched."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a refresh came to."""

    searched: int
    found: int
    refused: dict[str, int]
    """Rows still refused, by reason."""
    shards: int
    """How many were written."""
    summary: Summary
    """Of the whole folder."""

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.refused.items())
        shards = f"{self.shards} new {'shard' if self.shards == 1 else 'shards'}"
        found = f"{self.found} found" + (f", in {shards}" if self.shards else "")
        return f"looked for {self.searched} rows again: {found}" + (f"; still refused: {reasons}" if reasons else "")


@contextlib.contextmanager
def open_search(
    output: Path, reasons: tuple[str, ...], fetching: Fetching, hardware: Hardware = ANY_HARDWARE
) -> Iterator[Search]:
    """Plans a search for what was refused for some reasons, or opens the one that was interrupted.

    Raises:
      BadOption: if the folder is not finished.
    """
    with prepare.resume_run(output, fetching, hardware, ask_again=reasons) as folder:
        unfinished = [part.shard_name(shard) for part, shard in folder.pending() if not _is_being_packed(part)]
        if unfinished:
            raise BadOption(
                f"{output} is not finished: {len(unfinished)} shards are missing, such as {unfinished[0]}; give its "
                "`kinetics-prep flow` command once more first"
            )
        searches = [_search_part(part, reasons) for part in folder.parts if not part.refresh]
        parts = tuple(part for part in searches if part.rows)
        yield Search(folder, dataclasses.replace(folder, parts=parts))


def finish(search: Search) -> Outcome:
    """Packs what was found, once every row has been searched, and brings ledgers and manifest up to date.

    Raises:
      IncompleteShard: if a row has not been searched.
    """
    parts, refused = list(search.folder.parts), list[LedgerRow]()
    written = 0
    for searched in search.run.parts:
        packed = _pack(searched)
        if packed:
            parts = [part for part in parts if part.name != packed.name] + [packed]
            written += packed.shards
        again = {row.clip_id: row for row in _refused_again(searched)}
        refused += again.values()
        first = next(part for part in parts if (part.split, part.refresh) == (searched.split, 0))
        for shard in range(first.shards):
            amend_ledger(first, shard, again)
    rows = sum(part.rows for part in search.run.parts)
    for searched in search.run.parts:
        _remove_search(searched)
    summary = prepare.finish(dataclasses.replace(search.folder, parts=tuple(parts)))
    return Outcome(rows, rows - len(refused), ledger.refusals(refused), written, summary)


# Searching --------------------------------------------------------------------------------------


def _search_part(part: Part, reasons: tuple[str, ...]) -> Part:
    """The part of a split's refused rows. Its plan is written, unless an interrupted search left one."""
    search = dataclasses.replace(part, is_search=True, rows=0, plan_sha256="")
    if not search.plan.exists():
        shutil.rmtree(part.layout.work / search.name, ignore_errors=True)  # of an earlier search
        rows = list(_refused_rows(part, reasons))
        if rows:
            _write_plan(search, rows)
    count = sum(1 for _ in plan.read(search.plan)) if search.plan.exists() else 0
    return dataclasses.replace(search, rows=count)


def _refused_rows(part: Part, reasons: tuple[str, ...]) -> Iterator[PlannedRow]:
    for shard in range(part.shards):
        ledger_rows = ledger.read_columns(part.layout.ledger(part.shard_name(shard)), "clip_id", "reason")
        refused = {row["clip_id"] for row in ledger_rows if row["reason"] in reasons}
        for row in rows_of(part, shard):
            if isinstance(row, PlannedRow) and row.clip_id in refused:
                yield row


def _write_plan(part: Part, rows: list[PlannedRow]) -> None:
    """Writes a plan of rows, dealt into shards anew."""
    dealt = []
    for position, row in enumerate(rows):
        shard, index = divmod(position, part.clips_per_shard)
        dealt.append(dataclasses.replace(row, shard=shard, index=index))
    with atomic_write(part.plan, part.layout.scratch) as temporary:
        plan.write(temporary, dealt, math.ceil(len(rows) / part.clips_per_shard))


def _objects(search: Part) -> Iterator[tuple[PlannedRow, Path]]:
    """Each row and its object, whose name tells whether the clip was found."""
    for row in plan.read(search.plan):
        path = find_object(search, row)
        if path is None or not isinstance(row, PlannedRow):
            raise IncompleteShard(f"{row.clip_id} has not been looked for")
        yield row, path


def _refused_again(search: Part) -> Iterator[LedgerRow]:
    return (read_object(path)[0] for _, path in _objects(search) if path.suffix == f".{ledger.REFUSED}")


def _remove_search(search: Part) -> None:
    search.plan.unlink()  # first: objects without a plan are removed by the next search
    shutil.rmtree(search.layout.work / search.name, ignore_errors=True)


# Packing ----------------------------------------------------------------------------------------


def _is_being_packed(part: Part) -> bool:
    """Whether a shard of this part is missing because a refresh was killed while it wrote it."""
    return part.refresh > 0 and dataclasses.replace(part, is_search=True).plan.exists()


def _pack(search: Part) -> Part | None:
    """Puts the objects of what was found into new shards; None if nothing was found."""
    found = [row for row, path in _objects(search) if path.suffix == f".{ledger.WRITTEN}"]
    if not found:
        return None
    packed = dataclasses.replace(search, is_search=False, rows=len(found), refresh=_refresh_number(search, found))
    if not packed.plan.exists():
        _write_plan(packed, found)
    packed = dataclasses.replace(packed, plan_sha256=plan.digest_of(packed.plan).sha256())
    pairs = zip(found, plan.read(packed.plan), strict=True)
    for shard, members in itertools.groupby(pairs, key=lambda pair: pair[1].shard):
        if not packed.is_committed(shard):
            for searched_row, packed_row in members:
                _copy_object(search, searched_row, packed, packed_row)
            assemble(packed, shard)
    return packed


def _refresh_number(search: Part, found: Iterable[PlanRow]) -> int:
    """The number of the refresh: the next, or the last if its plan holds these clips, left by a killed run."""
    last = max(refresh for split, refresh in list_parts(search.layout) if split == search.split)
    if last:
        first_row = next(plan.read(search.layout.plan(part_name(search.split, last))))
        if first_row.clip_id in {row.clip_id for row in found}:
            return last
    return last + 1


def _copy_object(search: Part, searched_row: PlanRow, packed: Part, packed_row: PlanRow) -> None:
    path = find_object(search, searched_row)
    if path is None:
        raise IncompleteShard(f"{searched_row.clip_id} has not been looked for")
    ledger_row, record = read_object(path)
    write_object(packed, packed_row, dataclasses.replace(ledger_row, shard=packed_row.shard), record)
