import sys

import numpy as np
import pytest

from kinetics_prep.errors import MissingTool
from kinetics_prep.report.confusion import confusion_picture, most_confused

pytest.importorskip("matplotlib", reason="the extra `train` is not installed")

from kinetics_prep.report import plot


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingTool, match=r"drawn with matplotlib: pip install 'kinetics-prep\[train\]'"):
        confusion_picture(np.eye(2, dtype=int), ["a", "b"], "title")
    assert most_confused(np.array([[1, 2], [0, 3]])) == [(0, 1, 2, 3)]  # words need no matplotlib


def test_letters_that_the_font_lacks_become_a_sign():
    assert plot.drawable("café Ω яблоко") == "café Ω яблоко"
    assert plot.drawable("日本 👍x") == "\ufffd\ufffd \ufffdx"
    assert plot.drawable("a\x1b\u202eb") == "a\ufffd\ufffdb"


def test_accents_join_their_letter_and_never_pile_up():
    assert plot.drawable("cafe\u0301") == "café"
    assert plot.drawable("z" + "\u0301" * 500) == "\u017a"


def test_text_is_cut_before_it_is_measured():
    assert len(plot.drawable("x" * 2_000_000)) == 1000


@pytest.mark.parametrize(
    "text, is_legible",
    [
        ("abc", True),
        ("", False),
        ("  ", False),
        ("日本", False),
        ("日本ab", True),
        ("日本a", False),
        ("日本 a ", False),
    ],
)
def test_text_is_legible_if_half_of_its_letters_are_seen(text, is_legible):
    assert plot.is_legible(plot.drawable(text)) == is_legible


def test_a_width_is_that_of_the_drawn_text():
    text, size = "Wide enough? $x$", 15
    figure = plot.new_figure(400, 60)
    plot.add_lines(figure, 20, [(text, size, "black")])
    inked = np.nonzero((np.asarray(plot.picture_of(figure)) < 128).any(2))
    assert inked[1].min() == pytest.approx(plot.MARGIN, abs=2)
    assert inked[1].max() - inked[1].min() == pytest.approx(plot.text_width(text, size), abs=4)
    assert inked[0].min() >= 20 and inked[0].max() <= 20 + plot.line_height(size)


def test_lines_stand_below_each_other():
    figure = plot.new_figure(300, 200)
    plot.add_lines(figure, 16, [("a", 22, "red"), ("b", 15, "blue"), ("c", 15, "blue")])
    assert [(text.get_text(), text.get_position()) for text in figure.texts] == [
        ("a", (16, 184)),
        ("b", (16, 184 - 31)),
        ("c", (16, 184 - 31 - 21)),
    ]
    assert plot.height_of([("a", 22, "red"), ("b", 15, "blue")]) == 31 + 21


def test_a_heading_is_large_and_its_lines_fit():
    lines = plot.heading_lines("W" * 300 + "\nsecond", 200)
    assert [(size, text[-1]) for text, size, _ in lines] == [(22, "W"), (22, "…"), (15, "d")]
    assert all(plot.text_width(text, size) <= 200 for text, size, _ in lines)


def test_axes_stand_at_their_place():
    figure = plot.new_figure(400, 300)
    axes = plot.add_axes(figure, 30, 50, 200, 100)
    assert figure.bbox.bounds == (0, 0, 400, 300)
    assert axes.bbox.bounds == pytest.approx((30, 150, 200, 100))


def test_a_picture_has_the_size_of_the_figure_and_is_white_at_first():
    picture = plot.picture_of(plot.new_figure(123, 45))
    assert (picture.size, picture.mode, picture.getcolors()) == ((123, 45), "RGB", [(123 * 45, (255, 255, 255))])


def test_a_user_s_settings_cannot_turn_labels_into_latex():
    import matplotlib

    with matplotlib.rc_context({"text.usetex": True, "font.family": "serif", "text.parse_math": True}):
        strange = plot.new_figure(200, 50)
        plot.add_lines(strange, 10, [("$\\frac{1}{2}$", 15, "black")])
        picture = plot.picture_of(strange)
    plain = plot.new_figure(200, 50)
    plot.add_lines(plain, 10, [("$\\frac{1}{2}$", 15, "black")])
    assert picture.tobytes() == plot.picture_of(plain).tobytes()
