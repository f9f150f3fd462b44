"""Taking videos and clips out of a data set for good: out of its shards, its ledgers, its unfinished work.

    with open_purge(output, lines, "their owner asked for it") as purge:
        purge.carry_out()

Rows stay, refused with the reason `purged`; plans never change. purged.json keeps the ids, so that no run prepares
their clips again, also of splits that are planned later. The other clips of a shard keep their bytes and their order.

All new files are built first, see `replace.py`. A run that was killed meanwhile goes on with those that it has built.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kinetics_prep.annotations.annotation import breaks_lines
from kinetics_prep.dataset import documents, door, layout, ledger, manifest, markers, plan, purged, recipe_file, replace
from kinetics_prep.dataset.door import OpenFolder, open_for_writing
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.markers import committed_shards
from kinetics_prep.dataset.part import Part, list_parts
from kinetics_prep.dataset.purged import Purged
from kinetics_prep.dataset.rewriting import (
    RecordSource,
    at_most,
    described_file,
    expect_room,
    free_bytes,
    in_threads,
    is_built,
    ledger_at_most,
    marker_of,
    naming_repair,
    places_of,
    read_rows,
    write_verified,
)
from kinetics_prep.dataset.staging import Staging, staged
from kinetics_prep.errors import BadOption
from kinetics_prep.errors import Purged as PurgedClip
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.storage.files import reporting_full_disk
from kinetics_prep.storage.store import Store

LONGEST_REASON = 1000
"""Characters. It goes into each ledger row."""

_KEPT = (
    *("clip_id", "media_id", "label", "split", "start_seconds", "end_seconds", "annotation_file", "annotation_line"),
    *("shard", "engine", "recipe", "versions", "fingerprint"),
)
"""What a ledger row still says of a clip that was taken out: what the annotations say, and what made the row."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be taken out, and why."""

    lines: tuple[str, ...]
    """Each an id of a video or a clip, perhaps with other words behind it."""
    because: str

    def __post_init__(self) -> None:
        because = self.because.strip()
        if not because or breaks_lines(because) or len(because) > LONGEST_REASON:
            raise BadOption(
                f"--because is {self.because!r:.100}, expected why the clips go, on one line of {LONGEST_REASON} "
                "characters at most: it goes into the ledger"
            )
        object.__setattr__(self, "because", because)

    def as_change(self) -> dict[str, Any]:
        """How the folder's state notes it."""
        digest = hashlib.sha256(json.dumps(sorted(set(self.lines))).encode()).hexdigest()
        return {"kind": "purge", "ids_sha256": digest, "because": self.because}


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a purge came to."""

    clips: int
    """Written ones that were taken out."""
    shards: int
    """Those that they were in."""
    refused: int
    """Rows that were refused for another reason."""
    ids: int
    unknown: int
    """Ids that are in no row."""
    is_new: bool
    """Whether there was anything to do."""


@contextlib.contextmanager
def open_purge(output: Path, request: Request) -> Iterator["Purge"]:
    """Opens a folder to take clips out of it; nothing is written to it yet but its state.

    Raises:
      BadOption: if nothing was begun there.
      FolderInUse: if another run writes to it.
      CorruptShard: if it is damaged.
    """
    with reporting_full_disk(output), open_for_writing(output, change=request.as_change()) as folder:
        door.admit(folder, "purge")
        with naming_repair(folder.store):
            purge = _plan_purge(folder, request)
        yield purge


def _plan_purge(folder: OpenFolder, request: Request) -> "Purge":
    store, recipe = folder.store, recipe_file.read(folder.store)
    parts = list_parts(store, folder.state, recipe) if recipe is not None else []
    ids, known = _choose_ids(request.lines, parts)
    before = purged.read(store)
    after = Purged({**dict.fromkeys(ids, request.because), **before.because})
    committed, rows = committed_shards(store), _Counts()
    shards = [
        (part, shard)
        for part in parts
        for shard in range(part.shards)
        if part.shard_name(shard) in committed and _count_rows(part, shard, after, rows)
    ]
    deletes = frozenset((*_unfinished(store, parts, committed, after), *rows.deletes))
    needed = max(0, rows.needed - sum(entry.bytes for entry in staged(store).values()))
    summary = Summary(
        rows.written,
        rows.shards,
        rows.refused,
        len(ids),
        len(ids) - known,
        is_new=bool(shards or deletes) or after != before,
    )
    return Purge(folder, tuple(parts), before, after, tuple(shards), deletes, needed, rows.written, summary)


# Which rows ------------------------------------------------------------------------------------


def _choose_ids(lines: Sequence[str], parts: Sequence[Part]) -> tuple[list[str], int]:
    """The ids that lines name, and how many of them are in a row of a plan.

    A line is an id with what follows it, which is not read; or all of it is the id, if a row has that one: ids may hold
    spaces.
    """
    candidates = {*lines, *(line.split()[0] for line in lines)}
    known = set[str]()
    for part in parts:
        for row in plan.read(part.store, part.plan) if not part.refresh else ():
            known |= {row.media_id or "", row.clip_id} & candidates
    ids = list(dict.fromkeys(line if line in known else line.split()[0] for line in lines))
    return ids, sum(each in known for each in ids)


@dataclasses.dataclass
class _Counts:
    """Rows to be changed."""

    written: int = 0
    shards: int = 0
    """That lose a written clip."""
    refused: int = 0
    needed: int = 0
    """Bytes of new files, at most."""
    deletes: list[str] = dataclasses.field(default_factory=list)
    """Files of shards that lose all clips."""


def _count_rows(part: Part, shard: int, after: Purged, counts: _Counts) -> bool:
    """Takes a committed shard into account; returns whether a row of it is to be changed."""
    name = part.shard_name(shard)
    columns = ("clip_id", "media_id", "status", "reason", "message")
    rows = [*ledger.read_columns(part.store, layout.ledger_key(name), *columns)]
    chosen = [row for row in rows if _is_to_change(after.reason_of(row["media_id"], row["clip_id"]), **row)]
    written = sum(row["status"] == ledger.WRITTEN for row in chosen)
    counts.refused += sum(row["reason"] not in (None, PurgedClip.reason) for row in chosen)
    counts.needed += ledger_at_most(len(rows), 1) if chosen else 0
    if written:
        counts.written += written
        counts.shards += 1
        _count_files(part.store, name, written, counts)
    return bool(chosen)


def _is_to_change(because: str | None, reason: str | None, message: str | None, **others: object) -> bool:
    return because is not None and (reason != PurgedClip.reason or message != because)


def _count_files(store: Store, name: str, written: int, counts: _Counts) -> None:
    marker = marker_of(store, name)
    for form in marker["files"]:
        file = described_file(store, name, form)
        if written == marker["written"]:
            counts.deletes.append(file["path"])
        else:
            counts.needed += at_most(file, marker["written"] - written)


def _unfinished(store: Store, parts: Sequence[Part], committed: frozenset[str], after: Purged) -> set[str]:
    """The keys of what is there of purged clips beside committed shards.

    It is objects, and files of shards that a killed run wrote and did not commit. Both are made again.
    """
    folders = (f"{layout.WORK}/objects/", "ledger/", *(f"{module.SUFFIX}/" for module in SHARD_FORMATS.values()))
    there = {entry.key for folder in folders for entry in store.list(folder)}
    keys = set[str]()
    for part in parts:
        for row in plan.read(part.store, part.plan):
            if after.reason_for(row) is not None:
                keys.add(part.object_key(row))
                name = part.shard_name(row.shard)
                keys.update(_files_of(name) if name not in committed else ())
    return keys & there


def _files_of(name: str) -> Iterator[str]:
    yield layout.ledger_key(name)
    for module in SHARD_FORMATS.values():
        yield layout.data_key(name, module.SUFFIX)


# Taking them out -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Purge:
    """A folder that clips are taken out of."""

    folder: OpenFolder
    parts: tuple[Part, ...]
    before: Purged
    after: Purged
    shards: tuple[tuple[Part, int], ...]
    """Those with a row that changes."""
    deletes: frozenset[str]
    """Keys of files and objects that go."""
    needed: int
    """Bytes that new files need at most, beside those that a killed run has built."""
    clips: int
    """Written ones that go."""
    summary: Summary

    @property
    def store(self) -> Store:
        """The folder."""
        return self.folder.store

    @property
    def free(self) -> int | None:
        """Bytes that are free on the folder's disk; None if there is no such limit."""
        return free_bytes(self.store)

    def carry_out(self, workers: int = 1, done: Callable[[int], None] = lambda clips: None) -> Summary:
        """Builds the new files, then has all of them take their places.

        Args:
          workers: shards at a time.
          done: called with the number of clips taken out of each shard.

        Raises:
          NoRoom: if the disk has not enough free.
          CorruptShard: if something that is read is damaged; nothing has changed then.
        """
        expect_room(self.store, self.needed, self.free)
        _delete_downloads(self.store)
        new, new_state = Staging(self.store, self.deletes), dataclasses.replace(self.folder.state, change=None)
        with naming_repair(self.store):
            self._build(new, workers, done)
            content = self._describe(new)
        if self._changes(content):
            moves = list(staged(self.store))
            self.folder.state = replace.commit(self.store, self.folder.state, new_state, moves, self.deletes)
            self.folder.state = replace.finish(self.store)
        else:
            replace.clear(self.store)
            self.folder.save(new_state)
        return self.summary

    def _build(self, new: Staging, workers: int, done: Callable[[int], None]) -> None:
        waiting = staged(self.store)
        sources = {form: RecordSource(self.store, form) for form in SHARD_FORMATS}

        def build(element: tuple[Part, int]) -> None:
            part, shard = element
            before = marker_of(self.store, part.shard_name(shard))
            if not is_built(waiting, part.shard_name(shard), new):
                self._build_shard(new, part, shard, before, sources)
            done(before["written"] - marker_of(new, part.shard_name(shard))["written"])

        in_threads(workers, build, self.shards)
        if self.after != self.before:
            purged.write(new, self.after)

    def _build_shard(
        self, new: Staging, part: Part, shard: int, marker: dict[str, Any], sources: dict[str, RecordSource]
    ) -> None:
        name, rows = part.shard_name(shard), read_rows(part, shard, marker)
        reasons = [self.after.reason_of(row.media_id, row.clip_id) for row in rows]
        places = places_of(name, rows)
        kept = [place for place, because in zip(places, reasons, strict=True) if place and because is None]
        files = marker["files"]
        if len(kept) < marker["written"]:
            files = {form: file for form, file in files.items() if kept}
            files = {form: write_verified(new, name, form, sources[form].read(kept)) for form in files}
        after = [_purged_row(row, because) for row, because in zip(rows, reasons, strict=True)]
        counts = {"rows": len(after), "written": len(kept), "refused": ledger.refusals(after), "files": files}
        description = ledger.write(new, layout.ledger_key(name), after)
        markers.replace_marker(new, name, marker | counts | description | {"version": documents.VERSION})

    def _describe(self, new: Staging) -> dict[str, Any] | None:
        """The new manifest; None if there is none yet."""
        if not self.parts:
            return None
        content = manifest.build(new, self.folder.state)
        if not content["splits"]:
            return None
        documents.write(new, layout.MANIFEST, content)
        return content

    def _changes(self, content: dict[str, Any] | None) -> bool:
        """Whether anything in the folder is not yet as it should be."""
        if self.shards or self.deletes or self.after != self.before:
            return True
        try:
            return content is not None and self.store.read(layout.MANIFEST) != documents.encode(content)
        except (FileNotFoundError, NotADirectoryError):
            return True


def _purged_row(row: LedgerRow, because: str | None) -> LedgerRow:
    """A row without what is known of its video, if its clip is purged."""
    if because is None:
        return row
    kept = {name: getattr(row, name) for name in _KEPT}
    return LedgerRow(**kept, status=ledger.REFUSED, reason=PurgedClip.reason, message=because)


def _delete_downloads(store: Store) -> None:
    """Deletes videos that killed runs have downloaded and not deleted. No run goes on: this one holds the lease."""
    for entry in list(store.list(f"{layout.WORK}/")):
        if entry.key.startswith(f"{layout.WORK}/videos-"):
            store.delete(entry.key)
