"""A contact sheet: some frames of a clip, each beside its flow in colours."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from kinetics_prep.report.colours import flow_to_rgb, scale_px, wheel_legend
from kinetics_prep.report.sheet_text import (
    GREY,
    INK,
    MARGIN,
    PALE,
    TEXT_SIZE,
    caption_line,
    draw_title,
    font_of,
    line_height,
    title_height,
    wrapped_title,
)

MAX_WIDTH = 1600  # pixels, like all lengths here: what a browser shows whole
MIN_WIDTH = 640  # room for a title above one small cell
MIN_CELL_WIDTH = 100  # room for a caption
GAP = 12
WHEEL = 72


def contact_sheet(
    frames: ArrayLike,
    flows: ArrayLike,
    captions: Sequence[str],
    title: str,
    columns: int = 4,
    max_px: float | None = None,
) -> Image.Image:
    """Draws frames and their flows in a grid, with a title and the scale of the flow's colours above it.

    Args:
      frames: uint8 [N, H, W, 3], RGB.
      flows: float32 [N, H, W, 2], (dx, dy) in pixels, one per frame.
      captions: N strings, one under each cell.
      title: text of any kind. Its first line is the heading; a line that does not fit is wrapped once, then cut.
      columns: cells side by side; fewer where the sheet would become wider than 1600 pixels.
      max_px: the flow that is fully saturated, by default `colours.scale_px(flows)`.

    Returns:
      A PIL image, RGB.
    """
    rgb, vectors = np.asarray(frames), np.asarray(flows, np.float32)
    _refuse_nonsense(rgb, vectors, captions, columns)
    max_px = scale_px(vectors) if max_px is None else max_px
    count, height, width = rgb.shape[:3]
    grid = Grid.fit(count, height, width, columns)
    header = _header(title, max_px, grid.width)

    sheet = Image.new("RGB", (grid.width, header.height + grid.height), "white")
    sheet.paste(header, (0, 0))
    # One cell at a time: in full size the coloured flows of a long clip need not all fit in memory.
    for i, (frame, flow, caption) in enumerate(zip(rgb, vectors, captions, strict=True)):
        x, y = grid.corner(i)
        cell = _cell(frame, flow_to_rgb(flow, max_px), caption, grid)
        sheet.paste(cell, (x, header.height + y))
    return sheet


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where cells stand, in pixels. A cell is two pictures side by side above one line of text."""

    cells: int
    columns: int
    picture_width: int
    picture_height: int

    @classmethod
    def fit(cls, cells: int, height: int, width: int, columns: int) -> "Grid":
        """Returns the grid for pictures of a size: as many columns as fit, pictures shrunk but never enlarged."""
        room = MAX_WIDTH - 2 * MARGIN + GAP
        columns = min(columns, cells, room // (MIN_CELL_WIDTH + GAP))
        scale = min(1, (room // columns - GAP) / (2 * width))
        return cls(cells, columns, max(1, math.floor(width * scale)), max(1, round(height * scale)))

    @property
    def cell_width(self) -> int:
        return max(2 * self.picture_width, MIN_CELL_WIDTH)

    @property
    def cell_height(self) -> int:
        return self.picture_height + line_height(TEXT_SIZE) + 4

    @property
    def width(self) -> int:
        return max(MIN_WIDTH, 2 * MARGIN - GAP + self.columns * (self.cell_width + GAP))

    @property
    def height(self) -> int:
        return math.ceil(self.cells / self.columns) * (self.cell_height + GAP) + MARGIN - GAP

    def corner(self, i: int) -> tuple[int, int]:
        """Returns (x, y) of the top left corner of the i-th cell, row by row."""
        row, column = divmod(i, self.columns)
        return MARGIN + column * (self.cell_width + GAP), row * (self.cell_height + GAP)


def _refuse_nonsense(
    frames: NDArray[np.uint8], flows: NDArray[np.float32], captions: Sequence[str], columns: int
) -> None:
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ValueError(f"frames must be uint8 [N, H, W, 3], not empty; are {frames.dtype} {list(frames.shape)}")
    if flows.shape != (*frames.shape[:3], 2):
        raise ValueError(f"flows must be {[*frames.shape[:3], 2]} like the frames, are {list(flows.shape)}")
    if len(captions) != len(frames):
        raise ValueError(f"needs {len(frames)} captions, one per frame; has {len(captions)}")
    if columns < 1:
        raise ValueError(f"needs at least one column, has {columns}")


def _header(title: str, max_px: float, width: int) -> Image.Image:
    """Draws the title on the left and the colour wheel on the right, as wide as the sheet."""
    legend = _legend(max_px)
    lines = wrapped_title(title, width - legend.width - 3 * MARGIN)
    height = max(legend.height, title_height(lines))
    header = Image.new("RGB", (width, height + 2 * MARGIN), "white")
    header.paste(legend, (width - MARGIN - legend.width, MARGIN))
    draw_title(ImageDraw.Draw(header), lines)
    return header


def _legend(max_px: float) -> Image.Image:
    """Draws the colour wheel above the motion that its rim stands for."""
    text, font = f"rim: {max_px:.3g} px/frame", font_of(TEXT_SIZE)
    width = max(WHEEL, math.ceil(font.getlength(text)))
    legend = Image.new("RGB", (width, WHEEL + 4 + line_height(TEXT_SIZE)), "white")
    legend.paste(Image.fromarray(wheel_legend(WHEEL)), ((width - WHEEL) // 2, 0))
    ImageDraw.Draw(legend).text((width / 2, WHEEL + 4), text, GREY, font, anchor="ma")
    return legend


def _cell(frame: NDArray[np.uint8], flow_rgb: NDArray[np.uint8], caption: str, grid: Grid) -> Image.Image:
    """Draws a frame, its flow to the right of it, both uint8 [H, W, 3], and the caption below."""
    cell = Image.new("RGB", (grid.cell_width, grid.cell_height), "white")
    for i, picture in enumerate((frame, flow_rgb)):
        small = Image.fromarray(picture).resize((grid.picture_width, grid.picture_height), Image.Resampling.BICUBIC)
        cell.paste(small, (i * grid.picture_width, 0))
    draw = ImageDraw.Draw(cell)
    # The flow of a still scene is white, and could not be seen on white paper.
    draw.rectangle((0, 0, 2 * grid.picture_width - 1, grid.picture_height - 1), outline=PALE)
    draw.text((0, grid.picture_height + 4), caption_line(caption, grid.cell_width), INK, font_of(TEXT_SIZE))
    return cell
