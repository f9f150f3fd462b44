"""A survey of a prepared folder: what its documents say, which of them are damaged, and what still holds then.

Much is on disk twice. A survey takes what a damaged document said from the others, in memory, so that the rest can be
checked. `validate` reports what it finds, `repair` writes what is missing. A survey changes nothing.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.dataset import documents, layout, manifest, markers, plan, purged, recipe_file
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.adopt import state_of_format_1
from kinetics_prep.dataset.labels import read_labels
from kinetics_prep.dataset.part import Part, list_parts
from kinetics_prep.dataset.recipe_file import RecipeFile, Tools
from kinetics_prep.dataset.state import PlanEntry, State
from kinetics_prep.errors import CorruptShard, NewerFormat
from kinetics_prep.storage.store import Store

_T = TypeVar("_T")

_SHARD = re.compile(r"(?P<part>.+)-\d{5,}-of-\d{5,}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT = re.compile(r'"fingerprints?": (?:\[\s*)?"([0-9a-f]{64})"')

MISSING = "is missing"


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that is not as it should be."""

    where: str
    """The key of a file."""
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclasses.dataclass(frozen=True)
class Survey:
    """What is known of a folder."""

    store: Store
    state: State
    """As state.json says; else as the rest of the folder tells."""
    recipe: RecipeFile
    """As recipe.json says, else dataset.json; else no more than `is_shape` says."""
    labels: LabelMap | None
    """None if labels.txt is damaged."""
    manifest: dict[str, Any] | None
    """The content of dataset.json; None if it is damaged or missing."""
    parts: tuple[Part, ...]
    problems: Mapping[str, str]
    """What is wrong with documents and plans, by key."""
    newer: NewerFormat | None = None
    """Raised for a document that only a newer kinetics-prep reads."""
    is_shape: bool = False
    """Whether the recipe has only the digest, the formats and the clips of a shard."""
    unknown: tuple[str, ...] = ()
    """Names of parts that exist, and whose plan nothing describes any more."""

    def is_damaged(self, key: str) -> bool:
        """Whether something is wrong with a document or a plan."""
        return key in self.problems

    def entry(self, part: Part, shard: int) -> dict[str, Any] | None:
        """What dataset.json says of a shard; None if nothing, or if it is damaged."""
        return self._entries.get((part.split, part.refresh, shard))

    @functools.cached_property
    def _entries(self) -> Mapping[tuple[str, int, int], dict[str, Any]]:
        splits = (self.manifest or {"splits": {}})["splits"]
        return {
            (split, each.get("refresh", 0), each["shard"]): each
            for split, entry in splits.items()
            for each in entry["shards"]
        }


def take(store: Store) -> Survey:
    """Surveys a folder.

    Raises:
      CorruptShard: if nothing was begun there, or too little is left to tell how the shards are made up.
    """
    return _Surveyor(store).survey()


