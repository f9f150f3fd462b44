from PIL import ImageFont

from kinetics_prep.report import lettering

FONT = ImageFont.load_default(15)


def test_a_monstrous_first_line_leaves_the_second_one_standing():
    lines = lettering.title_lines("W" * 1000 + "\nabc, 10 s to 20 s", 400)
    assert [line[-1] for line, _ in lines] == ["W", "…", "s"]


def test_printable_text_has_no_control_characters_and_no_accents():
    assert lettering.printable(" caf\u00e9\t\x1b[31m \u200b\ud800 x\x00y ") == "cafe [31m xy"


def test_shorten_keeps_what_fits():
    assert lettering.shorten("abc", 1000, FONT) == "abc"
    short = lettering.shorten("abc " * 100, 100, FONT)
    assert short.startswith("abc abc") and short.endswith("…")
    assert FONT.getlength(short) <= 100


def test_wrap_breaks_at_spaces_and_else_within_a_word():
    width = FONT.getlength("aaaa bbbb")
    assert lettering.wrap("aaaa bbbb aaaa", width, FONT, 9) == ["aaaa bbbb", "aaaa"]
    assert "".join(lettering.wrap("a" * 50, width, FONT, 9)) == "a" * 50
    assert all(FONT.getlength(line) <= width for line in lettering.wrap("a" * 50, width, FONT, 2))


def test_text_that_the_font_knows_is_legible():
    assert lettering.is_legible("playing cricket (with a bat)")
    assert lettering.is_legible("日本語 playing")
    assert not lettering.is_legible("日本語 a")
    assert not lettering.is_legible("")
    assert not lettering.is_legible("  ")
