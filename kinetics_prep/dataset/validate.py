"""Reads a prepared folder back, all of it, and names what is wrong.

Checked: the manifest against the markers and the files on disk, checksums, counts, the ledger and
the shards against the plan, and of each record its label, timestamps, recipe, and that every image
decodes to the size it should have.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.dataset import ledger, manifest, plan, shards
from kinetics_prep.dataset.shards import Layout, ShardTask
from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import sha256_of

_STRANGE = "is not in dataset.json; a reader that takes all files would read it"


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that is not as it should be."""

    where: str
    what: str

    def __str__(self):
        return f"{self.where}: {self.what}"


@dataclasses.dataclass
class Shard:
    """What must hold of one shard."""

    layout: Layout
    split: str
    described: dict
    """Its entry in dataset.json."""
    of: int
    digest: str
    plan_sha256: str
    labels: LabelMap

    @property
    def task(self) -> ShardTask:
        """What prepared it."""
        refresh = self.described.get("refresh", 0)
        return ShardTask(str(self.layout.output), self.split, 0, 1, (), self.digest, self.plan_sha256, refresh)

    @property
    def name(self) -> str:
        return shards.shard_name(self.task.part, self.described["shard"], self.of)


def shards_of(layout: Layout) -> list[Shard]:
    """The shards that a folder's manifest names.

    Raises:
      CorruptShard: if there is no manifest to start from.
    """
    content = manifest.read(layout)
    labels = manifest.read_labels(layout)
    found = []
    for split, part in content["splits"].items():
        refreshes = [described.get("refresh", 0) for described in part["shards"]]
        of = collections.Counter(refreshes)
        sha256s = dict(zip(sorted(of), (one["plan_sha256"] for one in _plans(part))))
        for described, refresh in zip(part["shards"], refreshes):
            known = (content["digest"], sha256s.get(refresh, ""), labels)
            found.append(Shard(layout, split, described, of[refresh], *known))
    return found


def _plans(part: dict) -> list[dict]:
    """The plan of a split and those of its refreshes, as dataset.json describes them."""
    return [part, *part.get("refreshes", ())]


def problems(folder: Path, workers: int = 1, done: Callable[[Shard], None] = lambda shard: None) -> Iterator[Problem]:
    """Everything wrong with a folder. `done` is called after each shard."""
    layout = Layout(folder)
    try:
        found = shards_of(layout)
    except CorruptShard as error:
        yield Problem("dataset.json", str(error))
        return
    yield from _guarded("dataset.json", _folder_problems, layout)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for shard, wrong in zip(found, pool.map(lambda shard: list(shard_problems(shard)), found)):
            yield from wrong
            done(shard)


def _guarded(where: str, check: Callable, *arguments) -> Iterator[Problem]:
    try:
        yield from check(*arguments)
    except (CorruptShard, OSError, KeyError, ValueError) as error:
        yield Problem(where, str(error) or type(error).__name__)


def _folder_problems(layout: Layout) -> Iterator[Problem]:
    content = manifest.read(layout)
    if manifest.build(layout) | {"provenance": {}} != content | {"provenance": {}}:
        yield Problem("dataset.json", "does not say what the markers, recipe.json and labels.txt say")
    if sha256_of(layout.labels) != content["labels"]["sha256"]:
        yield Problem("labels.txt", "is not the file that dataset.json knows; class ids may be wrong")
    for split, part in content["splits"].items():
        digests = [plan.digest_of(layout.output / one["plan"]) for one in _plans(part)]
        for one, digest in zip(_plans(part), digests):
            if digest.sha256() != one["plan_sha256"]:
                yield Problem(one["plan"], "is not the plan that the shards were made from")
        settled = part["written"] + sum(part["refused"].values())
        if not digests[0].rows == part["rows"] == settled:
            yield Problem(split, f"{digests[0].rows} rows are planned and {settled} are written or refused")
    yield from _strangers(layout, content)


def _strangers(layout: Layout, content: dict) -> Iterator[Problem]:
    parts = content["splits"].values()
    known = {file["path"] for part in parts for shard in part["shards"] for file in shard["files"].values()}
    for module in SHARD_FORMATS.values():
        for path in sorted((layout.output / module.SUFFIX).glob("*")):
            name = path.relative_to(layout.output).as_posix()
            unfinished = not any(path.stem.startswith(f"{split}-") for split in content["splits"])
            if name not in known and not unfinished:
                yield Problem(name, _STRANGE)
    accounts = {shard["ledger"] for part in parts for shard in part["shards"]}
    for split in content["splits"]:
        for path in sorted((layout.output / "ledger").glob(f"{split}-*")):
            if path.relative_to(layout.output).as_posix() not in accounts:
                yield Problem(f"ledger/{path.name}", _STRANGE)


def shard_problems(shard: Shard) -> Iterator[Problem]:
    """Everything wrong with one shard."""
    yield from _guarded(shard.name, _ledger_problems, shard)
    for form, described in shard.described["files"].items():
        yield from _guarded(described["path"], _file_problems, shard, form, described)


