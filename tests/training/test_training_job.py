import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from run_cases import train, train_job

from kinetics_prep.errors import BadOption
from kinetics_prep.reading.batches import Reading
from kinetics_prep.training.recipes import Plateau


def test_settings_that_would_do_nothing_are_refused(moving_data, tmp_path):
    with pytest.raises(BadOption, match="--early-stop needs a split to evaluate on"):
        train_job(moving_data, tmp_path / "run", None, early_stop=2)
    with pytest.raises(BadOption, match="--threads is 0"):
        Reading(threads=0)
    with pytest.raises(BadOption, match="--checkpoint-minutes is nan"):
        train_job(moving_data, tmp_path / "run", checkpoint_minutes=float("nan"))


def test_what_looks_at_the_validation_loss_needs_a_validation_split(moving_data, tmp_path):
    for changes in ({"plateau": Plateau()}, {"early_stop": 2}):
        with pytest.raises(BadOption, match="a split to evaluate on|no split to evaluate on"):
            train(train_job(moving_data, tmp_path / "run", None, **changes))
