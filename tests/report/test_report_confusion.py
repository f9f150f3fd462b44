import numpy as np
import pytest
from strange import HOSTILE

from kinetics_prep.report import confusion, lettering
from kinetics_prep.report.confusion import confusion_picture, most_confused, share_colours

DARKEST = confusion.RAMP[-1]


def where(picture, colour):
    """(top, bottom, left, right) of what has a colour below the legend, bottom and right exclusive."""
    pixels = np.asarray(picture).copy()
    pixels[:90] = 255
    rows, columns = np.nonzero((pixels == colour).all(2))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_a_row_is_a_true_class_and_a_column_what_it_was_taken_for():
    picture = confusion_picture(np.array([[0, 0, 7], [0, 0, 3], [2, 0, 0]]), ["a", "b", "c"], "title")
    top, bottom, left, right = where(picture, DARKEST)
    pixels = np.asarray(picture)
    cell = confusion.MAX_CELL
    assert abs(bottom - top - 3 * cell) < 3 and abs(right - left - 3 * cell) < 3
    corners = [
        [tuple(pixels[top + row * cell + 8, left + column * cell + 8]) for column in range(3)] for row in range(3)
    ]
    white = (255, 255, 255)
    assert corners == [[white, white, DARKEST], [white, white, DARKEST], [DARKEST, white, white]]


def test_colours_are_shares_of_the_row_and_not_counts():
    one = confusion_picture(np.array([[1, 0], [0, 1]]), ["a", "b"], "title")
    other = confusion_picture(np.array([[900, 0], [0, 1]]), ["a", "b"], "title")
    assert where(one, DARKEST) == where(other, DARKEST)


def test_a_class_without_a_clip_has_a_grey_row():
    picture = confusion_picture(np.array([[0, 0], [0, 5]]), ["a", "b"], "title")
    top, bottom, left, right = where(picture, confusion.NOTHING)
    assert (right - left, bottom - top) == (2 * confusion.MAX_CELL, confusion.MAX_CELL)
    assert bottom <= where(picture, DARKEST)[0]


def test_colours_darken_with_the_share():
    ramp = share_colours(np.linspace(0, 1, 50)).astype(int).sum(-1)
    assert (np.diff(ramp) < 0).all()
    assert share_colours(np.array([0.0, 1.0, np.nan])).tolist() == [[255] * 3, list(DARKEST), list(confusion.NOTHING)]


def test_a_few_per_cent_are_seen():
    assert share_colours(np.array(0.02)).min() < 240


def test_the_most_frequent_mistakes_come_first_and_of_as_many_the_larger_share():
    matrix = np.array([[90, 4, 6], [0, 5, 4], [4, 4, 0]])
    assert most_confused(matrix) == [(0, 2, 6, 100), (2, 0, 4, 8), (2, 1, 4, 8), (1, 2, 4, 9), (0, 1, 4, 100)]
    assert most_confused(matrix, 2) == [(0, 2, 6, 100), (2, 0, 4, 8)]
    assert most_confused(np.eye(3, dtype=int)) == []


def test_a_mistake_is_told_in_words():
    told = confusion._told(0, 1, 6, 100, ["waving", "W" * 500], 500, lettering.font_of(15))
    assert told.startswith("waving taken for WW") and told.endswith("…: 6 of 100 (6%)")
    assert lettering.font_of(15).getlength(told) <= 500


def test_labels_stand_on_the_axes_of_up_to_sixty_classes():
    assert confusion._Cells.fit(60).are_labelled
    assert not confusion._Cells.fit(61).are_labelled


def test_a_label_that_the_font_does_not_know_is_called_by_its_class_id():
    assert [confusion._name(label, 7) for label in ("日本語", "", "caf\u00e9")] == ["class 7", "class 7", "cafe"]


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 51, 60, 61, 101, 400, 959, 961, 2500])
def test_any_number_of_classes_makes_a_picture_of_a_screen_s_width(classes):
    matrix = np.zeros((classes, classes), int)
    np.fill_diagonal(matrix, 3)
    picture = confusion_picture(matrix, [f"a class with the number {k}" for k in range(classes)], "title")
    assert confusion.MIN_WIDTH <= picture.width <= lettering.MAX_WIDTH
    assert picture.height <= 1600
    top, bottom, left, right = where(picture, DARKEST)
    assert bottom - top == pytest.approx(right - left, abs=2)
    assert bottom - top > (400 if classes > 10 else 70 * classes)


def test_of_classes_that_share_a_pixel_the_largest_share_is_seen():
    shares = np.array([[0.1, 0, 0], [0, 0.7, np.nan], [np.nan, np.nan, np.nan]])
    assert confusion._pooled(shares, 2).tolist()[0] == [0.7, 0]
    assert np.isnan(confusion._pooled(shares, 2)[1]).all()


def test_counts_stand_in_cells_where_the_largest_fits():
    cells = confusion._Cells.fit(51)
    assert confusion._count_font(np.array([[99]]), cells) is not None
    assert confusion._count_font(np.array([[9999]]), cells) is None


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_no_text_is_too_strange_or_too_long_to_be_drawn_within_the_picture(text):
    matrix = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    picture = confusion_picture(matrix, [text, "b", text], text)
    assert picture.width <= lettering.MAX_WIDTH and picture.height < 1000
    inked = np.asarray(picture).min(2) < 255
    margin = lettering.MARGIN // 2
    assert not inked[:margin].any() and not inked[-margin:].any()
    assert not inked[:, :margin].any() and not inked[:, -margin:].any()


@pytest.mark.parametrize(
    "matrix, labels, match",
    [
        (np.ones((2, 3), int), ["a", "b"], r"int \[C, C\] with C > 0, is int64 \[2, 3\]"),
        (np.ones((2, 2)), ["a", "b"], "is float64"),
        (np.ones((0, 0), int), [], "C > 0"),
        (np.array([[1, -1], [0, 0]]), ["a", "b"], "-1 is none"),
        (np.ones((2, 2), int), ["a"], "needs 2 labels, one a class; has 1"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(matrix, labels, match):
    with pytest.raises(ValueError, match=match):
        confusion_picture(matrix, labels, "title")
