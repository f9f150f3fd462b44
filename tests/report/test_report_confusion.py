import numpy as np
import pytest
from PIL import Image
from strange import HOSTILE

pytest.importorskip("matplotlib", reason="the extra `train` is not installed")

from matplotlib.colors import to_rgb
from matplotlib.text import Text

from kinetics_prep.report import confusion, plot
from kinetics_prep.report.confusion import confusion_figure, confusion_picture, most_confused

UNEVEN = np.array([[8, 0, 2], [0, 0, 0], [3, 1, 0]])
"""Neither its transpose nor its shares by column are like it."""


def matrix_of(figure):
    return figure.axes[0]


def names_along(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def counts_in(figure):
    """{(row, column): text} of the counts in the cells."""
    return {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in matrix_of(figure).texts}


def lines_below(figure):
    foot = matrix_of(figure).bbox.y0
    return [text.get_text() for text in figure.texts if text.get_position()[1] < foot]


def rgb_of(colour):
    return np.rint(255 * np.array(to_rgb(colour))).tolist()


def cell_colour(picture, axes, row, column):
    """The RGB of a cell near its corner, where no count stands."""
    x, y = axes.transData.transform((column - 0.4, row - 0.4))
    return list(picture.getpixel((round(x), round(picture.height - y))))


# The matrix --------------------------------------------------------------------------------------


def test_a_row_is_a_true_class_and_its_colours_are_shares_of_its_clips():
    image = matrix_of(confusion_figure(UNEVEN, "abc", "title")).images[0].get_array()
    assert image.filled(-1).tolist() == [[0.8, 0, 0.2], [-1, -1, -1], [0.75, 0.25, 0]]


def test_colours_run_along_a_square_root():
    image = matrix_of(confusion_figure(UNEVEN, "abc", "title")).images[0]
    assert image.norm([0, 0.01, 0.25, 1]).tolist() == pytest.approx([0, 0.1, 0.5, 1])
    luminance = image.cmap(np.linspace(0, 1, 50))[:, :3].sum(1)
    assert (np.diff(luminance) < 0).all()


def test_cells_have_their_colour_where_their_row_and_column_meet():
    figure = confusion_figure(UNEVEN, "abc", "title")
    picture, image = plot.picture_of(figure), matrix_of(figure).images[0]
    for row in (0, 2):
        for column in range(3):
            share = UNEVEN[row, column] / UNEVEN[row].sum()
            assert cell_colour(picture, figure.axes[0], row, column) == pytest.approx(
                rgb_of(image.cmap(share**0.5)), abs=1
            )
    assert cell_colour(picture, figure.axes[0], 1, 1) == rgb_of(confusion.NOTHING)


def test_the_first_row_is_on_top_and_the_first_column_on_the_left():
    axes = matrix_of(confusion_figure(UNEVEN, "abc", "title"))
    (left, top), (right, bottom) = axes.transData.transform([(0, 0), (2, 2)])
    assert left < right and top > bottom  # y points up in a figure


def test_a_few_per_cent_are_seen():
    image = matrix_of(confusion_figure(UNEVEN, "abc", "title")).images[0]
    two, none = (np.array(image.cmap(image.norm(share))) for share in (0.02, 0))
    assert np.abs(255 * (two - none)).max() > 15


def test_counts_stand_in_their_cells_and_none_for_zero():
    figure = confusion_figure(UNEVEN, "abc", "title")
    assert counts_in(figure) == {(0, 0): "8", (0, 2): "2", (2, 0): "3", (2, 1): "1"}
    assert {text.get_text(): text.get_color() for text in matrix_of(figure).texts} == {
        "8": "white",
        "3": "white",
        "2": plot.INK,
        "1": plot.INK,
    }


def test_counts_stand_only_where_the_largest_fits():
    for largest, fits in ((99, True), (9999, False)):
        matrix = np.eye(51, dtype=int)
        matrix[3, 4] = largest
        figure = confusion_figure(matrix, ["a"] * 51, "title")
        assert bool(counts_in(figure)) == fits
        cell = matrix_of(figure).bbox.width / 51
        assert all(plot.text_width(text.get_text(), text.get_fontsize()) < cell for text in matrix_of(figure).texts)


def test_of_classes_that_share_a_pixel_the_largest_share_is_seen(monkeypatch):
    monkeypatch.setattr(confusion, "MAX_SIDE", 2)
    matrix = np.array([[9, 1, 0], [3, 7, 0], [0, 0, 0]])
    axes = matrix_of(confusion_figure(matrix, "abc", "title"))
    assert axes.images[0].get_array().filled(-1).tolist() == [[0.9, 0], [-1, -1]]
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 3.5), (3.5, -0.5))  # class ids, not cells