def _planned(shard: Shard) -> list[PlanRow]:
    return shards.rows_of(shard.task, shard.described["shard"])


def _ledger_problems(shard: Shard) -> Iterator[Problem]:
    path = shard.layout.output / shard.described["ledger"]
    rows, planned = list(tables.read(path, "ledger")), _planned(shard)
    marker = shards.read_marker(shard.layout.marker(shard.name))
    known = {"split": shard.split, "of": shard.of, "recipe": shard.digest, "plan_sha256": shard.plan_sha256}
    for key, value in known.items():
        if marker[key] != value:
            yield Problem(f"markers/{shard.name}.json", f"says {key} {marker[key]}, dataset.json {value}")
    if sha256_of(path) != marker["ledger_sha256"]:
        yield Problem(shard.described["ledger"], "its checksum is not the marker's")
    keys = [(row["clip_id"], row["annotation_file"], row["annotation_line"]) for row in rows]
    if keys != [(row.clip_id, row.annotation_file, row.annotation_line) for row in planned]:
        yield Problem(shard.described["ledger"], f"its {len(rows)} rows are not the {len(planned)} that were planned")
    written = sum(row["status"] == ledger.WRITTEN for row in rows)
    if written != shard.described["written"]:
        yield Problem(
            shard.described["ledger"], f"{written} rows written, dataset.json says {shard.described['written']}"
        )


def _file_problems(shard: Shard, form: str, described: dict) -> Iterator[Problem]:
    path = shard.layout.output / described["path"]
    size = path.stat().st_size
    if size != described["bytes"]:
        yield Problem(described["path"], f"is {size} bytes long, expected {described['bytes']}")
    if sha256_of(path) != described["sha256"]:
        yield Problem(described["path"], "its checksum is not the one in dataset.json")
    rows = {row.clip_id: row for row in _planned(shard)}
    accounts = tables.read(shard.layout.output / shard.described["ledger"], "ledger")
    expected = [row["clip_id"] for row in accounts if row["status"] == ledger.WRITTEN]
    found = []
    for record in SHARD_FORMATS[form].read_shard(path):
        clip_id = record["example/id"]
        found.append(clip_id)
        check = functools.partial(record_problems, record, rows.get(clip_id), shard.digest, shard.labels)
        for what in check():
            yield Problem(f"{described['path']}, {clip_id}", what)
    if found != expected:
        yield Problem(
            described["path"], f"holds {len(found)} clips, not the {len(expected)} that the ledger says, in order"
        )


def record_problems(record: Record, row: PlanRow | None, digest: str, labels: LabelMap) -> Iterator[str]:
    """Everything wrong with one record."""
    if row is None:
        yield "is not in the shard's plan"
        return
    yield from _label_problems(record, row, labels)
    if record["kinetics_prep/recipe"] != digest:
        yield f"was made by recipe {record['kinetics_prep/recipe']}, not {digest}"
    for stream in ("", "FORWARD_FLOW/"):
        yield from _time_problems(record, row, stream)
    try:
        yield from _image_problems(record)
    except CorruptShard as error:
        yield str(error)


def _label_problems(record: Record, row: PlanRow, labels: LabelMap) -> Iterator[str]:
    texts = {record.get("clip/label/text"), record.get("clip/label/string")}
    if texts != {row.label}:
        yield f"bears label {sorted(map(str, texts))}, planned was {row.label!r}"
    index = record.get("clip/label/index")
    if row.label is not None and not (isinstance(index, int) and labels.labels[index : index + 1] == (row.label,)):
        yield f"bears class id {index}, which is not {row.label!r} in labels.txt"


def _time_problems(record: Record, row: PlanRow, stream: str) -> Iterator[str]:
    times, fps = record[f"{stream}image/timestamp"], record[f"{stream}image/frame_rate"]
    if any(later <= earlier for earlier, later in itertools.pairwise(times)):
        yield f"{stream}image/timestamp does not increase"
    begins = row.annotation.start_us
    if any(abs(time - begins - k * 1e6 / fps) > 1 for k, time in enumerate(times)):
        yield f"{stream}image/timestamp is not start + k / {fps:g} s"
    if times[-1] >= record["clip/end/timestamp"]:
        yield f"{stream}image/timestamp goes beyond clip/end/timestamp"


def _image_problems(record: Record) -> Iterator[str]:
    for stream, read in (("", record.frame), ("FORWARD_FLOW/", record.levels)):
        size = (record[f"{stream}image/height"], record[f"{stream}image/width"])
        wrong = {read(k).shape[:2] for k in range(len(record))} - {size}
        if wrong:
            yield f"{stream}image/encoded holds images of {sorted(wrong)}, expected {size} (height, width)"


def clips(found: Iterable[Shard]) -> int:
    """Clips in some shards, for a progress bar."""
    return sum(shard.described["written"] for shard in found)
