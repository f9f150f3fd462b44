"""Assembly: the objects of a shard's clips -> its data in each format, its ledger, its marker.

A shard is assembled when each of its rows has an object, never before, and then its objects are removed. It is made
from them alone, so whoever assembles it writes the same bytes, and its marker is created last. A committed shard is
never written anew; only its ledger changes, where a later search found one of its rows or refused it again.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.dataset import documents, layout, ledger, markers
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.objects import existing_objects, read_ledger_row, read_object, remove_objects
from kinetics_prep.dataset.part import Part, found_later, rows_of
from kinetics_prep.errors import RETRYABLE, CorruptShard, IncompleteShard
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record
from kinetics_prep.storage.files import sha256_of
from kinetics_prep.storage.store import Store


def assemble(part: Part, shard: int) -> bool:
    """Writes a shard from its clips' objects, its marker last, and removes the objects.

    Several callers may do so at once: all write the same bytes.

    Returns:
      False if the shard was complete already.

    Raises:
      IncompleteShard: if a row has no object; nothing is written then.
      CorruptShard: if an object is damaged or belongs to another row.
    """
    if part.search:
        return False
    try:
        is_mine = not part.is_committed(shard) and _write_shard(part, shard)
    except (IncompleteShard, FileNotFoundError):
        if not part.is_committed(shard):  # else another caller was faster and has removed the objects
            raise
        is_mine = False
    if part.is_committed(shard):  # its marker may still be a name that another caller has only reserved
        remove_objects(part.store, part.objects_prefix(shard))
    return is_mine


def assemble_if_complete(part: Part, shard: int) -> bool:
    """Assembles a shard whose last clip is done, so that finished shards do not wait for the others."""
    if part.search or len(existing_objects(part, shard)) < part.count_rows(shard):
        return False
    return assemble(part, shard)


def _write_shard(part: Part, shard: int) -> bool:
    rows = rows_of(part, shard)
    keys, there = [part.object_key(row) for row in rows], existing_objects(part, shard)
    missing = [row.clip_id for row, key in zip(rows, keys, strict=True) if key not in there]
    if missing:
        name = part.shard_name(shard)
        raise IncompleteShard(f"{name}: {len(missing)} of {len(rows)} rows unaccounted for, such as {missing[0]}")
    return commit_shard(part, shard, rows, keys)


def commit_shard(part: Part, shard: int, rows: Sequence[PlanRow], keys: Sequence[str]) -> bool:
    """Writes a shard from the objects of its rows, and its marker last. Returns False if it was committed meanwhile.

    Args:
      rows: in order.
      keys: the object of each; those of clips found by a search are filed under that search.

    Raises:
      FileNotFoundError: if an object is missing.
      CorruptShard: if an object is damaged or belongs to another row.
    """
    store, name = part.store, part.shard_name(shard)
    ledger_rows = [dataclasses.replace(read_ledger_row(store, key), shard=shard) for key in keys]
    check_same_rows(name, rows, ledger_rows, "object")
    written = [key for key, row in zip(keys, ledger_rows, strict=True) if row.status == ledger.WRITTEN]
    files = {form: _write_format(part, name, form, written) for form in part.formats if written}
    description = ledger.write(store, layout.ledger_key(name), ledger_rows)
    return markers.create_marker(store, name, describe(part, shard, ledger_rows, files) | description)


def describe(
    part: Part, shard: int, ledger_rows: Sequence[LedgerRow], files: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What the marker of a shard says, but for its ledger's file.

    Args:
      files: by format, as `dataset.json` describes them.
    """
    return {
        "version": documents.VERSION,
        "split": part.split,
        "shard": shard,
        "of": part.shards,
        "recipe": part.recipe,
        "plan_sha256": part.plan_sha256,
        "rows": len(ledger_rows),
        "written": sum(row.status == ledger.WRITTEN for row in ledger_rows),
        "refused": ledger.refusals(ledger_rows),
        "files": files,
    }


def check_same_rows(name: str, rows: Sequence[PlanRow], ledger_rows: Sequence[LedgerRow], what: str) -> None:
    """Checks that ledger rows are those of plan rows, in the same order.

    Args:
      name: of the shard, for the message.
      what: where the ledger rows are from: "object" or "ledger row".

    Raises:
      CorruptShard: if there are more or fewer of them, or one is another row's; the message names both.
    """
    if len(rows) != len(ledger_rows):
        raise CorruptShard(f"{name}: {len(rows)} rows are planned, and its ledger has {len(ledger_rows)}")
    for row, ledger_row in zip(rows, ledger_rows, strict=True):
        if (row.clip_id, row.annotation_line) != (ledger_row.clip_id, ledger_row.annotation_line):
            advice = "; remove .work and run again" if what == "object" else ""
            raise CorruptShard(f"{name}: the {what} of {row.clip_id} holds {ledger_row.clip_id}{advice}")


def _write_format(part: Part, name: str, form: str, keys: Sequence[str]) -> dict[str, Any]:
    return write_data(part.store, name, form, (_record(part.store, key) for key in keys))


def write_data(store: Store, name: str, form: str, records: Iterable[Record]) -> dict[str, Any]:
    """Writes the data of a shard in one format, or replaces them; returns what a marker says of the file."""
    module = SHARD_FORMATS[form]
    key = layout.data_key(name, module.SUFFIX)
    with store.temporary(f"{name}.{module.SUFFIX}") as path:
        offsets = module.write_shard(path, records)
        file = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        store.put(key, path)
    return {"path": key, **file, "records": len(offsets), "offsets": offsets}


def _record(store: Store, key: str) -> Record:
    data = read_object(store, key)[1]
    if data is None:
        raise CorruptShard(f"{store.place}/{key} holds no record, and its ledger row says that one was written")
    return Record.from_bytes(data)


def amend_ledger(part: Part, shard: int, refused_again: Mapping[str, LedgerRow]) -> None:
    """Brings the ledger and the marker of a committed shard up to date with a search. Its data stay as they are.

    Rows of clips that were found leave the ledger; rows that were refused again get the new reason.

    Args:
      refused_again: by clip id.
    """
    store, name, later = part.store, part.shard_name(shard), found_later(part)
    key = layout.ledger_key(name)
    before = list(ledger.read(store, key))
    rows = [_amended(row, shard, refused_again) for row in before if not (is_retryable(row) and row.clip_id in later)]
    marker = markers.read_marker(store, name)
    # The ledger may have been written by a run that was killed before it wrote the marker.
    if rows != before or _sha256(store, key) != marker["ledger_sha256"]:
        description = ledger.write(store, key, rows)
        counts = {"rows": len(rows), "refused": ledger.refusals(rows), "version": documents.VERSION}
        markers.replace_marker(store, name, marker | counts | description)


def _sha256(store: Store, key: str) -> str:
    with store.local(key) as path:
        return sha256_of(path)


def is_retryable(row: LedgerRow) -> bool:
    """Whether a row may be found later. Others are written, or duplicates with the id of a clip that is."""
    return row.reason in RETRYABLE


def _amended(row: LedgerRow, shard: int, refused_again: Mapping[str, LedgerRow]) -> LedgerRow:
    if not is_retryable(row):
        return row
    return dataclasses.replace(refused_again.get(row.clip_id, row), shard=shard)
