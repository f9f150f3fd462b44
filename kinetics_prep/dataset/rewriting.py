"""Shards made from shards, without videos: what `convert` and `purge` share.

A record is read where the ledger and the marker say, from a file whose checksum is the marker's. A new file is read
back, and each of its records compared with the one that it was made from, before anything changes for anybody else.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from kinetics_prep.dataset import layout, ledger
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.markers import read_marker
from kinetics_prep.dataset.part import Part, rows_of
from kinetics_prep.dataset.shards import check_same_rows, write_data
from kinetics_prep.dataset.staging import Staging
from kinetics_prep.errors import CorruptShard, NoRoom
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record
from kinetics_prep.storage.files import sha256_of
from kinetics_prep.storage.folder_store import FolderStore
from kinetics_prep.storage.store import Entry, Store

_MORE_BYTES_A_CLIP = 24 << 10
_MORE_BYTES_A_FILE = 32 << 10
"""By how much a shard may be larger in another format. Of clips of 2 to 1,000 frames, Parquet was 1.5 to 11.5 KB a clip
larger than TFRecord."""

_MORE_SHARE = 0.05
"""The same where TFRecord is larger: some tens of bytes a frame, whose images have a thousand."""

_LEDGER_BYTES_A_ROW = 2 << 10
_LEDGER_BYTES = 64 << 10
"""Of a ledger and a marker, at most, but for a row's own texts."""

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the record of a written clip is."""

    shard: str
    """The name of the shard."""
    number: int
    """Of the record in it, from 0."""
    clip_id: str


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """The records of a data set in one format."""

    store: Store
    form: str
    """A name of `SHARD_FORMATS`."""
    _sound: set[str] = dataclasses.field(default_factory=set, compare=False)
    """Names of shards whose checksum was compared already."""

    def read(self, places: Iterable[Place]) -> Iterator[Record]:
        """Yields the records at some places, one at a time.

        Raises:
          CorruptShard: if a file is not as its marker says, or a record is another clip's.
        """
        for name, group in itertools.groupby(places, key=lambda place: place.shard):
            yield from self._read_shard(name, list(group))

    def _read_shard(self, name: str, places: list[Place]) -> Iterator[Record]:
        file = described_file(self.store, name, self.form)
        with contextlib.ExitStack() as stack:
            try:
                path = stack.enter_context(self.store.local(file["path"]))
            except (FileNotFoundError, NotADirectoryError):
                raise CorruptShard(f"{self.store.place}/{file['path']} is missing") from None
            self.expect_sound(name, file)
            offsets = [file["offsets"][place.number] for place in places]
            for place, record in zip(places, SHARD_FORMATS[self.form].read_places(path, offsets), strict=True):
                if (clip_id := record.text("example/id")) != place.clip_id:
                    raise CorruptShard(f"{path} holds {clip_id} where its ledger says {place.clip_id}")
                yield record

    def expect_sound(self, name: str, file: dict[str, Any]) -> None:
        """Checks that the file of a shard has the checksum that its marker says; reads each file once.

        Raises:
          CorruptShard: if it has not, or is missing.
        """
        if name not in self._sound:
            expect_sha256(self.store, file["path"], file["sha256"])
            self._sound.add(name)


def described_file(store: Store, name: str, form: str) -> dict[str, Any]:
    """What the marker of a shard says of its file in one format.

    Raises:
      CorruptShard: if it does not say where each clip is.
    """
    marker = marker_of(store, name)
    file, key = marker["files"].get(form, {}), layout.data_key(name, form)
    is_known = form in SHARD_FORMATS and file.get("path") == key
    if not is_known or len(file.get("offsets", ())) != marker["written"]:
        raise CorruptShard(f"{store.place}/{layout.marker_key(name)} does not say where {form} holds its clips")
    return file


def marker_of(store: Store, name: str) -> dict[str, Any]:
    """The marker of a shard that should have one.

    Raises:
      CorruptShard: if it is missing or damaged.
    """
    try:
        return read_marker(store, name)
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptShard(f"{store.place}/{layout.marker_key(name)} is missing") from None


def read_rows(part: Part, shard: int, marker: dict[str, Any]) -> list[LedgerRow]:
    """The ledger rows of a shard, checked against its marker and its plan.

    Raises:
      CorruptShard: if they are not as written.
    """
    name = part.shard_name(shard)
    key = layout.ledger_key(name)
    expect_sha256(part.store, key, marker["ledger_sha256"])
    rows = list(ledger.read(part.store, key))
    check_same_rows(name, rows_of(part, shard), rows, "ledger row")
    written = sum(row.status == ledger.WRITTEN for row in rows)
    if written != marker["written"]:
        raise CorruptShard(f"{part.store.place}/{key} has {written} rows written, its marker says {marker['written']}")
    return rows


def places_of(name: str, rows: Iterable[LedgerRow]) -> list[Place | None]:
    """Where the record of each row of a shard is; None for a row that was refused.

    Args:
      name: of the shard.
      rows: all of its ledger, in order.
    """
    numbers = itertools.count()
    return [Place(name, next(numbers), row.clip_id) if row.status == ledger.WRITTEN else None for row in rows]


def expect_sha256(store: Store, key: str, sha256: str) -> None:
    """Checks that a file is as it was written.

    Raises:
      CorruptShard: if it is missing or damaged.
    """
    try:
        with store.local(key) as path:
            found = sha256_of(path)
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptShard(f"{store.place}/{key} is missing") from None
    if found != sha256:
        raise CorruptShard(f"{store.place}/{key} is damaged: its checksum is not the recorded one")


def write_verified(new: Staging, name: str, form: str, records: Iterable[Record]) -> dict[str, Any]:
    """Writes the data of a new shard in one format and reads it back; returns what a marker says of the file.

    Raises:
      CorruptShard: if a record does not read back as it was.
    """
    digests: list[bytes] = []
    file = write_data(new, name, form, _noting_digests(records, digests))
    with new.local(file["path"]) as path:
        there = map(_digest, SHARD_FORMATS[form].read_shard(path))
        if any(one != other for one, other in itertools.zip_longest(there, digests)):
            raise CorruptShard(f"{path} does not read back as it was written")
    return file


def _noting_digests(records: Iterable[Record], digests: list[bytes]) -> Iterator[Record]:
    for record in records:
        digests.append(_digest(record))
        yield record


def _digest(record: Record) -> bytes:
    return hashlib.sha256(record.to_bytes()).digest()


def is_built(waiting: dict[str, Entry], name: str, new: Staging) -> bool:
    """Whether a killed run has built a new shard, all of it: its marker, which is written last, and what it names.

    Args:
      waiting: what waits for its place.
    """
    if layout.marker_key(name) not in waiting:
        return False
    try:
        files = _files(new, name)
    except CorruptShard:
        return False
    try:
        kept = {file for file in _files(new.store, name) if file.key not in new.gone}
    except (FileNotFoundError, CorruptShard):
        kept = set()
    return all(file in kept or (file.key in waiting and waiting[file.key].bytes == file.bytes) for file in files)


@dataclasses.dataclass(frozen=True)
class _File:
    """A file that a marker names."""

    key: str
    bytes: int | None
    sha256: str


def _files(store: Store, name: str) -> list[_File]:
    marker = read_marker(store, name)
    data = [_File(file["path"], file["bytes"], file["sha256"]) for file in marker["files"].values()]
    return [*data, _File(marker["ledger"], marker.get("ledger_bytes"), marker["ledger_sha256"])]


def at_most(file: dict[str, Any], clips: int) -> int:
    """How many bytes the clips of a file need at most in any format."""
    return int(file["bytes"] * (1 + _MORE_SHARE)) + clips * _MORE_BYTES_A_CLIP + _MORE_BYTES_A_FILE


def ledger_at_most(rows: int, shards: int) -> int:
    """How many bytes ledgers and markers need at most."""
    return rows * _LEDGER_BYTES_A_ROW + shards * _LEDGER_BYTES


def free_bytes(store: Store) -> int | None:
    """What is free where a store is; None if it has no such limit."""
    return shutil.disk_usage(store.root).free if isinstance(store, FolderStore) else None


def expect_room(store: Store, needed: int, free: int | None) -> None:
    """Checks that new files fit before any is written.

    Raises:
      NoRoom: if they may not.
    """
    if free is not None and needed > free:
        raise NoRoom(
            f"{store.place}: new files may need {needed:,} bytes beside those that are there, and {free:,} are free. "
            "Nothing was changed: make room and give the same command again"
        )


@contextlib.contextmanager
def naming_repair(store: Store) -> Iterator[None]:
    """Has the message of a `CorruptShard` say which command helps."""
    try:
        yield
    except CorruptShard as error:
        raise CorruptShard(
            f"{error}. Nothing was changed: `kinetics-prep validate {store.place}` names all that is damaged, "
            f"`kinetics-prep repair {store.place}` mends it"
        ) from None


def in_threads(workers: int, call: Callable[[_T], None], elements: Iterable[_T]) -> None:
    """Calls a function on each element, at most two elements a thread in flight. The first error stops it."""
    with concurrent.futures.ThreadPoolExecutor(workers, "shard") as pool:
        running: set[concurrent.futures.Future[None]] = set()
        try:
            for element in elements:
                running.add(pool.submit(call, element))
                if len(running) >= 2 * workers:
                    done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                    for future in done:
                        future.result()
            for future in running:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
