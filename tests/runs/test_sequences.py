"""Random sequences of commands that are killed anywhere: a bounded number of what `python tests/sequences.py` does."""

import random

import pytest
import sequences


@pytest.mark.parametrize("seed", range(40))
def test_whatever_follows_whatever_kill_nothing_is_lost(tmp_path, seed):
    steps = sequences.draw_steps(random.Random(seed))
    sequences.play(steps, tmp_path / "world")
