import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from run_cases import read_history, save_weights, train, train_job

from kinetics_prep.errors import Diverged
from kinetics_prep.models import weights
from kinetics_prep.reading.batches import Reading
from kinetics_prep.reading.order import Order
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.training import checkpoints, loop, metrics, opening, samples

pytestmark = pytest.mark.usefixtures("small_model")


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_clips(moving_data, tmp_path):
    start = save_weights(tmp_path / "start.safetensors")
    start_weights = weights.load(start)
    start_weights.arrays["norm/moving_variance"][:] = 0
    start_weights.arrays["head/kernel"][:] = 3e38
    start_weights.arrays["conv/kernel"][:] = 1e30
    weights.save(start, start_weights)
    job = train_job(moving_data, tmp_path / "run", None, protocol="fixed", init_from=start)
    with pytest.raises(Diverged, match=r"loss of step 1 is (nan|inf), at learning rate 0\.05.*clip\d+_"):
        train(job)
    assert not checkpoints.list_checkpoints(tmp_path / "run" / "checkpoints")


def test_each_step_has_the_learning_rate_of_the_schedule(moving_data, tmp_path):
    """Momentum left out, the second step at a thousandth of the rate moves weights a thousandth as far."""
    rates = {"learning_rates": ((0, 0.5), (1, 0.0005), (2, 0.5)), "momentum": 0.0, "dropout": 0.0}
    moved = []
    with opening.open_run(train_job(moving_data, tmp_path / "run", None, **rates)) as run:
        kernel = run.core.get_layer("head").kernel
        for step in (1, 2, 3):
            before = np.array(kernel.numpy())
            loop.fit(run, step)
            moved.append(np.abs(kernel.numpy() - before).max())
    assert [entry["learning_rate"] for entry in read_history(tmp_path / "run")] == [0.5, 0.0005, 0.5]
    assert moved[1] < 0.01 * moved[0] and moved[2] > 10 * moved[1]


@pytest.mark.parametrize("parts", [1, 2])
def test_the_loss_of_a_step_is_the_mean_over_its_clips_and_of_no_other_step(moving_data, tmp_path, parts):
    """All on frozen weights, so that the loss of the clips of a step can be computed after the run."""
    start = save_weights(tmp_path / "start.safetensors")
    settings = {"protocol": "fixed", "learning_rates": ((0, 1e-9),), "dropout": 0.0, "weight_decay": 0.0, "steps": 3}
    job = train_job(moving_data, tmp_path / "run", None, init_from=start, accumulate=parts, **settings)
    with opening.open_run(job) as run:
        loop.train(run)
        order, losses = Order(len(run.clips), job.recipe.batch, job.recipe.seed), []
        with samples.batches(run.clips, run.sampler(train=True), order, Reading(), Skipped(), 0, 3) as batches:
            for inputs, class_ids in batches:
                logits = run.forward({name: np.asarray(value) for name, value in inputs.items()})
                losses.append(metrics.cross_entropy(logits, np.asarray(class_ids)))
    assert np.ptp(losses) > 1e-3
    assert [entry["loss"] for entry in read_history(tmp_path / "run")] == pytest.approx(losses, abs=1e-5)


def test_checkpoints_are_written_between_evaluations_when_it_is_time(moving_data, tmp_path):
    for minutes, kept in ((0.0, [1, 2]), (60.0, [])):
        output = tmp_path / str(minutes)
        with opening.open_run(train_job(moving_data, output, None, checkpoint_minutes=minutes)) as run:
            loop.fit(run, 2)
            paths = checkpoints.list_checkpoints(run.folder.checkpoints)
        assert [checkpoints.step_of(path) for path in paths] == kept
