"""Reads a prepared folder back, all of it, and names what is wrong.

Checked: the manifest against the markers and the files on disk, checksums, counts, the ledger and
the shards against the plan, and of each record what `record_problems` checks.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlannedRow, PlanRow
from kinetics_prep.dataset import documents, layout, ledger, manifest, plan, recipe_file
from kinetics_prep.dataset.door import open_for_reading
from kinetics_prep.dataset.labels import read_labels
from kinetics_prep.dataset.markers import read_marker
from kinetics_prep.dataset.part import Part, list_parts, rows_of
from kinetics_prep.dataset.record_problems import record_problems
from kinetics_prep.dataset.state import COMPLETE, State
from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record
from kinetics_prep.storage.files import sha256_of
from kinetics_prep.storage.store import Store

_KEY = ("clip_id", "annotation_file", "annotation_line")
"""Columns that tell rows of a plan apart."""

_UNKNOWN = "is not in dataset.json; a reader that takes all files would read it"


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that is not as it should be."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard that the manifest names, with what must hold of it."""

    part: Part
    entry: dict[str, Any]
    """Its entry in dataset.json."""
    labels: LabelMap

    @property
    def name(self) -> str:
        """The name of its files."""
        return self.part.shard_name(self.entry["shard"])

    @property
    def written(self) -> int:
        """Clips in it."""
        return self.entry["written"]

    def rows(self) -> list[PlanRow]:
        """The rows planned for it."""
        return rows_of(self.part, self.entry["shard"])


@dataclasses.dataclass(frozen=True)
class FolderToCheck:
    """A prepared folder as its own documents describe it."""

    store: Store
    state: State
    manifest: dict[str, Any]
    shards: tuple[Shard, ...]


def open_folder(output: Path) -> FolderToCheck:
    """Reads what must be there to check the rest.

    Raises:
      CorruptShard: if there is no manifest to start from, or no label map, recipe or state.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    store, state = open_for_reading(output)
    content, labels, recipe = manifest.read(store), read_labels(store), recipe_file.read(store)
    if recipe is None:
        raise CorruptShard(f"{output} holds no {layout.RECIPE}")
    parts = {(part.split, part.refresh): part for part in list_parts(store, state, recipe)}
    shards = []
    for split, split_entry in content["splits"].items():
        for entry in split_entry["shards"]:
            part = parts.get((split, entry.get("refresh", 0)))
            if part is None:
                raise CorruptShard(f"{output}: dataset.json names shards of {split} that have no plan")
            shards.append(Shard(part, entry, labels))
    return FolderToCheck(store, state, content, tuple(shards))


def problems(
    folder: FolderToCheck, workers: int = 1, done: Callable[[Shard], None] = lambda shard: None
) -> Iterator[Problem]:
    """Everything wrong with a folder.

    Args:
      workers: shards at a time.
      done: called after each shard.
    """
    yield from _guarded(layout.MANIFEST, lambda: _folder_problems(folder))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda shard: list(shard_problems(shard)), folder.shards)
        for shard, wrong in zip(folder.shards, found, strict=True):
            yield from wrong
            done(shard)


def _guarded(where: str, check: Callable[[], Iterable[Problem]]) -> Iterator[Problem]:
    """The problems that a check finds; an error of the check itself becomes a problem too."""
    try:
        yield from check()
    except (CorruptShard, OSError, KeyError, ValueError) as error:
        yield Problem(where, str(error) or type(error).__name__)


def _folder_problems(folder: FolderToCheck) -> Iterator[Problem]:
    store, content = folder.store, folder.manifest
    if folder.state.name != COMPLETE:
        yield Problem(layout.STATE, f"a run is in the middle of it ({folder.state.name}); give its command once more")
    built = manifest.build(store, folder.state) | {"provenance": content["provenance"]}
    if not _holds(built, content):
        yield Problem(layout.MANIFEST, "does not say what the markers, recipe.json and labels.txt say")
    for key in (layout.SOURCES, layout.PURGED):
        yield from _guarded(key, functools.partial(_document_problems, store, key))
    if hashlib.sha256(store.read(layout.LABELS)).hexdigest() != content["labels"]["sha256"]:
        yield Problem(layout.LABELS, "is not the file that dataset.json knows; class ids may be wrong")
    for split, split_entry in content["splits"].items():
        yield from _plan_problems(folder, split, split_entry)
    yield from _unknown_files(store, content)


def _holds(built: Any, content: Any) -> bool:
    """Whether everything that a manifest says is so; one of format 1 says less."""
    if isinstance(built, dict) and isinstance(content, dict):
        added = {"version", "fingerprints", "purged", "plan_file_sha256", "ledger_sha256", "refresh"}
        missing = built.keys() - content.keys()
        return missing <= added and all(
            name == "version" or (name in built and _holds(built[name], value)) for name, value in content.items()
        )
    if isinstance(built, list) and isinstance(content, list):
        return len(built) == len(content) and all(map(_holds, built, content))
    return built == content


def _document_problems(store: Store, key: str) -> Iterator[Problem]:
    with contextlib.suppress(FileNotFoundError):
        documents.read(store, key)
    yield from ()


def _plans(split_entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The plan of a split and those of what was found later, as dataset.json describes them."""
    return [split_entry, *split_entry.get("refreshes", ())]