# Around it ---------------------------------------------------------------------------------------


def test_both_axes_bear_the_labels_in_the_order_of_class_ids():
    axes = matrix_of(confusion_figure(UNEVEN, ["waving", "日本語", "café"], "title"))
    assert names_along(axes.xaxis) == names_along(axes.yaxis) == ["waving", "class 1", "café"]
    assert axes.get_xticks().tolist() == axes.get_yticks().tolist() == [0, 1, 2]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("taken for", "true class")
    assert axes.xaxis.get_label_position() == "top"


def test_sixty_classes_have_their_labels_and_more_have_ids():
    for classes, is_labelled in ((60, True), (61, False)):
        labels = [f"a class with the number {k}" for k in range(classes)]
        axes = matrix_of(confusion_figure(np.eye(classes, dtype=int), labels, "title"))
        plot.picture_of(axes.figure)
        names = names_along(axes.xaxis)
        assert (names == labels) == is_labelled
        if not is_labelled:
            assert {"0", "10", "60"} <= set(names)
            assert axes.get_ylabel() == "true class, by class id"


def test_labels_read_upwards_only_if_they_are_wider_than_a_cell():
    short, long = (matrix_of(confusion_figure(UNEVEN, [label] * 3, "title")) for label in ("ab", "a longer label"))
    assert {text.get_rotation() for text in short.xaxis.get_ticklabels()} == {0}
    assert {text.get_rotation() for text in long.xaxis.get_ticklabels()} == {90}


@pytest.mark.parametrize("classes", [3, 30, 60, 400])
def test_no_text_touches_another_or_leaves_the_picture(classes):
    labels = [f"{'W' * (k % 40)} {k}" for k in range(classes)]
    figure = confusion_figure(np.eye(classes, dtype=int), labels, "W" * 300 + "\nscores\nmore")
    plot.picture_of(figure)
    axes, scale = figure.axes
    boxes = [text.get_window_extent() for text in figure.texts]
    boxes += [axes.xaxis.label.get_window_extent(), axes.yaxis.label.get_window_extent(), scale.get_tightbbox()]
    for axis in (axes.xaxis, axes.yaxis):
        ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        boxes += [text.get_window_extent() for place, text in ticks if 0 <= place < classes]
    for k, box in enumerate(boxes):
        assert box.x0 >= 4 and box.y0 >= 4 and box.x1 <= figure.bbox.width - 4 and box.y1 <= figure.bbox.height - 4
        assert not any(box.shrunk(0.9, 0.9).overlaps(other.shrunk(0.9, 0.9)) for other in boxes[:k])
        assert not box.shrunk(0.9, 0.9).overlaps(axes.bbox)


def test_the_scale_says_which_colour_is_which_share():
    figure = confusion_figure(UNEVEN, "abc", "title")
    scale = figure.axes[1]
    plot.picture_of(figure)
    assert names_along(scale.xaxis) == ["0", "1", "10", "25", "50", "100"]
    places = [scale.transData.transform((share, 0))[0] - scale.bbox.x0 for share in scale.get_xticks()]
    assert places == pytest.approx(228 * np.sqrt([0, 0.01, 0.1, 0.25, 0.5, 1]), abs=0.5)
    assert scale.get_title() == "share of the true class's clips, in %"


def test_the_title_stands_above():
    figure = confusion_figure(UNEVEN, "abc", "i3d on rgb\ntop-1 50.0%")
    heading, scores = figure.texts[:2]
    assert (heading.get_text(), heading.get_fontsize()) == ("i3d on rgb", plot.TITLE_SIZE)
    assert (scores.get_text(), scores.get_fontsize()) == ("top-1 50.0%", plot.TEXT_SIZE)
    assert heading.get_position()[1] > scores.get_position()[1] > matrix_of(figure).bbox.y1


def test_the_most_confused_pairs_stand_below():
    figure = confusion_figure(UNEVEN, ["waving", "b", "c"], "title")
    assert lines_below(figure) == [
        "most confused",
        "c taken for waving: 3 of 4 (75%)",
        "waving taken for c: 2 of 10 (20%)",
        "c taken for b: 1 of 4 (25%)",
        "grey rows: classes without a clip, 1 of 3",
    ]


def test_a_matrix_without_mistakes_says_so():
    assert lines_below(confusion_figure(np.eye(2, dtype=int), "ab", "title")) == ["no clip was taken for another class"]


