"""Rows of a split, and the plan that they are arranged into."""

import hashlib
import random
from collections import Counter

import pytest

from kinetics_prep.annotations import planned, selection
from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.formats import kinetics_csv
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlannedRow, RefusedRow
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.annotations.rows import ReadableRow, UnreadableRow
from kinetics_prep.errors import BadAnnotations, BadOption, MalformedRow

LABELS = LabelMap(("abseiling", "zumba"))


def row(media_id, label="abseiling", split="train", line=1, file="a.csv", start=0, end=10):
    return ReadableRow(file, line, Annotation(media_id, start, end, split, label))


def unreadable(line=1, split=None, file="a.csv"):
    return UnreadableRow(file, line, MalformedRow(f"{file}:{line}: no such thing"), split)


def rows(count):
    return [row(f"video{k}", line=k + 1) for k in range(count)]


def arrange(rows, labels=LABELS, clips_per_shard=4, limit=None, split="train"):
    with RowStore() as store:
        store.add(rows)
        return list(planned.arrange(store.by_clip(split), split, labels, clips_per_shard, limit))


def select(rows, *arguments, **named):
    with RowStore() as store:
        store.add(rows)
        return sorted(selection.rows_of_split(store, *arguments, **named), key=lambda row: row.line)


def refusal(row):
    """The reason, None for a row to be prepared."""
    return row.refusal_reason if isinstance(row, RefusedRow) else None


def alike(rows):
    """Errors are equal only to themselves."""
    return [
        (row.file, row.line, str(getattr(row, "error", None)), getattr(row, "annotation", None), row.split)
        for row in rows
    ]


def test_a_plan_row_says_what_the_annotation_says():
    (planned,) = arrange([row("-3B32lodo2M", "zumba", line=7, start=59.5, end=69)])
    assert planned == PlannedRow(
        shard=0,
        index=0,
        clip_id="-3B32lodo2M_000059.5_000069",
        media_id="-3B32lodo2M",
        label="zumba",
        label_index=1,
        split="train",
        start_seconds=59.5,
        end_seconds=69,
        annotation_file="a.csv",
        annotation_line=7,
    )
    assert planned.annotation == Annotation("-3B32lodo2M", 59.5, 69, "train", "zumba")


def test_rows_stand_in_the_order_of_the_sha256_of_their_clip_ids():
    planned = [planned.clip_id for planned in arrange(rows(50))]
    assert planned == sorted(planned, key=lambda clip_id: hashlib.sha256(clip_id.encode()).hexdigest())
    assert planned != sorted(planned)


def test_rows_are_dealt_into_shards_of_a_fixed_size():
    places = [(planned.shard, planned.index) for planned in arrange(rows(10), clips_per_shard=4)]
    assert places == [(shard, index) for shard in range(3) for index in range(4)][:10]


def test_the_order_of_the_annotations_does_not_matter():
    shuffled = rows(50)
    random.Random(0).shuffle(shuffled)
    assert arrange(shuffled) == arrange(rows(50))


def test_a_row_keeps_its_order_among_others_when_rows_are_added():
    few = [planned.clip_id for planned in arrange(rows(20))]
    many = [planned.clip_id for planned in arrange(rows(40))]
    assert [clip_id for clip_id in many if clip_id in set(few)] == few


def test_a_limit_takes_the_first_of_the_same_order():
    assert arrange(rows(50), limit=7) == arrange(rows(50))[:7]
    assert arrange(rows(5), limit=7) == arrange(rows(5))


@pytest.mark.parametrize("other", [{"line": 2}, {"file": "b.csv"}, {"line": 2, "label": "zumba"}])
def test_the_second_row_of_a_clip_is_a_duplicate(other):
    first, second = arrange([row("a"), row("a", **other)])
    assert (refusal(first), refusal(second)) == (None, "duplicate_row")
    here = f"{second.annotation_file}:{second.annotation_line}"
    assert second.refusal_message == f"{here}: the same video and times stand in a.csv:1"


