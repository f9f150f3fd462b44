"""Other formats and another shard size, from the records that are there: no flow is computed, no video is read.

    with open_conversion(output, Shape(formats=("tfrecord", "parquet"))) as conversion:
        conversion.carry_out(workers=2)

Without another shard size each shard keeps its clips: files in formats that are missing are written beside the others,
and at the end those of formats that are not wanted any more go. With another one the plan is dealt anew, in its order,
and what searches found takes its place among the others: data and plans then have the bytes that one run of `flow` with
that setting would have written.

All new files are built first, see `replace.py`. A run that was killed meanwhile goes on with those that it has built.
"""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kinetics_prep.annotations.planned import PlannedRow, PlanRow
from kinetics_prep.dataset import documents, door, layout, ledger, manifest, markers, plan, recipe_file, replace, tools
from kinetics_prep.dataset.door import OpenFolder, open_for_reading, open_for_writing
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.part import Part, list_parts
from kinetics_prep.dataset.recipe import check_shape
from kinetics_prep.dataset.recipe_file import RecipeFile
from kinetics_prep.dataset.rewriting import (
    Place,
    RecordSource,
    at_most,
    described_file,
    expect_room,
    expect_sha256,
    free_bytes,
    in_threads,
    is_built,
    ledger_at_most,
    marker_of,
    naming_repair,
    places_of,
    read_rows,
    write_verified,
)
from kinetics_prep.dataset.shards import describe
from kinetics_prep.dataset.staging import Staging, staged
from kinetics_prep.dataset.state import COMPLETE, PlanEntry, State
from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.storage.files import reporting_full_disk
from kinetics_prep.storage.store import Store

Done = Callable[[int], None]
"""Called with the number of written clips of each shard that is done."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is asked for; None where the folder's setting stays."""

    formats: tuple[str, ...] | None = None
    """Exactly those that there shall be, names of `SHARD_FORMATS`."""
    clips_per_shard: int | None = None

    def __post_init__(self) -> None:
        if self.formats is None and self.clips_per_shard is None:
            raise BadOption("nothing to convert to: give --format, --clips-per-shard, or both")
        check_shape(
            tuple(SHARD_FORMATS) if self.formats is None else self.formats,
            1 if self.clips_per_shard is None else self.clips_per_shard,
        )

    def of(self, recipe: RecipeFile) -> RecipeFile:
        """A recipe with these settings, and the versions of what writes these formats."""
        formats = recipe.formats if self.formats is None else self.formats
        clips_per_shard = recipe.clips_per_shard if self.clips_per_shard is None else self.clips_per_shard
        shape = {"formats": list(formats), "clips_per_shard": clips_per_shard}
        used = tuple(
            dataclasses.replace(entry, versions=tools.with_formats(entry.versions, formats)) for entry in recipe.tools
        )
        return dataclasses.replace(recipe, settings={**recipe.settings, **shape}, tools=used)

    def deals_anew(self, recipe: RecipeFile, state: State) -> bool:
        """Whether clips go into other shards: there is another shard size, or finds of searches in shards of their own.

        The latter only if a shard size is asked for.
        """
        if self.clips_per_shard is None:
            return False
        return self.clips_per_shard != recipe.clips_per_shard or set(state.plans) != set(state.splits)

    def as_change(self) -> dict[str, Any]:
        """How the folder's state notes it."""
        return {
            "kind": "convert",
            "formats": None if self.formats is None else list(self.formats),
            "clips_per_shard": self.clips_per_shard,
        }


def is_done(output: Path, shape: Shape) -> bool:
    """Whether a folder is complete and has a shape already. Changes nothing.

    Raises:
      BadOption: if it is not complete.
      CorruptShard: if nothing was begun there, or it is damaged.
    """
    store, state = open_for_reading(output)
    door.expect_may_follow(store, state, "convert")
    recipe = _recipe(store)
    if state.name != COMPLETE or shape.of(recipe).settings != recipe.settings or shape.deals_anew(recipe, state):
        return False
    try:
        content = manifest.read(store)
    except CorruptShard:
        return False
    # It may say less than the folder holds, if a run was killed after it had packed what a search found.
    built = manifest.build(store, state) | {"provenance": content["provenance"]}
    return content["version"] == 1 or built == content


