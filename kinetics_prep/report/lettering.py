"""How pictures are lettered: sizes, inks, and text of any kind made to fit. All lengths are pixels."""

import functools
import math
import unicodedata

from PIL import Image, ImageDraw, ImageFont

MAX_WIDTH = 1600  # what a browser shows whole
MARGIN = 16

TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 22, 15, 12
MAX_TITLE_LINES = 8
WRAPS = 2  # lines drawn for one line of the title at most: a monstrous label must not push out the id below it
MAX_LINE_CHARACTERS = 4000  # titles come from strangers, and Pillow refuses to measure a megabyte
INK, GREY, PALE = (20, 20, 20), (90, 90, 90), (200, 200, 200)
ELLIPSIS = "…"


def shorten(text, width, font):
    """The text, or as much of its beginning as fits into `width` pixels with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    kept = _fitting(text, width - font.getlength(ELLIPSIS), font)
    return text[:kept].rstrip() + ELLIPSIS


def wrap(text, width, font, max_lines):
    """The text as lines of at most `width` pixels, broken at spaces, or within a word that is wider than a line.

    The last line is shortened where more would be needed.
    """
    lines = []
    while len(lines) < max_lines - 1 and font.getlength(text) > width:
        kept = max(1, _fitting(text, width, font))
        space = text.rfind(" ", 0, kept + 1)
        end = space if space > 0 else kept
        lines.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return lines + [shorten(text, width, font)]


def printable(text):
    """One line of what the font may draw: no control, format or surrogate characters, no line breaks, no accents.

    Pillow's own font knows little beyond ASCII: an accented letter is drawn as its base letter, and what has none as
    a box.
    """
    # Cut on both sides: one character may be decomposed into eighteen.
    text = unicodedata.normalize("NFKD", text[:MAX_LINE_CHARACTERS])[:MAX_LINE_CHARACTERS]
    kept = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] not in "CM")
    return " ".join(kept.split())


def is_legible(text):
    """Whether the font knows at least half of the text's letters, and there is one."""
    letters = [c for c in text if not c.isspace()]
    return bool(letters) and 2 * sum(map(_knows, letters)) >= len(letters)


@functools.lru_cache(maxsize=4096)
def _knows(character):
    box, drawn = (font_of(TEXT_SIZE).getmask(c) for c in ("\uffff", character))
    return (drawn.size, bytes(drawn)) != (box.size, bytes(box))


def title_lines(title, width):
    """(line, font) for each line to draw, the first one larger."""
    given = [line for line in map(printable, title.splitlines()) if line]
    if len(given) > MAX_TITLE_LINES:
        given[MAX_TITLE_LINES - 1 :] = [ELLIPSIS]
    fonts = [font_of(TEXT_SIZE if i else TITLE_SIZE) for i in range(len(given))]
    return [(part, font) for line, font in zip(given, fonts, strict=True) for part in wrap(line, width, font, WRAPS)]


def title_height(lines):
    """Of a title's lines."""
    return sum(line_height(font.size) for _, font in lines)


def draw_title(draw, lines):
    """Draws a title's lines into the top left corner of a picture."""
    y = MARGIN
    for line, font in lines:
        draw.text((MARGIN, y), line, INK if font.size == TITLE_SIZE else GREY, font)
        y += line_height(font.size)


def draw_upright(picture, place, text, font, ink=INK, align="start"):
    """Draws text that reads upwards, its middle on x, and its start, middle or end on y."""
    width, height = math.ceil(font.getlength(text)), line_height(font.size)
    flat = Image.new("L", (width, height), 0)
    ImageDraw.Draw(flat).text((0, height / 2), text, 255, font, anchor="lm")
    mask = flat.rotate(90, expand=True)
    x, y = place
    above = {"start": width, "middle": width // 2, "end": 0}[align]
    picture.paste(Image.new("RGB", mask.size, ink), (x - height // 2, y - above), mask)


def _fitting(text, width, font):
    """How many of the text's first characters fit into `width` pixels."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    return low


@functools.lru_cache(maxsize=32)
def font_of(size):
    """Pillow's own font, the same on every machine."""
    return ImageFont.load_default(size)


def line_height(size):
    """From one line to the next."""
    return round(size * 1.4)
