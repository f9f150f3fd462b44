"""Reads a prepared folder back, all of it, and names what is wrong.

Checked: the manifest against the markers and the files on disk, checksums, counts, the ledger and
the shards against the plan, and of each record what `record_problems` checks.
"""

import collections
import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlannedRow, PlanRow
from kinetics_prep.dataset import ledger, manifest, plan
from kinetics_prep.dataset.labels import read_labels
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.dataset.markers import read_marker
from kinetics_prep.dataset.part import Part, rows_of
from kinetics_prep.dataset.record_problems import record_problems
from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.storage.files import sha256_of

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
    name: str
    shards: int
    """How many its part has."""
    labels: LabelMap

    @property
    def written(self) -> int:
        """Clips in it."""
        return self.entry["written"]

    def rows(self) -> list[PlanRow]:
        """The rows planned for it."""
        return rows_of(self.part, self.entry["shard"])

    def path(self, relative: str) -> Path:
        """A file of the folder."""
        return self.part.layout.output / relative


def list_shards(layout: Layout) -> list[Shard]:
    """The shards that a folder's manifest names.

    Raises:
      CorruptShard: if there is no manifest to start from, or no label map.
    """
    content, labels = manifest.read(layout), read_labels(layout)
    shards = []
    for split, split_entry in content["splits"].items():
        refreshes = [entry.get("refresh", 0) for entry in split_entry["shards"]]
        counts = collections.Counter(refreshes)
        sha256s = dict(zip(sorted(counts), (entry["plan_sha256"] for entry in _plans(split_entry))))
        for entry, refresh in zip(split_entry["shards"], refreshes, strict=True):
            clips_per_shard = 1  # so that the part has as many shards as rows
            sha256 = sha256s.get(refresh, "")
            part = Part(
                str(layout.output), split, counts[refresh], clips_per_shard, (), content["digest"], sha256, refresh
            )
            shards.append(Shard(part, entry, part.shard_name(entry["shard"]), counts[refresh], labels))
    return shards


