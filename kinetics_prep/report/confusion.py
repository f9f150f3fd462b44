"""Which classes a model takes for which: a confusion matrix as a picture."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from kinetics_prep.report.plot import (
    GREY,
    INK,
    MARGIN,
    PALE,
    SMALL_SIZE,
    TEXT_SIZE,
    TextLine,
    add_axes,
    add_lines,
    drawable,
    heading_lines,
    height_of,
    is_legible,
    line_height,
    new_figure,
    picture_of,
    require_matplotlib,
    text_width,
)
from kinetics_prep.report.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MIN_WIDTH = 760  # pixels, like all lengths here: room for a title beside the scale, and for a confused pair
MAX_SIDE = 1100  # of the matrix
MAX_CELL, MIN_RULED_CELL = 72, 6  # smaller cells touch
MAX_LABELLED = 60  # classes
MAX_LABEL = 260
SMALLEST = 9
PAIRS = 10

SCALE_WIDTH, SCALE_HEIGHT = 228, 14
SCALE_TICKS = (0, 0.01, 0.1, 0.25, 0.5, 1)
NOTHING = "#ebe9e4"  # a row without a clip: not a shade of the scale
RULE = "#ececec"

Counts = NDArray[np.integer[Any]]
Pair = tuple[int, int, int, int]
"""True class, class that it was taken for, clips, of how many."""


def confusion_picture(matrix: ArrayLike, labels: Sequence[str], title: str) -> Image.Image:
    """Draws how many clips of each class were taken for each, as `confusion_figure` does; returns an RGB picture."""
    return picture_of(confusion_figure(matrix, labels, title))


def confusion_figure(matrix: ArrayLike, labels: Sequence[str], title: str) -> Figure:
    """Draws how many clips of each class were taken for each.

    A row is a true class, its colours are shares of its clips. They run along a square root, so that the few per cent
    in which a good model errs are seen. Up to 60 classes have their labels on the axes, and counts in the cells where
    they fit; of more, class ids stand along the axes. With over 1100 classes several share a pixel, which shows the
    largest share of them.

    Args:
      matrix: int [C, C], clips; true classes as rows.
      labels: C strings of any kind, in the order of class ids.
      title: text of any kind, such as the model and its scores. Its first line is the heading.

    Raises:
      MissingTool: if matplotlib is not installed.
    """
    counts = _checked(matrix, labels)
    require_matplotlib()
    names = [_name(label, class_id) for class_id, label in enumerate(labels)]
    measure = functools.partial(text_width, size=SMALL_SIZE)
    on_axes = [shorten(name, MAX_LABEL, measure) for name in names] if len(names) <= MAX_LABELLED else []
    layout = _Layout.fit(len(names), max(measure(text) for text in on_axes or [str(len(names))]), bool(on_axes))
    heading = heading_lines(title, layout.width - SCALE_WIDTH - 5 * MARGIN)
    below = _lines_below(counts, names, layout.width - 2 * MARGIN, has_ids=not on_axes)
    top = MARGIN + max(height_of(heading), SCALE_HEIGHT + 3 * line_height(SMALL_SIZE)) + layout.above
    end = top + layout.side + MARGIN

    figure = new_figure(layout.width, end + height_of(below) + MARGIN)
    axes = add_axes(figure, layout.left, top, layout.side, layout.side)
    for spine in axes.spines.values():
        spine.set_position(("outward", 1))  # or it would hide the first class, if that is a pixel wide
    image = _draw_cells(axes, counts, layout.per_cell)
    _draw_labels(axes, on_axes, layout.is_upright)
    if layout.cell >= MIN_RULED_CELL:
        _draw_rules(axes, layout.cells)
    _write_counts(axes, counts, layout.cell)
    _draw_scale(figure, image, layout.width - 2 * MARGIN - SCALE_WIDTH)
    add_lines(figure, MARGIN, heading)
    add_lines(figure, end, below)
    return figure


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How large the matrix is, and how much room its labels take."""

    cells: int
    cell: int
    per_cell: int
    """Classes that share a cell, in a row."""
    label_width: int
    is_upright: bool
    """Whether the labels above the matrix read upwards, as they are wider than a cell."""

    @classmethod
    def fit(cls, classes: int, label_width: float, is_labelled: bool) -> _Layout:
        """Returns the layout for a number of classes, the widest of whose labels has a width."""
        per_cell = math.ceil(classes / MAX_SIDE)
        cells = math.ceil(classes / per_cell)
        cell = min(MAX_CELL, MAX_SIDE // cells)
        return cls(cells, cell, per_cell, math.ceil(label_width), is_labelled and label_width > cell - 4)

    @property
    def side(self) -> int:
        return self.cells * self.cell

    @property
    def left(self) -> int:
        return MARGIN + line_height(TEXT_SIZE) + self.label_width + 12

    @property
    def width(self) -> int:
        return max(MIN_WIDTH, self.left + self.side + MARGIN)

    @property
    def above(self) -> int:
        """Room between the header and the cells."""
        return line_height(TEXT_SIZE) + (self.label_width if self.is_upright else line_height(SMALL_SIZE)) + 24


def most_confused(matrix: Counts, count: int = PAIRS) -> list[Pair]:
    """Returns (true class, class that it was taken for, clips, of how many) of the most frequent mistakes.

    The more clips the earlier; of as many, the larger their share of the true class.

    Args:
      matrix: int [C, C], true classes as rows.
      count: mistakes at most.
    """
    mistakes = np.where(np.eye(len(matrix), dtype=bool), 0, matrix)
    of = matrix.sum(1)
    rows, columns = np.nonzero(mistakes)
    clips = mistakes[rows, columns]
    order = np.lexsort((columns, rows, -clips / of[rows], -clips))[:count]
    return [(int(rows[k]), int(columns[k]), int(clips[k]), int(of[rows[k]])) for k in order]


def _checked(matrix: ArrayLike, labels: Sequence[str]) -> Counts:
    counts = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size or counts.dtype.kind not in "iu":
        raise ValueError(f"matrix must be int [C, C] with C > 0, is {counts.dtype} {list(counts.shape)}")
    if counts.min() < 0:
        raise ValueError(f"matrix must hold numbers of clips, not {counts.min()}")
    if len(labels) != len(counts):
        raise ValueError(f"needs {len(counts)} labels, one per class; has {len(labels)}")
    return counts


def _name(label: str, class_id: int) -> str:
    """Returns the label, or the class id if the font lacks most letters of the label."""
    text = drawable(label)
    return text if is_legible(text) else f"class {class_id}"


def _draw_cells(axes: Axes, counts: Counts, per_cell: int) -> AxesImage:
    """Draws shares as colours; along both axes, coordinates are class ids."""
    import matplotlib
    from matplotlib.colors import PowerNorm

    of = counts.sum(1, keepdims=True)
    shares = np.where(of > 0, counts / np.maximum(of, 1), np.nan)
    # The largest share of the classes in a cell; NaN stays only where there is nothing else.
    starts = np.arange(0, len(shares), per_cell)
    shares = np.fmax.reduceat(np.fmax.reduceat(shares, starts, axis=0), starts, axis=1)
    end = len(starts) * per_cell - 0.5
    return axes.imshow(
        np.ma.masked_invalid(shares),
        cmap=matplotlib.colormaps["Blues"].with_extremes(bad=NOTHING),
        norm=PowerNorm(0.5, vmin=0, vmax=1),
        interpolation="nearest",
        extent=(-0.5, end, end, -0.5),
        aspect="auto",
    )


def _draw_labels(axes: Axes, names: list[str], upright: bool) -> None:
    """Draws the names of classes along both axes, or class ids if there are no names."""
    unit = "" if names else ", by class id"
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel(f"taken for{unit}", size=TEXT_SIZE, color=GREY, labelpad=8)
    axes.set_ylabel(f"true class{unit}", size=TEXT_SIZE, color=GREY)
    for axis in (axes.xaxis, axes.yaxis) if names else ():
        axis.set_ticks(range(len(names)), names)
    if names:
        axes.tick_params(length=0)
        axes.tick_params(axis="x", rotation=90 if upright else 0)


def _draw_rules(axes: Axes, cells: int) -> None:
    """Draws lines between the cells."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(0.5, cells - 1), minor=True)
    axes.grid(which="minor", color=RULE, linewidth=1)
    axes.tick_params(which="minor", length=0)


def _write_counts(axes: Axes, counts: Counts, cell: int) -> None:
    """Writes counts into their cells, in the largest size in which every count fits; none if no size is legible."""
    longest = "8" * len(str(counts.max()))
    sizes = range(min(TEXT_SIZE, cell // 2), SMALLEST - 1, -1)
    size = next((size for size in sizes if text_width(longest, size) <= cell - 4), None)
    if size is None:
        return
    of = counts.sum(1)
    for row, column in np.argwhere(counts):
        colour = INK if counts[row, column] < 0.3 * of[row] else "white"
        text = str(counts[row, column])
        axes.text(column, row, text, size=size, color=colour, ha="center", va="center_baseline")


def _draw_scale(figure: Figure, image: AxesImage, left: float) -> None:
    """Draws what the colours mean into the top right corner."""
    axes = add_axes(figure, left, MARGIN + line_height(SMALL_SIZE), SCALE_WIDTH, SCALE_HEIGHT)
    scale = figure.colorbar(image, cax=axes, orientation="horizontal")
    scale.outline.set(color=PALE, linewidth=1)
    axes.xaxis.set_ticks(SCALE_TICKS, [f"{100 * share:g}" for share in SCALE_TICKS])
    axes.set_title("share of the true class's clips, in %", size=SMALL_SIZE, color=GREY, pad=5)


def _lines_below(counts: Counts, names: list[str], width: float, has_ids: bool) -> list[TextLine]:
    """Returns the most frequent mistakes in words."""
    pairs = most_confused(counts)
    lines = [("most confused" if pairs else "no clip was taken for another class", TEXT_SIZE, GREY)]
    lines += [(_pair_in_words(pair, names, width, has_ids), TEXT_SIZE, INK) for pair in pairs]
    empty = int(np.count_nonzero(counts.sum(1) == 0))
    if empty:
        lines.append((f"grey rows: classes without a clip, {empty} of {len(counts)}", SMALL_SIZE, GREY))
    return lines


def _pair_in_words(pair: Pair, names: list[str], width: float, has_ids: bool) -> str:
    """Returns a mistake in words; long names are cut, so that the line fits into a width."""
    true, other, clips, of = pair
    true_id, other_id = (f" ({class_id})" if has_ids else "" for class_id in (true, other))
    measure = functools.partial(text_width, size=TEXT_SIZE)
    between, end = f"{true_id} taken for ", f"{other_id}: {clips} of {of} ({clips / of:.0%})"
    room = width - measure(between) - measure(end)
    true_name = shorten(names[true], max(room / 2, room - measure(names[other])), measure)
    return f"{true_name}{between}{shorten(names[other], room - measure(true_name), measure)}{end}"