def _plan_problems(folder: FolderToCheck, split: str, split_entry: dict[str, Any]) -> Iterator[Problem]:
    entries = [plan.entry_of(folder.store, entry["plan"]) for entry in _plans(split_entry)]
    for entry, found in zip(_plans(split_entry), entries, strict=True):
        if found.sha256 != entry["plan_sha256"]:
            yield Problem(entry["plan"], "is not the plan that the shards were made from")
        elif found.file_sha256 != entry.get("plan_file_sha256", found.file_sha256):
            yield Problem(entry["plan"], "its checksum is not the one in dataset.json")
    done = split_entry["written"] + sum(split_entry["refused"].values())
    if not entries[0].rows == split_entry["rows"] == done:
        yield Problem(split, f"{entries[0].rows} rows are planned and {done} are written or refused")


def _unknown_files(store: Store, content: dict[str, Any]) -> Iterator[Problem]:
    entries = [entry for split_entry in content["splits"].values() for entry in split_entry["shards"]]
    known = {file["path"] for entry in entries for file in entry["files"].values()}
    known.update(entry["ledger"] for entry in entries)
    for folder in (*(module.SUFFIX for module in SHARD_FORMATS.values()), "ledger"):
        for file in store.list(f"{folder}/"):
            is_complete = any(file.key.startswith(f"{folder}/{split}-") for split in content["splits"])
            if is_complete and file.key not in known:
                yield Problem(file.key, _UNKNOWN)


def shard_problems(shard: Shard) -> Iterator[Problem]:
    """Everything wrong with one shard."""
    yield from _guarded(shard.name, lambda: _ledger_problems(shard))
    for form, file in shard.entry["files"].items():
        yield from _guarded(file["path"], functools.partial(_file_problems, shard, form, file))


def _ledger_problems(shard: Shard) -> Iterator[Problem]:
    part, key = shard.part, layout.ledger_key(shard.name)
    marker = read_marker(part.store, shard.name)
    expected = {"split": part.split, "of": part.shards, "recipe": part.recipe, "plan_sha256": part.plan_sha256}
    for name, value in expected.items():
        if marker[name] != value:
            yield Problem(layout.marker_key(shard.name), f"says {name} {marker[name]}, expected {value}")
    if shard.entry["ledger"] != key:
        yield Problem(
            layout.MANIFEST, f"says that the ledger of {shard.name} is {shard.entry['ledger']}, expected {key}"
        )
    with part.store.local(key) as path:
        if sha256_of(path) != marker["ledger_sha256"]:
            yield Problem(key, "its checksum is not the marker's")
    ledger_rows, rows = list(ledger.read_columns(part.store, key, *_KEY, "status")), shard.rows()
    planned = [tuple(getattr(row, name) for name in _KEY) for row in rows]
    if [tuple(row[name] for name in _KEY) for row in ledger_rows] != planned:
        yield Problem(key, f"its {len(ledger_rows)} rows are not the {len(rows)} that were planned")
    written = sum(row["status"] == ledger.WRITTEN for row in ledger_rows)
    if written != shard.written:
        yield Problem(key, f"{written} rows written, dataset.json says {shard.written}")


def _file_problems(shard: Shard, form: str, file: dict[str, Any]) -> Iterator[Problem]:
    where, store = file["path"], shard.part.store
    expected_key = layout.data_key(shard.name, SHARD_FORMATS[form].SUFFIX) if form in SHARD_FORMATS else None
    if where != expected_key:
        yield Problem(layout.MANIFEST, f"says that {shard.name} as {form} is {where}, expected {expected_key}")
        return
    with store.local(where) as path:
        size = path.stat().st_size
        if size != file["bytes"]:
            yield Problem(where, f"is {size} bytes long, expected {file['bytes']}")
        if sha256_of(path) != file["sha256"]:
            yield Problem(where, "its checksum is not the one in dataset.json")
        yield from _record_problems(shard, where, SHARD_FORMATS[form].read_shard(path))


def _record_problems(shard: Shard, where: str, records: Iterator[Record]) -> Iterator[Problem]:
    # Without duplicates, which have the id of the clip that they repeat.
    rows = {row.clip_id: row for row in shard.rows() if isinstance(row, PlannedRow)}
    ledger_rows = ledger.read_columns(shard.part.store, layout.ledger_key(shard.name), "clip_id", "status")
    expected = [row["clip_id"] for row in ledger_rows if row["status"] == ledger.WRITTEN]
    clip_ids = []
    for record in records:
        clip_id = record.text("example/id")
        clip_ids.append(clip_id)
        for what in record_problems(record, rows.get(clip_id), shard.part.recipe, shard.labels):
            yield Problem(f"{where}, {clip_id}", what)
    if clip_ids != expected:
        yield Problem(where, f"holds {len(clip_ids)} clips, not the {len(expected)} that the ledger says, in order")
