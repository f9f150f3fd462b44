import threading

import numpy as np
import pytest
from PIL import Image
from strange import HOSTILE

pytest.importorskip("matplotlib", reason="the extra `train` is not installed")

from matplotlib.colors import to_rgb
from matplotlib.text import Text

from kinetics_prep.report import curves, plot
from kinetics_prep.report.curves import Limits, curves_figure, curves_picture
from kinetics_prep.report.history import EVALUATION_FIELDS, STEP_FIELDS, History, smoothed


def run(steps=(), evaluations=(), **columns):
    """A history of these steps and evaluations; columns that are not given hold NaN."""

    def table(at, fields):
        at = np.array(at, np.int64)
        empty = np.full(len(at), np.nan)
        return {"step": at, **{name: np.array(columns.get(name, empty), np.float64) for name in fields}}

    return History(table(steps, STEP_FIELDS), table(evaluations, EVALUATION_FIELDS))


@pytest.fixture
def full():
    return run(
        range(1, 9),
        (4, 8),
        loss=[6, 5, 4.5, 4, 3.5, 3.2, 3.1, 3],
        learning_rate=[0.1] * 4 + [0.01] * 4,
        clips_per_second=[7, 9, 8, 8, 8, 8, 8, 8],
        val_loss=[4.2, 3.3],
        val_top1=[0.25, 0.5],
        val_top5=[0.5, 0.75],
    )


def lines_of(figure):
    """{panel: {line: (steps, values)}} of what is drawn."""
    return {
        axes.get_ylabel(): {
            line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines
        }
        for axes in figure.axes
    }


def panels(figure):
    return {axes.get_ylabel(): axes for axes in figure.axes}


def drawn_texts(figure):
    plot.picture_of(figure)
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def has(picture, colour):
    return bool((np.asarray(picture) == np.rint(255 * np.array(to_rgb(colour)))).all(2).any())


# What is drawn -----------------------------------------------------------------------------------


def test_every_value_stands_in_its_panel_at_its_step(full):
    drawn = lines_of(curves_figure(full, "title"))
    assert list(drawn) == ["loss", "validation accuracy", "learning rate", "clips/s"]
    steps = list(range(1, 9))
    assert drawn["loss"]["loss of each step"] == (steps, [6, 5, 4.5, 4, 3.5, 3.2, 3.1, 3])
    assert drawn["loss"]["loss, running mean"] == (steps, smoothed(full.steps["loss"]).tolist())
    assert drawn["loss"]["validation loss"] == ([4, 8], [4.2, 3.3])
    assert drawn["validation accuracy"] == {
        "validation top-5": ([4, 8], [0.5, 0.75]),
        "validation top-1": ([4, 8], [0.25, 0.5]),
    }
    assert drawn["learning rate"] == {"learning rate": (steps, [0.1] * 4 + [0.01] * 4)}
    assert drawn["clips/s"] == {"clips/s": (steps, [7, 9, 8, 8, 8, 8, 8, 8])}


def test_all_panels_share_the_steps(full):
    figure = curves_figure(full, "title")
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert figure.axes[0].get_xlim() == pytest.approx((0, 8.08))
    assert len({axes.get_position().x0 for axes in figure.axes}) == 1
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "", "step"]


def test_panels_lie_below_each_other(full):
    bottoms, tops = zip(*((axes.bbox.y0, axes.bbox.y1) for axes in curves_figure(full, "title").axes))
    assert all(below < above for below, above in zip(tops[1:], bottoms))
    assert [round(top - bottom) for top, bottom in zip(tops, bottoms)] == [400, 220, 110, 110]


def test_scales_hold_the_values(full):
    axes = panels(curves_figure(full, "title"))
    assert axes["validation accuracy"].get_ylim() == (0, 1)
    assert 2.8 < axes["loss"].get_ylim()[0] < 3 and 6 < axes["loss"].get_ylim()[1] < 6.2
    assert axes["clips/s"].get_ylim() == pytest.approx((0, 9.9))
    assert axes["learning rate"].get_ylim() == pytest.approx((0, 0.11))


def test_a_learning_rate_that_falls_far_is_logarithmic_and_a_speed_never():
    rates = [0.1, 0.01, 0.001]
    axes = panels(curves_figure(run((1, 2, 3), learning_rate=rates, clips_per_second=[1, 100, 1000]), "title"))
    assert axes["learning rate"].get_yscale() == "log" and axes["clips/s"].get_yscale() == "linear"
    assert axes["learning rate"].get_ylim() == pytest.approx((0.001 / 1.5, 0.15))
    assert axes["clips/s"].get_ylim() == pytest.approx((0, 1100))


