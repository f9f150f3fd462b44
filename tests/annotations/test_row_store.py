"""RowStore: rows come out as they went in, in the order that a method promises."""

import gc
import hashlib
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.row_store import RowStore, VideoRows
from kinetics_prep.annotations.rows import ReadableRow, UnreadableRow
from kinetics_prep.errors import MalformedRow

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "annotations.py"


def row(media_id, line=1, split="train", label="abseiling", file="a.csv", start=0.0, end=10.0):
    return ReadableRow(file, line, Annotation(media_id, start, end, split, label))


def unreadable(line, split=None, file="a.csv", why="no such thing"):
    return UnreadableRow(file, line, MalformedRow(why), split)


@pytest.fixture(params=["as it is", "contrary"])
def store(request):
    """An empty store; and one in which SQLite returns rows in reverse wherever a query does not say their order."""
    with RowStore() as store:
        if request.param == "contrary":
            store._db.execute("PRAGMA reverse_unordered_selects = ON")
            for table in ("rows", "listed"):
                store._db.execute(f"CREATE INDEX temp.{table}_backwards ON {table} (clip, position DESC)")
        yield store


def comparable(row):
    """A row as values: errors are equal only to themselves."""
    if isinstance(row, UnreadableRow):
        return row.file, row.line, row.split, type(row.error), str(row.error)
    return row


def lines(rows):
    return [row.line for row in rows]


@pytest.mark.parametrize(
    "given",
    [
        row("-3B32lodo2M", 7, "val", "müde sein", start=59.123456789, end=69.5),
        row("whole video", end=None, label=None),
        unreadable(3, "test"),
        unreadable(4, None),
        unreadable(5, file="\udcff.csv", why="\udcff.csv:5: \0"),
    ],
)
def test_a_row_comes_out_as_it_went_in(store, given):
    assert store.add([given]) == 1
    ((read, is_duplicate),) = store.as_read()
    assert comparable(read) == comparable(given)
    assert not is_duplicate


def test_a_time_keeps_its_sign_which_stands_in_the_plan(store):
    store.add([row("a", start=-0.0)])
    assert math.copysign(1, store.first_row().annotation.start_seconds) == -1


def test_rows_keep_the_order_of_reading_over_several_files(store):
    given = [row(f"v{k}", k) for k in range(50)]
    random.Random(0).shuffle(given)
    assert store.add(given[:30]) == 30 and store.add(given[30:]) == 20 and store.add([]) == 0
    assert [row for row, _ in store.as_read()] == given


def test_by_clip_is_by_the_sha256_of_the_clip_id_and_then_as_read(store):
    given = [row(f"v{k % 20}", k) for k in range(60)] + [unreadable(k) for k in range(60, 70)]
    store.add(given)
    expected = sorted(given, key=lambda row: hashlib.sha256(row.clip_id.encode()).digest())
    assert lines(store.by_clip("train")) == lines(expected)


def test_by_clip_takes_a_split_some_labels_and_strays(store):
    store.add([row("a", 1), row("b", 2, "val"), row("c", 3, label="zumba"), row("d", 4, label=None)])
    store.add([unreadable(5), unreadable(6, "train"), unreadable(7, "val")])
    assert sorted(lines(store.by_clip("train"))) == [1, 3, 4, 5, 6]
    assert sorted(lines(store.by_clip("train", with_unknown_split=False))) == [1, 3, 4, 6]
    assert (len(store.by_clip("train")), len(store.by_clip("train", with_unknown_split=False))) == (5, 4)
    assert sorted(lines(store.by_clip("train", ("zumba", "yoga")))) == [3, 5, 6]


def test_it_knows_its_splits_its_labels_and_whether_it_holds_some(store):
    assert (store.first_row(), store.splits(), store.labels(), store.has_readable()) == (None, set(), set(), False)
    store.add([unreadable(1, "test"), row("a", 2, label="zumba"), row("b", 3, label=None)])
    assert (store.first_row().line, store.splits(), store.labels()) == (1, {"test", "train"}, {"zumba"})
    assert store.has_readable() and store.has_readable("train") and store.has_readable("train", ("yoga", "zumba"))
    assert not store.has_readable("test") and not store.has_readable("train", ("yoga",))


def test_a_duplicate_is_a_clip_that_its_split_has_before_it(store):
    store.add([row("a", 1), unreadable(2), row("a", 3), row("a", 4, "val"), row("a", 5, start=1.0), unreadable(2)])
    assert [row.line for row, is_duplicate in store.as_read() if is_duplicate] == [3]
    store.add([row("a", 6, "val"), row("b", 7)])
    assert [row.line for row, is_duplicate in store.as_read() if is_duplicate] == [3, 6]


def test_of_a_clip_the_row_that_was_read_first_comes_first(store):
    given = [row("a", line, split, label=f"label {line}") for line, split in enumerate(["val", "train"] * 30)]
    random.Random(0).shuffle(given)
    store.add(given[:7])
    store.add(given[7:])
    of_train = [row for row in given if row.split == "train"]
    assert list(store.by_clip("train")) == of_train
    assert [row for row, _ in store.as_read()] == given
    firsts = [row for row, is_duplicate in store.as_read() if not is_duplicate]
    assert firsts == sorted([of_train[0], next(row for row in given if row.split == "val")], key=given.index)


def test_an_unreadable_row_is_never_a_duplicate(store):
    store.add([unreadable(2, "train"), unreadable(2, "train"), row("a", 3)])
    assert [is_duplicate for _, is_duplicate in store.as_read()] == [False, False, False]


