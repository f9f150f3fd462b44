import pytest

from kinetics_prep.report import text
from kinetics_prep.report.text import printable, shorten, title_lines, wrap


def width(line):
    """A font in which each letter is two pixels wide, and W five."""
    return 2 * len(line) + 3 * line.count("W")


@pytest.mark.parametrize(
    "given, expected",
    [
        ("caf\u00e9, 日本語 👍", "caf\u00e9, 日本語 👍"),
        ("a\x1b[2Jb", "a\ufffd[2Jb"),
        ("a\nb\tc\x00", "a\ufffdb\ufffdc\ufffd"),
        ("\u202eabc\u200b\ud800", "\ufffdabc\ufffd\ufffd"),
        ("a\u00a0b\x9b31m", "a\ufffdb\ufffd31m"),
        ("", ""),
    ],
)
def test_characters_that_move_a_cursor_or_hide_become_a_sign(given, expected):
    assert printable(given) == expected


def test_a_title_has_at_most_eight_lines_and_none_is_empty():
    assert title_lines("a\n\n  \r\nb\x1bc") == ["a", "b\ufffdc"]
    assert title_lines("\n".join("abcdefgh")) == list("abcdefgh")
    assert title_lines("\n".join("abcdefghi")) == [*"abcdefg", "…"]
    assert title_lines("") == []


def test_a_line_of_a_title_is_cut_before_it_is_measured():
    assert title_lines("x" * 1_000_000) == ["x" * text.MAX_LINE_CHARACTERS]


def test_shorten_returns_what_fits_and_not_a_letter_less():
    assert shorten("abcdef", 12, width) == "abcdef"
    assert shorten("abcdef", 11, width) == "abcd…"  # 4 letters and the ellipsis are 10 wide
    assert shorten("abcdef", 9, width) == "abc…"
    assert shorten("abc WWW", 13, width) == "abc…"  # no space before the ellipsis
    assert shorten("abcdef", 0, width) == "…"


def test_wrap_breaks_at_spaces():
    assert wrap("aaaa bbbb cccc", 18, width, 9) == ["aaaa bbbb", "cccc"]
    assert wrap("aaaa bbbb cccc", 17, width, 9) == ["aaaa", "bbbb", "cccc"]
    assert wrap("", 10, width, 2) == [""]


def test_wrap_breaks_a_word_that_is_wider_than_a_line():
    assert wrap("abcdefgh", 6, width, 9) == ["abc", "def", "gh"]
    assert wrap("WW", 1, width, 9) == ["W", "…"]  # never a line without a letter, which would be endless


def test_the_last_line_of_wrapped_text_is_shortened():
    assert wrap("aaaa bbbb cccc dddd", 18, width, 1) == ["aaaa bbb…"]
    assert wrap("aaaa bbbb cccc dddd eeee", 18, width, 2) == ["aaaa bbbb", "cccc ddd…"]
