"""A search: refused rows are tried once more, and what is found is put into shards of its own.

    begin    a plan of the refused rows is written to the work folder, then the state says "searching"
    ...      each of them is prepared as in any run, and becomes an object
    close    what was found is planned under the search's number, and the state says "packing"
    pack     new shards are committed, train-refresh1-00000-of-00002 and so on; then found clips leave the ledgers of
             the shards in which they were missing, and those refused again get the new reason there

A search may be closed before every row was tried: the others stay refused as they were. From "packing" on everything
follows from what is on disk, and any command finishes it first; a find whose object is damaged by then is prepared
again. Each row is in one ledger, once.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from kinetics_prep.annotations.planned import PlannedRow, PlanRow
from kinetics_prep.dataset import layout, ledger, plan
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.objects import read_ledger_row, remove_damaged
from kinetics_prep.dataset.part import Part, list_parts, list_searches, rows_of
from kinetics_prep.dataset.recipe_file import RecipeFile
from kinetics_prep.dataset.shards import amend_ledger, commit_shard
from kinetics_prep.dataset.state import PlanEntry, Search, State
from kinetics_prep.errors import CorruptShard
from kinetics_prep.storage.store import Store


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a search came to."""

    searched: int
    found: int
    refused: Mapping[str, int]
    """Rows still refused, by reason."""
    shards: int
    """How many were written."""

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.refused.items())
        shards = f"{self.shards} new {'shard' if self.shards == 1 else 'shards'}"
        found = f"{self.found} found" + (f", in {shards}" if self.shards else "")
        return f"looked for {self.searched} rows again: {found}" + (f"; still refused: {reasons}" if reasons else "")


def begin(store: Store, state: State, parts: Sequence[Part], reasons: tuple[str, ...]) -> State:
    """Plans a search for the rows of committed shards that were refused for some reasons.

    Returns:
      The state to write; the same if there is no such row.
    """
    rows: dict[str, list[PlannedRow]] = collections.defaultdict(list)
    for part in parts:
        rows[part.split] += _refused_rows(part, reasons)
    clips_per_shard = {part.split: part.clips_per_shard for part in parts}
    plans = {
        split: write_plan(store, layout.search_plan_key(split), split_rows, clips_per_shard[split])
        for split, split_rows in rows.items()
        if split_rows
    }
    if not plans:
        return state
    numbers = filter(None, map(layout.split_part_name, state.plans))
    number, serial = 1 + max(refresh for _, refresh in numbers), state.searches + 1
    return dataclasses.replace(state, searches=serial, search=Search(number, serial, reasons, plans))


def _refused_rows(part: Part, reasons: tuple[str, ...]) -> Iterator[PlannedRow]:
    for shard in range(part.shards):
        if not part.is_committed(shard):
            continue
        key = layout.ledger_key(part.shard_name(shard))
        ledger_rows = ledger.read_columns(part.store, key, "clip_id", "reason")
        refused = {row["clip_id"] for row in ledger_rows if row["reason"] in reasons}
        for row in rows_of(part, shard) if refused else ():
            if isinstance(row, PlannedRow) and row.clip_id in refused:
                yield row


def write_plan(store: Store, key: str, rows: Sequence[PlannedRow], clips_per_shard: int) -> PlanEntry:
    """Writes a plan of rows, dealt into shards anew."""
    dealt = []
    for position, row in enumerate(rows):
        shard, index = divmod(position, clips_per_shard)
        dealt.append(dataclasses.replace(row, shard=shard, index=index))
    return plan.write(store, key, dealt, math.ceil(len(rows) / clips_per_shard))


def close(store: Store, state: State, recipe: RecipeFile) -> State:
    """Plans shards for what a search has found so far; no row is searched after it.

    Returns:
      The state to write: "packing". Writing it is what commits the finds.
    """
    assert state.search is not None
    plans = dict(state.plans)
    for search in list_searches(store, state, recipe):
        found = [row for row, result in _results(search) if result.status == ledger.WRITTEN]
        if found:
            name = layout.part_name(search.split, state.search.number)
            plans[name] = write_plan(store, layout.plan_key(name), found, search.clips_per_shard)
    return dataclasses.replace(state, plans=plans, search=dataclasses.replace(state.search, is_packing=True))


def _results(search: Part) -> Iterator[tuple[PlannedRow, LedgerRow]]:
    """Each row that was tried, and what became of it."""
    for row in plan.read(search.store, search.plan):
        try:
            result = read_ledger_row(search.store, search.object_key(row))
        except (FileNotFoundError, CorruptShard):
            continue  # not tried; damage counts as not tried
        if isinstance(row, PlannedRow) and result.clip_id == row.clip_id:
            yield row, result


def count_untried(search: Part) -> int:
    """How many rows of a search have no object yet."""
    return search.rows - sum(1 for _ in _results(search))


def pack(store: Store, state: State, recipe: RecipeFile) -> tuple[State, Outcome]:
    """Writes the shards of what a search has found, and brings the older ledgers up to date.

    Returns:
      (the state to write, which has no search any more; what the search came to).
    """
    assert state.search is not None
    parts, refused, shards = list_parts(store, state, recipe), list[LedgerRow](), 0
    searches = list_searches(store, state, recipe)
    for search in searches:
        results = dict(_results(search))
        packed = [part for part in parts if (part.split, part.refresh) == (search.split, state.search.number)]
        for part in packed:
            _commit_shards(part, {row.clip_id: search.object_key(row) for row in results})
            shards += part.shards
        again = {row.clip_id: result for row, result in results.items() if result.status == ledger.REFUSED}
        refused += again.values()
        for part in parts:
            if part.split == search.split and part.refresh < state.search.number:
                _amend_ledgers(part, again)
    found = sum(part.rows for part in parts if part.refresh == state.search.number)
    outcome = Outcome(found + len(refused), found, ledger.refusals(refused), shards)
    return dataclasses.replace(state, search=None), outcome


def _commit_shards(part: Part, object_of: Mapping[str, str]) -> None:
    for shard, rows in itertools.groupby(plan.read(part.store, part.plan), key=lambda row: row.shard):
        members = list(rows)
        if not part.is_committed(shard) and not _commit_shard(part, shard, members, object_of):
            _keep_objects(part, members, object_of)


def _commit_shard(part: Part, shard: int, rows: Sequence[PlanRow], object_of: Mapping[str, str]) -> bool:
    """Commits a shard of finds. Returns False if one was lost, or damaged, after it was planned."""
    try:
        commit_shard(part, shard, rows, [object_of[row.clip_id] for row in rows])
    except (KeyError, FileNotFoundError, CorruptShard):
        return False
    return True


def _keep_objects(part: Part, rows: Sequence[PlanRow], object_of: Mapping[str, str]) -> None:
    """Files the sound objects of a shard under its own part, whose other rows any run prepares again."""
    sound = remove_damaged(part.store, filter(None, (object_of.get(row.clip_id) for row in rows)))
    for row in rows:
        if (key := object_of.get(row.clip_id)) in sound:
            part.store.create(part.object_key(row), part.store.read(key))


def _amend_ledgers(part: Part, refused_again: Mapping[str, LedgerRow]) -> None:
    for shard in range(part.shards):
        if part.is_committed(shard):
            amend_ledger(part, shard, refused_again)
