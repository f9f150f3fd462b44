"""dataset.json: what an output folder holds, how it was made, with which versions.

It is made from the markers alone, so it says nothing that the shards do not bear out.
"""

import collections
import functools
import json
from collections.abc import Iterable
from pathlib import Path

import jsonschema

from kinetics_prep import ledger, recipe, schemas, shards
from kinetics_prep.annotations import LabelMap
from kinetics_prep.atomic import sha256_of, write_json
from kinetics_prep.errors import BadOption, CorruptShard, IncompleteShard
from kinetics_prep.shards import Layout, ShardTask


def build(layout: Layout) -> dict:
    """The manifest of every split that is complete."""
    made = recipe.read(layout.recipe)
    splits = {}
    for path in sorted((layout.output / "plan").glob("*.parquet")):
        part = _split(layout, path)
        if part:
            splits[path.stem] = part
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


def _split(layout: Layout, path: Path) -> dict | None:
    """One split's part, or None if a shard is missing."""
    paths = sorted((layout.output / "markers").glob(f"{path.stem}-*.json"))
    markers = [shards.read_marker(marker) for marker in paths]
    if not markers or len(markers) != markers[0]["of"]:
        return None
    refused = sum((collections.Counter(marker["refused"]) for marker in markers), collections.Counter())
    return {
        "plan": path.relative_to(layout.output).as_posix(),
        "plan_sha256": markers[0]["plan_sha256"],
        "rows": sum(marker["rows"] for marker in markers),
        "written": sum(marker["written"] for marker in markers),
        "refused": dict(sorted(refused.items())),
        "shards": [{key: marker[key] for key in ("shard", "written", "files", "ledger")} for marker in markers],
    }


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
        if not task.rows == part["rows"] == settled:
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
