"""The CSV files of Kinetics, in all their variants."""

from collections import Counter

import pytest

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.formats import ANNOTATION_FORMATS, kinetics_csv
from kinetics_prep.annotations.rows import ReadableRow, Row, UnreadableRow
from kinetics_prep.errors import BadAnnotations, MalformedRow

GOOD = "abseiling,-3B32lodo2M,59,69,train"
ABSEILING = Annotation("-3B32lodo2M", 59, 69, "train", "abseiling")

HEADER = "label,youtube_id,time_start,time_end,split"


def read(tmp_path, content: str | bytes, default_split=None) -> list[Row]:
    path = tmp_path / "some.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(kinetics_csv.read(path, default_split))


def annotations(rows) -> list[Annotation | None]:
    """Of each row its annotation; None for a row that cannot be read."""
    return [row.annotation if isinstance(row, ReadableRow) else None for row in rows]


def only_error(rows) -> str:
    (error,) = [row.error for row in rows if isinstance(row, UnreadableRow)]
    assert isinstance(error, MalformedRow)
    return str(error)


def test_the_table_of_formats_holds_this_one():
    assert ANNOTATION_FORMATS["kinetics-csv"] is kinetics_csv


@pytest.mark.parametrize(
    "header, line, expected",
    [
        (f"{HEADER},is_cc", f"{GOOD},0", ABSEILING),
        (HEADER, GOOD, ABSEILING),
        (HEADER, "javelin throw,--07WQ2iBlw,1,11,validate", Annotation("--07WQ2iBlw", 1, 11, "val", "javelin throw")),
        ("youtube_id,time_start,time_end,split", "--8YXc8iCt8,2,12,test", Annotation("--8YXc8iCt8", 2, 12, "test")),
    ],
    ids=["k400", "k600", "cvdf", "unlabelled"],
)
@pytest.mark.parametrize("with_header", [True, False], ids=["header", "no header"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no BOM", "BOM"])
def test_every_variant_is_read(tmp_path, header, line, expected, with_header, end, mark):
    lines = [header, line] if with_header else [line]
    rows = read(tmp_path, mark + end.join(lines) + end)
    assert rows == [ReadableRow("some.csv", len(lines), expected)]


def test_the_header_decides_where_columns_stand(tmp_path):
    header = "split,time_end,extra,YouTube_ID,time_start,label"
    assert annotations(read(tmp_path, f"{header}\ntrain,69,?,-3B32lodo2M,59,abseiling\n")) == [ABSEILING]


def test_a_file_without_splits_takes_the_default(tmp_path):
    content = "label,youtube_id,time_start,time_end\nabseiling,-3B32lodo2M,59,69\n"
    assert read(tmp_path, content, "train") == [ReadableRow("some.csv", 2, ABSEILING)]
    with pytest.raises(BadAnnotations, match=r"some\.csv:1: there is no split column; say which it is with --split"):
        read(tmp_path, content)


def test_the_split_of_a_row_goes_before_the_default(tmp_path):
    assert annotations(read(tmp_path, GOOD, "val")) == [ABSEILING]


def test_the_last_line_needs_no_end(tmp_path):
    assert annotations(read(tmp_path, f"{HEADER}\n{GOOD}")) == [ABSEILING]


def test_blank_lines_are_no_rows_and_are_counted(tmp_path):
    rows = read(tmp_path, f"\n{HEADER}\n\n  \n{GOOD}\n\n")
    assert [(row.line, row.annotation) for row in rows] == [(5, ABSEILING)]


@pytest.mark.parametrize(
    "cell, label",
    [
        ('"air drumming"', "air drumming"),
        ('"hurling, the ""Irish"" way"', 'hurling, the "Irish" way'),
        ("massaging person's head", "massaging person's head"),
        ("passing American football (in game)", "passing American football (in game)"),
        (" padded ", "padded"),
        ('5" nails', '5" nails'),
        ("jeté", "jeté"),
    ],
)
def test_labels_are_read_as_csv_quotes_them(tmp_path, cell, label):
    (row,) = read(tmp_path, f"{HEADER}\n{cell},-3B32lodo2M,59,69,train\n")
    assert row.annotation.label == label


def test_float_times_are_read(tmp_path):
    (row,) = read(tmp_path, f"{HEADER}\nabseiling,a,1.5,11.25,train\n")
    assert (row.annotation.start_seconds, row.annotation.end_seconds) == (1.5, 11.25)


def test_a_stray_quote_swallows_no_other_row(tmp_path):
    rows = read(tmp_path, f'{HEADER}\n{GOOD}\n"air drumming,b,1,11,train\n{GOOD}\n"closed",c,1,11,train\n')
    assert [row.line for row in rows if isinstance(row, ReadableRow)] == [2, 4, 5]
    assert only_error(rows).startswith("some.csv:3: not a row of CSV")


@pytest.mark.parametrize(
    "line, message",
    [
        ("abseiling,#NAME?,59,69,train", "video id '#NAME[?]' is not usable"),  # "-3B..." after a visit to Excel
        ("abseiling,a,0:00:59,69,train", "time_start is '0:00:59', expected a number of seconds"),
        ("abseiling,a,5_9,69,train", "time_start is '5_9', expected a number of seconds"),
        ("abseiling,a,59,,train", "time_end is '', expected a number of seconds"),
        ("abseiling,a,nan,69,train", "start_seconds is nan, expected 0 to"),
        ("abseiling,a,69,59,train", "clip ends at 59.0 s, not after its start at 69.0 s"),
        ("abseiling,a,-1,9,train", "start_seconds is -1.0, expected 0 to"),
        ("abseiling,../a,59,69,train", "video id '../a' is not usable"),
        (",a,59,69,train", "label is empty"),
        ("abseiling,a,59,69,holdout", "split is 'holdout', expected one of"),
        ("abseiling,a,59,69", "expected 5 columns, found 4"),
        ("abseiling,a,59,69,train,0", "expected 5 columns, found 6"),
        ("fencing, sport,a,59,69,train", "expected 5 columns, found 6"),
        (f"{'x' * 10_000},a,59,69,train", r"line is \d+ bytes long, expected at most 10000"),
    ],
)
def test_a_row_that_cannot_be_read_names_file_line_and_reason(tmp_path, line, message):
    rows = read(tmp_path, f"{HEADER}\n{GOOD}\n{line}\n{GOOD}\n")
    assert annotations(rows) == [ABSEILING, None, ABSEILING]
    with pytest.raises(MalformedRow, match=rf"^some\.csv:3: {message}"):
        raise rows[1].error


@pytest.mark.parametrize("line, split", [("abseiling,a,?,69,val", "val"), ("abseiling,a,59,69,holdout", None)])
def test_an_unreadable_row_keeps_its_split_where_that_can_be_read(tmp_path, line, split):
    (row,) = read(tmp_path, f"{HEADER}\n{line}\n")
    assert isinstance(row, UnreadableRow) and row.split == split


def test_an_id_that_excel_wrote_as_a_number_is_taken_by_its_word(tmp_path):
    (row,) = read(tmp_path, f"{HEADER}\nabseiling,1.23E+11,59,69,train\n")
    assert row.annotation.media_id == "1.23E+11"


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_line_that_is_not_utf8_costs_that_line_only(tmp_path, place):
    lines = [HEADER.encode(), GOOD.encode(), GOOD.encode()]
    lines.insert(place, b"jet\xe9,b,1,11,train")
    rows = read(tmp_path, b"\n".join(lines))
    assert annotations(rows).count(ABSEILING) == 2
    assert only_error(rows).startswith(f"some.csv:{place + 1}: text is not UTF-8")


def test_a_first_line_that_is_not_utf8_does_not_hide_the_others(tmp_path):
    rows = read(tmp_path, b"jet\xe9,b,1,11,train\n" + GOOD.encode())
    assert annotations(rows) == [None, ABSEILING]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "\ufeff\r\n"])