def test_sorted_rows_have_a_length_and_are_read_anew_in_each_iteration(store):
    store.add([row("a", 1), row("b", 2, "val")])
    rows = store.by_clip("train")
    assert (len(rows), lines(rows)) == (1, [1])
    store.add([row("a", 3), unreadable(4)])
    assert (len(rows), sorted(lines(rows))) == (3, [1, 3, 4])


def test_by_clip_of_some_labels_takes_unreadable_rows_of_its_own_split_only(store):
    store.add([row("a", 1, label="zumba"), row("b", 2, "val", label="zumba"), unreadable(3, "val"), unreadable(4)])
    assert lines(store.by_clip("train", ("zumba",), with_unknown_split=False)) == [1]
    assert sorted(lines(store.by_clip("val", ("yoga",), with_unknown_split=False))) == [3]


def test_the_first_row_is_that_which_was_read_first(store):
    store.add([unreadable(9), row("a", 1)])
    store.add([row("b", 0)])
    assert comparable(store.first_row()) == comparable(unreadable(9))


def test_keep_appends_missing_ids_in_the_order_of_the_list(store):
    store.add([row("b", 1), row("a", 2), row("b", 3, start=1.0), row("z", 4)])
    missing = [(f"v{line % 30}", unreadable(line)) for line in range(100, 160)]
    random.Random(0).shuffle(missing)
    store.keep([("a", unreadable(11)), *missing, ("b", unreadable(12)), (None, unreadable(13)), ("a", unreadable(14))])
    first_of_each = {}
    for media_id, row_if_missing in missing:
        first_of_each.setdefault(media_id, row_if_missing.line)
    expected = [1, 2, 3, *first_of_each.values(), 13]
    assert [row.line for row, _ in store.as_read()] == expected


def test_keep_can_be_followed_by_more_rows_and_another_list(store):
    store.add([row("a", 1), row("a", 2)])
    store.keep([("a", unreadable(11)), ("b", unreadable(12))])
    store.add([row("b", 3), row("a", 4)])
    assert [(row.line, is_duplicate) for row, is_duplicate in store.as_read()] == [
        (1, False),
        (2, True),
        (12, False),
        (3, False),
        (4, True),
    ]
    store.keep([("b", unreadable(13))])
    assert [(row.line, is_duplicate) for row, is_duplicate in store.as_read()] == [(3, False)]


def test_a_missing_id_belongs_to_no_split_and_to_those_with_an_unknown_split(store):
    store.add([row("a", 1)])
    store.keep([("a", unreadable(11)), ("b", unreadable(12, why="'b' is missing"))])
    assert sorted(lines(store.by_clip("train"))) == [1, 12]
    assert lines(store.by_clip("train", with_unknown_split=False)) == [1]
    assert store.splits() == {"train"}


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_store_can_be_closed_while_it_is_read_and_twice(store):
    store.add([row("a", 1), row("b", 2)])
    rows = iter(store.by_clip("train"))
    assert next(rows).line in (1, 2)
    store.close()
    store.close()
    del rows
    gc.collect()


def test_the_rows_of_a_video_are_taken_together(store):
    store.add([row("a", 1, "val", file="c,d.csv"), row("a", 2), row("b", 3), row("a", 4, end=5.0), unreadable(5)])
    assert sorted(store.videos(), key=lambda video: video.first_position) == [
        VideoRows("a", 1, 2, ("train", "val"), ("a.csv", "c,d.csv")),
        VideoRows("b", 3, 1, ("train",), ("a.csv",)),
    ]


def test_it_keeps_the_videos_listed_and_tells_of_those_that_are_missing(store):
    store.add([row("a", 1), row("b", 2), unreadable(3), row("a", 4, start=1.0)])
    store.keep([("a", unreadable(11)), (None, unreadable(12)), ("c", unreadable(13)), ("c", unreadable(14))])
    assert [row.line for row, _ in store.as_read()] == [1, 4, 12, 13]
    assert [video.media_id for video in store.videos()] == ["a"]


def test_an_error_on_the_way_in_is_passed_on(store):
    def rows():
        yield row("a")
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        store.add(rows())


MUCH = """
import os, sys
from kinetics_prep.annotations.rows import UnreadableRow
from kinetics_prep.errors import MalformedRow
from kinetics_prep.annotations.row_store import RowStore

def fill(store):  # three times what stays in memory
    store.add(UnreadableRow("a.csv", k, MalformedRow("x" * 10_000), "train") for k in range(5_000))
    return [row.line for row in store.by_clip("train")]

"""


def run(program: str, folder: Path) -> list[str]:
    environment = os.environ | {"SQLITE_TMPDIR": str(folder)}
    command = (sys.executable, "-c", MUCH + program)
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_its_file_lies_where_it_is_told_to_and_bears_no_name(tmp_path):
    program = """
with RowStore() as store:
    assert len(fill(store)) == 5_000
    for number in os.listdir("/proc/self/fd"):
        print(os.path.realpath(f"/proc/self/fd/{number}"))
"""
    assert any(line.startswith(str(tmp_path)) for line in run(program, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named(tmp_path):
    pytest.importorskip("resource")
    program = """
import resource
from kinetics_prep.errors import NoRoom
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
try:
    with RowStore() as store:
        fill(store)
except NoRoom as error:
    print(error)
"""
    (message,) = run(program, tmp_path)
    assert "no room" in message and "SQLITE_TMPDIR" in message


def test_memory_does_not_grow_with_the_rows():
    command = (sys.executable, str(BENCHMARK), "--rows", "10000", "60000", "--clips-per-shard", "1000")
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[1:]
    few, many = ([int(peak) for peak in line.split()[3::4]] for line in table)
    # The rows themselves would be 50 MB more, and 100 rather in the end.
    assert [after - before < 30 for before, after in zip(few, many)] == [True, True], table
