"""Part: one plan of a split and the shards that it is dealt into."""

import dataclasses
import functools

from kinetics_prep.annotations.planned import PlanRow, RefusedRow
from kinetics_prep.dataset import layout, markers, plan
from kinetics_prep.dataset.recipe_file import RecipeFile
from kinetics_prep.dataset.state import PlanEntry, State
from kinetics_prep.storage.store import Store


@dataclasses.dataclass(frozen=True)
class Part:
    """A split as first planned, what a search found, or what a search looks for. Crosses process borders."""

    store: Store
    split: str
    rows: int
    clips_per_shard: int
    formats: tuple[str, ...]
    recipe: str
    """Digest of the recipe."""
    plan_sha256: str
    refresh: int = 0
    """Number of the search that found these clips; 0 for those of the first plan."""
    search: int = 0
    """Serial of the search that these rows are part of: what it finds is put into shards of another part later."""
    epoch: int = 1
    """Objects of its clips are filed under it."""
    later: tuple[tuple[str, str], ...] = ()
    """(key, sha256) of the plans of clips that later searches found, and that left this part."""

    @property
    def name(self) -> str:
        """The name of its plan, and of the folder of its objects."""
        return f"search{self.search}-{self.split}" if self.search else layout.part_name(self.split, self.refresh)

    @property
    def plan(self) -> str:
        """The key of its plan."""
        return layout.search_plan_key(self.split) if self.search else layout.plan_key(self.name)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.rows // self.clips_per_shard)

    def shard_name(self, shard: int) -> str:
        """The name of a shard's files."""
        return layout.shard_name(self.name, shard, self.shards)

    def object_key(self, row: PlanRow) -> str:
        """Where the clip object of a row is written, whatever becomes of the row."""
        return f"{self.objects_prefix(row.shard)}{row.index:05d}"

    def objects_prefix(self, shard: int) -> str:
        """The folder of a shard's objects."""
        return f"{layout.objects_prefix(self.epoch, self.name)}{shard:05d}/"

    def is_committed(self, shard: int) -> bool:
        """Whether a shard has its marker."""
        return not self.search and markers.is_committed(self.store, self.shard_name(shard))

    def count_rows(self, shard: int) -> int:
        """How many rows a shard accounts for."""
        if self.later:
            return len(rows_of(self, shard))
        return min(self.clips_per_shard, self.rows - shard * self.clips_per_shard)


def found_later(part: Part) -> frozenset[str]:
    """Ids of the part's clips that are in the shards and ledgers of later searches."""
    return _clip_ids(part.store, part.later) if part.later else frozenset()


@functools.lru_cache(maxsize=10)
def _clip_ids(store: Store, plans: tuple[tuple[str, str], ...]) -> frozenset[str]:
    return frozenset(row.clip_id for key, _ in plans for row in plan.read(store, key))


def rows_of(part: Part, shard: int) -> list[PlanRow]:
    """The plan rows that a shard accounts for: all of them but those found later.

    Raises:
      CorruptShard: if the plan is damaged.
    """
    later = found_later(part)
    # A duplicate of a clip that was found has the same id, and stays.
    rows = plan.read(part.store, part.plan, shard)
    return [row for row in rows if isinstance(row, RefusedRow) or row.clip_id not in later]


def list_parts(store: Store, state: State, recipe: RecipeFile) -> list[Part]:
    """The parts of a folder, each split as first planned before what was found later."""
    numbers = sorted(filter(None, map(layout.split_part_name, state.plans)))
    return [
        _part(store, state, recipe, split, state.plans[layout.part_name(split, refresh)], refresh=refresh)
        for split, refresh in numbers
    ]


def list_searches(store: Store, state: State, recipe: RecipeFile) -> list[Part]:
    """The parts that a search that was begun looks for."""
    if state.search is None:
        return []
    return [
        _part(store, state, recipe, split, entry, search=state.search.serial)
        for split, entry in sorted(state.search.plans.items(), key=lambda item: item[0])
    ]


def _part(
    store: Store,
    state: State,
    recipe: RecipeFile,
    split: str,
    entry: PlanEntry,
    refresh: int = 0,
    search: int = 0,
) -> Part:
    numbers = filter(None, map(layout.split_part_name, state.plans))
    numbers_later = sorted(number for other, number in numbers if other == split and number > refresh)
    later = (layout.part_name(split, number) for number in numbers_later)
    return Part(
        store=store,
        split=split,
        rows=entry.rows,
        clips_per_shard=recipe.clips_per_shard,
        formats=recipe.formats,
        recipe=recipe.digest,
        plan_sha256=entry.sha256,
        refresh=refresh,
        search=search,
        epoch=state.epoch,
        later=() if search else tuple((layout.plan_key(name), state.plans[name].file_sha256) for name in later),
    )