def test_an_empty_file_is_no_annotation_file(tmp_path, content):
    with pytest.raises(BadAnnotations, match=r"some\.csv holds no annotation row"):
        read(tmp_path, content)


def test_a_file_with_a_header_only_has_no_rows(tmp_path):
    assert read(tmp_path, HEADER) == []


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace(",", "\t"),
        f"{HEADER}\n{GOOD}".replace(",", ";"),
        "abseiling,a",
        "a,b,c,d,e,f,g",
        "some.mp4 3\n",
    ],
    ids=["tabs", "semicolons", "2 columns", "7 columns", "a list"],
)
def test_a_file_whose_columns_cannot_be_told_is_refused_with_its_line(tmp_path, content):
    with pytest.raises(BadAnnotations, match=r"some\.csv:1: expected a header with youtube_id, .*; found \d columns"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "content, why",
    [
        (GOOD.encode("utf-16"), "not UTF-8"),
        (f"{HEADER}\r{GOOD}\r".encode(), "not a row of CSV"),  # line ends of old Macs
        (b"\xff" * 20_000, "20000 bytes long"),
        (bytes(range(256)) * 100, "NUL"),
    ],
    ids=["UTF-16", "CR", "one long line", "binary"],
)
def test_a_file_of_which_no_line_can_be_read_says_why(tmp_path, content, why):
    with pytest.raises(BadAnnotations, match=why):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "header, missing", [("youtube_id,time_start,split", "time_end"), ("time_end", "youtube_id, time_start")]
)
def test_a_header_that_lacks_a_column_is_refused(tmp_path, header, missing):
    with pytest.raises(BadAnnotations, match=rf"some\.csv:1: header {header} lacks {missing}$"):
        read(tmp_path, f"{header}\n")


