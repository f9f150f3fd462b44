"""Clip objects: what became of a row, as an object of its own until its shard is written.

A clip is the unit of work. When it is done, its ledger row and its record, if there is one, are written as one object.
It is created, never replaced: whoever comes second, with whatever outcome, throws its own away. So each row has one
outcome, and a shard is a function of objects that do not change.
"""

import itertools
import json
from collections.abc import Iterable, Iterator

from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.dataset import layout, ledger
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.part import Part
from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import tfrecord
from kinetics_prep.storage.store import Store


def create_object(part: Part, row: PlanRow, ledger_row: LedgerRow, record: bytes | None) -> bool:
    """Writes a clip's object: its ledger row, and its record if it has one. Returns False if the row had an object."""
    key = part.object_key(row)
    is_mine = part.store.create(key, encode(ledger_row, record))
    if is_mine and part.is_committed(row.shard):  # it was assembled meanwhile, from the objects of others
        part.store.delete(key)
    return is_mine


def encode(ledger_row: LedgerRow, record: bytes | None) -> bytes:
    """The content of an object."""
    payloads = [json.dumps(ledger_row.as_dict()).encode()] + ([record] if record is not None else [])
    return b"".join(map(tfrecord.pack, payloads))


def read_object(store: Store, key: str) -> tuple[LedgerRow, bytes | None]:
    """Reads a clip's object.

    Raises:
      FileNotFoundError: if there is none.
      CorruptShard: if it is damaged.
    """
    with store.local(key) as path:
        payloads = list(tfrecord.read_bytes(path))
    ledger_row = _ledger_row(store, key, payloads)
    records, status = len(payloads) - 1, ledger_row.status
    if records != (1 if status == ledger.WRITTEN else 0):
        raise CorruptShard(f"{store.place}/{key} holds {records} records of a clip that is {status}")
    return ledger_row, payloads[1] if len(payloads) > 1 else None


def read_ledger_row(store: Store, key: str) -> LedgerRow:
    """Reads the ledger row of a clip's object; of its record only whether there is one.

    Raises:
      FileNotFoundError: if there is none.
      CorruptShard: if it is damaged.
    """
    with store.local(key) as path:
        payloads = list(itertools.islice(tfrecord.read_bytes(path), 1))
        ledger_row = _ledger_row(store, key, payloads)
        has_record = path.stat().st_size > len(tfrecord.pack(payloads[0]))
    if has_record != (ledger_row.status == ledger.WRITTEN):
        there = "a" if has_record else "no"
        raise CorruptShard(f"{store.place}/{key} holds {there} record of a clip that is {ledger_row.status}")
    return ledger_row


def _ledger_row(store: Store, key: str, payloads: list[bytes]) -> LedgerRow:
    try:
        return LedgerRow.from_cells(json.loads(payloads[0]))
    except (IndexError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptShard(f"{store.place}/{key} is not the object of a clip: {error!r:.200}") from None


def list_objects(store: Store, epoch: int) -> Iterator[tuple[str, str]]:
    """(prefix of the shard's objects, key) of every object of an epoch, by one listing."""
    for entry in store.list(layout.objects_prefix(epoch)):
        if entry.bytes:
            yield entry.key.rpartition("/")[0] + "/", entry.key


def has_object(part: Part, row: PlanRow) -> bool:
    """Whether a row has an object, of whatever outcome."""
    try:
        with part.store.local(part.object_key(row)):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def existing_objects(part: Part, shard: int) -> frozenset[str]:
    """The keys of a shard's objects, by one listing."""
    return frozenset(entry.key for entry in part.store.list(part.objects_prefix(shard)) if entry.bytes)


def remove_damaged(store: Store, keys: Iterable[str]) -> frozenset[str]:
    """Removes objects that do not read back, so that their rows are done again. Returns the keys of the sound ones."""
    sound = set()
    for key in keys:
        try:
            read_object(store, key)
            sound.add(key)
        except FileNotFoundError:  # another worker assembled the shard
            pass
        except CorruptShard:
            store.delete(key)
    return frozenset(sound)


def remove_objects(store: Store, prefix: str) -> None:
    """Removes all objects below a prefix."""
    for entry in list(store.list(prefix)):
        store.delete(entry.key)