@contextlib.contextmanager
def open_conversion(output: Path, shape: Shape) -> Iterator["Conversion"]:
    """Opens a complete folder to give it another shape; nothing is written to it yet but its state.

    Raises:
      BadOption: if nothing was begun there, or it is not complete.
      FolderInUse: if another run writes to it.
      CorruptShard: if it is damaged.
    """
    with reporting_full_disk(output), open_for_writing(output, change=shape.as_change()) as folder:
        try:
            door.admit(folder, "convert")
        except BadOption:
            folder.save(dataclasses.replace(folder.state, change=None))
            raise
        with naming_repair(folder.store):
            conversion = _plan_conversion(folder, shape)
        yield conversion


def _recipe(store: Store) -> RecipeFile:
    recipe = recipe_file.read(store)
    if recipe is None:
        raise CorruptShard(f"{store.place} holds no {layout.RECIPE}")
    return recipe


@dataclasses.dataclass(frozen=True)
class Summary:
    """What there is after a conversion."""

    clips: int
    shards: int
    formats: tuple[str, ...]
    bytes: int
    """Of the data, in all formats."""


def _plan_conversion(folder: OpenFolder, shape: Shape) -> "Conversion":
    before = _recipe(folder.store)
    parts = tuple(list_parts(folder.store, folder.state, before))
    survey = _Survey(before, shape.of(before), shape.deals_anew(before, folder.state))
    for part in parts:
        expect_sha256(folder.store, part.plan, folder.state.plans[part.name].file_sha256)
        survey.add(part)
    built = sum(entry.bytes for entry in staged(folder.store).values())
    needed = max(0, survey.needed - built)
    return Conversion(
        folder, before, survey.after, parts, survey.deals_anew, survey.clips, needed, frozenset(survey.deletes)
    )


