"""Where everything is in an output folder, as keys of its store.

OUTPUT/
  dataset.json  labels.txt  recipe.json     what it is
  tfrecord/train-00000-of-00002.tfrecord    the shards
  parquet/train-00000-of-00002.parquet
  ledger/train-00000-of-00002.parquet       what became of each row
  state.json                                the mark that the folder is ours; what is under way
  sources.json                              where videos are searched
  purged.json                               what was taken out for good, and why
  plan/train.parquet                        which row goes into which shard
  markers/train-00000-of-00002.json         written last: this shard is complete
  */train-refresh1-00000-of-00001.*         clips found later; see search.py
  .work/                                    lease, scratch, objects of clips until their shard is written; then removed
"""

import dataclasses
import re
from pathlib import Path

from kinetics_prep.storage.folder_store import FolderStore

MANIFEST = "dataset.json"
LABELS = "labels.txt"
RECIPE = "recipe.json"
SOURCES = "sources.json"
STATE = "state.json"
PURGED = "purged.json"
WORK = ".work"

_PART = re.compile(r"(?P<split>train|val|test)(?:-refresh(?P<refresh>[1-9][0-9]{0,5}))?")


def part_name(split: str, refresh: int) -> str:
    """The name of a part: a split as first planned (`refresh` 0), or what the search of that number found."""
    return f"{split}-refresh{refresh}" if refresh else split


def split_part_name(name: str) -> tuple[str, int] | None:
    """(split, number of the search) of a part's name; None if it is not one."""
    match = _PART.fullmatch(name)
    return (match["split"], int(match["refresh"] or 0)) if match else None


def shard_name(part: str, shard: int, shards: int) -> str:
    """Such as train-00003-of-00312, the form that tf.data and Hugging Face users glob for."""
    return f"{part}-{shard:05d}-of-{shards:05d}"


def plan_key(part: str) -> str:
    """The plan of a part."""
    return f"plan/{part}.parquet"


def search_plan_key(split: str) -> str:
    """The plan of the rows of a split that are searched once more."""
    return f"{WORK}/search/{split}.parquet"


def objects_prefix(epoch: int, part: str | None = None) -> str:
    """Where the objects of an epoch's clips are, or of one part."""
    return f"{WORK}/objects/{epoch:06d}/" + (f"{part}/" if part else "")


def data_key(name: str, suffix: str) -> str:
    """A shard's data in one format."""
    return f"{suffix}/{name}.{suffix}"


def ledger_key(name: str) -> str:
    """A shard's ledger."""
    return f"ledger/{name}.parquet"


def marker_key(name: str) -> str:
    """A shard's marker."""
    return f"markers/{name}.json"


@dataclasses.dataclass(frozen=True)
class Layout:
    """Paths in an output folder on this machine, for readers."""

    output: Path

    @property
    def store(self) -> FolderStore:
        """The folder's store, for reading."""
        return FolderStore(self.output)

    @property
    def manifest(self) -> Path:
        """What the folder holds, once it is complete."""
        return self.output / MANIFEST

    @property
    def labels(self) -> Path:
        """The label map."""
        return self.output / LABELS

    def plan(self, part: str) -> Path:
        """The plan of a part."""
        return self.output / plan_key(part)
