"""The JSON formats of annotations, and how a file's format is detected."""

import csv
import json
from collections import Counter
from pathlib import Path

import ijson
import pytest

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.formats import (
    ANNOTATION_FORMATS,
    activitynet_json,
    detect,
    kinetics_csv,
    kinetics_json,
)
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import BadAnnotations, MalformedRow

ENTRY = {
    "annotations": {"label": "abseiling", "segment": [59.0, 69.0]},
    "duration": 10.0,
    "subset": "train",
    "url": "https://www.youtube.com/watch?v=-3B32lodo2M",
}
ABSEILING = Annotation("-3B32lodo2M", 59, 69, "train", "abseiling")


def written(tmp_path: Path, content) -> Path:
    path = tmp_path / "some.json"
    path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    return path


def kinetics(tmp_path, content, default_split=None) -> list[Row]:
    return list(kinetics_json.read(written(tmp_path, content), default_split))


def activitynet(tmp_path, database, default_split=None) -> list[Row]:
    content = {"version": "1.3", "taxonomy": [{"nodeName": "Root"}], "database": database}
    return list(activitynet_json.read(written(tmp_path, content), default_split))


def test_an_entry_is_an_annotation(tmp_path):
    assert kinetics(tmp_path, {"-3B32lodo2M": ENTRY}) == [ReadableRow("some.json", 1, ABSEILING)]


def test_an_unlabelled_test_set_has_times_and_no_label(tmp_path):
    entry = {"annotations": {"segment": [2, 12]}, "subset": "test"}
    (row,) = kinetics(tmp_path, {"--8YXc8iCt8": entry})
    assert row.annotation == Annotation("--8YXc8iCt8", 2, 12, "test")


def test_a_key_that_stands_there_twice_is_read_twice(tmp_path):
    early = ENTRY | {"annotations": {"label": "abseiling", "segment": [0, 10]}}
    rows = kinetics(tmp_path, f'{{"-3B32lodo2M": {json.dumps(ENTRY)}, "-3B32lodo2M": {json.dumps(early)}}}')
    assert [row.annotation.start_seconds for row in rows] == [59, 0]


def test_where_there_is_no_subset_the_default_counts(tmp_path):
    entry = {"annotations": ENTRY["annotations"]}
    (row,) = kinetics(tmp_path, {"-3B32lodo2M": entry}, "val")
    assert row.annotation.split == row.split == "val"
    (row,) = kinetics(tmp_path, {"-3B32lodo2M": entry})
    assert "say which split it is with --split" in str(row.error)


def test_a_video_may_have_several_annotations(tmp_path):
    several = [{"label": "running", "segment": [0.5, 3.25]}, {"label": "jumping", "segment": [4, 9]}]
    rows = activitynet(tmp_path, {"abc": {"subset": "validation", "annotations": several}, "-3B32lodo2M": ENTRY})
    assert [row.annotation for row in rows] == [
        Annotation("abc", 0.5, 3.25, "val", "running"),
        Annotation("abc", 4, 9, "val", "jumping"),
        ABSEILING,
    ]
    assert [row.line for row in rows] == [1, 2, 3]


def test_a_video_without_annotations_is_one_row_that_says_so(tmp_path):
    (row,) = activitynet(tmp_path, {"abc": {"subset": "testing", "annotations": []}})
    assert row.split == "test"
    assert str(row.error) == "some.json: annotation 1, of 'abc': there is no annotation, so no time"


@pytest.mark.parametrize(
    "change, says",
    [
        ({"subset": "trian"}, "split is 'trian'"),
        ({"subset": 7}, "subset is 7, expected a text"),
        ({"annotations": "none"}, "an annotation is 'none', expected a map"),
        ({"annotations": {"label": "x"}}, "segment is None, expected two numbers"),
        ({"annotations": {"label": "x", "segment": [1]}}, "expected two numbers"),
        ({"annotations": {"label": "x", "segment": [1, 2, 3]}}, "segment is [1, 2, 3], expected two numbers"),
        ({"annotations": {"label": "x", "segment": {"0": 1, "1": 2}}}, "expected two numbers"),
        ({"annotations": {"label": "x", "segment": ["1", "2"]}}, "expected two numbers"),
        ({"annotations": {"label": "x", "segment": [True, 2]}}, "expected two numbers"),
        ({"annotations": {"label": "x", "segment": [12, 2]}}, "not after its start"),
        ({"annotations": {"label": "x", "segment": [-1, 2]}}, "start_seconds is -1"),
        ({"annotations": {"label": ["x"], "segment": [0, 2]}}, "label is ['x'], expected a text"),
        ({"annotations": {"label": " ", "segment": [0, 2]}}, "label is empty"),
        ({"annotations": {"label": "a\nb", "segment": [0, 2]}}, "line breaks"),
    ],
)
def test_what_cannot_be_read_is_a_row_with_a_reason_and_the_rest_is_read(tmp_path, change, says):
    bad, good = kinetics(tmp_path, {"bad": ENTRY | change, "-3B32lodo2M": ENTRY})
    assert isinstance(bad.error, MalformedRow) and says in str(bad.error)
    assert str(bad.error).startswith("some.json: annotation 1, of 'bad': ")
    assert good.annotation == ABSEILING


def test_rows_are_numbered_over_all_entries_readable_or_not(tmp_path):
    several = {"subset": "val", "annotations": [{"segment": [0, 1]}, {"segment": [1, 0]}, "none", {"segment": [2, 3]}]}
    rows = kinetics(tmp_path, {"a": several, "b": {"subset": "?"}, "c": several})
    assert [row.line for row in rows] == list(range(1, 10))
    good, bad = ReadableRow, UnreadableRow
    assert [type(row) for row in rows] == [good, bad, bad, good, bad, good, bad, bad, good]
    assert str(rows[7].error).startswith("some.json: annotation 8, of 'c': an annotation is 'none'")


