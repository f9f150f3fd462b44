"""A data set of a few tiny clips, written object by object: for tests of what is on disk, without videos or Beam."""

import dataclasses
import functools
import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlannedRow, PlanRow, RefusedRow, annotation_columns
from kinetics_prep.dataset import layout, ledger, plan, recipe_file, state, tools
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.objects import create_object
from kinetics_prep.dataset.part import Part, list_parts
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.dataset.recipe_file import RecipeFile, Tools
from kinetics_prep.dataset.shards import assemble
from kinetics_prep.media.clip import Clip, QuantizedFlow, TwoStreamClip
from kinetics_prep.records import encode
from kinetics_prep.records.record import Record
from kinetics_prep.storage.folder_store import FolderStore

FORMATS = ("tfrecord", "parquet")
RECIPE = Recipe("tvl1", fps=Fraction(5), short_side=16, clip_seconds=1.0, clips_per_shard=3, formats=FORMATS)
LABELS = LabelMap(("running", "walking"))
FRAMES = 2


@functools.cache
def digest() -> str:
    """Of the recipe."""
    return recipe_file.digest(RECIPE)


def row(number: int, clips_per_shard: int = 3, split: str = "train") -> PlannedRow:
    """The row of that number in the order of a plan."""
    shard, index = divmod(number, clips_per_shard)
    label = LABELS.labels[number % 2]
    start = float(number)
    return PlannedRow(
        shard=shard,
        index=index,
        clip_id=Annotation(f"video{number}", start, start + 1, split, label).clip_id,
        media_id=f"video{number}",
        label=label,
        label_index=number % 2,
        split=split,
        start_seconds=start,
        end_seconds=start + 1,
        annotation_file="rows.csv",
        annotation_line=number + 2,
    )


def duplicate(of: PlannedRow, number: int, clips_per_shard: int = 3) -> RefusedRow:
    """A row that repeats another, in the place of that number."""
    shard, index = divmod(number, clips_per_shard)
    place = {"shard": shard, "index": index, "annotation_line": number + 2}
    return RefusedRow(**vars(of) | place, refusal_reason="duplicate_row", refusal_message="the same video and times")


def record_of(planned: PlannedRow, recipe: str | None = None, **changes) -> Record:
    """A sound record of two frames of 16x16, whose pixels depend on the row; with features changed."""
    rng = np.random.default_rng(planned.annotation_line)
    frames = rng.integers(0, 256, (FRAMES, 16, 16, 3), np.uint8)
    levels = rng.integers(1, 256, (FRAMES, 16, 16, 2), np.uint8)
    clip = Clip(frames, Fraction(5), planned.start_seconds)
    flow = QuantizedFlow(levels, "symmetric", 20.0, 0.0, "repeated")
    origin = encode.Origin(f"{planned.media_id}.mp4", recipe or digest(), "tvl1: version 1", {"tau": 0.25})
    made = encode.encode_clip(TwoStreamClip(clip, flow), planned.annotation, planned.label_index, 1.0, origin)
    return Record(made.features | changes)


def ledger_row(planned: PlanRow, reason: str | None = None, **changes) -> LedgerRow:
    """Written, or refused for a reason."""
    status = {"status": ledger.REFUSED, "reason": reason, "message": f"{reason} of {planned.clip_id}"}
    facts = status if reason else {"status": ledger.WRITTEN, "frames": FRAMES, "width": 16, "height": 16}
    known = {"shard": planned.shard, "engine": "tvl1: version 1", "recipe": digest(), "versions": "{}"}
    return LedgerRow(**annotation_columns(planned) | known | facts | changes)


@dataclasses.dataclass
class SmallDataset:
    """A part of a folder, and its rows."""

    part: Part
    rows: list[PlanRow]

    @property
    def store(self) -> FolderStore:
        assert isinstance(self.part.store, FolderStore)
        return self.part.store

    @property
    def folder(self) -> Path:
        return self.store.root

    def path(self, key: str) -> Path:
        return self.folder / key

    def write(self, planned: PlanRow, reason: str | None = None, **changes) -> None:
        """Writes the object of a row: written, or refused for a reason."""
        if isinstance(planned, RefusedRow):
            reason = planned.refusal_reason
        data = None if reason else record_of(planned).to_bytes()
        create_object(self.part, planned, ledger_row(planned, reason, **changes), data)

    def rows_in(self, shard: int) -> list[PlanRow]:
        return [planned for planned in self.rows if planned.shard == shard]

    def complete(self, refused: dict[int, str] | None = None) -> "SmallDataset":
        """Writes and assembles all shards; `refused` says for what reason which numbers of rows are refused."""
        for number, planned in enumerate(self.rows):
            self.write(planned, (refused or {}).get(number))
        for shard in range(self.part.shards):
            assemble(self.part, shard)
        return self


def make(
    folder: Path,
    count: int = 5,
    split: str = "train",
    rows: list[PlanRow] | None = None,
) -> SmallDataset:
    """A folder with recipe, labels, plan and state, and no object yet. Nobody holds its lease."""
    store = store_of(folder)
    rows = rows or [row(number, split=split) for number in range(count)]
    entry = plan.write(store, layout.plan_key(split), rows, rows[-1].shard + 1)
    store.put(layout.LABELS, LABELS.text().encode())
    file = RecipeFile(json.loads(json.dumps(RECIPE.settings())), digest(), (Tools("f" * 64, tools.versions(RECIPE)),))
    recipe_file.write(store, file)
    current = state.read(store) or state.State()
    current = dataclasses.replace(current, plans={**current.plans, split: entry})
    state.write(store, current)
    part = next(part for part in list_parts(store, current, file) if part.name == split)
    return SmallDataset(part, rows)


def store_of(folder: Path) -> FolderStore:
    """The store of a folder, for writing."""
    scratch = folder / layout.WORK / "tmp" / "small"
    scratch.mkdir(parents=True, exist_ok=True)
    return FolderStore(folder, scratch)