class _Surveyor:
    """Collects problems while documents are read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.problems: dict[str, str] = {}
        self.newer: NewerFormat | None = None

    def survey(self) -> Survey:
        store = self.store
        content = self._read(layout.MANIFEST, lambda: _none_if_missing(lambda: manifest.read(store), store))
        recipe = self._read(layout.RECIPE, lambda: recipe_file.read(store))
        current = self._read(layout.STATE, lambda: states.read(store))
        if current is None and layout.STATE not in self.problems and _is_of_format_1(content, recipe):
            current = self._read("plan", lambda: state_of_format_1(store))
            self.problems.pop("plan", None)  # it is named by `_check_plans`
            is_expected = False
        else:
            is_expected = True
        if content is None and recipe is None and current is None and not _sound_markers(store, 1):
            raise CorruptShard(self._nothing())
        for key, found in ((layout.RECIPE, recipe), (layout.STATE, current if is_expected else True)):
            if found is None:
                self.problems.setdefault(key, MISSING)
        if current is None:
            recipe_or_shape = recipe or recipe_of_manifest(store, content) or _shape(store, content)
            current, unknown = rebuilt_state(store, recipe_or_shape, content)
            for name in unknown:
                self.problems[layout.plan_key(name)] = "is damaged or missing, and nothing says what it held"
        else:
            unknown = ()
        known = recipe or recipe_of_manifest(store, content)
        file = known or _shape(store, content)
        if not current.plans and not unknown:
            raise CorruptShard(self._nothing())
        if content is None and current.is_complete:
            self.problems.setdefault(layout.MANIFEST, MISSING)
        current = self._check_plans(current, content)
        labels = self._labels(current, content)
        self._check_others(content)
        parts = tuple(list_parts(store, current, file))
        return Survey(
            store, current, file, labels, content, parts, self.problems, self.newer, known is None, tuple(unknown)
        )

    def _nothing(self) -> str:
        damaged = "; ".join(f"{key}: {what}" for key, what in self.problems.items())
        return f"{self.store.place} holds no plan: nothing was begun here" + (f" ({damaged})" if damaged else "")

    def _read(
        self, key: str, read: Callable[[], _T | None], is_changed: Callable[[], bool] = lambda: False
    ) -> _T | None:
        """What `read` returns; None if the document is missing or damaged, which is noted.

        Args:
          is_changed: whether a file that claims a newer format is not as it was written.
        """
        try:
            return read()
        except NewerFormat as error:
            if is_changed():
                self.problems[key] = f"is damaged: {error}"
            else:
                self.problems[key], self.newer = str(error), self.newer or error
        except CorruptShard as error:
            self.problems[key] = without_place(str(error), self.store, key)
        return None

    def _is_changed(self, key: str, entry: PlanEntry) -> bool:
        """Whether a plan's file is not the recorded one; of plans of format 1 no checksum is recorded."""
        return entry.file_sha256 != "" and not plan.is_whole(self.store, key, entry)

    def _check_plans(self, current: State, content: Mapping[str, Any] | None) -> State:
        """Compares each plan with what is recorded. Returns the state with the rows that plans have."""
        recorded, plans = manifest_plans(content), {}
        for name, entry in current.plans.items():
            key = layout.plan_key(name)
            plans[name] = entry
            found = self._read(
                key, functools.partial(plan.entry_of, self.store, key), functools.partial(self._is_changed, key, entry)
            )
            if found is None:
                continue
            expected = [entry, *filter(None, [recorded.get(name)])]
            if any(each.sha256 != found.sha256 for each in expected):
                self.problems[key] = "is not the plan that the shards were made from"
            elif any(each.file_sha256 not in ("", found.file_sha256) for each in expected):
                self.problems[key] = "its checksum is not the recorded one"
            elif entry.rows != found.rows:
                self.problems[layout.STATE] = f"says that {key} has {entry.rows} rows; it has {found.rows}"
                plans[name] = found
        return dataclasses.replace(current, plans=plans)

    def _labels(self, current: State, content: Mapping[str, Any] | None) -> LabelMap | None:
        store, key = self.store, layout.LABELS
        labels = self._read(key, lambda: read_labels(store))
        if labels is None:
            return None
        if content is not None and sha256_of_bytes(store.read(key)) != content["labels"]["sha256"]:
            self.problems[key] = "is not the file that dataset.json knows; class ids may be wrong"
            return None
        wrong = [] if content is not None else [pair for pair in self._planned(current) if not _has(labels, *pair)]
        if wrong:
            self.problems[key] = f"does not have the label {wrong[0][1]!r} of class id {wrong[0][0]}, which is planned"
            return None
        return labels

    def _planned(self, current: State) -> list[tuple[int, str]]:
        sound = [name for name in current.plans if layout.plan_key(name) not in self.problems]
        return sorted(planned_labels(self.store, sound).items())

    def _check_others(self, content: Mapping[str, Any] | None) -> None:
        """Looks at sources.json and purged.json."""
        store = self.store
        self._read(layout.SOURCES, lambda: _check_sources(store))
        self._read(layout.PURGED, lambda: purged.read(store))
        sizes = {key: size for key, size in _sizes(store) if key in (layout.SOURCES, layout.PURGED)}
        for key, size in sizes.items():
            if not size:
                self.problems[key] = "is empty"
        if content is not None and content.get("purged") and layout.PURGED not in sizes:
            self.problems[layout.PURGED] = MISSING


def _none_if_missing(read: Callable[[], _T], store: Store) -> _T | None:
    try:
        with store.local(layout.MANIFEST):
            pass
    except (FileNotFoundError, NotADirectoryError):
        return None
    return read()


def without_place(error: str, store: Store, key: str) -> str:
    """The text of an error about a file, without the path of that file before it."""
    return error.removeprefix(f"{store.place}/{key} ").removeprefix(f"{store.place}/{key}: ")