def test_an_unreadable_row_keeps_the_subset_of_its_entry(tmp_path):
    bad = {"annotations": [], "subset": "validate"}
    (row,) = kinetics(tmp_path, {"a": bad}, "train")
    assert row.split == "val"
    (row,) = kinetics(tmp_path, {"a": {"annotations": []}}, "train")
    assert row.split == "train"
    (row,) = kinetics(tmp_path, {"a": {"annotations": [], "subset": "?"}}, "train")
    assert row.split == "train"


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400, "NaN"])
@pytest.mark.parametrize("backend", ["python", ijson.backend])
def test_a_time_beyond_all_numbers_is_refused_with_its_row_or_with_its_file(tmp_path, number, backend, monkeypatch):
    monkeypatch.setattr(ijson, "kvitems", ijson.get_backend(backend).kvitems)
    bad = ENTRY | {"annotations": {"label": "x", "segment": [0, "NUMBER"]}}
    content = json.dumps({"bad": bad, "-3B32lodo2M": ENTRY}).replace('"NUMBER"', number)
    try:
        row, good = kinetics(tmp_path, content)
    except BadAnnotations as error:
        assert "some.json is not JSON at its beginning" in str(error)
    else:
        assert isinstance(row.error, MalformedRow) and good.annotation == ABSEILING


@pytest.mark.parametrize("place", ["annotations", "subset", "label", "segment", "entry"])
def test_lists_nested_without_end_cost_their_row_only(tmp_path, place):
    bad = json.dumps(
        {
            "annotations": ENTRY | {"annotations": "DEEP"},
            "subset": ENTRY | {"subset": "DEEP"},
            "label": ENTRY | {"annotations": {"label": "DEEP", "segment": [0, 1]}},
            "segment": ENTRY | {"annotations": {"label": "x", "segment": "DEEP"}},
            "entry": "DEEP",
        }[place]
    ).replace('"DEEP"', "[" * 20_000 + "]" * 20_000)
    row, good = kinetics(tmp_path, f'{{"bad": {bad}, "-3B32lodo2M": {json.dumps(ENTRY)}}}')
    assert isinstance(row.error, MalformedRow) and len(str(row.error)) < 200
    assert good.annotation == ABSEILING


def test_an_id_that_is_no_file_name_is_refused(tmp_path):
    (row,) = kinetics(tmp_path, {"../etc": ENTRY})
    assert "not usable as a file name" in str(row.error)


def test_an_entry_that_is_no_map_is_refused(tmp_path):
    first, _ = kinetics(tmp_path, {"abc": [1, 2], "-3B32lodo2M": ENTRY})
    assert "an entry is [1, 2], expected a map" in str(first.error)


def test_a_file_that_breaks_off_says_where(tmp_path):
    text = json.dumps({"-3B32lodo2M": ENTRY, "other": ENTRY})
    with pytest.raises(BadAnnotations, match=r"some\.json is not JSON behind '-3B32lodo2M': "):
        kinetics(tmp_path, text[:-20])


def test_a_file_without_an_entry_is_refused(tmp_path):
    for read in (kinetics, activitynet):
        with pytest.raises(BadAnnotations, match="holds no annotation row"):
            read(tmp_path, {})


# Telling formats apart


@pytest.mark.parametrize(
    "content, name",
    [
        ("label,youtube_id,time_start,time_end,split\n", "kinetics-csv"),
        ("abseiling,-3B32lodo2M,59,69,train\n", "kinetics-csv"),
        ("nothing of the kind", "kinetics-csv"),  # whose reader says what is wrong
        ({"-3B32lodo2M": ENTRY}, "kinetics-json"),
        ({"abc": {"duration": 3, "subset": "test"}}, "kinetics-json"),
        ({"database": {"-3B32lodo2M": ENTRY}}, "activitynet-json"),
        ({"taxonomy": [{"nodeId": 1}], "version": "1", "database": {"abc": ENTRY}}, "activitynet-json"),
        ({"database": {}}, "activitynet-json"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no BOM", "BOM"])
def test_the_format_is_told_by_the_content(tmp_path, content, name, mark):
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    path = written(tmp_path, mark + text)
    assert detect(path) == name
    if isinstance(content, dict) and ENTRY in content.values():
        assert [row.annotation for row in ANNOTATION_FORMATS[name].read(path)] == [ABSEILING]


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"info": {"a": 1}, "database": {}}, {}])
def test_other_json_is_refused_and_its_beginning_shown(tmp_path, content):
    with pytest.raises(BadAnnotations, match=r"is none of activitynet-json, kinetics-json, .*; it begins b'"):
        detect(written(tmp_path, content))


def test_what_only_begins_as_json_is_refused(tmp_path):
    with pytest.raises(BadAnnotations, match="is not JSON at its beginning"):
        detect(written(tmp_path, "{oops"))


def test_real_annotations_are_the_same_as_json_and_as_csv(shared_data, tmp_path):
    path = shared_data / "annotations" / "k400_val.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    entries = (
        json.dumps(row["youtube_id"])
        + ": "
        + json.dumps(
            {
                "annotations": {"label": row["label"], "segment": [float(row["time_start"]), float(row["time_end"])]},
                "subset": row["split"],
            }
        )
        for row in rows
    )
    same = written(tmp_path, "{" + ",\n".join(entries) + "}")
    assert detect(same) == "kinetics-json"
    annotations = Counter(row.annotation for row in kinetics_json.read(same))
    assert annotations == Counter(row.annotation for row in kinetics_csv.read(path)) and annotations.total() == 19906
