"""A contact sheet: some frames of a clip, each beside its flow in colours."""

import dataclasses
import math
import unicodedata

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kinetics_prep.report.colours import flow_to_rgb, scale_px, wheel_legend

MAX_WIDTH = 1600  # pixels, like all lengths here: what a browser shows whole
MIN_WIDTH = 640  # room for a title above one small cell
MIN_CELL_WIDTH = 100  # room for a caption
MARGIN = 16
GAP = 12
WHEEL = 72

TITLE_SIZE, TEXT_SIZE = 22, 15
MAX_TITLE_LINES = 8
WRAPS = 2  # lines drawn for one line of the title at most: a monstrous label must not push out the id below it
MAX_LINE_CHARACTERS = 4000  # titles come from strangers, and Pillow refuses to measure a megabyte
INK, GREY, PALE = (20, 20, 20), (90, 90, 90), (200, 200, 200)
ELLIPSIS = "…"


def contact_sheet(frames, flows, captions, title, columns=4, max_px=None):
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
    frames, flows = np.asarray(frames), np.asarray(flows, np.float32)
    _refuse_nonsense(frames, flows, captions, columns)
    max_px = scale_px(flows) if max_px is None else max_px
    grid = Grid.fit(*frames.shape[:3], columns)
    header = _header(title, max_px, grid.width)

    sheet = Image.new("RGB", (grid.width, header.height + grid.height), "white")
    sheet.paste(header, (0, 0))
    # One cell at a time: in full size the coloured flows of a long clip need not all fit in memory.
    for i, (frame, flow, caption) in enumerate(zip(frames, flows, captions, strict=True)):
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
    def fit(cls, cells, height, width, columns):
        """The grid for N pictures of a size: as many of the columns as fit, each picture shrunk but never enlarged."""
        room = MAX_WIDTH - 2 * MARGIN + GAP
        columns = min(columns, cells, room // (MIN_CELL_WIDTH + GAP))
        scale = min(1, (room // columns - GAP) / (2 * width))
        return cls(cells, columns, max(1, math.floor(width * scale)), max(1, round(height * scale)))

    @property
    def cell_width(self):
        return max(2 * self.picture_width, MIN_CELL_WIDTH)

    @property
    def cell_height(self):
        return self.picture_height + _line_height(TEXT_SIZE) + 4

    @property
    def width(self):
        return max(MIN_WIDTH, 2 * MARGIN - GAP + self.columns * (self.cell_width + GAP))

    @property
    def height(self):
        return math.ceil(self.cells / self.columns) * (self.cell_height + GAP) + MARGIN - GAP

    def corner(self, i):
        """(x, y) of the i-th cell's top left corner, row by row."""
        row, column = divmod(i, self.columns)
        return MARGIN + column * (self.cell_width + GAP), row * (self.cell_height + GAP)


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


def _refuse_nonsense(frames, flows, captions, columns):
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ValueError(f"frames must be uint8 [N, H, W, 3], not empty; are {frames.dtype} {list(frames.shape)}")
    if flows.shape != (*frames.shape[:3], 2):
        raise ValueError(f"flows must be {[*frames.shape[:3], 2]} like the frames, are {list(flows.shape)}")
    if len(captions) != len(frames):
        raise ValueError(f"needs {len(frames)} captions, one per frame; has {len(captions)}")
    if columns < 1:
        raise ValueError(f"needs at least one column, has {columns}")


def _header(title, max_px, width):
    """The title on the left and the colour wheel on the right, as wide as the sheet."""
    legend = _legend(max_px)
    lines = _title_lines(title, width - legend.width - 3 * MARGIN)
    height = max(legend.height, sum(_line_height(font.size) for _, font in lines))
    header = Image.new("RGB", (width, height + 2 * MARGIN), "white")
    header.paste(legend, (width - MARGIN - legend.width, MARGIN))
    draw, y = ImageDraw.Draw(header), MARGIN
    for line, font in lines:
        draw.text((MARGIN, y), line, INK if font.size == TITLE_SIZE else GREY, font)
        y += _line_height(font.size)
    return header


def _title_lines(title, width):
    """(line, font) for each line to draw, the first one larger."""
    given = [line for line in map(printable, title.splitlines()) if line]
    if len(given) > MAX_TITLE_LINES:
        given[MAX_TITLE_LINES - 1 :] = [ELLIPSIS]
    fonts = [_font(TEXT_SIZE if i else TITLE_SIZE) for i in range(len(given))]
    return [(part, font) for line, font in zip(given, fonts, strict=True) for part in wrap(line, width, font, WRAPS)]


def _legend(max_px):
    """The colour wheel above the motion that its rim stands for."""
    text, font = f"rim: {max_px:.3g} px/frame", _font(TEXT_SIZE)
    width = max(WHEEL, math.ceil(font.getlength(text)))
    legend = Image.new("RGB", (width, WHEEL + 4 + _line_height(TEXT_SIZE)), "white")
    legend.paste(Image.fromarray(wheel_legend(WHEEL)), ((width - WHEEL) // 2, 0))
    ImageDraw.Draw(legend).text((width / 2, WHEEL + 4), text, GREY, font, anchor="ma")
    return legend


def _cell(frame, flow_rgb, caption, grid):
    """A frame, its flow to the right of it, and the caption below, uint8 [H, W, 3] both."""
    cell = Image.new("RGB", (grid.cell_width, grid.cell_height), "white")
    for i, picture in enumerate((frame, flow_rgb)):
        small = Image.fromarray(picture).resize((grid.picture_width, grid.picture_height), Image.Resampling.BICUBIC)
        cell.paste(small, (i * grid.picture_width, 0))
    draw, font = ImageDraw.Draw(cell), _font(TEXT_SIZE)
    # A still scene has a white flow, which would not be seen to be there on white paper.
    draw.rectangle((0, 0, 2 * grid.picture_width - 1, grid.picture_height - 1), outline=PALE)
    draw.text((0, grid.picture_height + 4), shorten(printable(caption), grid.cell_width, font), INK, font)
    return cell


def _fitting(text, width, font):
    """How many of the text's first characters fit into `width` pixels."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    return low


def _font(size):
    return ImageFont.load_default(size)


def _line_height(size):
    return round(size * 1.4)
