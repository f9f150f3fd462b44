"""What every annotation format has in common, and lines as the formats of one clip per line read them."""

import inspect
import re

import pytest

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.formats import ANNOTATION_FORMATS, NumberedLabels, detect, lines
from kinetics_prep.annotations.rows import ReadableRow, UnreadableRow
from kinetics_prep.errors import BadAnnotations, MalformedRow

FILES = {
    "activitynet-json": (
        "some.json",
        '{"version": "1", "database": {"a": {"subset": "train", "annotations": {"label": "x", "segment": [0, 1]}},'
        ' "b": {"subset": "train", "annotations": {"label": "x", "segment": [1, 0]}}}}',
    ),
    "kinetics-json": (
        "some.json",
        '{"a": {"subset": "train", "annotations": {"label": "x", "segment": [0, 1]}},'
        ' "b": {"subset": "train", "annotations": {"label": "x", "segment": [1, 0]}}}',
    ),
    "ucf101": ("trainlist01.txt", "x/v_a.avi 1\nx/v_" + "b" * 300 + ".avi 1\n"),
    "hmdb51": ("x_test_split1.txt", "a.avi 1\nb/../c.avi 1\n"),
    "path-list": ("train.txt", "a_0_1.mp4 x\nb_1_0.mp4 x\n"),
    "kinetics-csv": ("some.csv", "x,a,0,1,train\nx,b,1,0,train\n"),
}
"""For each format a file with a row that can be read and one that cannot."""

LINE = re.compile(r"\w+ \d")


@pytest.fixture(params=ANNOTATION_FORMATS)
def file(request, tmp_path):
    name, content = FILES[request.param]
    (tmp_path / name).write_text(content)
    return request.param, tmp_path / name


def test_a_format_recognises_its_file(file):
    name, path = file
    assert detect(path) == name


def test_a_format_reads_a_row_for_each_annotation_readable_or_not(file):
    name, path = file
    good, bad = ANNOTATION_FORMATS[name].read(path)
    assert isinstance(good, ReadableRow) and isinstance(bad, UnreadableRow)
    assert good.annotation.label == "x" and good.annotation.media_id in ("a", "v_a")
    assert (good.file, good.line, good.split) == (path.name, 1, "train")
    assert (bad.file, bad.line) == (path.name, 2)
    assert str(bad.error).startswith(f"{path.name}:")


def test_a_format_has_the_signatures_of_its_protocol(file):
    module = ANNOTATION_FORMATS[file[0]]
    assert list(inspect.signature(module.recognises).parameters) == ["path"]
    parameters = inspect.signature(module.read).parameters
    assert list(parameters) == ["path", "default_split"] and parameters["default_split"].default is None


def test_a_file_without_an_annotation_is_refused_by_each_format(file):
    name, path = file
    path.write_text("{}" if name.endswith("json") else "\n")
    with pytest.raises(BadAnnotations, match="holds no annotation row"):
        list(ANNOTATION_FORMATS[name].read(path, "train"))


def test_a_file_that_is_not_there_is_an_error_of_the_system(file):
    name, path = file
    path.unlink()
    with pytest.raises(FileNotFoundError):
        list(ANNOTATION_FORMATS[name].read(path, "train"))


def test_labels_are_numbers_in_lists_of_paths_alone():
    assert [name for name, module in ANNOTATION_FORMATS.items() if isinstance(module, NumberedLabels)] == ["path-list"]


# Lines


def written(tmp_path, content: bytes):
    (tmp_path / "some.txt").write_bytes(content)
    return tmp_path / "some.txt"


def test_lines_are_numbered_from_1_and_blank_ones_are_passed_over(tmp_path):
    path = written(tmp_path, b"\xef\xbb\xbfone\r\n\n  \t\nfour\n\xef\xbb\xbffive")
    assert list(lines.numbered(path)) == [(1, b"one\r\n"), (4, b"four\n"), (5, b"\xef\xbb\xbffive")]


@pytest.mark.parametrize(
    "line, text", [(b"jet\xc3\xa9 \r\n", "jeté "), (b" a\n", " a"), (b"a", "a"), (b"a\r\r\n", "a")]
)
def test_a_line_is_decoded_without_its_end(line, text):
    assert lines.decode(line) == text


def test_the_longest_line_is_still_read():
    assert lines.decode(b"x" * 9_999 + b"\n") == "x" * 9_999
    with pytest.raises(MalformedRow, match="line is 10001 bytes long, expected at most 10000"):
        lines.decode(b"x" * 10_000 + b"\n")


@pytest.mark.parametrize("line, why", [(b"jet\xe9\n", "text is not UTF-8"), (b"a\0b\n", "line holds NUL bytes")])
def test_a_line_that_is_no_text_is_malformed(line, why):
    with pytest.raises(MalformedRow, match=why):
        lines.decode(line)


@pytest.mark.parametrize(
    "content, match",
    [
        (b"a 1\nb 2\n", True),
        (b"\n\na 1", True),
        (b"a 1\nb\n", False),
        (b"a 1\nb 2 c\n", False),
        (b"", False),
        (b"\n \n", False),
        (b"a 1\n" * 49 + b"b\n", False),
        (b"a 1\n" * 50 + b"b\n", True),
        (b"a" * 9_997 + b" 1\n", True),
        (b"a" * 9_998 + b" 1\n", False),
        (b"\xff 1\n", False),
    ],
)
def test_the_first_fifty_lines_decide_about_the_format(tmp_path, content, match):
    assert lines.first_lines_match(written(tmp_path, content), LINE) is match


def test_each_line_is_a_row_an_unreadable_row_or_none(tmp_path):
    def parse(text):
        if text == "bad":
            raise MalformedRow("it is bad")
        return None if text == "skip" else Annotation(text, 0.0, None, "val")

    good, bad, long = lines.rows(written(tmp_path, b" good \nskip\n\nbad\n" + b"x" * 10_001), "test", parse)
    assert good == ReadableRow("some.txt", 1, Annotation("good", 0.0, None, "val"))
    assert (bad.line, bad.split, str(bad.error)) == (4, "test", "some.txt:4: it is bad")
    assert long.line == 5 and "bytes long" in str(long.error)


def test_lines_of_which_none_is_a_row_are_refused(tmp_path):
    path = written(tmp_path, b"a\nb\n")
    with pytest.raises(BadAnnotations, match=r"some\.txt holds no annotation row"):
        list(lines.rows(path, "test", lambda text: None))
