"""Where everything is in an output folder.

OUTPUT/
  dataset.json  labels.txt  recipe.json     what it is
  tfrecord/train-00000-of-00002.tfrecord    the shards
  parquet/train-00000-of-00002.parquet
  ledger/train-00000-of-00002.parquet       what became of each row
  sources.json                              where videos are searched
  plan/train.parquet                        which row goes into which shard
  markers/train-00000-of-00002.json         written last: this shard is complete
  */train-refresh1-00000-of-00001.*         clips found later; see runs/refresh.py
  .work/                                    objects of clips until their shard is written; removed at the end
"""

import dataclasses
import re
from pathlib import Path

_PART = re.compile(r"(?P<split>train|val|test)(?:-refresh(?P<refresh>[1-9]\d{0,5}))?")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Paths in an output folder."""

    output: Path

    @property
    def manifest(self) -> Path:
        """What the folder holds, once it is complete."""
        return self.output / "dataset.json"

    @property
    def labels(self) -> Path:
        """The label map."""
        return self.output / "labels.txt"

    @property
    def recipe(self) -> Path:
        """Settings and versions."""
        return self.output / "recipe.json"

    @property
    def sources(self) -> Path:
        """Where videos are searched."""
        return self.output / "sources.json"

    @property
    def plans(self) -> Path:
        """The folder of plans."""
        return self.output / "plan"

    @property
    def markers(self) -> Path:
        """The folder of markers."""
        return self.output / "markers"

    @property
    def work(self) -> Path:
        """Files of a run that is not finished."""
        return self.output / ".work"

    @property
    def scratch(self) -> Path:
        """Files that do not have their final name yet."""
        return self.work / "tmp"

    def plan(self, part: str) -> Path:
        """The plan of a part."""
        return self.plans / f"{part}.parquet"

    def objects(self, part: str, shard: int) -> Path:
        """The folder of a shard's clip objects."""
        return self.work / part / f"{shard:05d}"

    def shard(self, name: str, suffix: str) -> Path:
        """A shard's data in one format."""
        return self.output / suffix / f"{name}.{suffix}"

    def ledger(self, name: str) -> Path:
        """A shard's ledger."""
        return self.output / "ledger" / f"{name}.parquet"

    def marker(self, name: str) -> Path:
        """A shard's marker."""
        return self.markers / f"{name}.json"

    def relative(self, path: Path) -> str:
        """A path as files in the folder name it."""
        return path.relative_to(self.output).as_posix()


def part_name(split: str, refresh: int) -> str:
    """The name of a part: a split as first planned (`refresh` 0), or what the refresh of that number found."""
    return f"{split}-refresh{refresh}" if refresh else split


def shard_name(part: str, shard: int, shards: int) -> str:
    """Such as train-00003-of-00312, the form that tf.data and Hugging Face users glob for."""
    return f"{part}-{shard:05d}-of-{shards:05d}"


def list_parts(layout: Layout) -> list[tuple[str, int]]:
    """(split, number of the refresh) of each plan in a folder; 0 is the plan of the first run."""
    names = (_PART.fullmatch(path.stem) for path in layout.plans.glob("*.parquet"))
    return sorted((name["split"], int(name["refresh"] or 0)) for name in names if name)


def is_refreshing(layout: Layout) -> bool:
    """Whether a refresh was begun and is not finished."""
    return any(layout.work.glob("look-*.parquet"))
