import resource

import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from run_cases import train, train_job

from kinetics_prep.errors import CorruptShard, NoRoom
from kinetics_prep.training import checkpoints, opening

pytestmark = pytest.mark.usefixtures("small_model")


def test_a_checkpoint_of_another_run_is_refused(moving_data, tmp_path):
    job = train_job(moving_data, tmp_path / "run", None, steps=1)
    train(job)
    (path,) = checkpoints.list_checkpoints(tmp_path / "run" / "checkpoints")
    with opening.open_run(job) as run:
        with pytest.raises(CorruptShard, match="of another run"):
            checkpoints.restore(path, run.model, "0123456789abcdef")
        assert checkpoints.restore(path, run.model, run.digest) == 1


def test_no_room_for_a_checkpoint_is_an_error(moving_data, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opening.open_run(train_job(moving_data, tmp_path / "run", None)) as run:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
        try:
            with pytest.raises(NoRoom, match="no room to write .*step-00000000"):
                checkpoints.write(run.folder.checkpoints, 0, run.model, run.digest)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
