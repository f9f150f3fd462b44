import json
import math

import numpy as np
import pytest

from kinetics_prep.errors import CorruptShard
from kinetics_prep.report import history
from kinetics_prep.report.history import History, read_history


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


# Reading -----------------------------------------------------------------------------------------


def test_a_history_has_steps_and_evaluations_in_order(history_of):
    run = history_of(step(1, 3.0), step(2, 2.0, 0.01), evaluation(2, 0.25), step(3, 1.0, 0.01))
    assert run.steps["step"].tolist() == [1, 2, 3]
    assert run.steps["loss"].tolist() == [3, 2, 1]
    assert run.steps["learning_rate"].tolist() == [0.1, 0.01, 0.01]
    assert run.evaluations["step"].tolist() == [2]
    assert run.evaluations["val_top1"].tolist() == [0.25]


def test_steps_are_sorted_even_if_lines_are_not(history_of):
    run = history_of(step(5, 1.0), step(3, 2.0), evaluation(9), evaluation(4, 0.1), step(4, 3.0))
    assert (run.steps["step"].tolist(), run.steps["loss"].tolist()) == ([3, 4, 5], [2, 3, 1])
    assert run.evaluations["val_top1"].tolist() == [0.1, 0.5]


def test_of_a_step_that_stands_twice_the_last_line_counts(history_of):
    run = history_of(step(1, 3.0), step(2, 2.0), step(3, 9.0), step(2, 1.5), step(3, 1.0))
    assert run.steps["step"].tolist() == [1, 2, 3]
    assert run.steps["loss"].tolist() == [3, 1.5, 1]


@pytest.mark.parametrize("tail", ['{"step": 2, "lo', '{"step": 2}xyz', b"\xff\xfe", "[" * 200_000])
def test_a_last_line_that_is_cut_off_is_passed_over(history_of, tail):
    run = history_of(step(1), tail)
    assert run.steps["step"].tolist() == [1]
    assert run.unreadable == 0 or len(tail) > 1 << 16  # a monstrous line counts as several


@pytest.mark.parametrize(
    "line", ["no JSON", "[1]", '{"loss": 1}', '{"step": 1.5, "loss": 1}', '{"step": -1, "loss": 1}', '{"step": true}']
)
def test_other_lines_that_cannot_be_read_are_counted(history_of, line):
    run = history_of(step(1), line + "\n", step(2))
    assert run.steps["step"].tolist() == [1, 2]
    assert run.unreadable == 1
    assert "unreadable lines: 1" in run.in_words()


def test_lines_of_other_kinds_are_passed_over(history_of):
    run = history_of(step(1), '{"step": 1, "event": "resumed"}\n', step(2))
    assert (run.steps["step"].tolist(), run.unreadable) == ([1, 2], 0)


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
def test_a_value_that_is_not_a_number_is_nan_and_a_diverged_loss_is_infinite(history_of, written, read):
    run = history_of(f'{{"step": 1, "loss": {written}}}\n', step(2))
    assert run.steps["loss"][0] == pytest.approx(read, nan_ok=True)
    assert "steps without a finite loss: 1" in run.in_words()


@pytest.mark.parametrize("content", ["", "\n\n", "{}\n", '{"step": 1}\n', "\x00" * 1000])
def test_a_file_without_a_step_is_refused(history_of, content):
    with pytest.raises(CorruptShard, match="holds no step of a run"):
        history_of(content)


def test_a_history_says_how_far_the_run_came(history_of):
    run = history_of(step(1, 4.0), evaluation(1, 0.5), step(2, 2.0, 0.01), evaluation(2, 0.5))
    assert run.in_words().startswith("step 2: loss 2.")
    assert "learning rate 0.01; best validation top-1 50.0% at step 1; 2.5 clips/s" in run.in_words()
    assert history_of(evaluation(7)).in_words() == "best validation top-1 50.0% at step 7"


# Computing ---------------------------------------------------------------------------------------


def test_smoothing_keeps_a_constant_and_passes_over_what_is_not_finite():
    losses = np.array([2.0] * 30 + [np.nan, np.inf] + [2.0] * 30)
    assert history.smoothed(losses) == pytest.approx(np.full(62, 2.0))


def test_smoothing_is_the_weighted_mean_of_what_came_before():
    losses = np.random.default_rng(0).normal(3, 1, 400)
    losses[[5, 100, 101]] = np.nan, np.inf, -np.inf
    over = 400 / history.SMOOTHED_OVER
    expected = []
    for k in range(400):
        finite = losses[: k + 1][np.isfinite(losses[: k + 1])]
        expected.append(np.average(finite, weights=np.exp(np.arange(len(finite)) / over)))
    smooth = history.smoothed(losses)
    assert np.isnan(smooth[0])
    assert smooth[1:] == pytest.approx(expected[1:])


def test_smoothing_does_not_run_ahead_of_a_jump_and_soon_follows_it():
    losses = np.repeat([2.0, 1.0], 500)
    smooth = history.smoothed(losses)
    assert smooth[20:500] == pytest.approx(np.full(480, 2.0))
    assert smooth[500] == pytest.approx(2 - (1 - math.exp(-1 / 20)))
    assert smooth[520] < 1.37 and smooth[999] == pytest.approx(1)


def test_short_runs_are_hardly_smoothed():
    assert history.smoothed(np.array([3.0])).tolist() == [3]
    assert history.smoothed(np.array([])).tolist() == []
    assert np.isnan(history.smoothed(np.array([np.nan, np.inf]))).all()


def test_a_history_of_nothing_is_refused():
    nothing = {"step": np.array([], np.int64)}
    with pytest.raises(ValueError, match="at least one step or one evaluation"):
        History(nothing, nothing)


def test_the_best_evaluation_is_the_first_of_equals_and_never_one_without_a_number(history_of):
    run = history_of(*(evaluation(k, top1) for k, top1 in ((1, 0.2), (2, None), (3, 0.7), (4, 0.7), (5, math.nan))))
    assert run.in_words() == "best validation top-1 70.0% at step 3"


def test_speed_is_the_median(history_of):
    speeds = (1.0, 100.0, 3.0, math.nan)
    run = history_of(*(step(k + 1, clips_per_second=speed) for k, speed in enumerate(speeds)))
    assert run.in_words().endswith("; 3 clips/s")


def test_the_largest_step_is_that_which_a_float_holds(history_of):
    run = history_of(step(2**53 - 1), step(2**53))
    assert (run.steps["step"].tolist(), run.unreadable) == ([2**53 - 1], 0)  # the last line may be cut off


def test_a_line_that_is_longer_than_any_that_a_run_writes_is_not_read_whole(history_of):
    run = history_of('{"step": 1, "loss": 1, "more": "' + "x" * 200_000 + '"}\n', step(2))
    assert run.steps["step"].tolist() == [2]
    assert run.unreadable == 4
