"""recipe.json: the one recipe of an output folder, its tool versions, and their digest.

The digest goes into each record and keeps a second recipe out of the folder.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kinetics_prep.dataset import tools
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import CorruptShard, OtherRecipe
from kinetics_prep.storage.files import write_json


def digest(recipe: Recipe, versions: Mapping[str, str]) -> str:
    """Sixteen hex digits that stand for a recipe and the versions it ran with."""
    return _digest(recipe.settings(), versions)


def _digest(settings: Mapping[str, Any], versions: Mapping[str, Any]) -> str:
    text = json.dumps([settings, versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(path: Path) -> dict[str, Any]:
    """Reads a folder's recipe.json.

    Raises:
      CorruptShard: if it is damaged.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        if content.keys() >= {"digest", "recipe", "versions"}:
            if content["digest"] != _digest(content["recipe"], content["versions"]):
                raise CorruptShard(f"{path} is damaged: its digest is not that of its content")
            return content
    except (OSError, ValueError, AttributeError) as error:
        raise CorruptShard(f"{path} cannot be read: {error}") from None
    raise CorruptShard(f"{path} holds no recipe")


def write_or_check(layout: Layout, recipe: Recipe) -> str:
    """Writes recipe.json, or checks that the one that is there says the same. Returns the digest.

    Raises:
      OtherRecipe: if the folder holds the output of another recipe.
      CorruptShard: if recipe.json is damaged.
    """
    versions = tools.versions(recipe)
    settings, key = recipe.settings(), digest(recipe, versions)
    if not layout.recipe.exists():
        content = {"version": 1, "digest": key, "recipe": settings, "versions": versions}
        write_json(layout.recipe, content, layout.scratch)
        return key
    there = read(layout.recipe)
    if there["digest"] != key:
        differing = "; ".join(differences(there["recipe"] | there["versions"], settings | versions))
        raise OtherRecipe(
            f"{layout.output} was prepared by another recipe: {differing}. "
            "Use the same settings and versions to go on, or another --output"
        )
    return key


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """What differs between recorded settings and requested ones, in words; settings within settings too."""
    recorded, requested = dict(_flat(there)), dict(_flat(here))
    for key in sorted(recorded.keys() | requested.keys()):
        if recorded.get(key) != requested.get(key):
            yield f"{key} is {recorded.get(key)} there and {requested.get(key)} here"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield prefix + key, value
