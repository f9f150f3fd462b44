"""Which classes a model takes for which: a confusion matrix as a picture."""

import dataclasses
import itertools
import math

import numpy as np
from PIL import Image, ImageDraw

from kinetics_prep.report.lettering import (
    GREY,
    INK,
    MARGIN,
    PALE,
    SMALL_SIZE,
    TEXT_SIZE,
    draw_title,
    draw_upright,
    font_of,
    is_legible,
    line_height,
    printable,
    shorten,
    title_height,
    title_lines,
)

MIN_WIDTH = 760  # pixels, like all lengths here: room for a title beside the legend, and for a confused pair
SIDE = 960  # of the matrix, at most
MAX_CELL, MIN_LABELLED_CELL = 72, 16
MIN_RULED_CELL = 6  # smaller cells touch
MAX_LABEL = 240
SMALLEST = 9
PAIRS = 10

RAMP = ((255, 255, 255), (208, 226, 244), (122, 176, 220), (42, 106, 176), (8, 38, 92))
NOTHING = (228, 226, 222)  # a row without a clip: not a shade of the ramp
RULE = (236, 236, 236)
LEGEND_WIDTH, LEGEND_HEIGHT = 200, 14
LEGEND_TICKS = (0, 0.01, 0.1, 0.25, 0.5, 1)


def confusion_picture(matrix, labels, title):
    """Draws how many clips of each class were taken for each.

    A row is a true class, its colours are shares of its clips. They run along a square root, so that the few per cent
    in which a good model errs are seen. Up to 60 classes have their labels on the axes, and counts in the cells where
    they fit; of more, class ids are told along the axes. With over 960 classes several share a pixel, which shows the
    largest share of them.

    Args:
      matrix: int [C, C], clips; true classes as rows.
      labels: C strings of any kind, in the order of class ids.
      title: text of any kind, such as the model and its scores. Its first line is the heading.

    Returns:
      A PIL image, RGB.
    """
    matrix = np.asarray(matrix)
    _refuse_nonsense(matrix, labels)
    names = [_name(label, k) for k, label in enumerate(labels)]
    plot = _plot(matrix, names)
    width = max(MIN_WIDTH, plot.width + 2 * MARGIN)
    parts = [_header(title, width), plot, _pairs(matrix, names, width - 2 * MARGIN)]

    picture = Image.new("RGB", (width, sum(part.height for part in parts) + 3 * MARGIN), "white")
    y = 0
    for part in parts:
        picture.paste(part, (0 if part.width == width else MARGIN, y))
        y += part.height + MARGIN
    return picture


def most_confused(matrix, count=PAIRS):
    """(true class, class that it was taken for, clips, of how many) of the most frequent mistakes, int each.

    The more clips the earlier; of as many, the larger their share of the true class.

    Args:
      matrix: int [C, C], true classes as rows.
    """
    mistakes = np.where(np.eye(len(matrix), dtype=bool), 0, matrix)
    of = matrix.sum(1)
    rows, columns = np.nonzero(mistakes)
    clips = mistakes[rows, columns]
    order = np.lexsort((columns, rows, -clips / of[rows], -clips))[:count]
    return [(int(rows[k]), int(columns[k]), int(clips[k]), int(of[rows[k]])) for k in order]


def share_colours(shares):
    """Colours of shares, 0 to 1, and of NaN, where there is nothing to share: uint8 [..., 3], RGB, of float [...]."""
    places = np.sqrt(np.clip(np.nan_to_num(shares), 0, 1))
    stops = np.linspace(0, 1, len(RAMP))
    rgb = np.stack([np.interp(places, stops, channel) for channel in np.array(RAMP).T], axis=-1)
    rgb[np.isnan(shares)] = NOTHING
    return np.rint(rgb).astype(np.uint8)


