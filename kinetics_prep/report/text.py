"""Text from strangers: made safe to show, and short enough to fit."""

import bisect
from collections.abc import Callable

ELLIPSIS = "…"
MAX_LINES = 8
MAX_LINE_CHARACTERS = 1000
"""Measuring a megabyte takes seconds, and Pillow refuses to."""

Measure = Callable[[str], float]
"""Returns the width of a text in pixels."""


def printable(text: str) -> str:
    """Replaces each control, format or surrogate character by U+FFFD: a hostile file could move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def title_lines(title: str) -> list[str]:
    """Splits a title into printable lines: none empty, at most `MAX_LINES`, each of at most `MAX_LINE_CHARACTERS`."""
    lines = [printable(line[:MAX_LINE_CHARACTERS]) for line in title.splitlines() if line.strip()]
    return lines if len(lines) <= MAX_LINES else [*lines[: MAX_LINES - 1], ELLIPSIS]


def shorten(text: str, width: float, measure: Measure) -> str:
    """Returns the text, or as much of its beginning as fits into `width` pixels with an ellipsis."""
    if measure(text) <= width:
        return text
    return text[: _fitting(text, width - measure(ELLIPSIS), measure)].rstrip() + ELLIPSIS


def wrap(text: str, width: float, measure: Measure, max_lines: int) -> list[str]:
    """Breaks the text into lines of at most `width` pixels: at spaces, or within a word that is wider than a line.

    The last line is shortened if the rest does not fit into it.
    """
    lines: list[str] = []
    while len(lines) < max_lines - 1 and len(text) > 1 and measure(text) > width:
        length = max(1, _fitting(text, width, measure))  # never a line without a letter, or there is no end
        space = text.rfind(" ", 0, length + 1)
        end = space if space > 0 else length
        lines.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return [*lines, shorten(text, width, measure)]


def _fitting(text: str, width: float, measure: Measure) -> int:
    """Returns how many of the first characters fit into `width` pixels."""
    return bisect.bisect_right(range(len(text)), width, key=lambda last: measure(text[: last + 1]))