def test_pairs_of_many_classes_have_the_ids_that_stand_along_the_axes():
    matrix = np.eye(61, dtype=int)
    matrix[7, 60] = 3
    assert lines_below(confusion_figure(matrix, ["x"] * 61, "title"))[1] == "x (7) taken for x (60): 3 of 4 (75%)"


@pytest.mark.parametrize("names", [("W" * 500, "b"), ("waving", "W" * 500), ("W" * 500, "W" * 500)])
def test_long_names_of_a_pair_are_cut_to_fit(names):
    words = confusion._pair_in_words((0, 1, 6, 100), names, 500, has_ids=False)
    assert words.endswith(": 6 of 100 (6%)") and " taken for " in words and "…" in words
    assert all(name in words for name in names if len(name) < 10)
    width = plot.text_width(words, plot.TEXT_SIZE)
    assert 500 - 2 * plot.text_width("W", plot.TEXT_SIZE) < width + 15 and width <= 500


def test_the_most_frequent_mistakes_come_first_and_of_as_many_the_larger_share():
    matrix = np.array([[90, 4, 6], [0, 5, 4], [4, 4, 0]])
    assert most_confused(matrix) == [(0, 2, 6, 100), (2, 0, 4, 8), (2, 1, 4, 8), (1, 2, 4, 9), (0, 1, 4, 100)]
    assert most_confused(matrix, 2) == [(0, 2, 6, 100), (2, 0, 4, 8)]
    assert most_confused(np.eye(3, dtype=int)) == []
    assert len(most_confused(np.ones((20, 20), int))) == 10


# The picture -------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 2, 10, 61, 101, 1000, 1101])
def test_any_number_of_classes_makes_a_picture_of_a_screen_s_width(classes):
    matrix = 3 * np.eye(classes, dtype=int)
    figure = confusion_figure(matrix, [f"a class with the number {k}" for k in range(classes)], "title")
    picture, axes = plot.picture_of(figure), figure.axes[0]
    assert confusion.MIN_WIDTH <= picture.width <= 1500 and picture.height <= 1800
    assert axes.bbox.width == pytest.approx(axes.bbox.height)
    assert axes.bbox.width > (500 if classes > 10 else 70 * classes)
    dark = (np.asarray(picture) == rgb_of(axes.images[0].cmap(1.0))).all(2)
    left, bottom, width, height = (round(place) for place in axes.bbox.bounds)
    inside = dark[picture.height - bottom - height : picture.height - bottom, left : left + width]
    cells = -(-classes // (1 + (classes > 1100)))
    # Each cell of the diagonal is seen: no class falls between two pixels.
    assert inside.any(0).sum() >= cells * max(1, width // cells - 8)


def test_the_picture_is_a_png_with_the_same_bytes_twice(tmp_path):
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        confusion_picture(UNEVEN, ["waving", "$b$", "café"], "title").save(path, format="PNG")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[0]) as picture:
        assert (picture.format, picture.mode, picture.info) == ("PNG", "RGB", {})
        assert len(picture.getcolors(1 << 20)) > 20


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_no_text_is_too_strange_or_too_long_to_be_drawn_within_the_picture(text, recwarn):
    matrix = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    figure = confusion_figure(matrix, [text, "b", text], text)
    picture = plot.picture_of(figure)
    assert not any(each.get_parse_math() or each.get_usetex() for each in figure.findobj(Text))
    assert picture.width <= 1500 and picture.height < 1100
    inked = np.asarray(picture).min(2) < 255
    margin = plot.MARGIN // 2
    assert not inked[:margin].any() and not inked[-margin:].any()
    assert not inked[:, :margin].any() and not inked[:, -margin:].any()
    assert not recwarn.list


@pytest.mark.parametrize(
    "matrix, labels, match",
    [
        (np.ones((2, 3), int), ["a", "b"], r"int \[C, C\] with C > 0, is int64 \[2, 3\]"),
        (np.ones((2, 2)), ["a", "b"], "is float64"),
        (np.ones((2, 2), bool), ["a", "b"], "is bool"),
        (np.ones((0, 0), int), [], "C > 0"),
        (np.array([[1, -1], [0, 0]]), ["a", "b"], "numbers of clips, not -1"),
        (np.ones((2, 2), int), ["a"], "needs 2 labels, one per class; has 1"),
    ],
)
def test_a_matrix_that_cannot_be_is_refused(matrix, labels, match):
    with pytest.raises(ValueError, match=match):
        confusion_picture(matrix, labels, "title")