def _is_of_format_1(content: Mapping[str, Any] | None, recipe: RecipeFile | None) -> bool:
    if content is not None:
        return content["version"] == 1
    return recipe is not None and recipe.fingerprints == {""}


def _has(labels: LabelMap, class_id: int, label: str) -> bool:
    return labels.labels[class_id : class_id + 1] == (label,)


def _check_sources(store: Store) -> None:
    with contextlib.suppress(FileNotFoundError):
        content = documents.read(store, layout.SOURCES)
        if not isinstance(content.get("videos"), list):
            raise CorruptShard(f"{store.place}/{layout.SOURCES} holds no list of places")


def _sizes(store: Store) -> Iterator[tuple[str, int]]:
    for key in (layout.SOURCES, layout.PURGED):
        with contextlib.suppress(OSError):
            yield key, len(store.read(key))


def sha256_of_bytes(data: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(data).hexdigest()


# What other files say ---------------------------------------------------------------------------


def manifest_plans(content: Mapping[str, Any] | None) -> dict[str, PlanEntry]:
    """What dataset.json says of each plan, by name of the part; 0 rows and an empty text where it does not say."""
    plans = {}
    for split, entry in (content or {"splits": {}})["splits"].items():
        for number, each in enumerate((entry, *entry.get("refreshes", ()))):
            name = each["plan"].removeprefix("plan/").removesuffix(".parquet")
            if layout.split_part_name(name) and name.partition("-")[0] == split:
                rows = 0 if number else entry["rows"]
                plans[name] = PlanEntry(rows, each["plan_sha256"], each.get("plan_file_sha256", ""))
    return plans


def recipe_of_manifest(store: Store, content: Mapping[str, Any] | None) -> RecipeFile | None:
    """recipe.json as dataset.json tells it; if that is damaged too, what is legible of either, if proved right."""
    if content is None:
        return _legible_recipe(store)
    try:
        versions, fingerprints = dict(content["versions"]), content.get("fingerprints", [""])
        return RecipeFile(dict(content["recipe"]), content["digest"], _tools(fingerprints, versions))
    except (KeyError, TypeError, ValueError):
        return None


def _tools(fingerprints: Sequence[Any], versions: Mapping[str, str]) -> tuple[Tools, ...]:
    """The tools as recipe.json lists them; dataset.json has the versions of the first alone."""
    return tuple(Tools(str(each), versions if number == 0 else {}) for number, each in enumerate(fingerprints))


def _legible_recipe(store: Store) -> RecipeFile | None:
    """The settings in what is left of recipe.json or dataset.json, if they have the digest that a marker names."""
    digests = {marker["recipe"] for marker in _sound_markers(store, 1)}
    for key in (layout.RECIPE, layout.MANIFEST):
        text = _text(store, key)
        settings = _value(text, "recipe")
        if isinstance(settings, dict) and recipe_file.digest_of(settings) in digests:
            versions, fingerprints = _value(text, "versions"), sorted(_FINGERPRINT.findall(text)[:1])
            versions = versions if isinstance(versions, dict) else {}
            with contextlib.suppress(KeyError, TypeError, ValueError):
                return RecipeFile(settings, digests.pop(), _tools(fingerprints, versions))
    return None


def _value(text: str, name: str) -> Any:
    """The first value of a name in what is left of a document; None if it cannot be read."""
    at = text.find(f'"{name}": ')
    try:
        return json.JSONDecoder().raw_decode(text, at + len(name) + 4)[0] if at >= 0 else None
    except (ValueError, RecursionError):
        return None


def _text(store: Store, key: str) -> str:
    """The text of a document, damaged or not; empty if there is none, or if it is too large to be one."""
    try:
        with store.local(key) as path:
            is_small = path.stat().st_size <= documents.LARGEST_BYTES
            return path.read_bytes().decode("utf-8", "replace") if is_small else ""
    except OSError:
        return ""


def hex_digests(store: Store, key: str) -> frozenset[str]:
    """Every sha256 that a document names, damaged or not. A file that has one of them is what was recorded."""
    return frozenset(_SHA256.findall(_text(store, key)))


def _shape(store: Store, content: Mapping[str, Any] | None) -> RecipeFile:
    """The digest, the formats and the clips of a shard, as markers and plans tell them.

    Raises:
      CorruptShard: if they do not.
    """
    written = [marker for marker in _sound_markers(store) if marker["files"]]
    if not written:
        raise CorruptShard(
            f"{store.place}: {layout.RECIPE} and {layout.MANIFEST} are damaged or missing, and no marker tells how the "
            "shards are made up. Give the same `kinetics-prep flow` command once more"
        )
    clips = 1
    for name in _part_names(store, content):
        with contextlib.suppress(CorruptShard):
            clips = max(clips, *(1 + row.index for row in plan.read(store, layout.plan_key(name))))
    settings = {"formats": list(written[0]["files"]), "clips_per_shard": clips}
    return RecipeFile(settings, written[0]["recipe"], ())


def _sound_markers(store: Store, most: int | None = None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in sorted(markers.committed_shards(store)):
        with contextlib.suppress(CorruptShard, NewerFormat, FileNotFoundError):
            found.append(markers.read_marker(store, name))
            if len(found) == most:
                break
    return found


def _part_names(store: Store, content: Mapping[str, Any] | None) -> list[str]:
    """The parts of which anything is there."""
    names = {entry.key.removeprefix("plan/").removesuffix(".parquet") for entry in store.list("plan/")}
    names |= manifest_plans(content).keys()
    shards = (_SHARD.fullmatch(name) for name in markers.committed_shards(store))
    names |= {match["part"] for match in shards if match}
    return sorted(name for name in names if layout.split_part_name(name))


def rebuilt_state(store: Store, recipe: RecipeFile, content: Mapping[str, Any] | None) -> tuple[State, tuple[str, ...]]:
    """The state of a folder as its other files tell it, and the parts whose plan nobody tells.

    A search that was under way is forgotten: what it has not packed stays refused.
    """
    plans, unknown = {}, []
    for name in _part_names(store, content):
        entry = _rebuilt_plan_entry(store, name, content)
        if entry is None:
            unknown.append(name)
        else:
            plans[name] = entry
    epoch = _epoch(store)
    numbers = [layout.split_part_name(name) for name in plans]
    searches = max((number for _, number in filter(None, numbers)), default=0)
    state = State(epoch, plans, searches=searches)
    committed = markers.committed_shards(store)
    parts = list_parts(store, state, recipe)
    is_complete = all(part.shard_name(shard) in committed for part in parts for shard in range(part.shards))
    is_named = {part.split for part in parts} <= set((content or {"splits": {}})["splits"])
    return dataclasses.replace(state, is_complete=bool(plans) and (is_complete or is_named)), tuple(unknown)


def _rebuilt_plan_entry(store: Store, name: str, content: Mapping[str, Any] | None) -> PlanEntry | None:
    recorded = manifest_plans(content).get(name)
    with contextlib.suppress(CorruptShard):
        found = plan.entry_of(store, layout.plan_key(name))
        digests = {marker["plan_sha256"] for marker in _markers_of(store, name)}
        is_same = found.sha256 == recorded.sha256 if recorded else digests <= {found.sha256}
        if is_same:
            return found
    of_part = list(_markers_of(store, name))
    rows = (recorded.rows if recorded else 0) or sum(marker["rows"] for marker in of_part)
    digest = recorded.sha256 if recorded else next((marker["plan_sha256"] for marker in of_part), None)
    is_whole = bool(recorded and recorded.rows) or (bool(of_part) and len(of_part) == of_part[0]["of"])
    if digest is None or not is_whole:
        return None
    return PlanEntry(rows, digest, recorded.file_sha256 if recorded else "")


def _markers_of(store: Store, name: str) -> Iterator[dict[str, Any]]:
    for shard in sorted(markers.committed_shards(store)):
        match = _SHARD.fullmatch(shard)
        if match and match["part"] == name:
            with contextlib.suppress(CorruptShard, NewerFormat, FileNotFoundError):
                yield markers.read_marker(store, shard)


def _epoch(store: Store) -> int:
    """The epoch under which most objects are filed."""
    counts: dict[int, int] = {}
    for entry in store.list(f"{layout.WORK}/objects/"):
        folder = entry.key.split("/")[2]
        if folder.isdecimal():
            counts[int(folder)] = counts.get(int(folder), 0) + 1
    return max(counts, key=lambda epoch: (counts[epoch], epoch), default=1)


def planned_labels(store: Store, names: list[str]) -> dict[int, str]:
    """The label of each class id that sound plans name."""
    labels: dict[int, str] = {}
    for name in names:
        for row in plan.read(store, layout.plan_key(name)):
            if row.label_index is not None and row.label is not None:
                labels[row.label_index] = row.label
    return labels
