import dataclasses

import pytest

from kinetics_prep.dataset.ledger import REFUSED, WRITTEN, LedgerRow, refusals
from kinetics_prep.errors import CLIP_ERRORS, REASONS, ClipError, CorruptShard, FetchError
from kinetics_prep.storage import tables

SAID = {
    "clip_id": "-3B32lodo2M_000059_000069",
    "media_id": "-3B32lodo2M",
    "label": "abseiling",
    "split": "train",
    "start_seconds": 59.0,
    "end_seconds": 69.0,
    "annotation_file": "some.csv",
    "annotation_line": 7,
    "shard": 3,
    "engine": "opencv-cpu: 5.0",
    "recipe": "0123456789abcdef",
    "versions": '{"opencv": "5.0"}',
}


def written(**facts) -> LedgerRow:
    return LedgerRow(**SAID | {"status": WRITTEN} | facts)


def refused(reason, **facts) -> LedgerRow:
    return LedgerRow(**SAID | {"status": REFUSED, "reason": reason} | facts)


@pytest.mark.parametrize(
    "status, reason",
    [(WRITTEN, "not_found"), (REFUSED, None), (REFUSED, ""), ("lost", None), ("lost", "not_found"), (None, None)],
)
def test_a_row_is_written_or_refused_for_a_reason(status, reason):
    with pytest.raises(ValueError, match="a row is written, or refused for a reason"):
        LedgerRow(**SAID, status=status, reason=reason)


def test_a_reason_is_one_that_a_reader_can_look_up():
    with pytest.raises(ValueError, match="bad_luck"):
        refused("bad_luck")


@pytest.mark.parametrize("reason", REASONS)
def test_a_row_may_be_refused_for_every_reason_there_is(reason):
    assert refused(reason).reason == reason


def test_reasons_are_those_of_all_clip_errors():
    assert set(CLIP_ERRORS) == set({*ClipError.__subclasses__(), *FetchError.__subclasses__()} - {FetchError})
    assert len(set(REASONS)) == len(CLIP_ERRORS)


def test_rows_read_back_as_written(tmp_path):
    rows = [
        written(frames=250, width=340, height=256, saturated_share=0.25, taken_as_trimmed=True, seconds=1.5),
        refused("not_found", message="no file named so", attempts=1),
        refused("malformed_row", media_id=None, label=None, start_seconds=None, end_seconds=None),
    ]
    path = tmp_path / "ledger.parquet"
    tables.write(path, "ledger", [[row.as_dict() for row in rows]])
    assert [LedgerRow(**row) for row in tables.read(path, "ledger")] == rows


def test_what_was_not_learnt_is_null_and_not_zero():
    row = refused("not_found").as_dict()
    unknown = ["source", "source_sha256", "source_bytes", "frames", "width", "height", "saturated_share", "ends_early"]
    assert {name: row[name] for name in unknown} == dict.fromkeys(unknown)


def test_a_row_as_a_dictionary_holds_every_field():
    row = written(notes="video ends early")
    assert row.as_dict() == dataclasses.asdict(row)


def test_another_table_is_no_ledger(tmp_path):
    path = tmp_path / "plan.parquet"
    tables.write(path, "plan", [])
    with pytest.raises(CorruptShard, match="other columns than schemas/ledger.json"):
        list(tables.read(path, "ledger"))


def test_refusals_are_counted_by_reason_the_most_frequent_first():
    reasons = ["unreadable", "too_short", "not_found", "unreadable"]
    counts = refusals([written(), *map(refused, reasons)])
    assert list(counts.items()) == [("unreadable", 2), ("not_found", 1), ("too_short", 1)]


def test_a_run_without_refusals_counts_none():
    assert refusals([written()]) == refusals([]) == {}
