"""state.json: what a prepared folder is in the middle of. Its presence says that the folder is ours.

    preparing    rows of a plan are neither written nor refused yet
    searching    refused rows are searched once more, by `retry` or `refresh`
    packing      what a search found is put into shards of its own, and leaves the older ledgers
    changing     `convert`, `purge` or `repair` replaces files
    complete     nothing is under way

Each command enters through `door.py`, which finishes what must be finished first; `MAY_FOLLOW` is the table.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from kinetics_prep.annotations.annotation import SPLITS
from kinetics_prep.dataset import documents, layout
from kinetics_prep.errors import CorruptShard
from kinetics_prep.storage.store import Store

PREPARING, SEARCHING, PACKING, CHANGING, COMPLETE = "preparing", "searching", "packing", "changing", "complete"

GOES_ON, CLOSES, FINISHES, REFUSES = "goes on", "closes", "finishes", "refuses"

MAY_FOLLOW: dict[str, dict[str, str]] = {
    PREPARING: {"flow": GOES_ON, "retry": GOES_ON, "repair": GOES_ON, "purge": GOES_ON}
    | dict.fromkeys(("refresh", "convert"), REFUSES),
    SEARCHING: dict.fromkeys(("flow", "retry", "refresh", "repair", "convert", "purge"), CLOSES),
    PACKING: dict.fromkeys(("flow", "retry", "refresh", "repair", "convert", "purge"), FINISHES),
    CHANGING: dict.fromkeys(("flow", "retry", "refresh", "repair", "convert", "purge"), FINISHES),
    COMPLETE: dict.fromkeys(("flow", "retry", "refresh", "repair", "convert", "purge"), GOES_ON),
}
"""State -> command -> what it does there. "closes": packs what the search has found, unless it goes on with this very
search. "finishes": does the rest of what was begun, then its own. "refuses": names the command that must come first.
`status`, `validate` and `inspect` only read, in any state."""


@dataclasses.dataclass(frozen=True)
class PlanEntry:
    """A plan that is on disk, and will not change."""

    rows: int
    sha256: str
    """Of its rows."""
    file_sha256: str
    """Of its file."""


@dataclasses.dataclass(frozen=True)
class Planned:
    """What came of a selection of annotations, so that the annotations need not be read again."""

    splits: tuple[str, ...]
    files: tuple[str, ...]
    """Each annotation file in words."""


@dataclasses.dataclass(frozen=True)
class Search:
    """Refused rows are searched once more."""

    number: int
    """What it finds goes into parts of this number."""
    serial: int
    """Tells it from all searches before it; objects of its clips are filed under it."""
    reasons: tuple[str, ...]
    plans: Mapping[str, PlanEntry]
    """By split: of the rows that are searched."""
    is_packing: bool = False


@dataclasses.dataclass(frozen=True)
class State:
    """The content of state.json."""

    epoch: int = 1
    """Objects of clips are filed under it; objects of other epochs do not count."""
    plans: Mapping[str, PlanEntry] = dataclasses.field(default_factory=dict)
    """By name of the part."""
    selections: Mapping[str, Planned] = dataclasses.field(default_factory=dict)
    """By digest of everything that plans were made from."""
    searches: int = 0
    """How many were begun."""
    search: Search | None = None
    change: Mapping[str, Any] | None = None
    """What `convert` or another command that replaces files is doing: its `kind`, its settings, and `is_moving`:
    whether new files take their places. Before that they are only built, and nothing has changed for anybody else."""
    is_complete: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are planned, in the order in which they are prepared."""
        return tuple(split for split in SPLITS if split in self.plans)

    @property
    def name(self) -> str:
        """One word for what is under way."""
        if self.change is not None and self.change.get("is_moving"):
            return CHANGING
        if self.search is not None:
            return PACKING if self.search.is_packing else SEARCHING
        return COMPLETE if self.is_complete else PREPARING

    def to_document(self) -> dict[str, Any]:
        """The content of state.json."""
        return {"state": self.name, **dataclasses.asdict(self)}

    @classmethod
    def from_document(cls, content: Mapping[str, Any]) -> "State":
        """The state that a document says.

        Raises:
          KeyError, TypeError, ValueError: if it says none.
        """
        return cls(
            epoch=int(content["epoch"]),
            plans=_plans(content["plans"], layout.split_part_name),
            selections={key: _planned(entry) for key, entry in content["selections"].items()},
            searches=int(content["searches"]),
            search=None if content["search"] is None else _search(content["search"]),
            change=None if content["change"] is None else dict(content["change"]),
            is_complete=bool(content["is_complete"]),
        )


def _planned(content: Mapping[str, Any]) -> Planned:
    splits = tuple(content["splits"])
    if not set(splits) <= set(SPLITS):
        raise ValueError(f"no splits: {splits!r:.200}")
    return Planned(splits, tuple(map(str, content["files"])))


def _search(content: Mapping[str, Any]) -> Search:
    number, serial = int(content["number"]), int(content["serial"])
    reasons, plans = tuple(map(str, content["reasons"])), _plans(content["plans"], SPLITS.__contains__)
    return Search(number, serial, reasons, plans, bool(content["is_packing"]))


def _plans(content: Mapping[str, Any], is_name: Callable[[str], object]) -> dict[str, PlanEntry]:
    names = [field.name for field in dataclasses.fields(PlanEntry)]
    for part, entry in content.items():
        # Names become parts of paths.
        if not is_name(part) or not isinstance(entry["rows"], int) or entry["rows"] < 0:
            raise ValueError(f"no plan: {part!r}: {entry!r:.200}")
    return {part: PlanEntry(**{name: entry[name] for name in names}) for part, entry in content.items()}


def read(store: Store) -> State | None:
    """The state of a folder; None if it has none.

    Raises:
      CorruptShard: if state.json is damaged.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    try:
        content = documents.read(store, layout.STATE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return State.from_document(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptShard(f"{store.place}/{layout.STATE} holds no state: {error!r}") from None


def write(store: Store, state: State) -> None:
    """Writes state.json."""
    documents.write(store, layout.STATE, state.to_document())
