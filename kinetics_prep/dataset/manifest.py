"""dataset.json: what an output folder holds, how it was made, with which versions.

It is made from the markers alone, so it claims nothing that the shards do not hold.
"""

import collections
import json
import re
from collections.abc import Iterable
from typing import Any

import jsonschema

from kinetics_prep import schemas
from kinetics_prep.dataset import recipe_file, tools
from kinetics_prep.dataset.labels import read_labels
from kinetics_prep.dataset.layout import Layout, list_parts, part_name
from kinetics_prep.dataset.markers import read_marker
from kinetics_prep.dataset.part import Part
from kinetics_prep.errors import CorruptShard, IncompleteShard
from kinetics_prep.storage.files import sha256_of, write_json


def build(layout: Layout) -> dict[str, Any]:
    """The manifest of every split that is complete.

    Raises:
      CorruptShard: if a marker, recipe.json or labels.txt is damaged.
    """
    recipe = recipe_file.read(layout.recipe)
    refreshes: dict[str, list[int]] = collections.defaultdict(list)
    for split, refresh in list_parts(layout):
        refreshes[split].append(refresh)
    splits = {split: _split(layout, split, numbers) for split, numbers in refreshes.items()}
    content = {
        "version": 1,
        "recipe": recipe["recipe"],
        "digest": recipe["digest"],
        "versions": recipe["versions"],
        "provenance": tools.provenance(),
        "labels": {"path": "labels.txt", "count": len(read_labels(layout)), "sha256": sha256_of(layout.labels)},
        "splits": {split: entry for split, entry in splits.items() if entry is not None},
    }
    schemas.validate(content, "dataset")
    return content


def _split(layout: Layout, split: str, refreshes: list[int]) -> dict[str, Any] | None:
    """The entry of a split, None if a shard is missing. A refresh that is not complete does not count yet."""
    markers = {refresh: _markers(layout, part_name(split, refresh)) for refresh in refreshes}
    if not markers.get(0):
        return None
    complete = {refresh: part for refresh, part in markers.items() if part}
    every = [marker for part in complete.values() for marker in part]
    refused = sum((collections.Counter(marker["refused"]) for marker in every), collections.Counter())
    plans = [_plan(layout, split, refresh, part) for refresh, part in complete.items()]
    return {
        **plans[0],
        "rows": sum(marker["rows"] for marker in every),
        "written": sum(marker["written"] for marker in every),
        "refused": dict(sorted(refused.items())),
        **({"refreshes": plans[1:]} if plans[1:] else {}),
        "shards": [_shard(refresh, marker) for refresh, part in complete.items() for marker in part],
    }


def _markers(layout: Layout, part: str) -> list[dict]:
    """The markers of a part in the order of its shards; none if a shard is missing."""
    name = re.compile(re.escape(part) + r"-\d+-of-\d+")  # a split's name begins those of its refreshes
    paths = sorted(path for path in layout.markers.glob(f"{part}-*.json") if name.fullmatch(path.stem))
    markers = [read_marker(path) for path in paths]
    return markers if markers and len(markers) == markers[0]["of"] else []


def _plan(layout: Layout, split: str, refresh: int, markers: list[dict]) -> dict[str, str]:
    path = layout.plan(part_name(split, refresh))
    return {"plan": layout.relative(path), "plan_sha256": markers[0]["plan_sha256"]}


def _shard(refresh: int, marker: dict) -> dict[str, Any]:
    entry = {key: marker[key] for key in ("shard", "written", "files", "ledger")}
    return entry | ({"refresh": refresh} if refresh else {})


def check_complete(parts: Iterable[Part], content: dict[str, Any]) -> None:
    """Checks that a manifest accounts for every row of every plan.

    Raises:
      IncompleteShard: if it does not.
    """
    for part in parts:
        entry = content["splits"].get(part.split)
        if entry is None:
            missing = [part.shard_name(shard) for shard in range(part.shards) if not part.is_committed(shard)]
            raise IncompleteShard(f"{len(missing)} of {part.shards} shards are missing, such as {missing[0]}")
        done = entry["written"] + sum(entry["refused"].values())
        if not part.refresh and not part.rows == entry["rows"] == done:
            raise IncompleteShard(f"{part.split}: {part.rows} rows are planned and {done} are written or refused")


def write(layout: Layout, content: dict[str, Any]) -> None:
    """Writes dataset.json."""
    write_json(layout.manifest, content, layout.scratch)


def read(layout: Layout) -> dict[str, Any]:
    """Reads dataset.json.

    Raises:
      CorruptShard: if it is missing or not a manifest.
    """
    try:
        content = json.loads(layout.manifest.read_text("utf-8"))
        schemas.validate(content, "dataset")
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptShard(f"{layout.output} holds no dataset.json: not prepared, or not finished") from None
    except (ValueError, jsonschema.ValidationError) as error:
        raise CorruptShard(f"{layout.manifest} is not a manifest: {getattr(error, 'message', error)}") from None
    return content
