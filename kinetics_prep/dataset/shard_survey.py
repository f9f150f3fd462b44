"""What of a shard is sound: its marker, its ledger, its data in each format. It changes nothing."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kinetics_prep.annotations.planned import PlannedRow, PlanRow
from kinetics_prep.dataset import layout, ledger, markers
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.part import Part, found_later, rows_of
from kinetics_prep.dataset.shards import is_retryable
from kinetics_prep.dataset.survey import MISSING, Problem, Survey, without_place
from kinetics_prep.errors import CorruptShard, NewerFormat
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.storage.files import sha256_of
from kinetics_prep.storage.store import Store

_UNKNOWN = "is not a file of this data set; a reader that takes all files would read it"


@dataclasses.dataclass(frozen=True)
class ShardSurvey:
    """What of a shard is sound."""

    part: Part
    shard: int
    truth: Mapping[str, Any] | None
    """What must hold of its files: `files`, `written`, perhaps `ledger_sha256`; as the marker says, else dataset.json.
    None if neither can be relied on."""
    has_marker: bool
    """Whether its marker is sound."""
    has_ledger: bool
    """Whether its ledger is sound."""
    files: Mapping[str, bool]
    """Whether its data are sound, by format."""
    problems: tuple[Problem, ...]
    leaving: int = 0
    """Rows of its ledger that a later search found, and that have yet to leave it."""
    is_odd: bool = False
    """Whether its ledger has the recorded checksum, and cannot be read here or is not what was planned: no damage."""

    @property
    def name(self) -> str:
        """The name of its files."""
        return self.part.shard_name(self.shard)

    @property
    def is_sound(self) -> bool:
        """Whether everything that must be there is sound."""
        return self.has_marker and self.has_ledger and all(self.files.values())

    @property
    def sound_formats(self) -> list[str]:
        """The formats whose data are sound."""
        return [form for form, is_sound in self.files.items() if is_sound]


def expected_shards(survey: Survey) -> Iterator[tuple[Part, int]]:
    """The shards that must be there: that have a marker, that dataset.json names, or that have lost their marker."""
    store, current = survey.store, survey.state
    committed = markers.committed_shards(store)
    ledgers = {entry.key for entry in store.list("ledger/")}
    working = {entry.key.rpartition("/")[0] + "/" for entry in store.list(layout.objects_prefix(current.epoch))}
    for part in survey.parts:
        for shard in range(part.shards):
            name = part.shard_name(shard)
            has_lost_marker = layout.ledger_key(name) in ledgers and part.objects_prefix(shard) not in working
            is_being_packed = current.search is not None and part.refresh == current.search.number
            is_begun = name in committed or (has_lost_marker and not is_being_packed)
            if is_begun or (current.is_complete and not is_being_packed) or survey.entry(part, shard):
                yield part, shard


def unknown_files(found: Survey) -> Iterator[Problem]:
    """Files among those of the data set that are none of them. They may be the user's."""
    if found.unknown:
        return
    known = {layout.plan_key(name) for name in found.state.plans}
    for part in found.parts:
        suffixes = [SHARD_FORMATS[form].SUFFIX for form in part.formats]
        for shard in range(part.shards):
            name = part.shard_name(shard)
            known.update((layout.ledger_key(name), layout.marker_key(name)))
            known.update(layout.data_key(name, suffix) for suffix in suffixes)
    for folder in (*(module.SUFFIX for module in SHARD_FORMATS.values()), "ledger", "markers", "plan"):
        for file in found.store.list(f"{folder}/"):
            if file.key not in known:
                yield Problem(file.key, _UNKNOWN)


def survey_shard(survey: Survey, part: Part, shard: int) -> ShardSurvey:
    """Looks at the files of a shard: by the recorded checksums, and by their content where none is left.

    Raises:
      NewerFormat: if only a newer kinetics-prep can read one that is as it was written.
    """
    return _Look(survey, part, shard).look()


