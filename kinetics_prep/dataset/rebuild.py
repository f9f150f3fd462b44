"""Damaged files of a prepared folder, made anew from those that are sound. Nothing is written here."""

import collections
import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlannedRow, PlanRow, RefusedRow, annotation_columns
from kinetics_prep.dataset import layout, ledger
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.part import Part
from kinetics_prep.dataset.plan import PlanDigest
from kinetics_prep.dataset.purged import Purged
from kinetics_prep.dataset.survey import Survey, hex_digests, planned_labels, sha256_of_bytes
from kinetics_prep.errors import BY_REASON, RETRYABLE, CorruptShard, DuplicateRow
from kinetics_prep.errors import Purged as PurgedError
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record

REBUILT = "this row was rebuilt from the record"
"""In the notes of a ledger row."""

_BY_THE_PLAN = frozenset(BY_REASON) - {*RETRYABLE, PurgedError.reason}
"""Reasons for which a row is refused while planning."""


# labels.txt -------------------------------------------------------------------------------------


def label_map(survey: Survey) -> LabelMap:
    """The label map of a folder, from its plans, and from its records where a plan is damaged.

    Raises:
      CorruptShard: if a class id is unknown, or the map is not the recorded one.
    """
    sound = [name for name in survey.state.plans if not survey.is_damaged(layout.plan_key(name))]
    labels = planned_labels(survey.store, sound)
    recorded = hex_digests(survey.store, layout.MANIFEST)
    found = _as_recorded(labels, recorded)
    if found is None and len(sound) < len(survey.state.plans):
        labels |= _labels_of_records(survey)
        found = _as_recorded(labels, recorded)
    if found is None:
        raise CorruptShard(f"cannot be made from the {len(labels)} labels of the plans: {_why_not(labels, recorded)}")
    return found


def _why_not(labels: Mapping[int, str], recorded: frozenset[str]) -> str:
    unknown = sorted(set(range(max(labels, default=0) + 1)) - labels.keys())
    if unknown:
        return f"they do not tell the label of class id {unknown[0]}"
    return "the file had others too" if recorded else "no checksum of the file is left"


def _as_recorded(labels: Mapping[int, str], recorded: frozenset[str]) -> LabelMap | None:
    """The label map, if its text has a sha256 that dataset.json names."""
    if sorted(labels) != list(range(len(labels))) or len(set(labels.values())) < len(labels):
        return None
    found = LabelMap(tuple(labels[class_id] for class_id in range(len(labels))))
    return found if sha256_of_bytes(found.text().encode()) in recorded else None


def _labels_of_records(survey: Survey) -> dict[int, str]:
    labels = {}
    for record in _every_record(survey):
        class_id, label = record.get("clip/label/index"), record.get("clip/label/text")
        if isinstance(class_id, int) and isinstance(label, str):
            labels[class_id] = label
    return labels


def _every_record(survey: Survey) -> Iterator[Record]:
    """The records of the data in one format, as far as files read back."""
    module = SHARD_FORMATS[survey.recipe.formats[0]]
    for entry in survey.store.list(f"{module.SUFFIX}/"):
        with contextlib.suppress(CorruptShard, FileNotFoundError), survey.store.local(entry.key) as path:
            yield from module.read_shard(path)


# Plans ------------------------------------------------------------------------------------------


def plan_rows(survey: Survey, part: Part) -> list[PlanRow]:
    """The rows of a plan, from the ledgers of its part and of the searches that found some of its rows.

    Raises:
      CorruptShard: if a ledger or the label map is damaged, or the rows are not the recorded ones.
    """
    if survey.labels is None:
        raise CorruptShard(f"{layout.LABELS} is damaged, which gives the class ids")
    parts = [each for each in survey.parts if each.split == part.split and each.refresh >= part.refresh]
    of_parts = [list(_ledger_rows(each)) for each in parts]
    found = {row.clip_id for rows in of_parts[1:] for row in rows}
    staying = [row for row in of_parts[0] if row.reason not in RETRYABLE or row.clip_id not in found]
    every = [*staying, *(row for rows in of_parts[1:] for row in rows)]
    for ledger_rows in (of_parts[0], _in_order(every)):
        rows = list(_planned(ledger_rows, part.clips_per_shard, survey.labels))
        if _digest(rows) == part.plan_sha256:
            return rows
    raise CorruptShard(f"the {len(every)} rows of the ledgers are not those that were planned")


