import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from run_cases import train, train_job

pytestmark = pytest.mark.usefixtures("small_model")


def test_tensorboard_gets_what_the_history_says(moving_data, tmp_path):
    from tensorflow.core.util import event_pb2

    from kinetics_prep.records import tfrecord

    train(train_job(moving_data, tmp_path / "run", steps=3, tensorboard=True))
    (path,) = (tmp_path / "run" / "tensorboard").iterdir()
    events = [event_pb2.Event.FromString(data) for data in tfrecord.read_bytes(path)]
    scalars = {(event.step, value.tag) for event in events for value in event.summary.value}
    assert {(1, "loss"), (3, "learning_rate"), (3, "validation/top1")} <= scalars
