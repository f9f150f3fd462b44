"""recipe.json: the one recipe of an output folder, its digest, and the tools that make its bytes.

The digest stands for the settings that decide a frame, and goes into each record. Settings that do not, such as the
format and the clips of a shard, are kept beside them: `convert` changes them.

Tools are judged by what they do: each entry of `tools` holds the fingerprint of a machine's programs and libraries, see
`runs/fingerprint.py`, and their versions, which are only there to be read.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kinetics_prep.dataset import documents, layout
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import CorruptShard, OtherRecipe, OtherTools
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.storage.store import Store

SHAPE = ("formats", "clips_per_shard")
"""Settings that change no record."""


@dataclasses.dataclass(frozen=True)
class Tools:
    """Programs and libraries that make the same bytes."""

    fingerprint: str
    """The empty text if unknown: of a folder that an older kinetics-prep prepared."""
    versions: Mapping[str, str]
    """When they were accepted."""


@dataclasses.dataclass(frozen=True)
class RecipeFile:
    """The content of recipe.json."""

    settings: Mapping[str, Any]
    """Of the recipe, as `Recipe.settings` gives them."""
    digest: str
    tools: tuple[Tools, ...]
    """Accepted ones, the first first."""

    def __post_init__(self) -> None:
        formats, clips_per_shard = self.settings["formats"], self.settings["clips_per_shard"]
        if not isinstance(formats, list) or not formats or not set(formats) <= set(SHARD_FORMATS):
            raise ValueError(f"formats {formats!r:.100}")
        if not isinstance(clips_per_shard, int) or clips_per_shard < 1:
            raise ValueError(f"clips_per_shard {clips_per_shard!r:.100}")

    @property
    def recipe(self) -> Recipe:
        """The recipe, with an engine that runs here.

        Raises:
          CorruptShard: if the settings are none.
          MissingTool: if no engine that gives its flow runs here.
        """
        return Recipe.from_settings(self.settings)

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of the shards, names of `SHARD_FORMATS`."""
        return tuple(self.settings["formats"])

    @property
    def clips_per_shard(self) -> int:
        """Rows of a shard, at most."""
        return self.settings["clips_per_shard"]

    @property
    def fingerprints(self) -> frozenset[str]:
        """The accepted ones."""
        return frozenset(tools.fingerprint for tools in self.tools)


def digest(recipe: Recipe) -> str:
    """Sixteen hex digits that stand for every setting that decides the bytes of a record."""
    return digest_of(recipe.settings())


def digest_of(settings: Mapping[str, Any]) -> str:
    """The same, of the recipe with these settings."""
    return _digest({name: value for name, value in settings.items() if name not in SHAPE})


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def read(store: Store) -> RecipeFile | None:
    """Reads a folder's recipe.json; None if there is none.

    Raises:
      CorruptShard: if it is damaged.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    where = f"{store.place}/{layout.RECIPE}"
    try:
        content = documents.read(store, layout.RECIPE)
        settings, key, version = dict(content["recipe"]), str(content["digest"]), content["version"]
        if version == 1:
            if key != _digest([settings, content["versions"]]):
                raise CorruptShard(f"{where} is damaged: its digest is not that of its content")
            return RecipeFile(settings, key, (Tools("", dict(content["versions"])),))
        tools = tuple(Tools(str(entry["fingerprint"]), dict(entry["versions"])) for entry in content["tools"])
        return RecipeFile(settings, key, tools)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptShard(f"{where} holds no recipe: {error!r}") from None


def write(store: Store, file: RecipeFile) -> None:
    """Writes recipe.json."""
    tools = [dataclasses.asdict(entry) for entry in file.tools]
    documents.write(store, layout.RECIPE, {"digest": file.digest, "recipe": dict(file.settings), "tools": tools})


def expect_same_settings(store: Store, there: RecipeFile, recipe: Recipe) -> None:
    """Checks that a folder was prepared with the same settings.

    Raises:
      OtherRecipe: if it was prepared with others; the message names them, and what to do.
    """
    settings = json.loads(json.dumps(recipe.settings()))
    differing = list(differences(there.settings, settings))
    shape = [text for name in SHAPE for text in differences(_only(there.settings, name), _only(settings, name))]
    if differing and len(differing) == len(shape):
        flags = f"--format {','.join(recipe.formats)} --clips-per-shard {recipe.clips_per_shard}"
        raise OtherRecipe(
            f"{store.place}: {'; '.join(shape)}. Use what is there; `kinetics-prep convert {store.place} {flags}` "
            "changes it for what is prepared already, and computes nothing anew"
        )
    if differing:
        raise OtherRecipe(
            f"{store.place} was prepared by another recipe: {'; '.join(differing)}. "
            "Use the same settings to go on, or another --output"
        )


def with_tools(store: Store, there: RecipeFile, tools: Tools, accept: bool) -> RecipeFile:
    """The file with the tools of this machine among the accepted ones.

    Args:
      accept: whether other tools are accepted.

    Raises:
      OtherTools: if they give other bytes and are not accepted.
    """
    if tools.fingerprint in there.fingerprints:
        return there
    versions_there = there.tools[-1].versions if there.tools else {}
    is_unknown = there.fingerprints <= {""}
    if not accept and not (is_unknown and dict(versions_there) == dict(tools.versions)):
        differing = "; ".join(differences(versions_there, tools.versions)) or "no version differs"
        why = "was prepared by" if is_unknown else "was prepared by tools that give other bytes, by"
        raise OtherTools(
            f"{store.place} {why} others ({differing}). To go on all the same, with clips from both in one data set, "
            "give --accept-tools; it is noted in recipe.json and in each row of the ledger"
        )
    return dataclasses.replace(there, tools=(*there.tools, tools))


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """What differs between recorded settings and requested ones, in words; settings within settings too."""
    recorded, requested = dict(_flat(there)), dict(_flat(here))
    for key in sorted(recorded.keys() | requested.keys()):
        if recorded.get(key) != requested.get(key):
            yield f"{key} is {_in_words(recorded.get(key))} there and {_in_words(requested.get(key))} here"


def _in_words(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _only(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {name: settings[name]} if name in settings else {}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield prefix + key, value
