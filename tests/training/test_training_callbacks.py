import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from run_cases import save_weights, train, train_job

from kinetics_prep.errors import Diverged
from kinetics_prep.models import weights
from kinetics_prep.training import checkpoints

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
