import json
import math

import numpy as np
import pytest
from strange import HOSTILE

from kinetics_prep.errors import CorruptShard
from kinetics_prep.report import curves
from kinetics_prep.report.curves import Axis, curves_picture, read_history


def step(number, loss=1.0, rate=0.1, **more):
    return json.dumps({"step": number, "loss": loss, "learning_rate": rate, "clips_per_second": 2.5} | more) + "\n"


def evaluation(number, top1=0.5, **more):
    return json.dumps({"step": number, "val_loss": 2.0, "val_top1": top1, "val_top5": 0.9} | more) + "\n"


@pytest.fixture
def history_of(tmp_path):
    def history_of(*lines):
        path = tmp_path / "history.jsonl"
        path.write_bytes(b"".join(line if isinstance(line, bytes) else line.encode() for line in lines))
        return read_history(path)

    return history_of


def has(picture, colour):
    return bool((np.asarray(picture) == colour).all(2).any())


def centre_of(picture, colour):
    """(x, y), the mean of where a colour is seen below the legend, in pixels."""
    rows, columns = np.nonzero((np.asarray(picture) == colour).all(2))
    below = rows > 120
    return columns[below].mean(), rows[below].mean()


# Reading -----------------------------------------------------------------------------------------


def test_a_history_has_steps_and_evaluations_in_order(history_of):
    found = history_of(step(1, 3.0), step(2, 2.0, 0.01), evaluation(2, 0.25), step(3, 1.0, 0.01))
    assert found.steps["step"].tolist() == [1, 2, 3]
    assert found.steps["loss"].tolist() == [3, 2, 1]
    assert found.steps["learning_rate"].tolist() == [0.1, 0.01, 0.01]
    assert found.evaluations["step"].tolist() == [2]
    assert found.evaluations["val_top1"].tolist() == [0.25]


def test_of_a_step_told_twice_the_last_word_holds(history_of):
    found = history_of(step(1, 3.0), step(2, 2.0), step(3, 9.0), step(2, 1.5), step(3, 1.0))
    assert found.steps["step"].tolist() == [1, 2, 3]
    assert found.steps["loss"].tolist() == [3, 1.5, 1]


@pytest.mark.parametrize("tail", ['{"step": 2, "lo', '{"step": 2}xyz', b"\xff\xfe", "[" * 200_000])
def test_a_last_line_that_is_cut_off_is_passed_over(history_of, tail):
    found = history_of(step(1), tail)
    assert found.steps["step"].tolist() == [1]
    assert found.unreadable == 0 or len(tail) > 1 << 16  # a monstrous line counts as several


@pytest.mark.parametrize(
    "line", ["no JSON", "[1]", '{"loss": 1}', '{"step": 1.5, "loss": 1}', '{"step": -1, "loss": 1}', '{"step": true}']
)
def test_other_lines_that_cannot_be_read_are_counted(history_of, line):
    found = history_of(step(1), line + "\n", step(2))
    assert found.steps["step"].tolist() == [1, 2]
    assert found.unreadable == 1
    assert "unreadable lines: 1" in found.in_words()


def test_lines_of_other_kinds_are_passed_over(history_of):
    found = history_of(step(1), '{"step": 1, "event": "resumed"}\n', step(2))
    assert (found.steps["step"].tolist(), found.unreadable) == ([1, 2], 0)


@pytest.mark.parametrize(
    "written, read",
    [
        ("NaN", math.nan),
        ("null", math.nan),
        ('"1"', math.nan),
        ("true", math.nan),
        ("1e999", math.inf),
        ("9" * 400, math.inf),
    ],
)
def test_what_is_no_number_is_nan_and_what_has_diverged_is_infinite(history_of, written, read):
    found = history_of(f'{{"step": 1, "loss": {written}}}\n', step(2))
    assert found.steps["loss"][0] == pytest.approx(read, nan_ok=True)
    assert "steps without a finite loss: 1" in found.in_words()


