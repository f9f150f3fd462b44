"""Training in float16, whose gradients Keras scales by 32768 so that small ones are not lost. Where the scaled ones are
not finite, Keras passes over the step and halves the scale."""

import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import keras
import numpy as np
from run_cases import save_weights, train, train_and_kill, train_job

from kinetics_prep.models import model_variables, weights
from kinetics_prep.training import loop, opening
from kinetics_prep.training.run import TrainRun

pytestmark = pytest.mark.usefixtures("small_model")

FLOAT16 = {"precision": "mixed_float16", "dropout": 0.0, "flip": False}


@pytest.fixture
def steep(tmp_path):
    """Weights whose gradients, times 32768, float16 cannot hold."""
    keras.utils.set_random_seed(0)
    arrays = weights.load(save_weights(tmp_path / "start.safetensors")).arrays
    return save_weights(tmp_path / "steep.safetensors", {"head/kernel": arrays["head/kernel"] * 40})


def calls(run: TrainRun) -> int:
    """How often the optimizer got gradients that were finite."""
    return int(run.model.optimizer.inner_optimizer._iterations.numpy())


def test_mixed_precision_trains_and_resumes(moving_data, tmp_path, monkeypatch):
    whole = train(train_job(moving_data, tmp_path / "whole", precision="mixed_float16"))
    train_and_kill(train_job(moving_data, tmp_path / "killed", precision="mixed_float16"), 5, monkeypatch)
    assert train(train_job(moving_data, tmp_path / "killed", precision="mixed_float16")) == whole
    assert keras.config.dtype_policy().name == "float32"
    assert weights.load(tmp_path / "whole" / "weights.safetensors").arrays["conv/kernel"].dtype == np.float32


@pytest.mark.parametrize("precision, share", [("mixed_float16", 0.1), ("mixed_bfloat16", 0.5)])
def test_fewer_bits_move_weights_as_float32_does(moving_data, tmp_path, precision, share):
    start = save_weights(tmp_path / "start.safetensors")
    moved = {}
    for name in ("float32", precision):
        changes = FLOAT16 | {"precision": name, "steps": 3, "protocol": "full-ft", "init_from": start}
        train(train_job(moving_data, tmp_path / name, None, **changes))
        after, before = (weights.load(path).arrays for path in (tmp_path / name / "weights.safetensors", start))
        moved[name] = {array: after[array] - before[array] for array in ("conv/kernel", "norm/beta", "head/kernel")}
    for array, expected in moved["float32"].items():
        assert np.abs(expected).max() > 1e-4, array
        assert np.abs(moved[precision][array] - expected).max() < share * np.abs(expected).max(), array


def test_a_step_whose_gradients_overflow_is_in_the_history_and_moves_no_weight(moving_data, tmp_path, steep):
    job = train_job(moving_data, tmp_path / "run", None, init_from=steep, protocol="full-ft", **FLOAT16)
    before = weights.load(steep).arrays["conv/kernel"]
    steps, passed_over = [], 0
    with opening.open_run(job) as run:
        for step in range(1, 7):
            loop.fit(run, step)
            passed_over += calls(run) < step - passed_over
            steps.append(np.array_equal(model_variables.to_arrays(run.core)["conv/kernel"], before))
            assert calls(run) == step - passed_over
            assert float(run.model.optimizer.dynamic_scale) == 32768 / 2**passed_over
        assert run.step == 6 == sum(1 for line in run.folder.history.read_text().splitlines() if "loss" in line)
    assert 1 <= passed_over <= 5
    assert steps == [True] * passed_over + [False] * (6 - passed_over)


def test_a_part_whose_gradients_overflow_makes_later_steps_out_of_parts_of_two_batches(moving_data, tmp_path, steep):
    """Not as it should be, but as it is: Keras counts parts, and a part that it passes over does not count. From there
    on its steps may end in the middle of a batch, while the trainer's steps are whole batches."""
    changes = FLOAT16 | {"accumulate": 2, "learning_rates": ((0, 1e-4),), "protocol": "full-ft", "init_from": steep}
    with opening.open_run(train_job(moving_data, tmp_path / "run", None, **changes)) as run:
        counts = []
        for step in range(1, 7):
            loop.fit(run, step)
            counts.append(calls(run))
    assert any(count % 2 for count in counts), counts
    assert counts[-1] < 12 and run.step == 6