def test_a_log_axis_has_a_tick_at_each_power_of_ten():
    figure = curves_figure(run((1, 2, 3), learning_rate=[0.1, 0.01, 0.001]), "title")
    texts = drawn_texts(figure)
    assert {"0.1", "0.01", "0.001"} <= set(texts)


def test_ticks_are_round_numbers_in_plain_words():
    figure = curves_figure(
        run((0, 115_000), (115_000,), loss=[0.5, 6.4], val_top1=[0.3], clips_per_second=[10, 10]), "title"
    )
    texts = drawn_texts(figure)
    assert {"0", "1", "2", "3", "4", "5", "6"} <= set(texts)
    assert {"0%", "20%", "40%", "60%", "80%", "100%"} <= set(texts)
    assert {"20k", "40k", "60k", "80k", "100k"} <= set(texts)
    assert not any("$" in text or "e+" in text for text in texts)


def test_the_ticks_of_a_short_run_are_whole_steps():
    figure = curves_figure(run((1, 2, 3), loss=[3, 2, 1]), "title")
    assert figure.axes[0].get_xticks().tolist()[:4] == [0, 1, 2, 3]


def test_the_title_and_what_the_history_says_stand_above(full):
    figure = curves_figure(full, "i3d, rgb\n/runs/a")
    texts = [text.get_text() for text in figure.texts]
    assert texts[:2] == ["i3d, rgb", "/runs/a"]
    assert texts[2] == full.in_words()
    sizes = [text.get_fontsize() for text in figure.texts]
    assert sizes == [plot.TITLE_SIZE, plot.TEXT_SIZE, plot.TEXT_SIZE]
    heights = [text.get_position()[1] for text in figure.texts]
    assert heights == sorted(heights, reverse=True) and heights[-1] - 21 > figure.axes[0].bbox.y1


def test_panels_without_a_number_are_not_drawn():
    assert list(lines_of(curves_figure(run((1, 2), loss=[3, 2]), "title"))) == ["loss"]
    evaluated = lines_of(curves_figure(run((), (5,), val_top5=[0.5]), "title"))
    assert evaluated == {"loss": {}, "validation accuracy": {"validation top-5": ([5], [0.5])}}


def test_a_legend_names_the_lines_of_a_panel_that_has_several(full):
    legends = [axes.get_legend() for axes in curves_figure(full, "title").axes]
    names = [[text.get_text() for text in legend.get_texts()] for legend in legends[:2]]
    assert names == [
        ["loss, running mean", "validation loss", "loss of each step"],
        ["validation top-1", "validation top-5"],
    ]
    assert legends[2:] == [None, None]


# Breaks ------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_breaks_the_line_and_is_marked_at_the_foot():
    losses = [1.0, np.nan, 2.0, np.inf, 3.0, 3.0]
    figure = curves_figure(run(range(1, 7), loss=losses), "title")
    each, _, marks = figure.axes[0].lines
    assert np.isnan(each.get_ydata()).tolist() == [False, True, False, True, False, False]
    assert marks.get_xdata().tolist() == [2, 4] and marks.get_ydata().tolist() == [0, 0]
    assert has(plot.picture_of(figure), curves.BAD)
    assert not has(curves_picture(run((1, 2), loss=[1, 2]), "title"), curves.BAD)


def test_a_value_between_two_breaks_gets_a_dot_as_it_has_no_line():
    figure = curves_figure(run(range(1, 8), loss=[1.0, np.nan, 2.0, np.inf, 3.0, 3.0, np.nan]), "title")
    each = figure.axes[0].lines[0]
    assert each.get_markevery().tolist() == [True, False, True, False, False, False, False]
    assert each.get_marker() == "o"


def test_few_evaluations_have_dots_and_many_have_none():
    for count, has_dots in ((100, True), (101, False)):
        at = np.arange(1, count + 1)
        line = curves_figure(run((), at, val_loss=np.ones(count)), "title").axes[0].lines[0]
        assert line.get_markevery().tolist() == [has_dots] * count


def test_a_run_of_one_step_is_seen():
    picture = curves_picture(run((1,), loss=[2.0]), "title")
    assert has(picture, curves.SMOOTH)


# Limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low, high, is_log", [(1, 1, False), (0, 1, True), (float("nan"), 1, False), (2, 1, False)])
def test_limits_refuse_nonsense(low, high, is_log):
    with pytest.raises(ValueError, match="low < high"):
        Limits(low, high, is_log)


def loss_limits(losses):
    losses = np.array(losses, np.float64)
    return curves.loss_limits(losses, smoothed(losses), np.array([]))


