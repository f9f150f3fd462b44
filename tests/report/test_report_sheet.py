import numpy as np
import pytest
from strange import HOSTILE

from kinetics_prep.report import sheet, sheet_text
from kinetics_prep.report.sheet import contact_sheet


def clip(n, height=24, width=32):
    """Frames that are all blue and flows that all go right."""
    frames = np.full((n, height, width, 3), (0, 0, 255), np.uint8)
    flows = np.full((n, height, width, 2), (2, 0), np.float32)
    return frames, flows, [f"t = {i} s" for i in range(n)]


def changed_box(before, after):
    """(left, top, right, bottom) of the pixels that differ."""
    rows, columns = np.nonzero((np.asarray(before) != np.asarray(after)).any(2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def top_of_cells(picture):
    """The first row of pixels in which a frame of `clip` is seen."""
    return int(np.argmax((np.asarray(picture) == (0, 0, 255)).all(2)[:, : picture.width // 2].any(1)))


def ink(picture):
    return np.asarray(picture).min(2) < 255


def test_a_frame_has_its_flow_on_its_right():
    picture = contact_sheet(*clip(1), "title", max_px=2)
    y = top_of_cells(picture) + 5
    assert picture.getpixel((sheet_text.MARGIN + 5, y)) == (0, 0, 255)
    assert picture.getpixel((sheet_text.MARGIN + 32 + 5, y)) == (255, 0, 0)


def test_all_flows_share_one_scale():
    frames, flows, captions = clip(2)
    flows[1] /= 2
    picture = contact_sheet(frames, flows, captions, "title")
    y = top_of_cells(picture) + 5
    second = sheet_text.MARGIN + sheet.MIN_CELL_WIDTH + sheet.GAP
    assert picture.getpixel((sheet_text.MARGIN + 32 + 5, y)) == (255, 0, 0)
    assert picture.getpixel((second + 32 + 5, y)) == (255, 128, 128)


@pytest.mark.parametrize("i", range(5))
def test_each_cell_has_its_own_frame_flow_and_caption(i):
    frames, flows, _ = clip(5)
    captions = [""] * 5
    before = contact_sheet(frames, flows, captions, "title", columns=2, max_px=4)
    captions[i], frames[i], flows[i] = "t = 1 s", 77, (0, 4)
    after = contact_sheet(frames, flows, captions, "title", columns=2, max_px=4)
    grid = sheet.Grid.fit(5, 24, 32, columns=2)
    x, y = grid.corner(i)
    y += after.height - grid.height
    left, top, right, bottom = changed_box(before, after)
    assert x <= left <= x + 1 and top == y + 1  # the frame and the flow, within a rule around both
    assert x + 63 <= right <= x + grid.cell_width and y + 24 + 4 < bottom <= y + grid.cell_height
    assert after.getpixel((x + 5, y + 5)) == (77, 77, 77)
    assert after.getpixel((x + 32 + 5, y + 5)) == (255, 234, 0)  # downwards
    caption = np.asarray(after.crop((x, y + 24, x + grid.cell_width, y + grid.cell_height))).min(2) < 200
    assert caption.any()


def test_a_flow_keeps_its_left_and_right_and_its_top_and_bottom():
    frames, flows, captions = clip(1)
    flows[0, :, 16:] = -flows[0, :, 16:]
    flows[0, 12:, :] = (0, 0)
    picture = contact_sheet(frames, flows, captions, "title", max_px=2)
    x, y = sheet_text.MARGIN + 32, top_of_cells(picture)
    assert picture.getpixel((x + 5, y + 5)) == (255, 0, 0)
    assert picture.getpixel((x + 26, y + 5)) == (0, 197, 255)  # to the left
    assert picture.getpixel((x + 5, y + 18)) == picture.getpixel((x + 26, y + 18)) == (255, 255, 255)


def test_the_scale_is_named_below_the_wheel():
    pictures = {max_px: contact_sheet(*clip(1), "", max_px=max_px) for max_px in (2, 2.0001, 7)}
    assert (np.asarray(pictures[2])[:90] == np.asarray(pictures[2.0001])[:90]).all()  # three digits are enough
    legend = changed_box(pictures[2].crop((0, 0, sheet.MIN_WIDTH, 110)), pictures[7].crop((0, 0, sheet.MIN_WIDTH, 110)))
    assert legend[0] > sheet.MIN_WIDTH - 140 and legend[1] >= sheet_text.MARGIN + sheet.WHEEL


def test_the_default_scale_is_that_of_all_flows():
    frames, flows, captions = clip(2)
    flows[1] = (0, 40)
    assert contact_sheet(frames, flows, captions, "t").tobytes() == (
        contact_sheet(frames, flows, captions, "t", max_px=40).tobytes()
    )


def test_the_outline_of_a_still_flow_is_seen():
    frames, flows, captions = clip(1)
    picture = contact_sheet(frames, 0 * flows, captions, "title", max_px=1)
    x, y = sheet_text.MARGIN, top_of_cells(picture) - 1
    assert picture.getpixel((x + 63, y + 12)) == picture.getpixel((x, y)) == sheet_text.PALE


def test_columns_are_no_more_than_cells_or_than_fit():
    assert sheet.Grid.fit(3, 24, 32, columns=8).columns == 3
    assert sheet.Grid.fit(50, 24, 32, columns=50).columns == 14
    assert sheet.Grid.fit(7, 24, 32, columns=3).height == 3 * (24 + 21 + 4) + 2 * sheet.GAP + sheet_text.MARGIN


def test_cells_fill_rows_from_the_left():
    grid = sheet.Grid.fit(5, 24, 32, columns=2)
    right, down = grid.cell_width + sheet.GAP, grid.cell_height + sheet.GAP
    corners = [(x - sheet_text.MARGIN, y) for x, y in map(grid.corner, range(5))]
    assert corners == [(0, 0), (right, 0), (0, down), (right, down), (0, 2 * down)]


@pytest.mark.parametrize("columns", [1, 3, 4, 50])
def test_a_sheet_is_never_wider_than_a_screen(columns):
    assert sheet.MIN_WIDTH <= contact_sheet(*clip(5, 108, 1920), "title", columns).width <= sheet.MAX_WIDTH


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
    margin = sheet_text.MARGIN // 2
    assert not inked[:margin].any() and not inked[-margin:].any()
    assert not inked[:, :margin].any() and not inked[:, -margin:].any()


def test_a_title_leaves_room_for_the_legend():
    plain, full = (ink(contact_sheet(*clip(1), title)) for title in ("", "W" * 1000))
    legend = np.s_[: sheet_text.MARGIN + sheet.WHEEL, -sheet_text.MARGIN - sheet.WHEEL :]
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
