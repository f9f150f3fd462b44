import json

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from predictions_cases import LABELS, same, some

from kinetics_prep.errors import CorruptShard
from kinetics_prep.reading.clips import UNLABELLED
from kinetics_prep.training import predictions_file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "rgb.parquet"


@pytest.mark.parametrize("clips", [0, 1, 7, 4096, 4100])
def test_predictions_come_back_as_they_were(path, clips):
    written = some(clips, fusion="probabilities")
    predictions_file.write(path, written)
    assert same(predictions_file.read(path), written)
    assert [other.name for other in path.parent.iterdir()] == ["rgb.parquet"]


def test_the_same_predictions_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        predictions_file.write(tmp_path / name, some())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_others_can_read_them(path):
    logits = np.array([[0, 0, 0, 0, 2, 1], [9, 0, 0, 0, 0, 0]], np.float32)
    predictions_file.write(path, some(2, class_ids=np.array([5, UNLABELLED]), logits=logits))
    rows = duckdb.sql(f"select * exclude (logits), logits[5] from '{path}'").fetchall()
    probability = np.exp(2) / (np.exp(2) + np.exp(1) + 4)
    top5 = ["using segway", "yoga", *LABELS[:3]]
    expected = ("clip0_000000_000010", 5, "yoga", 4, "using segway", pytest.approx(probability), top5, 2, 2.0)
    assert rows[0] == expected
    assert rows[1][1:5] == (None, None, 0, "air drumming") and rows[1][7] is None
    metadata = pq.read_schema(path).metadata
    assert metadata[b"kinetics_prep/stream"] == b"rgb"
    assert tuple(json.loads(metadata[b"kinetics_prep/labels"])) == LABELS


def tampered(path, change=lambda table: table, metadata=()) -> None:
    """Writes good predictions, and then writes them again with something changed."""
    predictions_file.write(path, some(3, class_ids=np.array([0, 1, UNLABELLED])))
    table = pq.read_table(path)
    kept = table.schema.metadata | dict(metadata)
    table = change(table)
    pq.write_table(
        table.replace_schema_metadata({key: value for key, value in kept.items() if value is not None}), path
    )


def put(name, values):
    """Replaces the values of a column."""

    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        field = table.schema.field(place).with_nullable(True)
        return table.set_column(place, field, pa.array(values, field.type))

    return change


def test_ranks_and_probabilities_on_disk_are_those_of_the_logits(path):
    logits = np.log(np.array([[1, 4, 2, 1, 1, 1], [4, 1, 2, 1, 1, 1]], np.float32) / 10)
    predictions_file.write(path, some(2, class_ids=np.array([0, 0]), logits=logits))
    rows = pq.read_table(path).to_pylist()
    assert [(row["rank"], row["predicted_index"], row["label"]) for row in rows] == [
        (3, 1, LABELS[0]),
        (1, 0, LABELS[0]),
    ]
    assert [row["probability"] for row in rows] == pytest.approx([0.4, 0.4])


def test_a_probability_may_differ_in_its_last_digits_only(path):
    for change, is_read in ((1e-12, True), (1e-6, False)):
        predictions_file.write(path, some(3))
        table = pq.read_table(path)
        probabilities = [probability + change for probability in table["probability"].to_pylist()]
        pq.write_table(put("probability", probabilities)(table), path)
        if is_read:
            assert same(predictions_file.read(path), some(3))
        else:
            with pytest.raises(CorruptShard, match="probability of "):
                predictions_file.read(path)


