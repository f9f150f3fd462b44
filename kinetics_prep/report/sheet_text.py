"""Lettering of the contact sheet in Pillow's own font, which is the same on every machine. Lengths are pixels."""

import functools
import unicodedata

from PIL import ImageDraw, ImageFont

from kinetics_prep.report.text import MAX_LINE_CHARACTERS, printable, shorten, title_lines, wrap

MARGIN = 16
TITLE_SIZE, TEXT_SIZE = 22, 15
INK, GREY, PALE = (20, 20, 20), (90, 90, 90), (200, 200, 200)
WRAPS = 2
"""A monstrous label fills at most this many lines: it must not push out the clip id below it."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
TitleLine = tuple[str, int]
"""A line of a title and its size."""


@functools.lru_cache(maxsize=8)
def font_of(size: int) -> Font:
    """Returns Pillow's own font in a size."""
    return ImageFont.load_default(size)


def line_height(size: int) -> int:
    """Returns the distance from one line to the next."""
    return round(size * 1.4)


def plain_letters(text: str) -> str:
    """Returns printable text whose accented letters have become base letters, as the font knows little beyond ASCII."""
    # Cut before and after: one character may be decomposed into eighteen.
    decomposed = unicodedata.normalize("NFKD", printable(text[:MAX_LINE_CHARACTERS]))
    return "".join(c for c in decomposed if unicodedata.category(c)[0] != "M")[:MAX_LINE_CHARACTERS]


def caption_line(caption: str, width: float) -> str:
    """Returns as much of a caption as fits into a width."""
    return shorten(plain_letters(caption), width, font_of(TEXT_SIZE).getlength)


def wrapped_title(title: str, width: float) -> list[TitleLine]:
    """Returns the lines of a title that fit into a width; its first line is larger."""
    lines = []
    for i, line in enumerate(title_lines(title)):
        size = TEXT_SIZE if i else TITLE_SIZE
        lines += [(part, size) for part in wrap(plain_letters(line), width, font_of(size).getlength, WRAPS)]
    return lines


def title_height(lines: list[TitleLine]) -> int:
    """Returns the height of a title's lines."""
    return sum(line_height(size) for _, size in lines)


def draw_title(draw: ImageDraw.ImageDraw, lines: list[TitleLine]) -> None:
    """Draws a title's lines into the top left corner of a picture."""
    y = MARGIN
    for line, size in lines:
        draw.text((MARGIN, y), line, INK if size == TITLE_SIZE else GREY, font_of(size))
        y += line_height(size)
