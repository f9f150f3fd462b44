import dataclasses

import pytest
import small_dataset

from kinetics_prep.dataset import ledger
from kinetics_prep.dataset.ledger import REFUSED, WRITTEN, LedgerRow, refusals
from kinetics_prep.errors import CLIP_ERRORS, REASONS, ClipError, CorruptShard, FetchError
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import sha256_of

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


def test_a_ledger_says_what_a_marker_needs_to_know_of_its_file(tmp_path):
    store = small_dataset.store_of(tmp_path / "out")
    rows = [written(), refused("geo")]
    description = ledger.write(store, "ledger/a.parquet", rows)
    path = tmp_path / "out" / "ledger" / "a.parquet"
    assert description == {
        "ledger": "ledger/a.parquet",
        "ledger_sha256": sha256_of(path),
        "ledger_bytes": path.stat().st_size,
    }
    assert list(ledger.read(store, "ledger/a.parquet")) == rows
    columns = list(ledger.read_columns(store, "ledger/a.parquet", "clip_id", "reason"))
    assert columns == [{"clip_id": SAID["clip_id"], "reason": reason} for reason in (None, "geo")]


def test_a_missing_ledger_and_one_of_nonsense_are_refused_in_words(tmp_path):
    store = small_dataset.store_of(tmp_path / "out")
    for read in (ledger.read, ledger.read_columns):
        with pytest.raises(CorruptShard, match=r"out/ledger/a\.parquet is missing"):
            list(read(store, "ledger/a.parquet"))
    (tmp_path / "out" / "ledger").mkdir()
    cells = written().as_dict() | {"reason": "network"}
    tables.write(tmp_path / "out" / "ledger" / "a.parquet", "ledger", [[cells]])
    with pytest.raises(CorruptShard, match=r"out/ledger/a\.parquet is not a ledger: a row is written, or refused"):
        list(ledger.read(store, "ledger/a.parquet"))


def test_a_row_passes_over_cells_that_a_newer_version_added():
    row = written(fingerprint="f" * 64)
    assert LedgerRow.from_cells({**row.as_dict(), "phase_of_the_moon": "full"}) == row
    with pytest.raises(TypeError):
        LedgerRow.from_cells({"clip_id": "a"})


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
    with pytest.raises(CorruptShard, match="has no column status"):
        list(tables.read(path, "ledger"))


def test_refusals_are_counted_by_reason_the_most_frequent_first():
    reasons = ["unreadable", "too_short", "not_found", "unreadable"]
    counts = refusals([written(), *map(refused, reasons)])
    assert list(counts.items()) == [("unreadable", 2), ("not_found", 1), ("too_short", 1)]


def test_a_run_without_refusals_counts_none():
    assert refusals([written()]) == refusals([]) == {}