@pytest.mark.parametrize("seed", range(5))
def test_of_a_clips_rows_the_first_that_was_read_is_prepared(seed):
    given = [row("a", label, line=line) for line, label in enumerate(["zumba", "abseiling", None, "yodelling"] * 5, 1)]
    random.Random(seed).shuffle(given)
    first, *others = arrange(given, clips_per_shard=100)
    assert (first.annotation_line, first.label) == (given[0].line, given[0].annotation.label)
    assert refusal(first) == ("unknown_label" if first.label == "yodelling" else None)
    assert [other.annotation_line for other in others] == [row.line for row in given[1:]]
    message = f"the same video and times stand in a.csv:{given[0].line}"
    assert {(refusal(other), other.refusal_message.partition(": ")[2]) for other in others} == {
        ("duplicate_row", message)
    }


def test_each_clip_has_a_first_row_of_its_own():
    plan = arrange([row(f"video{k % 6}", line=k + 1) for k in range(18)], clips_per_shard=100)
    prepared = {planned.clip_id: planned.annotation_line for planned in plan if refusal(planned) is None}
    assert sorted(prepared.values()) == [1, 2, 3, 4, 5, 6]
    duplicates = [planned for planned in plan if refusal(planned) == "duplicate_row"]
    assert len(duplicates) == 12
    assert all(row.refusal_message.endswith(f" a.csv:{prepared[row.clip_id]}") for row in duplicates)


def test_rows_may_come_from_a_list():
    twice = [row("a")] * 2
    assert [refusal(place) for place in planned.arrange(twice, "train", LABELS, 4)] == [None, "duplicate_row"]


def test_a_clip_in_two_splits_is_no_duplicate():
    given = [row("a"), row("a", split="val", line=2)]
    for split in ("train", "val"):
        assert [refusal(planned) for planned in arrange(given, split=split)] == [None]


def test_an_unreadable_row_is_no_duplicate_of_another():
    given = [unreadable(3), unreadable(3), row("a", line=4)]
    assert sorted(refusal(planned) or "" for planned in arrange(given)) == ["", "malformed_row", "malformed_row"]


def test_duplicates_count_for_the_limit_and_the_shards():
    given = [row("a", line=line) for line in range(1, 7)]
    places = [(planned.shard, planned.index) for planned in arrange(given, clips_per_shard=2, limit=5)]
    assert places == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]


def test_a_duplicate_keeps_what_its_own_row_says():
    _, duplicate = arrange([row("a"), row("a", "zumba", line=2, file="b.csv")])
    assert duplicate == RefusedRow(
        shard=0,
        index=1,
        clip_id="a_000000_000010",
        media_id="a",
        label="zumba",
        label_index=1,
        split="train",
        start_seconds=0,
        end_seconds=10,
        annotation_file="b.csv",
        annotation_line=2,
        refusal_reason="duplicate_row",
        refusal_message="b.csv:2: the same video and times stand in a.csv:1",
    )


def test_a_file_that_is_given_twice_holds_each_clip_once():
    reasons = [refusal(planned) for planned in arrange([row("a"), row("a")])]
    assert sorted(reasons, key=str) == [None, "duplicate_row"]


@pytest.mark.parametrize("times", [{"start": 1}, {"end": 9.5}])
def test_the_same_video_at_other_times_is_no_duplicate(times):
    assert [refusal(planned) for planned in arrange([row("a"), row("a", line=2, **times)])] == [None, None]


@pytest.mark.parametrize("labels", [("abseiling", "zumba"), ("zumba", "abseiling"), ("zumba", "yoga", "abseiling")])
def test_the_label_index_of_a_row_is_the_place_of_its_label_in_the_map(labels):
    given = [row(f"video{k}", labels[k % len(labels)], line=k) for k in range(12)]
    plan = arrange(given, LabelMap(labels))
    assert {(planned.label, planned.label_index) for planned in plan} == set(zip(labels, range(len(labels))))


def test_a_ledger_repeats_what_the_annotation_says():
    expected = {
        "clip_id": "a_000002_000010",
        "media_id": "a",
        "label": "zumba",
        "split": "train",
        "start_seconds": 2,
        "end_seconds": 10,
        "annotation_file": "b.csv",
        "annotation_line": 3,
    }
    prepared, refused = arrange([row("a", "zumba", line=3, file="b.csv", start=2)] * 2)
    assert (type(prepared), type(refused)) == (PlannedRow, RefusedRow)
    assert planned.annotation_columns(prepared) == planned.annotation_columns(refused) == expected


