"""Reopening: a shard's refusals for some reasons are forgotten, so that a retry tries these rows again."""

from collections.abc import Sequence

from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.dataset import ledger
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.objects import read_object, remove_damaged, remove_objects, write_object
from kinetics_prep.dataset.part import Part, rows_of
from kinetics_prep.dataset.shards import check_same_rows
from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record


def reopen(part: Part, shard: int, reasons: tuple[str, ...]) -> int:
    """Forgets a shard's refusals for some reasons.

    A committed shard goes back to the objects it was assembled from. The marker goes last: a run
    killed here leaves either the shard or all of its objects.

    Returns:
      How many rows are to be tried again.

    Raises:
      CorruptShard: if the shard is damaged.
    """
    if part.is_committed(shard):
        return _reopen_committed(part, shard, reasons)
    return _forget_objects(part, shard, reasons)


def _forget_objects(part: Part, shard: int, reasons: tuple[str, ...]) -> int:
    paths = [part.object(row, ledger.REFUSED) for row in rows_of(part, shard)]
    remove_damaged(paths)
    forgotten = [path for path in paths if path.exists() and read_object(path)[0].reason in reasons]
    for path in forgotten:
        path.unlink()
    return len(forgotten)


def _reopen_committed(part: Part, shard: int, reasons: tuple[str, ...]) -> int:
    layout, name = part.layout, part.shard_name(shard)
    rows, ledger_rows = rows_of(part, shard), list(ledger.read(layout.ledger(name)))
    check_same_rows(name, rows, ledger_rows, "ledger row")
    count = sum(row.reason in reasons for row in ledger_rows)
    if count:
        # A killed run may have left objects, with refusals that are now to be forgotten.
        remove_objects(part, shard)
        _write_objects(part, name, rows, ledger_rows, reasons)
        layout.marker(name).unlink()
    return count


def _write_objects(
    part: Part, name: str, rows: Sequence[PlanRow], ledger_rows: Sequence[LedgerRow], reasons: tuple[str, ...]
) -> None:
    """Writes the objects that a shard was assembled from, except the refusals to forget."""
    module = SHARD_FORMATS[part.formats[0]]
    has_data = any(row.status == ledger.WRITTEN for row in ledger_rows)
    records = module.read_shard(part.layout.shard(name, module.SUFFIX)) if has_data else iter(())
    for row, ledger_row in zip(rows, ledger_rows, strict=True):
        record = next(records, None) if ledger_row.status == ledger.WRITTEN else None
        if ledger_row.status == ledger.WRITTEN:
            _check_record(name, row, record)
        if ledger_row.reason not in reasons:
            write_object(part, row, ledger_row, record.to_bytes() if record else None)


def _check_record(name: str, row: PlanRow, record: Record | None) -> None:
    held = record["example/id"] if record else "nothing"
    if held != row.clip_id:
        raise CorruptShard(f"{name} holds {held} where its ledger says {row.clip_id}")
