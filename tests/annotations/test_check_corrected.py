"""The corrected annotations that `check --corrected` writes."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from kinetics_prep.annotations import check, selection
from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.check.corrected import corrected
from kinetics_prep.annotations.formats import kinetics_csv
from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.annotations.rows import ReadableRow
from kinetics_prep.errors import BadOption

HEADER = "label,youtube_id,time_start,time_end,split\n"
LONGEST_SECONDS = 864_000
GOOD = "abseiling,-3B32lodo2M,59,69,train\n"


def write_corrected(target: Path, *paths: Path, labels: tuple[str, ...] | None = None) -> int:
    with RowStore() as store:
        selection.read_annotations(store, tuple(map(str, paths)), None, None)
        return check.write_corrected(store, target, LabelMap(labels) if labels else None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.csv"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "corrected.csv"


def test_it_holds_the_rows_that_flow_accepts_with_labels_as_the_map_spells_them(path, target):
    path.write_text(HEADER + GOOD + GOOD + "a,b,1,x,train\nnapping,c,0,10,train\nAB SEILING,d,0.5,10.25,val\n")
    assert write_corrected(target, path, labels=("abseiling", "bowling")) == 2
    assert target.read_text() == HEADER + GOOD + "abseiling,d,0.5,10.25,val\n"


def test_check_refuses_no_row_of_it(path, target):
    path.write_text(HEADER + GOOD + GOOD + "a,b,1,x,train\nnapping,c,0,10,train\nAB SEILING,d,0.5,10.25,val\n")
    labels = LabelMap(("abseiling",))
    write_corrected(target, path, labels=labels.labels)
    with RowStore() as store:
        files = selection.read_annotations(store, (str(target),), None, None)
        assert check.examine(files, store, labels).refused_rows == 0
        assert list(corrected(store, labels)) == [row.annotation for row, _ in store.as_read()]


def test_without_a_label_map_every_label_stays_as_it_is(path, target):
    content = HEADER + GOOD + "Ab_Seiling,b,0,10,val\nnapping,c,0,10,test\n"
    path.write_text(content)
    assert write_corrected(target, path) == 3
    assert target.read_text() == content


def test_of_duplicates_the_first_is_kept_and_each_split_has_its_own(path, target):
    path.write_text(HEADER + "zumba,a,0,10,val\nyoga,a,0,10,val\nyoga,a,0,10,train\nyoga,a,1,10,val\n")
    assert write_corrected(target, path) == 3
    assert target.read_text() == HEADER + "zumba,a,0,10,val\nyoga,a,0,10,train\nyoga,a,1,10,val\n"


def test_a_label_that_could_be_two_is_left_out(path, target):
    path.write_text(HEADER + "a b,v,0,10,train\n")
    assert write_corrected(target, path, labels=("a-b", "a_b")) == 0
    assert target.read_text() == HEADER[len("label,") :]


def test_labels_are_quoted_as_csv_needs_it(path, target):
    path.write_text(HEADER + '"hurling, the ""Irish"" way",a,0,10,val\njeté,b,0,10,val\n')
    assert write_corrected(target, path) == 2
    assert target.read_bytes().decode() == path.read_text("utf-8")
    with target.open(encoding="utf-8", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ['hurling, the "Irish" way', "jeté"]


@pytest.mark.parametrize("times", ["0.000001,0.000002", "863999.5,864000", "1.25,11.333333", "0,10"])
def test_times_are_written_without_loss(path, target, times):
    path.write_text(f"{HEADER}a,v,{times},val\n")
    write_corrected(target, path)
    (before,), (after,) = kinetics_csv.read(path), kinetics_csv.read(target)
    assert (after.annotation.start_us, after.annotation.end_us) == (
        before.annotation.start_us,
        before.annotation.end_us,
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.floats(0, LONGEST_SECONDS), min_size=2, max_size=2, unique=True).map(sorted))
@example([0.0, 5e-7])
@example([12345.678912, 12355.678912])
@example([123456.789012, 123456.789013])
@example([863999.9999995, 864000.0])
@example([-0.0, 5e-324 + 1])
@example([5e-324, 1e-6])
def test_every_time_that_a_reader_accepts_reads_back_as_the_same_number(path, target, times):
    start_seconds, end_seconds = times
    path.write_text(f"{HEADER}a,v,{start_seconds!r},{end_seconds!r},val\n")
    (before,) = kinetics_csv.read(path)
    assume(isinstance(before, ReadableRow))  # else both times are in the same microsecond
    write_corrected(target, path)
    (after,) = kinetics_csv.read(target)
    assert (after.clip_id, after.annotation) == (before.clip_id, before.annotation)


@pytest.mark.parametrize(
    "seconds, text",
    [(10.0, "10"), (0.1 + 0.2, "0.30000000000000004"), (1e-6, "0.000001"), (12345.678912, "12345.678912")],
)
def test_times_have_no_exponent_and_no_needless_digit(path, target, seconds, text):
    path.write_text(f"{HEADER}a,v,{seconds!r},20000,val\n")
    write_corrected(target, path)
    assert target.read_text() == f"{HEADER}a,v,{text},20000,val\n"


def test_without_any_label_there_is_no_column_of_labels(path, target):
    path.write_text("youtube_id,time_start,time_end,split\nabc,2,12,test\n")
    write_corrected(target, path)
    assert target.read_text() == path.read_text()


def test_with_some_labels_the_others_are_empty(path, target, tmp_path):
    path.write_text(HEADER + GOOD)
    bare = tmp_path / "bare.csv"
    bare.write_text("youtube_id,time_start,time_end,split\nabc,2,12,test\n")
    assert write_corrected(target, bare, path) == 2
    assert target.read_text() == HEADER + ",abc,2,12,test\n" + GOOD


def test_whole_videos_are_refused_and_nothing_is_written(tmp_path, target):
    videos = tmp_path / "trainlist01.txt"
    videos.write_text("Archery/v_Archery_g01_c01.avi 3\n")
    with pytest.raises(BadOption, match="corrected.csv is not written: .* these are whole videos"):
        write_corrected(target, videos)
    assert list(tmp_path.iterdir()) == [videos]


def test_the_corrected_file_may_replace_its_original(path):
    path.write_text(HEADER + GOOD + GOOD)
    assert write_corrected(path, path) == 1
    assert path.read_text() == HEADER + GOOD


def test_two_real_files_are_put_together(shared_data, target):
    paths = [shared_data / "annotations" / name for name in ("k400_val.csv", "k600_val.csv")]
    count = write_corrected(target, *paths)
    clips: dict[str, Annotation] = {}
    for path in paths:
        for row in kinetics_csv.read(path):
            clips.setdefault(row.clip_id, row.annotation)
    assert count == len(clips)
    assert Counter(row.annotation for row in kinetics_csv.read(target)) == Counter(clips.values())
