import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from run_cases import LABELS, evaluate, save_weights

from kinetics_prep import cli
from kinetics_prep.training.predict import predict

pytestmark = pytest.mark.usefixtures("small_model")


def test_predict_names_the_classes_of_a_video_by_each_stream_and_by_both(moving_data, tmp_path, capsys):
    rgb, flow = save_weights(tmp_path / "rgb.safetensors"), save_weights(tmp_path / "flow.safetensors", stream="flow")
    video = str(moving_data.parent / "clip13.mp4")
    probabilities = []
    for paths in ([rgb], [flow], [rgb, flow]):
        assert cli.main(["predict", video, "--weights", *map(str, paths), "--seconds", "1.2"]) == cli.OK
        lines = capsys.readouterr().out.splitlines()
        assert {line.split(None, 1)[1] for line in lines} == set(LABELS)
        probabilities.append(lines)
    assert len({tuple(lines) for lines in probabilities}) == 3


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_predict_says_of_a_clip_what_evaluate_says(moving_data, tmp_path, stream):
    """It goes through the code that prepared the shard, with its settings."""
    path = save_weights(tmp_path / "some.safetensors", stream=stream)
    (whole,) = evaluate(path, data=moving_data)
    clip_id = whole.clip_ids[0]
    video = moving_data.parent / f"{clip_id.split('_')[0]}.mp4"
    predictions = predict(video, (path,), seconds=1.2)
    assert predictions.logits[0] == pytest.approx(whole.logits_of([clip_id])[0], abs=1e-6)
    assert (predictions.clip_ids, predictions.labels) == ((video.name,), LABELS)
    # That is not what it says of other clips; in flow, clips that move alike are alike but for their noise.
    others = np.abs(predictions.logits[0] - whole.logits[1:]).max(axis=1)
    assert others.min() > 1e-4 if stream == "rgb" else others.max() > 0.05
