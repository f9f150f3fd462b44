import pytest
from PIL import Image, ImageDraw
from strange import HOSTILE

from kinetics_prep.report import sheet_text
from kinetics_prep.report.sheet_text import caption_line, font_of, plain_letters, wrapped_title


def test_accented_letters_become_those_that_the_font_knows():
    assert plain_letters("Caf\u00e9 \u00c5ngstr\u00f6m z" + "\u0301" * 50) == "Cafe Angstrom z"


def test_letters_stay_safe_to_draw():
    assert plain_letters("a\x1b[31mb\n") == "a\ufffd[31mb\ufffd"
    assert len(plain_letters("\ufdfa" * 5000)) == 1000  # each is decomposed into eighteen


def test_a_caption_fills_its_width_and_no_more():
    measure = font_of(sheet_text.TEXT_SIZE).getlength
    assert caption_line("t = 0.12 s", 100) == "t = 0.12 s"
    short = caption_line("W" * 100, 100)
    assert short.endswith("…") and 100 - measure("W") < measure(short) <= 100


def test_the_first_line_of_a_title_is_larger():
    assert wrapped_title("abseiling\nabc, 10 s to 20 s", 1000) == [
        ("abseiling", sheet_text.TITLE_SIZE),
        ("abc, 10 s to 20 s", sheet_text.TEXT_SIZE),
    ]


def test_a_monstrous_first_line_leaves_the_second_line_standing():
    lines = wrapped_title("W" * 1000 + "\nabc, 10 s to 20 s", 400)
    assert [line[-1] for line, _ in lines] == ["W", "…", "s"]
    assert all(font_of(size).getlength(line) <= 400 for line, size in lines)


def test_the_height_of_a_title_is_that_of_its_lines():
    assert sheet_text.title_height([("a", 22), ("b", 15), ("c", 15)]) == 31 + 21 + 21
    assert sheet_text.title_height([]) == 0


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_a_title_of_any_text_is_drawn(text):
    picture = Image.new("RGB", (500, 500), "white")
    lines = wrapped_title(text, 400)
    sheet_text.draw_title(ImageDraw.Draw(picture), lines)
    inked = picture.convert("L").point(lambda level: 255 * (level < 200)).getbbox()
    assert (inked is not None) == any(line.strip() for line, _ in lines)
    if inked is not None:
        left, top, right, bottom = inked
        assert left >= sheet_text.MARGIN - 2 and right <= sheet_text.MARGIN + 402
        assert top >= sheet_text.MARGIN and bottom <= sheet_text.MARGIN + sheet_text.title_height(lines) + 4
