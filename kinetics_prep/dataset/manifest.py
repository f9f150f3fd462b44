"""dataset.json: what an output folder holds, how it was made, with which versions.

It is made from the markers alone, so it says nothing that the shards do not bear out.
"""

import collections
import functools
import json
import re
from collections.abc import Iterable
from pathlib import Path

import jsonschema

from kinetics_prep import schemas
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.dataset import ledger, recipe, shards
from kinetics_prep.dataset.shards import Layout, ShardTask
from kinetics_prep.errors import BadOption, CorruptShard, IncompleteShard
from kinetics_prep.storage.files import sha256_of, write_json


def build(layout: Layout) -> dict:
    """The manifest of every split that is complete."""
    made = recipe.read(layout.recipe)
    splits = {}
    for split, refreshes in _refreshes(layout).items():
        part = _split(layout, split, refreshes)
        if part:
            splits[split] = part
    content = {
        "version": 1,
        "recipe": made["recipe"],
        "digest": made["digest"],
        "versions": made["versions"],
        "provenance": recipe.provenance(),
        "labels": {"path": "labels.txt", "count": len(read_labels(layout)), "sha256": sha256_of(layout.labels)},
        "splits": splits,
    }
    jsonschema.validate(content, schemas.load("dataset"))
    return content


def read_labels(layout: Layout) -> LabelMap:
    """The folder's label map; of an unlabelled test set it is empty.

    Raises:
      CorruptShard: if labels.txt cannot be read.
    """
    try:
        text = layout.labels.read_text("utf-8")
        return LabelMap.parse(text) if text else LabelMap(())
    except (OSError, UnicodeDecodeError, BadOption) as error:
        raise CorruptShard(f"{layout.labels} cannot be read: {error}") from None


def _refreshes(layout: Layout) -> dict[str, list[int]]:
    """The numbers of the refreshes of each split, in order; 0 is the plan that it was begun with."""
    found = {}
    for split, refresh in shards.parts(layout):
        found.setdefault(split, []).append(refresh)
    return found


def _split(layout: Layout, split: str, refreshes: list[int]) -> dict | None:
    """One split's part, or None if a shard is missing. A refresh that is not complete does not count yet."""
    markers = {refresh: _markers(layout, shards.part_name(split, refresh)) for refresh in refreshes}
    if not markers.get(0):
        return None
    markers = {refresh: found for refresh, found in markers.items() if found}
    every = [marker for found in markers.values() for marker in found]
    refused = sum((collections.Counter(marker["refused"]) for marker in every), collections.Counter())
    plans = [_plan(layout, split, refresh, found) for refresh, found in markers.items()]
    return {
        **plans[0],
        "rows": sum(marker["rows"] for marker in every),
        "written": sum(marker["written"] for marker in every),
        "refused": dict(sorted(refused.items())),
        **({"refreshes": plans[1:]} if plans[1:] else {}),
        "shards": [_shard(refresh, marker) for refresh, found in markers.items() for marker in found],
    }


def _markers(layout: Layout, part: str) -> list[dict]:
    """The markers of a part, if it has all of them."""
    name = re.compile(re.escape(part) + r"-\d+-of-\d+")  # a split's name begins those of its refreshes
    paths = sorted(path for path in (layout.output / "markers").glob(f"{part}-*.json") if name.fullmatch(path.stem))
    markers = [shards.read_marker(path) for path in paths]
    return markers if markers and len(markers) == markers[0]["of"] else []


def _plan(layout: Layout, split: str, refresh: int, markers: list[dict]) -> dict:
    path = layout.plan(shards.part_name(split, refresh)).relative_to(layout.output)
    return {"plan": path.as_posix(), "plan_sha256": markers[0]["plan_sha256"]}


def _shard(refresh: int, marker: dict) -> dict:
    described = {key: marker[key] for key in ("shard", "written", "files", "ledger")}
    return described | ({"refresh": refresh} if refresh else {})


def expect_complete(tasks: Iterable[ShardTask], content: dict) -> None:
    """Makes sure that every row of every plan is written or refused.

    Raises:
      IncompleteShard: if one is not.
    """
    for task in tasks:
        part = content["splits"].get(task.split)
        if part is None:
            missing = [task.name(shard) for shard in range(task.of) if not task.is_committed(shard)]
            raise IncompleteShard(f"{len(missing)} of {task.of} shards are missing, such as {missing[0]}")
        settled = part["written"] + sum(part["refused"].values())
        if not task.refresh and not task.rows == part["rows"] == settled:
            raise IncompleteShard(f"{task.split}: {task.rows} rows are planned and {settled} are settled")


def write(layout: Layout, content: dict) -> None:
    """Writes dataset.json."""
    write_json(layout.manifest, content, layout.scratch)


def read(layout: Layout) -> dict:
    """Reads dataset.json.

    Raises:
      CorruptShard: if it is missing or not a manifest.
    """
    try:
        content = json.loads(layout.manifest.read_text("utf-8"))
        jsonschema.validate(content, schemas.load("dataset"))
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptShard(f"{layout.output} holds no dataset.json: not prepared, or not finished") from None
    except (ValueError, jsonschema.ValidationError) as error:
        raise CorruptShard(f"{layout.manifest} is not a manifest: {getattr(error, 'message', error)}") from None
    return content


@functools.lru_cache(maxsize=100_000)
def _committed_counts(path: Path, written_ns: int) -> dict[str, int]:
    marker = shards.read_marker(path)
    return {ledger.WRITTEN: marker["written"], ledger.REFUSED: sum(marker["refused"].values())}


def marker_counts(path: Path) -> dict[str, int] | None:
    """Rows of a committed shard by status, None if it is not committed; each marker is read once."""
    try:
        return _committed_counts(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None
