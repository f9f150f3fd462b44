"""dataset.json: what an output folder holds, how it was made, with which versions.

It is made from the markers alone, so it claims nothing that the shards do not hold.
"""

import collections
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jsonschema

from kinetics_prep import schemas
from kinetics_prep.dataset import documents, layout, purged, recipe_file, tools
from kinetics_prep.dataset.labels import read_labels
from kinetics_prep.dataset.markers import committed_shards, read_marker
from kinetics_prep.dataset.part import Part, list_parts
from kinetics_prep.dataset.state import State
from kinetics_prep.errors import CorruptShard, IncompleteShard
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.storage.store import Store


def build(store: Store, current: State, checks_sizes: bool = False) -> dict[str, Any]:
    """The manifest of every split that is complete.

    Args:
      checks_sizes: whether to compare the sizes of all data and ledgers with the markers, by one listing.

    Raises:
      CorruptShard: if a marker, recipe.json or labels.txt is damaged, or a file has another size.
    """
    recipe = recipe_file.read(store)
    if recipe is None:
        raise CorruptShard(f"{store.place} holds no {layout.RECIPE}")
    committed = committed_shards(store)
    parts: dict[str, list[Part]] = collections.defaultdict(list)
    for part in list_parts(store, current, recipe):
        parts[part.split].append(part)
    sizes = _sizes(store, recipe) if checks_sizes else None
    splits = {split: _split(store, current, split_parts, committed, sizes) for split, split_parts in parts.items()}
    content = {
        "version": documents.VERSION,
        "recipe": dict(recipe.settings),
        "digest": recipe.digest,
        "versions": dict(recipe.tools[0].versions) if recipe.tools else {},
        "fingerprints": [entry.fingerprint for entry in recipe.tools],
        "provenance": tools.provenance(),
        "labels": {"path": layout.LABELS, "count": len(read_labels(store)), "sha256": _labels_sha256(store)},
        "purged": len(purged.read(store).because),
        "splits": {split: entry for split, entry in splits.items() if entry is not None},
    }
    schemas.validate(content, "dataset")
    return content


def _labels_sha256(store: Store) -> str:
    return hashlib.sha256(store.read(layout.LABELS)).hexdigest()


def _sizes(store: Store, recipe: recipe_file.RecipeFile) -> dict[str, int]:
    """The size of each file of data and each ledger."""
    folders = (*(SHARD_FORMATS[form].SUFFIX for form in recipe.formats), "ledger")
    return {entry.key: entry.bytes for folder in folders for entry in store.list(f"{folder}/")}


