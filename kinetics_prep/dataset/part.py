"""Part: one plan of a split and the shards that it is dealt into."""

import dataclasses
import functools
from pathlib import Path

from kinetics_prep.annotations.planned import PlanRow, RefusedRow
from kinetics_prep.dataset import plan
from kinetics_prep.dataset.layout import Layout, list_parts, part_name, shard_name


@dataclasses.dataclass(frozen=True)
class Part:
    """A split as first planned, what a refresh found, or what a refresh searches. Crosses process borders."""

    output: str
    split: str
    rows: int
    clips_per_shard: int
    formats: tuple[str, ...]
    recipe: str
    """Digest of the recipe."""
    plan_sha256: str
    refresh: int = 0
    """Number of the refresh that found these clips; 0 for those of the first plan."""
    is_search: bool = False
    """Whether a refresh searches its clips: their objects are packed into shards of another part later."""

    @property
    def name(self) -> str:
        """The name of its plan, and of the folder of its objects."""
        return f"look-{self.split}" if self.is_search else part_name(self.split, self.refresh)

    @property
    def layout(self) -> Layout:
        """Paths in the output folder."""
        return Layout(Path(self.output))

    @property
    def plan(self) -> Path:
        """Its plan on disk."""
        return self.layout.work / f"{self.name}.parquet" if self.is_search else self.layout.plan(self.name)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.rows // self.clips_per_shard)

    def shard_name(self, shard: int) -> str:
        """The name of a shard's files."""
        return shard_name(self.name, shard, self.shards)

    def object(self, row: PlanRow, status: str) -> Path:
        """Where the clip object of a row is written."""
        return self.layout.objects(self.name, row.shard) / f"{row.index:05d}.{status}"

    def is_committed(self, shard: int) -> bool:
        """Whether a shard has its marker."""
        return not self.is_search and self.layout.marker(self.shard_name(shard)).exists()

    def count_rows(self, shard: int) -> int:
        """How many rows a shard accounts for."""
        if ids_found_later(self):
            return len(rows_of(self, shard))
        return min(self.clips_per_shard, self.rows - shard * self.clips_per_shard)


def ids_found_later(part: Part) -> frozenset[str]:
    """Ids of the part's clips that are in the shards and ledgers of a refresh."""
    if part.refresh or part.is_search:
        return frozenset()
    names = [part_name(split, refresh) for split, refresh in list_parts(part.layout) if refresh and split == part.split]
    paths = [part.layout.plan(name) for name in names]
    return _clip_ids(tuple((path, path.stat().st_mtime_ns) for path in paths)) if paths else frozenset()


@functools.lru_cache(maxsize=10)
def _clip_ids(paths: tuple[tuple[Path, int], ...]) -> frozenset[str]:
    return frozenset(row.clip_id for path, _ in paths for row in plan.read(path))


def rows_of(part: Part, shard: int) -> list[PlanRow]:
    """The plan rows that a shard accounts for: all of them but those found later.

    Raises:
      CorruptShard: if the plan is damaged.
    """
    later = ids_found_later(part)
    # A duplicate of a clip that was found has the same id, and stays.
    return [row for row in plan.read(part.plan, shard) if isinstance(row, RefusedRow) or row.clip_id not in later]