def _refuse_nonsense(matrix, labels):
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size or matrix.dtype.kind not in "iu":
        raise ValueError(f"matrix must be int [C, C] with C > 0, is {matrix.dtype} {list(matrix.shape)}")
    if matrix.min() < 0:
        raise ValueError(f"matrix holds numbers of clips, and {matrix.min()} is none")
    if len(labels) != len(matrix):
        raise ValueError(f"needs {len(matrix)} labels, one a class; has {len(labels)}")


def _name(label, class_id):
    """What to call a class: its label, or its id where the font knows too little of that."""
    text = printable(label)
    return text if is_legible(text) else f"class {class_id}"


def _shares(matrix):
    """Of each row's clips: float [C, C], NaN in rows without any."""
    of = matrix.sum(1, keepdims=True)
    return np.where(of > 0, matrix / np.maximum(of, 1), np.nan)


# The matrix --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Cells:
    """Where the cells of a matrix stand, and how they are called along the axes."""

    size: int
    classes: int

    @classmethod
    def fit(cls, classes):
        return cls(max(1, min(MAX_CELL, SIDE // classes)), classes)

    @property
    def are_labelled(self):
        return self.size >= MIN_LABELLED_CELL

    @property
    def pooled(self):
        """Classes that share a cell, in a row."""
        return math.ceil(self.classes / SIDE)

    @property
    def side(self):
        return math.ceil(self.classes / self.pooled) * self.size

    def middle(self, class_id):
        return round((class_id // self.pooled + 0.5) * self.size)


def _plot(matrix, names):
    """The matrix between its axes."""
    cells = _Cells.fit(len(matrix))
    font = font_of(min(TEXT_SIZE, max(SMALL_SIZE, cells.size - 6)))
    if cells.are_labelled:
        told = [(k, shorten(name, MAX_LABEL, font)) for k, name in enumerate(names)]
    else:
        told = [(k, str(k)) for k in range(0, len(names), _every(cells))]
    widest = math.ceil(max(font.getlength(text) for _, text in told))
    upright = widest > cells.size - 4 if cells.are_labelled else False

    heading = line_height(TEXT_SIZE)
    left = heading + widest + 8
    top = heading + (widest if upright else line_height(font.size)) + 8
    right = max(0, round(font.getlength(told[-1][1]) / 2) - (cells.side - cells.middle(told[-1][0])))
    plot = Image.new("RGB", (left + cells.side + 1 + right, top + cells.side + 1), "white")
    plot.paste(_coloured(matrix, cells), (left, top))

    draw = ImageDraw.Draw(plot)
    draw.rectangle((left - 1, top - 1, left + cells.side, top + cells.side), outline=PALE)
    for class_id, text in told:
        middle = cells.middle(class_id)
        draw.text((left - 6, top + middle), text, INK, font, anchor="rm")
        if upright:
            draw_upright(plot, (left + middle, top - 6), text, font)
        else:
            draw.text((left + middle, top - 6), text, INK, font, anchor="ms")
    kind = "" if cells.are_labelled else ", by class id"
    draw.text((left + cells.side / 2, 0), f"taken for{kind}", GREY, font_of(TEXT_SIZE), anchor="ma")
    draw_upright(plot, (heading // 2, top + cells.side // 2), f"true class{kind}", font_of(TEXT_SIZE), GREY, "middle")
    return plot


def _every(cells):
    """The distance of class ids that are told along an axis."""
    return next(step for step in _round_numbers() if step / cells.pooled * cells.size >= 48)


def _round_numbers():
    return (factor * 10**power for power in itertools.count() for factor in (1, 2, 5))


def _coloured(matrix, cells):
    """The cells, with rules between them and counts in them where there is room."""
    shares = _shares(matrix)
    rgb = share_colours(_pooled(shares, cells.pooled))
    picture = Image.fromarray(rgb).resize((cells.side, cells.side), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    if cells.size >= MIN_RULED_CELL:
        for k in range(1, len(rgb)):
            draw.line((k * cells.size, 0, k * cells.size, cells.side), RULE)
            draw.line((0, k * cells.size, cells.side, k * cells.size), RULE)
    font = _count_font(matrix, cells)
    if font is not None:
        for row, column in np.argwhere(matrix):
            ink = INK if shares[row, column] < 0.3 else "white"
            middle = cells.middle(column), cells.middle(row)
            draw.text(middle, str(matrix[row, column]), ink, font, anchor="mm")
    return picture


def _pooled(shares, n):
    """The largest share among n x n classes; NaN counts only where there is nothing else."""
    if n == 1:
        return shares
    starts = np.arange(0, len(shares), n)
    return np.fmax.reduceat(np.fmax.reduceat(shares, starts, axis=0), starts, axis=1)


def _count_font(matrix, cells):
    """The largest font in which every count fits into its cell; None if there is none."""
    longest = "8" * len(str(matrix.max()))
    for size in range(min(TEXT_SIZE, cells.size // 2), SMALLEST - 1, -1):
        if font_of(size).getlength(longest) <= cells.size - 4:
            return font_of(size)
    return None


# Around it ---------------------------------------------------------------------------------------


def _header(title, width):
    """The title on the left and what the colours mean on the right."""
    legend = _legend()
    lines = title_lines(title, width - legend.width - 3 * MARGIN)
    height = max(legend.height, title_height(lines))
    header = Image.new("RGB", (width, MARGIN + height), "white")
    header.paste(legend, (width - MARGIN - legend.width, MARGIN))
    draw_title(ImageDraw.Draw(header), lines)
    return header


def _legend():
    font, heading = font_of(SMALL_SIZE), "share of the true class's clips, in %"
    margin = 14
    width = max(LEGEND_WIDTH + 2 * margin, math.ceil(font.getlength(heading)))
    below = line_height(SMALL_SIZE)
    legend = Image.new("RGB", (width, 2 * below + LEGEND_HEIGHT + 6), "white")
    ramp = share_colours(np.linspace(0, 1, LEGEND_WIDTH) ** 2)
    draw = ImageDraw.Draw(legend)
    draw.text((width / 2, 0), heading, GREY, font, anchor="ma")
    left = (width - LEGEND_WIDTH) // 2
    legend.paste(Image.fromarray(np.repeat(ramp[None], LEGEND_HEIGHT, axis=0)), (left, below))
    draw.rectangle((left - 1, below - 1, left + LEGEND_WIDTH, below + LEGEND_HEIGHT), outline=PALE)
    for share in LEGEND_TICKS:
        x = left + round(math.sqrt(share) * (LEGEND_WIDTH - 1))
        draw.line((x, below + LEGEND_HEIGHT, x, below + LEGEND_HEIGHT + 3), GREY)
        draw.text((x, below + LEGEND_HEIGHT + 4), f"{share:.0%}".rstrip("%"), GREY, font, anchor="ma")
    return legend


def _pairs(matrix, names, width):
    """The most frequent mistakes in words."""
    font, small = font_of(TEXT_SIZE), font_of(SMALL_SIZE)
    lines = [_told(*pair, names, width, font) for pair in most_confused(matrix)]
    heading = "most confused" if lines else "no clip was taken for one of another class"
    empty = int(np.count_nonzero(matrix.sum(1) == 0))
    note = f"grey rows: classes without a clip, {empty} of {len(matrix)}" if empty else ""
    height = line_height(TEXT_SIZE) * (1 + len(lines)) + (line_height(SMALL_SIZE) + 4 if note else 0)
    pairs = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(pairs)
    for k, line in enumerate([heading, *lines]):
        draw.text((0, k * line_height(TEXT_SIZE)), line, INK if k else GREY, font)
    draw.text((0, height - line_height(SMALL_SIZE)), note, GREY, small)
    return pairs


def _told(true, taken_for, clips, of, names, width, font):
    counts = f": {clips} of {of} ({clips / of:.0%})"
    room = (width - font.getlength(f" taken for {counts}")) / 2
    return f"{shorten(names[true], room, font)} taken for {shorten(names[taken_for], room, font)}{counts}"