@pytest.mark.parametrize("content", ["", "\n\n", "{}\n", '{"step": 1}\n', "\x00" * 1000])
def test_a_file_without_a_step_is_refused(history_of, content):
    with pytest.raises(CorruptShard, match="holds no step of a run"):
        history_of(content)


def test_a_history_says_how_far_the_run_came(history_of):
    found = history_of(step(1, 4.0), evaluation(1, 0.5), step(2, 2.0, 0.01), evaluation(2, 0.5))
    assert found.in_words().startswith("step 2: loss 2.")
    assert "learning rate 0.01; best validation top-1 50.0% at step 1; 2.5 clips/s" in found.in_words()
    assert history_of(evaluation(7)).in_words() == "best validation top-1 50.0% at step 7"


# Computing ---------------------------------------------------------------------------------------


def test_smoothing_keeps_a_constant_and_passes_over_what_is_not_finite():
    losses = np.array([2.0] * 30 + [np.nan, np.inf] + [2.0] * 30)
    assert curves.smoothed(losses) == pytest.approx(np.full(62, 2.0))


def test_smoothing_lessens_noise_and_follows_a_fall():
    noisy = 5 * np.exp(-np.arange(5000) / 1000) + np.random.default_rng(0).normal(0, 0.5, 5000)
    smooth = curves.smoothed(noisy)
    assert np.std(np.diff(smooth[100:])) < 0.05 * np.std(np.diff(noisy[100:]))
    assert abs(smooth[-1] - 5 * np.exp(-5)) < 0.2


def test_rates_are_told_where_they_change_and_not_where_they_begin():
    steps = np.arange(1, 8)
    rates = np.array([0.1, 0.1, 0.01, np.nan, 0.0101, 0.1, 0.0])
    assert curves.rate_changes(steps, rates) == [(3, 0.01), (6, 0.1)]


def test_an_axis_knows_where_values_lie():
    assert Axis(0.0, 4.0).at(np.array([0, 1, 4, 6])).tolist() == [0, 0.25, 1, 1.5]
    assert Axis(0.01, 1.0, is_log=True).at(np.array([0.01, 0.1, 1])) == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize(
    "axis, ticks",
    [
        (Axis(0.0, 6.4), [0, 2, 4, 6]),
        (Axis(0.0, 115_000.0), [0, 20_000, 40_000, 60_000, 80_000, 100_000]),
        (Axis(0.1, 6.0, is_log=True), [0.1, 0.2, 0.5, 1, 2, 5]),
        (Axis(1e-12, 1.0, is_log=True), [1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1]),
    ],
)
def test_ticks_are_round_numbers(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)


@pytest.mark.parametrize("low, high, is_log", [(1, 1, False), (0, 1, True), (float("nan"), 1, False)])
def test_an_axis_refuses_nonsense(low, high, is_log):
    with pytest.raises(ValueError, match="low < high"):
        Axis(low, high, is_log)


def loss_axis(losses):
    return curves.loss_axis(np.array(losses), curves.smoothed(np.array(losses)), np.array([]))


def test_a_loss_that_falls_far_is_drawn_on_a_logarithmic_scale():
    falling = np.geomspace(6, 0.01, 500)
    assert loss_axis(falling).is_log
    assert not loss_axis(falling - 1).is_log
    assert not loss_axis(np.linspace(6, 3, 500)).is_log
    assert loss_axis(np.linspace(6, 2, 500)).low == 0


def test_one_outlier_does_not_flatten_the_curve():
    losses = np.linspace(6, 3, 1000)
    losses[500] = 1e9
    smooth = np.linspace(6, 3, 1000)
    assert curves.loss_axis(losses, smooth, np.array([])).high < 10


# Drawing -----------------------------------------------------------------------------------------


def test_what_is_not_there_is_not_drawn(history_of):
    bare = curves_picture(history_of(step(1), step(2)), "title")
    full = curves_picture(history_of(step(1), step(2), evaluation(2)), "title")
    assert [has(bare, colour) for colour in (curves.SMOOTH, curves.TOP1, curves.TOP5, curves.VAL_LOSS)] == [1, 0, 0, 0]
    assert all(has(full, colour) for colour in (curves.SMOOTH, curves.TOP1, curves.TOP5, curves.VAL_LOSS))


