import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from run_cases import train, train_job

from kinetics_prep.training import history

pytestmark = pytest.mark.usefixtures("small_model")


def test_tensorboard_gets_what_the_history_says(moving_data, tmp_path):
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    from kinetics_prep.records import tfrecord

    train(train_job(moving_data, tmp_path / "run", steps=3, tensorboard=True))
    (path,) = (tmp_path / "run" / "tensorboard").iterdir()
    events = [event_pb2.Event.FromString(data) for data in tfrecord.read_bytes(path)]
    scalars = {
        (event.step, value.tag): tf.make_ndarray(value.tensor).item()
        for event in events
        for value in event.summary.value
    }
    expected = {}
    for entry in history.read(tmp_path / "run" / "history.jsonl"):
        step = entry.pop("step")
        expected |= {(step, name.replace("val_", "validation/")): value for name, value in entry.items()}
    assert len(expected) == 3 * 3 + 3
    assert scalars == pytest.approx(expected, rel=1e-6)