def test_a_label_outside_the_map_is_planned_as_a_refusal():
    (planned,) = arrange([row("a", "yodelling", line=3)])
    assert (planned.label, planned.label_index, refusal(planned)) == ("yodelling", None, "unknown_label")
    assert planned.refusal_message == "a.csv:3: label 'yodelling' is not among the 2 labels of the label map"


def test_a_row_without_a_label_is_no_refusal():
    (planned,) = arrange([row("a", None, split="test")], split="test")
    assert (planned.label, planned.label_index, refusal(planned)) == (None, None, None)


def test_an_unreadable_row_is_planned_as_a_refusal():
    readable, refused = sorted(arrange([row("a"), unreadable(line=9)]), key=lambda planned: planned.annotation_line)
    assert isinstance(readable, PlannedRow)
    assert refused == RefusedRow(
        shard=0,
        index=refused.index,
        clip_id="a.csv:9",
        media_id=None,
        label=None,
        label_index=None,
        split="train",
        start_seconds=None,
        end_seconds=None,
        annotation_file="a.csv",
        annotation_line=9,
        refusal_reason="malformed_row",
        refusal_message="a.csv:9: no such thing",
    )


def test_a_row_whose_split_cannot_be_read_gets_that_of_the_plan():
    plan = arrange([unreadable(1), unreadable(2, "val"), row("a", split="val", line=3)], split="val")
    assert {(planned.annotation_line, planned.split) for planned in plan} == {(1, "val"), (2, "val"), (3, "val")}


def test_every_row_is_planned_once():
    given = [*rows(9), row("video3", line=20), row("a", "yodelling", line=21), unreadable(22), unreadable(23)]
    assert sorted(planned.annotation_line for planned in arrange(given)) == [*range(1, 10), 20, 21, 22, 23]


def test_a_split_is_selected_with_the_rows_that_may_belong_to_it():
    given = [row("a"), row("b", split="val", line=2), unreadable(3), unreadable(4, "train"), unreadable(5, "val")]
    assert alike(select(given, "train")) == alike([given[0], given[2], given[3]])
    assert alike(select(given, "train", with_unknown_split=False)) == alike([given[0], given[3]])


def test_only_selects_labels_and_keeps_what_it_cannot_judge():
    given = [row("a"), row("b", "zumba", line=2), row("c", None, line=3), unreadable(4)]
    assert alike(select(given, "train", only=("zumba",))) == alike([given[1], given[3]])


def test_only_may_name_several_labels():
    given = [row("a"), row("b", "zumba", line=2), row("c", "yoga", line=3)]
    assert select(given, "train", only=("zumba", "abseiling")) == given[:2]


def test_only_names_labels_that_are_there():
    given = [row("a"), row("b", "zumba")]
    with pytest.raises(BadOption, match="--only 'zumbba': no row has this label; there are 'zumba'$"):
        select(given, "train", only=("abseiling", "zumbba"))


@pytest.mark.parametrize(
    "given, splits", [([row("a"), row("b", split="test")], "test, train"), ([unreadable()], "none")]
)
def test_a_split_without_a_readable_row_is_refused(given, splits):
    with pytest.raises(BadAnnotations, match=f"no readable row of split 'val'; the annotations hold {splits}$"):
        select(given, "val")


def test_every_row_of_kinetics_400_has_a_place_of_its_own(shared_data):
    given = list(kinetics_csv.read(shared_data / "annotations" / "k400_val.csv"))
    labels = LabelMap.from_labels(row.annotation.label for row in given)
    planned = arrange(given, labels, clips_per_shard=64, split="val")
    assert (
        len(planned)
        == len({(row.shard, row.index) for row in planned})
        == len({row.clip_id for row in planned})
        == 19_906
    )
    assert {type(row) for row in planned} == {PlannedRow}
    # The first shards are a fair sample: no class crowds them.
    assert max(Counter(row.label for row in planned[:640]).values()) < 12