def test_accuracy_stands_as_high_as_it_is(history_of):
    heights = []
    for share in (0.0, 0.25, 0.75):
        picture = curves_picture(
            history_of(step(1), *(evaluation(k, share, val_top5=None) for k in (1, 2, 3))), "title"
        )
        plot = np.asarray(picture)[:, curves.LEFT + 20 : curves.WIDTH - curves.RIGHT - 20]
        rows = np.nonzero((plot == curves.TOP1).all(2))[0]
        heights.append(rows[rows > 120].mean())
    assert heights[0] - heights[1] == pytest.approx(curves.PLOT_HEIGHT / 4, abs=4)
    assert heights[0] - heights[2] == pytest.approx(curves.PLOT_HEIGHT * 3 / 4, abs=4)


def test_a_loss_that_is_no_number_breaks_the_line_and_is_marked_at_the_foot(history_of):
    lines = [step(k, math.nan if 40 <= k < 60 else 1.0) for k in range(1, 101)]
    picture = curves_picture(history_of(*lines), "title")
    x, y = centre_of(picture, curves.BAD)
    middle = curves.LEFT + (curves.WIDTH - curves.LEFT - curves.RIGHT) / 2
    assert abs(x - middle) < 20 and y > picture.height - curves.BELOW - 12
    assert not has(curves_picture(history_of(step(1), step(2)), "title"), curves.BAD)


def test_a_drop_of_the_learning_rate_is_marked_where_it_is(history_of):
    lines = [step(k, rate=0.1 if k < 50 else 0.01) for k in range(1, 101)]
    plain = curves_picture(history_of(*(step(k) for k in range(1, 101))), "title")
    marked = curves_picture(history_of(*lines), "title")
    changed = np.nonzero((np.asarray(plain) != np.asarray(marked)).any(2)[140:])[1]
    middle = curves.LEFT + (curves.WIDTH - curves.LEFT - curves.RIGHT) / 2
    assert len(changed) > 100 and abs(np.median(changed) - middle) < 20


def test_a_learning_rate_that_changes_all_the_time_is_not_marked(history_of):
    lines = [step(k, rate=0.1 * 2 ** -(k % 2)) for k in range(1, 101)]
    plain, wild = (curves_picture(history_of(*these), "title") for these in ([step(k) for k in range(1, 101)], lines))
    assert (np.asarray(plain)[140:] == np.asarray(wild)[140:]).all()


def test_thinning_keeps_the_extremes():
    x, y = np.linspace(0, 300, 100_000), np.zeros(100_000)
    y[777], y[50_000] = 9, -9
    points = curves._thinned(x, y)
    assert len(points) < 1000
    assert points[:, 1].max() == 9 and points[:, 1].min() == -9
    assert (np.diff(points[:, 0]) >= 0).all()


@pytest.mark.parametrize(
    "lines",
    [
        [step(0)],
        [step(1)],
        [evaluation(5)],
        [step(1, math.nan)],
        [step(1, 0.0), step(2, 0.0)],
        [step(1, -3.0)],
        [step(2**52), step(2**52 + 1)],
        [step(1, 1e29), step(2, 1e-300), step(3, 1e-29)],
        [evaluation(1, 7.0, val_loss=1e29), evaluation(2, -3.0, val_loss=None)],
        [step(k, 1 / k) for k in range(1, 20_000)],
    ],
    ids=[str(k) for k in range(10)],
)
def test_any_history_makes_a_picture(history_of, lines):
    picture = curves_picture(history_of(*lines), "title")
    assert (picture.width, picture.mode) == (curves.WIDTH, "RGB")
    inked = np.asarray(picture).min(2) < 255
    assert not inked[:4].any() and not inked[-2:].any() and not inked[:, :2].any() and not inked[:, -2:].any()


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_no_title_is_too_strange_or_too_long(history_of, text):
    picture = curves_picture(history_of(step(1), evaluation(1)), text)
    assert picture.width == curves.WIDTH and picture.height < 1000