@dataclasses.dataclass
class _Survey:
    """What a conversion meets, from the markers."""

    before: RecipeFile
    after: RecipeFile
    deals_anew: bool
    clips: int = 0
    needed: int = 0
    deletes: set[str] = dataclasses.field(default_factory=set)

    def add(self, part: Part) -> None:
        """Takes a part into account."""
        for shard in range(part.shards):
            name = part.shard_name(shard)
            marker = marker_of(part.store, name)
            self.clips += marker["written"]
            if marker["written"]:
                self._add_files(part.store, name, marker["files"], marker["written"])
            if self.deals_anew:
                self.deletes |= {layout.marker_key(name), layout.ledger_key(name)}
        self.needed += ledger_at_most(0, part.shards)
        if self.deals_anew:
            self.deletes.add(part.plan)
            shards = -(-part.rows // self.after.clips_per_shard)
            self.needed += ledger_at_most(2 * part.rows, 1 + shards)  # rows of the plan, too
            self.needed += shards * len(self.after.formats) * at_most({"bytes": 0}, 0)

    def _add_files(self, store: Store, name: str, files: Mapping[str, Any], written: int) -> None:
        for form in self.after.formats:
            if self.deals_anew or form not in files:
                source = form if form in files else _source_format(self.before)
                self.needed += at_most(described_file(store, name, source), written)
        for form in files:
            if self.deals_anew or form not in self.after.formats:
                self.deletes.add(described_file(store, name, form)["path"])


def _source_format(recipe: RecipeFile) -> str:
    """The format in which records are read, of those that there are."""
    return next(form for form in SHARD_FORMATS if form in recipe.formats)


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A folder that gets another shape."""

    folder: OpenFolder
    before: RecipeFile
    after: RecipeFile
    parts: tuple[Part, ...]
    """As they are."""
    deals_anew: bool
    """Whether clips go into other shards."""
    clips: int
    """Written ones, all in all."""
    needed: int
    """Bytes that new files need at most, beside those that a killed run has built."""
    deletes: frozenset[str]
    """Keys of files that go, unless new ones get their names."""

    @property
    def store(self) -> Store:
        """The folder."""
        return self.folder.store

    @property
    def free(self) -> int | None:
        """Bytes that are free on the folder's disk; None if there is no such limit."""
        return free_bytes(self.store)

    def carry_out(self, workers: int = 1, done: Done = lambda clips: None) -> Summary:
        """Builds the new files, then has all of them take their places.

        Args:
          workers: shards at a time.

        Raises:
          NoRoom: if the disk has not enough free.
          CorruptShard: if something that is read is damaged; nothing has changed then.
        """
        expect_room(self.store, self.needed, self.free)
        with naming_repair(self.store):
            new = Staging(self.store, self.deletes)
            new_state = self._deal_anew(new, workers, done) if self.deals_anew else self._reformat(new, workers, done)
            recipe_file.write(new, self.after)
            content = manifest.build(new, new_state)
            manifest.check_complete(list_parts(new, new_state, self.after), content)
            documents.write(new, layout.MANIFEST, content)
        moves = list(staged(self.store))
        self.folder.state = replace.commit(self.store, self.folder.state, new_state, moves, new.gone)
        self.folder.state = replace.finish(self.store)
        return self._summarize(content)

    def _summarize(self, content: dict[str, Any]) -> Summary:
        shards = [shard for split in content["splits"].values() for shard in split["shards"]]
        size = sum(file["bytes"] for shard in shards for file in shard["files"].values())
        return Summary(sum(shard["written"] for shard in shards), len(shards), self.after.formats, size)

    # Each shard as it is -----------------------------------------------------------------------

    def _reformat(self, new: Staging, workers: int, done: Done) -> State:
        waiting, source = staged(self.store), RecordSource(self.store, _source_format(self.before))

        def build(element: tuple[Part, int]) -> None:
            part, shard = element
            if not is_built(waiting, part.shard_name(shard), new):
                self._reformat_shard(new, part, shard, source)
            done(marker_of(new, part.shard_name(shard))["written"])

        in_threads(workers, build, ((part, shard) for part in self.parts for shard in range(part.shards)))
        return dataclasses.replace(self.folder.state, change=None, is_complete=True)

    def _reformat_shard(self, new: Staging, part: Part, shard: int, source: RecordSource) -> None:
        name = part.shard_name(shard)
        marker = marker_of(self.store, name)
        files: dict[str, Any] = {}
        for form in self.after.formats if marker["written"] else ():
            if form in marker["files"]:
                files[form] = described_file(self.store, name, form)
                if len(self.before.formats) > 1:  # what is kept must be sound where something else may go
                    RecordSource(self.store, form).expect_sound(name, files[form])
            else:
                places = filter(None, places_of(name, read_rows(part, shard, marker)))
                files[form] = write_verified(new, name, form, source.read(places))
        markers.replace_marker(new, name, marker | {"files": files, "version": documents.VERSION})

    # Other shards ------------------------------------------------------------------------------

    def _deal_anew(self, new: Staging, workers: int, done: Done) -> State:
        plans = {part.split: self._deal_plan(new, part) for part in self.parts if not part.refresh}
        state = self.folder.state
        new_state = dataclasses.replace(
            state, change=None, is_complete=True, plans=plans, selections={}, epoch=state.epoch + 1
        )
        waiting, source = staged(self.store), RecordSource(self.store, _source_format(self.before))

        def build(element: "_NewShard") -> None:
            if not (is_built(waiting, element.name, new) and element.is_planned_so(new)):
                element.write(new, source)
            done(element.written)

        for part in list_parts(new, new_state, self.after):
            in_threads(workers, build, self._new_shards(part))
        return new_state

    def _deal_plan(self, new: Staging, part: Part) -> PlanEntry:
        clips_per_shard = self.after.clips_per_shard
        dealt = (
            dataclasses.replace(row, shard=number // clips_per_shard, index=number % clips_per_shard)
            for number, row in enumerate(plan.read(self.store, part.plan))
        )
        return plan.write(new, part.plan, dealt, math.ceil(part.rows / clips_per_shard))

    def _new_shards(self, part: Part) -> Iterator["_NewShard"]:
        """The shards of a part that is dealt anew, one at a time."""
        settled = settled_rows([old for old in self.parts if old.split == part.split])
        by_shard = itertools.groupby(enumerate(settled), key=lambda item: item[0] // part.clips_per_shard)
        for shard, numbered in by_shard:
            yield _NewShard(part, shard, tuple(members for _, members in numbered))


@dataclasses.dataclass(frozen=True)
class _NewShard:
    """A shard to be written, and what became of its rows."""

    part: Part
    shard: int
    rows: tuple[tuple[LedgerRow, Place | None], ...]

    @property
    def name(self) -> str:
        return self.part.shard_name(self.shard)

    @property
    def places(self) -> list[Place]:
        return [place for _, place in self.rows if place is not None]

    @property
    def written(self) -> int:
        return len(self.places)

    def is_planned_so(self, new: Staging) -> bool:
        return markers.read_marker(new, self.name)["plan_sha256"] == self.part.plan_sha256

    def write(self, new: Staging, source: RecordSource) -> None:
        ledger_rows = [dataclasses.replace(row, shard=self.shard) for row, _ in self.rows]
        files = {form: self._write_data(new, form, source) for form in self.part.formats if self.written}
        description = ledger.write(new, layout.ledger_key(self.name), ledger_rows)
        marker = describe(self.part, self.shard, ledger_rows, files) | description
        markers.replace_marker(new, self.name, marker)

    def _write_data(self, new: Staging, form: str, source: RecordSource) -> dict[str, Any]:
        return write_verified(new, self.name, form, source.read(self.places))


def settled_rows(parts: Sequence[Part]) -> Iterator[tuple[LedgerRow, Place | None]]:
    """What became of each row of a split, in the order of its first plan, and where its record is if it has one.

    Args:
      parts: of the split, all of them complete, the first plan's first.

    Raises:
      CorruptShard: if the parts do not fit together.
    """
    first, *later = parts
    found = {row.clip_id: (part, row.shard) for part in later for row in plan.read(part.store, part.plan)}
    others = (pair for shard in range(first.shards) for pair in _rows_of_shard(first, shard))
    finds = {part.name: _Finds(part) for part in later}
    for row in plan.read(first.store, first.plan):
        if isinstance(row, PlannedRow) and row.clip_id in found:
            part, shard = found.pop(row.clip_id)
            yield finds[part.name].get(shard, row)
        else:
            ledger_row, place = next(others, (None, None))
            if ledger_row is None or ledger_row.clip_id != row.clip_id:
                raise CorruptShard(f"{first.store.place}: no ledger says what became of {row.clip_id}")
            yield ledger_row, place
    if found or next(others, None) is not None:
        raise CorruptShard(
            f"{first.store.place}/{first.plan} lacks rows that ledgers have, such as {next(iter(found), None)}"
        )


def _rows_of_shard(part: Part, shard: int) -> list[tuple[LedgerRow, Place | None]]:
    name = part.shard_name(shard)
    rows = read_rows(part, shard, marker_of(part.store, name))
    return list(zip(rows, places_of(name, rows), strict=True))


class _Finds:
    """Rows of what a search found. They come nearly in the order of the plan, so one shard is kept in memory."""

    def __init__(self, part: Part):
        self._part = part
        self._shard = -1
        self._rows: dict[str, tuple[LedgerRow, Place | None]] = {}

    def get(self, shard: int, row: PlanRow) -> tuple[LedgerRow, Place | None]:
        """What became of a row.

        Raises:
          CorruptShard: if the ledger does not say.
        """
        if shard != self._shard:
            rows = _rows_of_shard(self._part, shard)
            self._shard, self._rows = shard, {pair[0].clip_id: pair for pair in rows}
        if row.clip_id not in self._rows:
            raise CorruptShard(f"{self._part.store.place}: no ledger says what became of {row.clip_id}")
        return self._rows[row.clip_id]