def _check_sizes(store: Store, marker: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Raises `CorruptShard` if a file has another size than its marker says."""
    expected = {file["path"]: file["bytes"] for file in marker["files"].values()}
    expected |= {marker["ledger"]: marker["ledger_bytes"]} if "ledger_bytes" in marker else {}
    for key, size in expected.items():
        if sizes.get(key) != size:
            found = f"is {sizes[key]} bytes long" if key in sizes else "is missing"
            raise CorruptShard(
                f"{store.place}/{key} {found}, its marker says {size} bytes. `kinetics-prep repair {store.place}` "
                "makes it from what is sound"
            )


def _split(
    store: Store,
    current: State,
    parts: Sequence[Part],
    committed: frozenset[str],
    sizes: Mapping[str, int] | None,
) -> dict[str, Any] | None:
    """The entry of a split, None if a shard is missing."""
    names = [[part.shard_name(shard) for shard in range(part.shards)] for part in parts]
    if not committed.issuperset(name for part_names in names for name in part_names):
        return None
    markers = [[read_marker(store, name) for name in part_names] for part_names in names]
    every = [marker for part_markers in markers for marker in part_markers]
    for marker in every if sizes is not None else ():
        _check_sizes(store, marker, sizes or {})
    refused = sum((collections.Counter(marker["refused"]) for marker in every), collections.Counter())
    plans = [_plan(current, part) for part in parts]
    return {
        **plans[0],
        "rows": sum(marker["rows"] for marker in every),
        "written": sum(marker["written"] for marker in every),
        "refused": dict(sorted(refused.items())),
        **({"refreshes": plans[1:]} if plans[1:] else {}),
        "shards": [
            _shard(part, marker) for part, part_markers in zip(parts, markers, strict=True) for marker in part_markers
        ],
    }


def _plan(current: State, part: Part) -> dict[str, Any]:
    entry = current.plans[part.name]
    content = {"plan": part.plan, "plan_sha256": entry.sha256, "plan_file_sha256": entry.file_sha256}
    return content | ({"refresh": part.refresh} if part.refresh else {})


def _shard(part: Part, marker: dict[str, Any]) -> dict[str, Any]:
    entry = {key: marker[key] for key in ("shard", "written", "files", "ledger", "ledger_sha256")}
    return entry | ({"refresh": part.refresh} if part.refresh else {})


def holds(built: Any, content: Any) -> bool:
    """Whether everything that a manifest says is so; one of format 1 says less.

    Args:
      built: the manifest that `build` makes of the folder.
    """
    return _holds(built, _known({**content, "provenance": built["provenance"]}, schemas.load("dataset")))


def _known(content: Any, schema: dict[str, Any]) -> Any:
    """A value without the keys that a newer version added: those that its schema does not name."""
    if isinstance(content, list):
        return [_known(item, schema.get("items", {})) for item in content]
    if not isinstance(content, dict):
        return content
    if "properties" in schema:
        return {name: _known(content[name], inner) for name, inner in schema["properties"].items() if name in content}
    inner = schema.get("additionalProperties", {})
    return {name: _known(value, inner) for name, value in content.items()}


def _holds(built: Any, content: Any) -> bool:
    if isinstance(built, dict) and isinstance(content, dict):
        added = {"version", "fingerprints", "purged", "plan_file_sha256", "ledger_sha256", "refresh"}
        missing = built.keys() - content.keys()
        return missing <= added and all(
            name == "version" or (name in built and _holds(built[name], value)) for name, value in content.items()
        )
    if isinstance(built, list) and isinstance(content, list):
        return len(built) == len(content) and all(map(_holds, built, content))
    return built == content


def check_complete(parts: Iterable[Part], content: dict[str, Any]) -> None:
    """Checks that a manifest accounts for every row of every plan.

    Raises:
      IncompleteShard: if it does not.
    """
    parts = list(parts)
    for part in parts:
        entry = content["splits"].get(part.split)
        if entry is None:
            raise _shards_missing([other for other in parts if other.split == part.split])
        done = entry["written"] + sum(entry["refused"].values())
        if not part.refresh and not part.rows == entry["rows"] == done:
            raise IncompleteShard(f"{part.split}: {part.rows} rows are planned and {done} are written or refused")


def _shards_missing(parts: Iterable[Part]) -> IncompleteShard:
    shards = [(part, shard) for part in parts for shard in range(part.shards)]
    missing = [part.shard_name(shard) for part, shard in shards if not part.is_committed(shard)]
    example = f", such as {missing[0]}" if missing else ""
    return IncompleteShard(f"{len(missing)} of {len(shards)} shards are missing{example}")


def write(store: Store, content: dict[str, Any]) -> None:
    """Writes dataset.json, unless it says the same already.

    Raises:
      NewerFormat: if one of a newer format is there, which must not be lost.
    """
    try:
        there = store.read(layout.MANIFEST)
        if there == documents.encode(content):
            return
        documents.decode(there, f"{store.place}/{layout.MANIFEST}")
    except (FileNotFoundError, NotADirectoryError, CorruptShard):  # what is damaged is replaced
        pass
    documents.write(store, layout.MANIFEST, content)


def read(store: Store) -> dict[str, Any]:
    """Reads dataset.json.

    Raises:
      CorruptShard: if it is missing or not a manifest.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    try:
        content = documents.read(store, layout.MANIFEST)
        schemas.validate(content, "dataset")
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptShard(f"{store.place} holds no {layout.MANIFEST}: not prepared, or not finished") from None
    except jsonschema.ValidationError as error:
        raise CorruptShard(f"{store.place}/{layout.MANIFEST} is not a manifest: {error.message}") from None
    return content