def _plans(split_entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The plan of a split and those of its refreshes, as dataset.json describes them."""
    return [split_entry, *split_entry.get("refreshes", ())]


def problems(
    layout: Layout, shards: list[Shard], workers: int = 1, done: Callable[[Shard], None] = lambda shard: None
) -> Iterator[Problem]:
    """Everything wrong with a folder.

    Args:
      shards: as `list_shards` gives them.
      workers: shards at a time.
      done: called after each shard.
    """
    yield from _guarded("dataset.json", lambda: _folder_problems(layout))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for shard, wrong in zip(shards, pool.map(lambda shard: list(shard_problems(shard)), shards), strict=True):
            yield from wrong
            done(shard)


def _guarded(where: str, check: Callable[[], Iterable[Problem]]) -> Iterator[Problem]:
    """The problems that a check finds; an error of the check itself becomes a problem too."""
    try:
        yield from check()
    except (CorruptShard, OSError, KeyError, ValueError) as error:
        yield Problem(where, str(error) or type(error).__name__)


def _folder_problems(layout: Layout) -> Iterator[Problem]:
    content = manifest.read(layout)
    if manifest.build(layout) | {"provenance": {}} != content | {"provenance": {}}:
        yield Problem("dataset.json", "does not say what the markers, recipe.json and labels.txt say")
    if sha256_of(layout.labels) != content["labels"]["sha256"]:
        yield Problem("labels.txt", "is not the file that dataset.json knows; class ids may be wrong")
    for split, split_entry in content["splits"].items():
        yield from _plan_problems(layout, split, split_entry)
    yield from _unknown_files(layout, content)


def _plan_problems(layout: Layout, split: str, split_entry: dict[str, Any]) -> Iterator[Problem]:
    digests = [plan.digest_of(layout.output / entry["plan"]) for entry in _plans(split_entry)]
    for entry, digest in zip(_plans(split_entry), digests, strict=True):
        if digest.sha256() != entry["plan_sha256"]:
            yield Problem(entry["plan"], "is not the plan that the shards were made from")
    done = split_entry["written"] + sum(split_entry["refused"].values())
    if not digests[0].rows == split_entry["rows"] == done:
        yield Problem(split, f"{digests[0].rows} rows are planned and {done} are written or refused")


def _unknown_files(layout: Layout, content: dict[str, Any]) -> Iterator[Problem]:
    entries = [entry for split_entry in content["splits"].values() for entry in split_entry["shards"]]
    data = {file["path"] for entry in entries for file in entry["files"].values()}
    for module in SHARD_FORMATS.values():
        for path in sorted((layout.output / module.SUFFIX).glob("*")):
            is_complete = any(path.stem.startswith(f"{split}-") for split in content["splits"])
            if is_complete and layout.relative(path) not in data:
                yield Problem(layout.relative(path), _UNKNOWN)
    ledgers = {entry["ledger"] for entry in entries}
    for split in content["splits"]:
        for path in sorted((layout.output / "ledger").glob(f"{split}-*")):
            if layout.relative(path) not in ledgers:
                yield Problem(layout.relative(path), _UNKNOWN)


def shard_problems(shard: Shard) -> Iterator[Problem]:
    """Everything wrong with one shard."""
    yield from _guarded(shard.name, lambda: _ledger_problems(shard))
    for form, file in shard.entry["files"].items():
        yield from _guarded(file["path"], functools.partial(_file_problems, shard, form, file))


def _ledger_problems(shard: Shard) -> Iterator[Problem]:
    where = shard.entry["ledger"]
    ledger_rows = list(ledger.read_columns(shard.path(where), *_KEY, "status"))
    rows = shard.rows()
    marker = read_marker(shard.part.layout.marker(shard.name))
    part = shard.part
    expected = {"split": part.split, "of": shard.shards, "recipe": part.recipe, "plan_sha256": part.plan_sha256}
    for key, value in expected.items():
        if marker[key] != value:
            yield Problem(f"markers/{shard.name}.json", f"says {key} {marker[key]}, dataset.json {value}")
    if sha256_of(shard.path(where)) != marker["ledger_sha256"]:
        yield Problem(where, "its checksum is not the marker's")
    planned = [tuple(getattr(row, name) for name in _KEY) for row in rows]
    if [tuple(row[name] for name in _KEY) for row in ledger_rows] != planned:
        yield Problem(where, f"its {len(ledger_rows)} rows are not the {len(rows)} that were planned")
    written = sum(row["status"] == ledger.WRITTEN for row in ledger_rows)
    if written != shard.written:
        yield Problem(where, f"{written} rows written, dataset.json says {shard.written}")


def _file_problems(shard: Shard, form: str, file: dict[str, Any]) -> Iterator[Problem]:
    where, path = file["path"], shard.path(file["path"])
    size = path.stat().st_size
    if size != file["bytes"]:
        yield Problem(where, f"is {size} bytes long, expected {file['bytes']}")
    if sha256_of(path) != file["sha256"]:
        yield Problem(where, "its checksum is not the one in dataset.json")
    # Without duplicates, which have the id of the clip that they repeat.
    rows = {row.clip_id: row for row in shard.rows() if isinstance(row, PlannedRow)}
    ledger_rows = ledger.read_columns(shard.path(shard.entry["ledger"]), "clip_id", "status")
    expected = [row["clip_id"] for row in ledger_rows if row["status"] == ledger.WRITTEN]
    clip_ids = []
    for record in SHARD_FORMATS[form].read_shard(path):
        clip_id = record.text("example/id")
        clip_ids.append(clip_id)
        for what in record_problems(record, rows.get(clip_id), shard.part.recipe, shard.labels):
            yield Problem(f"{where}, {clip_id}", what)
    if clip_ids != expected:
        yield Problem(where, f"holds {len(clip_ids)} clips, not the {len(expected)} that the ledger says, in order")
