"""Assembly: the objects of a shard's clips -> its data in each format, its ledger, its marker.

A shard is assembled when each of its rows has an object, never before, and then its objects are
removed. Every file with its final name is complete: it was written under another name, on the same
disk, and renamed.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.dataset import ledger
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.markers import read_marker, write_marker
from kinetics_prep.dataset.objects import count_objects, find_object, read_object, remove_objects
from kinetics_prep.dataset.part import Part, ids_found_later, rows_of
from kinetics_prep.errors import RETRYABLE, CorruptShard, IncompleteShard
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import atomic_write, sha256_of


def assemble(part: Part, shard: int) -> bool:
    """Writes a shard from its clips' objects, its marker last, and removes the objects.

    Two callers may do so at once: both write the same bytes.

    Returns:
      False if the shard was complete already.

    Raises:
      IncompleteShard: if a row has no object; nothing is written then.
      CorruptShard: if an object is damaged or belongs to another row.
    """
    if part.is_search:
        return False
    if part.is_committed(shard):
        remove_objects(part, shard)
        return False
    try:
        _write_shard(part, shard)
    except (IncompleteShard, FileNotFoundError):
        if not part.is_committed(shard):  # else another caller was faster and has removed the objects
            raise
        return False
    remove_objects(part, shard)
    return True


def assemble_if_complete(part: Part, shard: int) -> bool:
    """Assembles a shard whose last clip is done, so that finished shards do not wait for the others."""
    if part.is_search or sum(count_objects(part.layout, part.name, shard).values()) < part.count_rows(shard):
        return False
    return assemble(part, shard)


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


def _write_shard(part: Part, shard: int) -> None:
    layout, name = part.layout, part.shard_name(shard)
    rows = rows_of(part, shard)
    paths = _find_objects(part, name, rows)
    ledger_rows = [read_object(path)[0] for path in paths]
    check_same_rows(name, rows, ledger_rows, "object")
    written = [path for path, row in zip(paths, ledger_rows, strict=True) if row.status == ledger.WRITTEN]
    files = {form: _write_format(part, name, form, written) for form in part.formats if written}
    ledger_path = layout.ledger(name)
    _write_ledger(part, ledger_path, ledger_rows)
    marker = {
        "version": 1,
        "split": part.split,
        "shard": shard,
        "of": part.shards,
        "recipe": part.recipe,
        "plan_sha256": part.plan_sha256,
        "rows": len(rows),
        "written": len(written),
        "refused": ledger.refusals(ledger_rows),
        "files": files,
        "ledger": layout.relative(ledger_path),
        "ledger_sha256": sha256_of(ledger_path),
    }
    write_marker(layout, name, marker)


def _find_objects(part: Part, name: str, rows: Sequence[PlanRow]) -> list[Path]:
    """The object of each row."""
    paths, missing = [], []
    for row in rows:
        path = find_object(part, row)
        if path is None:
            missing.append(row.clip_id)
        else:
            paths.append(path)
    if missing:
        raise IncompleteShard(f"{name}: {len(missing)} of {len(rows)} rows unaccounted for, such as {missing[0]}")
    return paths


def _write_format(part: Part, name: str, form: str, objects: list[Path]) -> dict:
    layout, module = part.layout, SHARD_FORMATS[form]
    path = layout.shard(name, module.SUFFIX)
    records = (_record(object_path) for object_path in objects)
    with atomic_write(path, layout.scratch) as temporary:
        offsets = module.write_shard(temporary, records)
        file = {"bytes": temporary.stat().st_size, "sha256": sha256_of(temporary)}
    return {"path": layout.relative(path), **file, "records": len(offsets), "offsets": offsets}


def _record(object_path: Path) -> Record:
    data = read_object(object_path)[1]
    if data is None:
        raise CorruptShard(f"{object_path} holds no record, and its name says that one was written")
    return Record.from_bytes(data)


def _write_ledger(part: Part, path: Path, rows: Sequence[LedgerRow]) -> None:
    with atomic_write(path, part.layout.scratch) as temporary:
        tables.write(temporary, "ledger", [[row.as_dict() for row in rows]])


def amend_ledger(part: Part, shard: int, refused_again: dict[str, LedgerRow]) -> None:
    """Brings the ledger and the marker of a committed shard up to date with a refresh.

    Rows of clips that the refresh found leave the ledger; rows that it refused again get the new
    reason. The shard's data stay as they are.

    Args:
      refused_again: by clip id.
    """
    layout, name, later = part.layout, part.shard_name(shard), ids_found_later(part)
    if not part.is_committed(shard):
        return
    marker, path = read_marker(layout.marker(name)), layout.ledger(name)
    before = list(ledger.read(path))
    rows = [_amended(row, shard, refused_again) for row in before if not (is_retryable(row) and row.clip_id in later)]
    if rows == before and marker["ledger_sha256"] == sha256_of(path):
        return
    _write_ledger(part, path, rows)
    counts = {"rows": len(rows), "refused": ledger.refusals(rows), "ledger_sha256": sha256_of(path)}
    write_marker(layout, name, marker | counts)


def is_retryable(row: LedgerRow) -> bool:
    """Whether a row may be found later. Others are written, or duplicates with the id of a clip that is."""
    return row.reason in RETRYABLE


def _amended(row: LedgerRow, shard: int, refused_again: dict[str, LedgerRow]) -> LedgerRow:
    if not is_retryable(row):
        return row
    return dataclasses.replace(refused_again.get(row.clip_id, row), shard=shard)
