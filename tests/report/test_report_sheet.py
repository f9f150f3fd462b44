import numpy as np
import pytest
from strange import HOSTILE

from kinetics_prep.report import lettering, sheet
from kinetics_prep.report.sheet import contact_sheet


def clip(n, height=24, width=32):
    """Frames that are all blue and flows that all go right."""
    frames = np.full((n, height, width, 3), (0, 0, 255), np.uint8)
    flows = np.full((n, height, width, 2), (2, 0), np.float32)
    return frames, flows, [f"t = {i} s" for i in range(n)]


def top_of_cells(picture):
    """The first row of pixels in which a frame of `clip` is seen."""
    return int(np.argmax((np.asarray(picture) == (0, 0, 255)).all(2)[:, : picture.width // 2].any(1)))


def ink(picture):
    return np.asarray(picture).min(2) < 255


def test_a_frame_has_its_flow_on_its_right():
    picture = contact_sheet(*clip(1), "title", max_px=2)
    y = top_of_cells(picture) + 5
    assert picture.getpixel((lettering.MARGIN + 5, y)) == (0, 0, 255)
    assert picture.getpixel((lettering.MARGIN + 32 + 5, y)) == (255, 0, 0)


def test_all_flows_share_one_scale():
    frames, flows, captions = clip(2)
    flows[1] /= 2
    picture = contact_sheet(frames, flows, captions, "title")
    y = top_of_cells(picture) + 5
    second = lettering.MARGIN + sheet.MIN_CELL_WIDTH + sheet.GAP
    assert picture.getpixel((lettering.MARGIN + 32 + 5, y)) == (255, 0, 0)
    assert picture.getpixel((second + 32 + 5, y)) == (255, 128, 128)


def test_cells_fill_rows_from_the_left():
    grid = sheet.Grid.fit(5, 24, 32, columns=2)
    right, down = grid.cell_width + sheet.GAP, grid.cell_height + sheet.GAP
    corners = [(x - lettering.MARGIN, y) for x, y in map(grid.corner, range(5))]
    assert corners == [(0, 0), (right, 0), (0, down), (right, down), (0, 2 * down)]


@pytest.mark.parametrize("columns", [1, 3, 4, 50])
def test_a_sheet_is_never_wider_than_a_screen(columns):
    assert sheet.MIN_WIDTH <= contact_sheet(*clip(5, 108, 1920), "title", columns).width <= lettering.MAX_WIDTH


def test_pictures_are_shrunk_alike_in_both_directions_and_never_enlarged():
    small, large = sheet.Grid.fit(4, 256, 340, columns=4), sheet.Grid.fit(4, 1024, 1360, columns=4)
    assert (large.picture_width, large.picture_height) == (small.picture_width, small.picture_height)
    assert small.picture_width / small.picture_height == pytest.approx(340 / 256, rel=0.01)
    assert sheet.Grid.fit(4, 24, 32, columns=4).picture_width == 32


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_no_text_is_too_strange_or_too_long_to_be_drawn_within_the_sheet(text):
    frames, flows, captions = clip(2)
    picture = contact_sheet(frames, flows, [text, captions[1]], text)
    assert picture.height < 700
    inked = ink(picture)
    margin = lettering.MARGIN // 2
    assert not inked[:margin].any() and not inked[-margin:].any()
    assert not inked[:, :margin].any() and not inked[:, -margin:].any()


def test_a_title_leaves_room_for_the_legend():
    plain, full = (ink(contact_sheet(*clip(1), title)) for title in ("", "W" * 1000))
    legend = np.s_[: lettering.MARGIN + sheet.WHEEL, -lettering.MARGIN - sheet.WHEEL :]
    assert (plain[legend] == full[legend]).all()


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda frames, flows, captions: (frames[:0], flows[:0], []), "not empty"),
        (lambda frames, flows, captions: (frames / 255, flows, captions), "frames must be uint8"),
        (lambda frames, flows, captions: (frames, flows[:, 1:], captions), "flows must be"),
        (lambda frames, flows, captions: (frames, flows, captions[1:]), "needs 2 captions, one per frame; has 1"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, match):
    with pytest.raises(ValueError, match=match):
        contact_sheet(*change(*clip(2)), "title")


def test_a_sheet_without_columns_is_refused():
    with pytest.raises(ValueError, match="at least one column"):
        contact_sheet(*clip(1), "title", columns=0)