def _ledger_rows(part: Part) -> Iterator[LedgerRow]:
    for shard in range(part.shards):
        yield from ledger.read(part.store, layout.ledger_key(part.shard_name(shard)))


def _in_order(rows: Iterable[LedgerRow]) -> list[LedgerRow]:
    """Rows in the order of a first plan, see `annotations/row_store.py`; a duplicate comes after what it repeats."""
    unique = {(row.clip_id, row.annotation_file, row.annotation_line): row for row in rows}
    return sorted(unique.values(), key=lambda row: (_sha256(row.clip_id), row.reason == DuplicateRow.reason))


def _sha256(clip_id: str) -> bytes:
    return hashlib.sha256(clip_id.encode("utf-8", "surrogatepass")).digest()


def _planned(rows: Sequence[LedgerRow], clips_per_shard: int, labels: LabelMap) -> Iterator[PlanRow]:
    clip_ids: set[str] = set()
    for position, row in enumerate(rows):
        shard, index = divmod(position, clips_per_shard)
        columns: dict[str, Any] = annotation_columns(row)  # type: ignore[arg-type]  # it has the same columns
        columns["label_index"] = labels.index(row.label) if row.label is not None and row.label in labels else None
        reason = row.reason if row.reason in _BY_THE_PLAN else None
        if row.clip_id in clip_ids:  # also where a purge has given it another reason
            reason = DuplicateRow.reason
        clip_ids.add(row.clip_id)
        if reason is None:
            yield PlannedRow(shard=shard, index=index, **columns)
        else:
            columns |= {"refusal_reason": reason, "refusal_message": row.message or ""}
            yield RefusedRow(shard=shard, index=index, **columns)


def _digest(rows: Iterable[PlanRow]) -> str:
    digest = PlanDigest()
    collections.deque(digest.watch(rows), maxlen=0)
    return digest.sha256()


# purged.json ------------------------------------------------------------------------------------


def purged_ids(survey: Survey) -> Purged:
    """What was taken out of a folder, as its sound ledgers tell it: the video, if every clip of it was taken out."""
    because: dict[str, dict[str, str]] = collections.defaultdict(dict)
    kept: set[str | None] = set()
    for part in survey.parts:
        for shard in range(part.shards):
            for row in _refusals(part, layout.ledger_key(part.shard_name(shard))):
                if row["reason"] == PurgedError.reason:
                    because[row["media_id"] or row["clip_id"]][row["clip_id"]] = row["message"] or ""
                else:
                    kept.add(row["media_id"])
    ids: dict[str, str] = {}
    for video, clips in because.items():
        ids |= clips if video in kept else {video: next(iter(clips.values()))}
    return Purged(ids)


def _refusals(part: Part, key: str) -> list[dict[str, Any]]:
    try:
        return list(ledger.read_columns(part.store, key, "clip_id", "media_id", "reason", "message"))
    except CorruptShard:
        return []


# Ledgers ----------------------------------------------------------------------------------------


def row_of_record(row: PlannedRow, record: Record, record_bytes: int, part: Part) -> LedgerRow:
    """The ledger row of a written clip, as its record tells it. What a record does not know is null."""
    return LedgerRow(
        **annotation_columns(row),
        shard=row.shard,
        status=ledger.WRITTEN,
        engine=record.text("kinetics_prep/engine"),
        recipe=part.recipe,
        versions="{}",
        notes=REBUILT,
        ends_early=bool(record.integer("kinetics_prep/ends_early")),
        frames=len(record),
        width=record.integer("image/width"),
        height=record.integer("image/height"),
        saturated_share=record.real("kinetics_prep/saturated_share"),
        record_bytes=record_bytes,
    )


def refusal_of(row: PlanRow, purged: Purged, part: Part, engine: str) -> LedgerRow | None:
    """The ledger row of a row that is refused without being tried; None if it is to be tried."""
    reason, message = PurgedError.reason, purged.reason_for(row)
    if isinstance(row, RefusedRow):
        reason, message = row.refusal_reason, row.refusal_message
    if message is None:
        return None
    columns = annotation_columns(row)
    return LedgerRow(
        **columns,
        shard=row.shard,
        status=ledger.REFUSED,
        reason=reason,
        message=message,
        engine=engine,
        recipe=part.recipe,
        versions="{}",
    )
