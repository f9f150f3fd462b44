import dataclasses

import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from run_cases import RECIPE

from kinetics_prep.training.recipes import Plateau


def test_the_learning_rate_falls_with_the_schedule_and_at_a_plateau():
    assert [RECIPE.learning_rate(step) for step in (0, 3, 4, 5)] == [0.05, 0.05, 0.01, 0.01]
    falling = dataclasses.replace(RECIPE, plateau=Plateau(patience=2, factor=0.1, drops=1), learning_rates=((0, 1.0),))
    assert falling.learning_rate(5, [3, 2, 1]) == 1.0
    assert falling.learning_rate(5, [3, 4]) == 1.0
    assert falling.learning_rate(5, [3, 4, 3]) == pytest.approx(0.1)
    assert falling.learning_rate(5, [3, 4, 3, 5, 6, 7, 8]) == pytest.approx(0.1)
