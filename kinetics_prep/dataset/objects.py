"""Clip objects: what became of a row, as a file of its own until its shard is written.

A clip is the unit of work. When it is done, its ledger row and its record, if there is one, are
written to one file, whose name says the status. A shard is assembled from these files when each of
its rows has one.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.dataset import ledger
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.part import Part
from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import tfrecord
from kinetics_prep.storage.files import atomic_write


def write_object(part: Part, row: PlanRow, ledger_row: LedgerRow, record: bytes | None) -> None:
    """Writes a clip's object: its ledger row, and its record if it has one.

    It is not forced to disk: after a power cut its checksums tell, and the clip is done again.
    """
    payloads = [json.dumps(ledger_row.as_dict()).encode()] + ([record] if record is not None else [])
    with atomic_write(part.object(row, ledger_row.status), part.layout.scratch, durable=False) as temporary:
        tfrecord.write_bytes(temporary, payloads)


def read_object(path: Path) -> tuple[LedgerRow, bytes | None]:
    """Reads a clip's object.

    Raises:
      FileNotFoundError: if there is none.
      CorruptShard: if it is damaged.
    """
    payloads = list(tfrecord.read_bytes(path))
    try:
        ledger_row = LedgerRow(**json.loads(payloads[0]))
    except (IndexError, ValueError, TypeError) as error:  # TypeError: of a version with other ledger columns
        raise CorruptShard(f"{path} is not the object of a clip: {error!r}") from None
    return ledger_row, payloads[1] if len(payloads) > 1 else None


def find_object(part: Part, row: PlanRow) -> Path | None:
    """The object of a row, of whichever status; None if there is none.

    Two workers that did the same row may have come to two statuses; the written one counts.
    """
    paths = (part.object(row, status) for status in ledger.STATUSES)
    return next((path for path in paths if path.exists()), None)


def missing_rows(part: Part, rows: Iterable[PlanRow]) -> list[PlanRow]:
    """Those of some rows that have no object."""
    return [row for row in rows if find_object(part, row) is None]


def count_objects(layout: Layout, part: str, shard: int) -> dict[str, int]:
    """How many of a shard's rows have an object, by status. Reads names only."""
    names: list[tuple[str, str, str]] = []
    with contextlib.suppress(FileNotFoundError):
        names = [entry.name.rpartition(".") for entry in os.scandir(layout.objects(part, shard))]
    indices = {status: {index for index, _, suffix in names if suffix == status} for status in ledger.STATUSES}
    written = indices[ledger.WRITTEN]
    return {ledger.WRITTEN: len(written), ledger.REFUSED: len(indices[ledger.REFUSED] - written)}


def remove_damaged(paths: Iterable[Path]) -> None:
    """Removes objects that do not read back, so that their rows are done again. Skips paths without a file."""
    for path in paths:
        if _is_damaged(path):
            path.unlink(missing_ok=True)


def _is_damaged(path: Path) -> bool:
    try:
        read_object(path)
    except FileNotFoundError:  # none was written, or another worker assembled the shard
        return False
    except CorruptShard:
        return True
    return False


def remove_objects(part: Part, shard: int) -> None:
    """Removes the objects of a shard."""
    shutil.rmtree(part.layout.objects(part.name, shard), ignore_errors=True)
