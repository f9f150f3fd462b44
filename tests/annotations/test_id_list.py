"""Lists of video ids."""

import pytest

from kinetics_prep.annotations.formats import id_list
from kinetics_prep.errors import BadAnnotations


def read(tmp_path, content: bytes):
    (tmp_path / "ids.txt").write_bytes(content)
    return [(media_id, row.line, str(row.error)) for media_id, row in id_list.read(tmp_path / "ids.txt")]


def test_an_id_is_the_first_word_of_its_line(tmp_path):
    missing = "is in none of the annotation files"
    assert read(tmp_path, b"\xef\xbb\xbf-3B32lodo2M\r\n\n  abc\t0 10\nabc") == [
        ("-3B32lodo2M", 1, f"ids.txt:1: '-3B32lodo2M' {missing}"),
        ("abc", 3, f"ids.txt:3: 'abc' {missing}"),
        ("abc", 4, f"ids.txt:4: 'abc' {missing}"),
    ]


@pytest.mark.parametrize(
    "line, why",
    [
        (b"jet\xe9", "text is not UTF-8"),
        ("\u3000".encode(), "there is no id on this line"),
        (b"x" * 10_001, "line is 10001 bytes long"),
    ],
)
def test_a_line_that_cannot_be_read_has_a_row_and_no_id(tmp_path, line, why):
    (first, *_), (second, number, message) = read(tmp_path, b"abc\n" + line)
    assert (first, second, number) == ("abc", None, 2)
    assert message.startswith(f"ids.txt:2: {why}")


def test_the_row_of_an_id_has_no_split(tmp_path):
    (tmp_path / "ids.txt").write_text("abc\n")
    ((_, row),) = id_list.read(tmp_path / "ids.txt")
    assert (row.file, row.split) == ("ids.txt", None)


def test_a_long_id_is_cut_in_the_message(tmp_path):
    ((media_id, _, message),) = read(tmp_path, b"x" * 5_000)
    assert len(media_id) == 5_000 and len(message) < 300


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf\n"])
def test_a_list_without_an_id_is_refused(tmp_path, content):
    with pytest.raises(BadAnnotations, match=r"ids\.txt holds no id"):
        read(tmp_path, content)


# Lines of ids of videos or clips ----------------------------------------------------------------


def read_lines(tmp_path, content: bytes):
    (tmp_path / "ids.txt").write_bytes(content)
    return id_list.read_lines(tmp_path / "ids.txt")


def test_lines_are_kept_whole_without_space_around_them(tmp_path):
    content = b"\xef\xbb\xbfabc\r\n\n  -def_000001_000002\t by mail  \nvideo of mine \xc3\xa9"
    assert read_lines(tmp_path, content) == ("abc", "-def_000001_000002\t by mail", "video of mine \u00e9")


@pytest.mark.parametrize(
    "line, message",
    [
        (b"a" * 256, "an id of 256 characters, expected 255 at most"),
        (b"a" * 10_001, "line is 10002 bytes long"),
        (b"ab\x1b[31mc", "expected an id of a video or a clip"),
        (b"abc behind \x07", "expected an id of a video or a clip"),
        (b"a\x00b", "NUL bytes"),
        (b"\xff\xfe", "not UTF-8"),
        ("\u2028".encode(), "expected an id of a video or a clip"),
        ("\u3000".encode(), "expected an id of a video or a clip"),
    ],
)
def test_a_line_that_cannot_be_an_id_is_refused_with_its_number(tmp_path, line, message):
    with pytest.raises(BadAnnotations, match=f"^ids.txt:3: .*{message}"):
        read_lines(tmp_path, b"abc\n\n" + line + b"\ndef\n")


def test_the_longest_id_is_fine(tmp_path):
    assert read_lines(tmp_path, b"a" * 255 + b" behind it") == ("a" * 255 + " behind it",)


@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_a_list_of_lines_must_hold_an_id(tmp_path, content):
    with pytest.raises(BadAnnotations, match="ids.txt holds no id"):
        read_lines(tmp_path, content)