@pytest.mark.parametrize(
    "name, count, split, labels, from_dash, latest_start",
    [
        ("k400_cvdf_validate.csv", 18_009, "val", 400, 579, 6_724),
        ("k400_test_labelled.csv", 39_805, "test", 400, 564, 6_621),
        ("k400_test_unlabelled.csv", 38_685, "test", 0, 548, 6_621),
        ("k400_tiny_train.csv", 400, "train", 400, 6, 2_886),
        ("k400_val.csv", 19_906, "val", 400, 644, 6_724),
        ("k600_val.csv", 30_000, "val", 600, 744, 14_846),
    ],
)
def test_every_row_of_the_real_files_is_read(shared_data, name, count, split, labels, from_dash, latest_start):
    path = shared_data / "annotations" / name
    rows = list(kinetics_csv.read(path))
    assert [row.line for row in rows] == list(range(2, path.read_bytes().count(b"\n") + 1))
    assert len(rows) == count
    assert {type(row) for row in rows} == {ReadableRow}
    given = annotations(rows)
    assert {annotation.split for annotation in given} == {split}
    assert len({annotation.label for annotation in given} - {None}) == labels
    assert sum(annotation.media_id.startswith("-") for annotation in given) == from_dash
    assert {len(annotation.media_id) for annotation in given} == {11}
    assert {annotation.end_seconds - annotation.start_seconds for annotation in given} == {10}
    assert max(annotation.start_seconds for annotation in given) == latest_start


def test_kinetics_600_holds_videos_twice_and_clips_once(shared_data):
    given = annotations(kinetics_csv.read(shared_data / "annotations" / "k600_val.csv"))
    videos = Counter(annotation.media_id for annotation in given)
    assert sum(count > 1 for count in videos.values()) == 6
    assert len({annotation.clip_id for annotation in given}) == len(given)


def test_labels_keep_their_capitals_apostrophes_and_parentheses(shared_data):
    given = annotations(kinetics_csv.read(shared_data / "annotations" / "k400_tiny_train.csv"))
    assert {"passing American football (in game)", "massaging person's head", "tying knot (not on a tie)"} <= {
        annotation.label for annotation in given
    }