def test_a_loss_that_falls_far_is_drawn_on_a_logarithmic_scale():
    falling = np.geomspace(6, 0.01, 500)
    assert loss_limits(falling).is_log
    assert not loss_limits(falling - 1).is_log
    assert not loss_limits(np.linspace(6, 3, 500)).is_log
    assert loss_limits(np.linspace(6, 2, 500)).low == 0


def test_a_loss_that_stays_high_is_not_drawn_from_zero():
    limits = loss_limits(np.linspace(6, 5, 500))
    assert 4.9 < limits.low < 5 and 6 < limits.high < 6.1


def test_one_outlier_does_not_flatten_the_curve():
    losses = np.linspace(6, 3, 1000)
    losses[500] = 1e9
    assert curves.loss_limits(losses, np.linspace(6, 3, 1000), np.array([])).high < 10


def test_a_validation_loss_above_all_others_is_within_the_scale():
    losses = np.linspace(3, 2, 100)
    assert curves.loss_limits(losses, losses, np.array([8.0, np.nan])).high > 8


@pytest.mark.parametrize(
    "steps, evaluations, low, high",
    [
        ((1, 100), (), 0, 101),
        ((50, 100), (), 0, 101),
        ((60, 100), (), 59.6, 100.4),
        ((60, 100), (1,), 0, 101),
        ((7,), (), 0, 7.07),
        ((0,), (), 0, 1.01),
    ],
)
def test_steps_begin_at_zero_unless_the_run_was_noted_only_from_later_on(steps, evaluations, low, high):
    limits = curves.step_limits(run(steps, evaluations))
    assert (limits.low, limits.high) == pytest.approx((low, high))


# The picture -------------------------------------------------------------------------------------


def test_the_picture_is_a_png_with_the_same_bytes_twice(full, tmp_path):
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        curves_picture(full, "title").save(path, format="PNG")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[0]) as picture:
        assert (picture.format, picture.mode, picture.width, picture.info) == ("PNG", "RGB", curves.WIDTH, {})
        for colour in (curves.SMOOTH, curves.VAL_LOSS, curves.TOP1, curves.TOP5, curves.RATE):
            assert has(picture, colour)


def test_threads_draw_the_same_picture(full):
    expected = curves_picture(full, "title").tobytes()
    pictures = []
    threads = [threading.Thread(target=lambda: pictures.append(curves_picture(full, "title"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [picture.tobytes() == expected for picture in pictures] == [True] * 4


def test_the_settings_of_the_process_stay_as_they_are(full):
    import matplotlib

    before = dict(matplotlib.rcParams)
    curves_picture(full, "title")
    assert dict(matplotlib.rcParams) == before


ODD = np.arange(1, 20_000)


@pytest.mark.parametrize(
    "history",
    [
        run((0,), loss=[1]),
        run((), (5,), val_top1=[0.5]),
        run((1,), loss=[np.nan]),
        run((1, 2), loss=[0, 0]),
        run((1,), loss=[-3], learning_rate=[-1], clips_per_second=[0]),
        run((2**52, 2**52 + 1), loss=[1, 1]),
        run((1, 2, 3), loss=[1e29, 1e-300, 1e-29], learning_rate=[1e-300, 1e29, 1], clips_per_second=[1e29, 1, 1]),
        run((), (1, 2), val_top1=[7, -3], val_loss=[1e29, np.nan]),
        run(ODD, loss=1 / ODD),
        run(ODD, loss=np.where(ODD % 2, 1e29, np.nan), learning_rate=np.where(ODD % 3, 1e-9, 1)),
    ],
    ids=range(10),
)
def test_any_history_makes_a_picture(history, recwarn):
    picture = curves_picture(history, "title")
    assert (picture.width, picture.mode) == (curves.WIDTH, "RGB")
    inked = np.asarray(picture).min(2) < 255
    assert not inked[:4].any() and not inked[-2:].any() and not inked[:, :2].any() and not inked[:, -2:].any()
    assert not recwarn.list


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_no_title_is_too_strange_or_too_long(full, text, recwarn):
    figure = curves_figure(full, text)
    picture = plot.picture_of(figure)
    assert not any(each.get_parse_math() or each.get_usetex() for each in figure.findobj(Text))
    assert picture.width == curves.WIDTH and picture.height < 1600
    inked = np.asarray(picture).min(2) < 255
    assert not inked[: plot.MARGIN // 2].any() and not inked[:, -plot.MARGIN // 2 :].any()
    assert not recwarn.list


def test_dollar_signs_are_drawn_as_they_stand(full):
    assert curves_figure(full, "cost: $5 to $6_{a}^").texts[0].get_text() == "cost: $5 to $6_{a}^"
    plain, dollars = (curves_picture(full, title) for title in ("5 to 6", "$5 to 6$"))
    assert plain.tobytes() != dollars.tobytes()