class _Look:
    """A look at one shard. Collects problems."""

    def __init__(self, survey: Survey, part: Part, shard: int) -> None:
        self.survey, self.store, self.part, self.shard = survey, survey.store, part, shard
        self.name = part.shard_name(shard)
        self.problems: list[Problem] = []
        self.sha256 = {key: _sha256(self.store, key) for key in self._keys()}

    def _keys(self) -> list[str]:
        return [layout.ledger_key(self.name), *(_data_key(self.name, form) for form in self.part.formats)]

    def look(self) -> ShardSurvey:
        marker, entry = self._marker(), self.survey.entry(self.part, self.shard)
        if entry is not None and not all(map(self._is_ours, entry["files"].items())):
            self._note(layout.MANIFEST, f"names files of {self.name} that are not its own")
            entry = None
        truth = max(filter(None, (marker, entry)), key=self._agreement, default=None)
        has_marker = marker is not None and truth is marker
        if marker is not None and not has_marker:
            self._note(layout.marker_key(self.name), "is not that of the files, which are as dataset.json says")
        rows, leaving = self._ledger(truth)
        is_odd = rows is None and self._is_recorded(layout.ledger_key(self.name), (truth or {}).get("ledger_sha256"))
        files = {form: self._is_sound(form, truth, rows) for form in self._formats(truth, rows)}
        return ShardSurvey(
            self.part, self.shard, truth, has_marker, rows is not None, files, tuple(self.problems), leaving, is_odd
        )

    def _note(self, key: str, what: str) -> None:
        self.problems.append(Problem(key, without_place(what, self.store, key)))

    def _marker(self) -> dict[str, Any] | None:
        """The marker; None if it is missing, damaged, or of another shard."""
        key = layout.marker_key(self.name)
        try:
            marker = markers.read_marker(self.store, self.name)
        except (FileNotFoundError, NotADirectoryError):
            self._note(key, MISSING)
            return None
        except CorruptShard as error:
            self._note(key, str(error))
            return None
        wrong = list(self._mistakes(marker))
        for what in wrong:
            self._note(key, what)
        return None if wrong else marker

    def _mistakes(self, marker: Mapping[str, Any]) -> Iterator[str]:
        part = self.part
        expected = {
            "split": part.split,
            "shard": self.shard,
            "of": part.shards,
            "recipe": part.recipe,
            "plan_sha256": part.plan_sha256,
            "ledger": layout.ledger_key(self.name),
        }
        for name, value in expected.items():
            if marker[name] != value:
                yield f"says {name} {marker[name]}, expected {value}"
        formats = part.formats if marker["written"] else ()
        if set(marker["files"]) != set(formats):
            yield f"names files as {', '.join(marker['files']) or 'nothing'}, expected {', '.join(formats) or 'none'}"
        elif not all(map(self._is_ours, marker["files"].items())):
            yield "names files of another shard"

    def _is_ours(self, item: tuple[str, Mapping[str, Any]]) -> bool:
        form, file = item
        return form in self.part.formats and file["path"] == _data_key(self.name, form)

    def _agreement(self, truth: Mapping[str, Any]) -> int:
        """How many files are as a marker, or an entry of dataset.json, says."""
        agreeing = [self.sha256[file["path"]] == file["sha256"] for file in truth["files"].values()]
        return sum(agreeing) + (self.sha256[layout.ledger_key(self.name)] == truth.get("ledger_sha256", ""))

    def _ledger(self, truth: Mapping[str, Any] | None) -> tuple[list[LedgerRow] | None, int]:
        """(rows of the ledger if it is sound, how many of them have yet to leave it)."""
        key = layout.ledger_key(self.name)
        if self.sha256[key] is None:
            self._note(key, MISSING)
            return None, 0
        expected = (truth or {}).get("ledger_sha256")
        is_sound = expected is None or self._is_recorded(key, expected)
        if not is_sound:
            self._note(key, "its checksum is not the marker's")
        rows = self._guarded(key, lambda: list(ledger.read(self.store, key)), is_sound)
        if rows is None:
            return None, 0
        later = self._guarded(self.part.plan, lambda: found_later(self.part)) or frozenset()
        staying = [row for row in rows if not (is_retryable(row) and row.clip_id in later)]
        planned = self._planned()
        if planned is not None and list(map(_key, staying)) != list(map(_key, planned)):
            self._note(key, f"its {len(staying)} rows are not the {len(planned)} that were planned")
            is_sound = False
        written = sum(row.status == ledger.WRITTEN for row in rows)
        if truth is not None and written != truth["written"]:
            self._note(key, f"{written} rows written, its marker says {truth['written']}")
            is_sound = False
        return (rows if is_sound else None), len(rows) - len(staying)

    def _is_recorded(self, key: str, sha256: str | None) -> bool:
        return sha256 is not None and self.sha256[key] == sha256

    def _planned(self) -> list[PlanRow] | None:
        """The plan rows of the shard; None if its plan is damaged, which is named elsewhere."""
        plans = (self.part.plan, *(key for key, _ in self.part.later))
        if any(map(self.survey.is_damaged, plans)):
            return None
        return self._guarded(self.part.plan, lambda: rows_of(self.part, self.shard))

    def _guarded(self, key: str, read: Callable[[], Any], is_recorded: bool = True) -> Any:
        """What `read` returns; None if the file is damaged.

        Args:
          is_recorded: whether the file is as it was written; else a newer format is damage too.
        """
        try:
            return read()
        except CorruptShard as error:
            self._note(key, str(error))
        except NewerFormat as error:
            if is_recorded:
                raise
            self._note(key, str(error))
        return None

    def _formats(self, truth: Mapping[str, Any] | None, rows: list[LedgerRow] | None) -> list[str]:
        if truth is not None:
            return list(truth["files"])
        if rows is not None:
            return list(self.part.formats) if any(row.status == ledger.WRITTEN for row in rows) else []
        return [form for form in self.part.formats if self.sha256[_data_key(self.name, form)] is not None]

    def _is_sound(self, form: str, truth: Mapping[str, Any] | None, rows: list[LedgerRow] | None) -> bool:
        key = _data_key(self.name, form)
        if self.sha256[key] is None:
            self._note(key, MISSING)
            return False
        if truth is None:
            return self._reads_back(form, rows)
        file = truth["files"][form]
        with self.store.local(key) as path:
            size = path.stat().st_size
        if size != file["bytes"]:
            self._note(key, f"is {size} bytes long, expected {file['bytes']}")
        if self.sha256[key] != file["sha256"]:
            self._note(key, "its checksum is not the recorded one")
            return False
        return True

    def _reads_back(self, form: str, rows: list[LedgerRow] | None) -> bool:
        """Whether data of which no checksum is left hold the clips that they should."""
        key, planned = _data_key(self.name, form), self._planned()
        if planned is None and rows is None:
            return False
        expected = (
            [row.clip_id for row in planned or () if isinstance(row, PlannedRow)]
            if rows is None
            else [row.clip_id for row in rows if row.status == ledger.WRITTEN]
        )
        clip_ids = self._guarded(key, lambda: list(self._clip_ids(key, form)))
        if clip_ids is None:
            return False
        is_sound = clip_ids == expected if rows is not None else _is_part_of(clip_ids, expected)
        if not is_sound:
            self._note(key, f"holds {len(clip_ids)} clips, not the {len(expected)} that it should")
        return is_sound

    def _clip_ids(self, key: str, form: str) -> Iterator[str]:
        with self.store.local(key) as path:
            for record in SHARD_FORMATS[form].read_shard(path):
                yield record.text("example/id")


def _data_key(name: str, form: str) -> str:
    return layout.data_key(name, SHARD_FORMATS[form].SUFFIX)


def _key(row: PlanRow | LedgerRow) -> tuple[str, str, int]:
    """What tells rows apart."""
    return row.clip_id, row.annotation_file, row.annotation_line


def _is_part_of(some: list[str], every: list[str]) -> bool:
    """Whether some of a list come in its order, each once."""
    remaining = collections.deque(every)
    for each in some:
        while remaining and remaining[0] != each:
            remaining.popleft()
        if not remaining:
            return False
        remaining.popleft()
    return True


def _sha256(store: Store, key: str) -> str | None:
    """Of a file; None if it is missing or empty."""
    try:
        with store.local(key) as path:
            return sha256_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