def test_what_is_not_changed_reads(path):
    tampered(path)
    assert len(predictions_file.read(path)) == 3


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda table: table.drop_columns(["predicted"]), "has no column predicted"),
        (lambda table: table.set_column(7, "rank", pa.array(["1", "2", "3"])), "column rank is of type string"),
        (put("clip_id", ["a", "a", "b"]), "twice"),
        (put("clip_id", ["a", None, "b"]), "its column clip_id lacks 1 values"),
        (put("label_index", [0, 6, None]), "class ids must be -1 to 5"),
        (put("label_index", [1, 1, None]), "label of 'clip0_000000_000010' is 'air drumming', the rest means 'caf"),
        (put("label", ["yoga"] * 3), "label of .* is 'yoga'"),
        (put("predicted", ["yoga"] * 3), "predicted of .* is 'yoga'"),
        (put("predicted_index", [9] * 3), "predicted_index of .* is 9"),
        (put("probability", [float("nan")] * 3), "probability of .* is nan"),
        (put("probability", [None] * 3), "its column probability lacks 3 values"),
        (put("top5", [["yoga"]] * 3), "top5 of"),
        (put("rank", [99, 99, None]), "rank of .* is 99"),
        (put("logits", [[0.0] * 5] * 3), "claims 15 logits, for 3 clips and 6 classes"),
        (put("logits", [[0.0] * 5, [0.0] * 7, [0.0] * 6]), "logits are not 6 numbers a clip"),
        (put("logits", [[0.0] * 6, [None] * 6, [0.0] * 6]), "logits are not 6 numbers a clip"),
        (put("logits", [[0.0] * 6, [0.0] * 11 + [1.0], None]), "column logits lacks 1 values|claims"),
        (put("logits", [[0.0] * 6, [float("inf")] * 6, [0.0] * 6]), "not finite"),
    ],
)
def test_columns_that_make_no_sense_are_refused(path, change, match):
    tampered(path, change)
    with pytest.raises(CorruptShard, match=match):
        predictions_file.read(path)


@pytest.mark.parametrize(
    "name, value, match",
    [
        ("labels", None, "does not say whose"),
        ("labels", b"\xff", "does not say whose"),
        ("labels", b"{}", "not a list of strings"),
        ("labels", b"[1, 2, 3, 4, 5, 6]", "not a list of strings"),
        ("labels", b"[" * 100_000, "does not say whose"),
        ("labels", b'["a"]', "claims 18 logits, for 3 clips and 1 classes"),
        ("labels", b'["a", "b", "c", "d", "e", "\\ud800"]', "surrogates"),
        ("stream", b"sound", "stream is 'sound'"),
        ("fusion", b"votes", "fusion is 'votes'"),
    ],
)
def test_metadata_that_make_no_sense_are_refused(path, name, value, match):
    tampered(path, metadata=[(f"kinetics_prep/{name}".encode(), value)])
    with pytest.raises(CorruptShard, match=match):
        predictions_file.read(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"clip_id,label\n"])
def test_what_is_no_parquet_is_refused(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(CorruptShard, match="not a Parquet file"):
        predictions_file.read(path)


def test_random_damage_gives_an_error_in_words_or_the_same_clips(path):
    predictions_file.write(path, some())
    whole, random = bytearray(path.read_bytes()), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= int(random.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert predictions_file.read(path).logits.tolist() == some().logits.tolist()
        except CorruptShard:
            refused += 1
    assert refused > 100


def test_columns_that_a_newer_version_added_are_passed_over(path):
    tampered(path, lambda table: table.add_column(0, "mood", pa.array(["glad"] * 3)), {b"kinetics_prep/mood": b"glad"})
    assert same(predictions_file.read(path), some(3, class_ids=np.array([0, 1, UNLABELLED])))


@pytest.mark.parametrize("name", ["label", "rank"])
def test_an_optional_column_that_is_missing_is_not_missed(path, name):
    tampered(path, lambda table: table.drop_columns([name]))
    assert same(predictions_file.read(path), some(3, class_ids=np.array([0, 1, UNLABELLED])))


def test_without_true_classes_all_clips_are_unlabelled(path):
    tampered(path, lambda table: table.drop_columns(["label_index", "label", "rank"]))
    assert predictions_file.read(path).class_ids.tolist() == [UNLABELLED] * 3


def test_the_order_of_the_columns_does_not_matter(path):
    tampered(path, lambda table: table.select(table.column_names[::-1]))
    assert same(predictions_file.read(path), some(3, class_ids=np.array([0, 1, UNLABELLED])))


def test_a_file_without_a_number_is_of_format_1(path):
    tampered(path, metadata={b"kinetics_prep/version": None})
    assert len(predictions_file.read(path)) == 3
