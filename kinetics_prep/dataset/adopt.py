"""Folders of format 1, which kinetics-prep wrote before it had a state.json: what is read of them, and how they go on.

Their records and shards stay as they are, under the digest that they were made with.
"""

import dataclasses
import re
from collections.abc import Collection, Iterator

from kinetics_prep.dataset import layout, plan, recipe_file
from kinetics_prep.dataset.markers import committed_shards
from kinetics_prep.dataset.part import Part, list_parts
from kinetics_prep.dataset.recipe_file import RecipeFile
from kinetics_prep.dataset.shards import amend_ledger
from kinetics_prep.dataset.state import State
from kinetics_prep.errors import CorruptShard, NewerFormat
from kinetics_prep.storage.store import Store

_OWN_WORK = re.compile(re.escape(layout.WORK) + r"/(?:lease|tmp)/")


def state_of_format_1(store: Store) -> State | None:
    """The state of a folder of format 1; None if it is not one.

    Raises:
      CorruptShard: if a plan is damaged, or the first one of a split is missing.
    """
    recipe = _recipe(store)
    if recipe is None:
        return None
    names = [entry.key.removeprefix("plan/").removesuffix(".parquet") for entry in store.list("plan/")]
    names = [name for name in names if layout.split_part_name(name)]
    for split in {name.partition("-")[0] for name in names} - set(names):
        raise CorruptShard(f"{store.place}/{layout.plan_key(split)} is missing")
    plans = {name: plan.entry_of(store, layout.plan_key(name)) for name in names}
    state = State(plans=plans)
    committed = committed_shards(store)
    is_complete = all(_is_complete(part, committed) for part in list_parts(store, state, recipe))
    return State(plans=plans, is_complete=bool(plans) and is_complete and not any(_unfinished_work(store)))


def _recipe(store: Store) -> RecipeFile | None:
    try:
        recipe = recipe_file.read(store)
    except (CorruptShard, NewerFormat):  # perhaps the user's own file of that name
        return None
    return recipe if recipe and recipe.fingerprints == {""} else None


def _is_complete(part: Part, committed: frozenset[str]) -> bool:
    return committed.issuperset(part.shard_name(shard) for shard in range(part.shards))


def _unfinished_work(store: Store) -> Iterator[str]:
    return (entry.key for entry in store.list(f"{layout.WORK}/") if not _OWN_WORK.match(entry.key))


def adopt(store: Store, state: State) -> State:
    """Brings a folder of format 1 into a state that this version goes on from; returns that state.

    Objects of clips that wait for their shard are dropped, and made again. So are shards of a refresh that was killed
    before all of them were written. The ledgers lose the rows that a finished refresh found.
    """
    recipe = recipe_file.read(store)
    assert recipe is not None
    adopted, committed = drop_unfinished(store, state, recipe), committed_shards(store)
    parts = list_parts(store, adopted, recipe)
    for part in parts:
        for shard in range(part.shards) if part.later else ():
            if part.is_committed(shard):
                amend_ledger(part, shard, {})
    return dataclasses.replace(adopted, is_complete=all(_is_complete(part, committed) for part in parts))


def drop_unfinished(store: Store, state: State, recipe: RecipeFile, keep: Collection[str] = ()) -> State:
    """Deletes unfinished work of a folder of format 1, and the shards of a refresh that was killed.

    Args:
      keep: names of parts that are complete, although a marker is missing: it was lost.

    Returns:
      The state without that refresh.
    """
    for key in list(_unfinished_work(store)):
        store.delete(key)
    plans, committed = dict(state.plans), committed_shards(store)
    for part in list_parts(store, state, recipe):
        if part.refresh and part.name not in keep and not _is_complete(part, committed):
            _remove_part(part)
            del plans[part.name]
    return dataclasses.replace(state, plans=plans)


def _remove_part(part: Part) -> None:
    for shard in range(part.shards):
        name = part.shard_name(shard)
        store = part.store
        for key in (layout.marker_key(name), layout.ledger_key(name)):
            store.delete(key)
        for form in part.formats:
            store.delete(layout.data_key(name, form))
    part.store.delete(part.plan)
