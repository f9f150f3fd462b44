"""What the plots share: a figure measured in pixels, text of any kind in it, and the picture of it.

Nothing here uses pyplot or matplotlib's settings, which belong to the whole process: several threads may draw at once.
A figure has 72 dots per inch, so that matplotlib's points are pixels. Places are pixels from its top left corner.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from kinetics_prep.errors import MissingTool
from kinetics_prep.report.text import MAX_LINE_CHARACTERS, printable, title_lines, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN = 16
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 22, 15, 13
INK, GREY, PALE = "#141414", "#5a5a5a", "#c8c8c8"
WRAPS = 2
"""A monstrous label fills at most this many lines: it must not push out the lines below it."""
DPI = 72
FONT = "DejaVu Sans"
"""Comes with matplotlib, so it is the same on every machine."""

TextLine = tuple[str, int, str]
"""A line of text, its size and its colour."""


def require_matplotlib() -> None:
    """Checks that pictures can be drawn here.

    Raises:
      MissingTool: if matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingTool("pictures are drawn with matplotlib: pip install 'kinetics-prep[train]'") from None


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty white figure.

    Raises:
      MissingTool: if matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Adds axes at a place; their frame is pale and their tick labels small."""
    whole_width, whole_height = figure.bbox.size
    bottom = whole_height - top - height
    axes = figure.add_axes(
        (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height), facecolor="white"
    )
    axes.tick_params(labelsize=SMALL_SIZE, colors=GREY, labelcolor=INK, width=1)
    for spine in axes.spines.values():
        spine.set(color=PALE, linewidth=1)
    return axes


def add_lines(figure: Figure, top: float, lines: list[TextLine]) -> None:
    """Writes lines of text below each other, along the left margin."""
    for text, size, colour in lines:
        figure.text(MARGIN, figure.bbox.height - top, text, size=size, color=colour, va="top", transform=None)
        top += line_height(size)


def heading_lines(title: str, width: float) -> list[TextLine]:
    """Returns the lines of a title for `add_lines`; its first line is the heading."""
    lines = []
    for i, line in enumerate(title_lines(title)):
        size, colour = (TEXT_SIZE, GREY) if i else (TITLE_SIZE, INK)
        measure = functools.partial(text_width, size=size)
        lines += [(part, size, colour) for part in wrap(drawable(line), width, measure, WRAPS)]
    return lines


def height_of(lines: list[TextLine]) -> int:
    """Returns the height of lines for `add_lines`."""
    return sum(line_height(size) for _, size, _ in lines)


def line_height(size: int) -> int:
    """Returns the distance from one line to the next."""
    return round(size * 1.4)


def text_width(text: str, size: float) -> float:
    """Returns how wide a line of text is when it is drawn: in small sizes, a few per cent wider than its outlines."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer, font = RendererAgg(1, 1, DPI), FontProperties(family=FONT, size=size)
    width, _, _ = renderer.get_text_width_height_descent(text, font, ismath=False)
    return width


def drawable(text: str) -> str:
    """Returns one printable line, with U+FFFD for each letter that the font lacks.

    Accents for which there is no accented letter are left out: five hundred of them would be a tower.
    """
    text = unicodedata.normalize("NFC", printable(text[:MAX_LINE_CHARACTERS]))
    kept = (letter for letter in text if unicodedata.category(letter)[0] != "M")
    return "".join(letter if ord(letter) in _letters_of_font() else "\N{REPLACEMENT CHARACTER}" for letter in kept)


def is_legible(text: str) -> bool:
    """Returns whether drawable text shows at least half of its letters, and has any."""
    letters = text.replace(" ", "")
    return bool(letters) and 2 * letters.count("\N{REPLACEMENT CHARACTER}") <= len(letters)


def picture_of(figure: Figure) -> Image.Image:
    """Returns the figure as an RGB picture, the same for the same figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        # A label may hold dollar signs, and the user's own settings may name another font or call for LaTeX.
        text.set(parse_math=False, usetex=False, fontfamily=FONT)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


@functools.lru_cache(maxsize=1)
def _letters_of_font() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family=FONT))).get_charmap())
