import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from run_cases import LABELS, evaluate, save_weights

from kinetics_prep import cli
from kinetics_prep.errors import BadOption, BadWeights, CorruptShard
from kinetics_prep.models import weights
from kinetics_prep.reading.batches import Reading
from kinetics_prep.records import tfrecord
from kinetics_prep.training import predictions_file

pytestmark = pytest.mark.usefixtures("small_model")


def test_every_clip_of_a_split_is_scored_once_in_whatever_batches(moving_data, tmp_path):
    path = save_weights(tmp_path / "rgb.safetensors")
    (one,) = evaluate(path, data=moving_data)
    (four,) = evaluate(path, data=moving_data, batch=4, reading=Reading("parquet", threads=1))
    assert sorted(clip_id.split("_")[0] for clip_id in one.clip_ids) == [f"clip{k}" for k in range(12, 18)]
    assert one.clip_ids == four.clip_ids
    assert np.ptp(one.logits, axis=0).min() > 1e-4  # clips can be told apart
    assert four.logits == pytest.approx(one.logits, abs=1e-6)
    assert one.labels == LABELS
    by_id = dict(zip(one.clip_ids, one.class_ids.tolist()))
    assert all(class_id == int(clip_id.split("_")[0][4:]) % 2 for clip_id, class_id in by_id.items())


def test_streams_are_fused_by_adding_their_logits(moving_data, tmp_path):
    rgb, flow = save_weights(tmp_path / "rgb.safetensors"), save_weights(tmp_path / "flow.safetensors", stream="flow")
    one, other, both = evaluate(rgb, flow, data=moving_data)
    assert (one.stream, other.stream, both.stream) == ("rgb", "flow", "both")
    assert both.logits == pytest.approx(one.logits + other.logits, abs=1e-6)
    assert not np.allclose(one.logits, other.logits)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"fps": "25"}, "fps is 10 in .*, and the weights expect 25"),
        ({"labels": ("moving left", "standing")}, "class 1 is 'moving right' in .* and 'standing' to the weights"),
        ({"classes": 3, "labels": ()}, "has 2 classes, and the weights know 3"),
        (
            {"stream": "flow", "quantizer": "denseflow"},
            "quantizer is symmetric in .*, and the weights expect denseflow",
        ),
        ({"size": 48}, "short side 40 px are too small for crops of 48 px"),
    ],
)
def test_data_that_the_weights_do_not_expect_are_refused(moving_data, tmp_path, changes, message):
    with pytest.raises(BadOption, match=message):
        evaluate(save_weights(tmp_path / "some.safetensors", **changes), data=moving_data)


def test_weights_that_make_no_network_are_refused(moving_data, tmp_path):
    path = save_weights(tmp_path / "some.safetensors")
    loaded = weights.load(path)
    weights.save(path, weights.Weights(dataclasses.replace(loaded.facts, model="inception-v1"), loaded.arrays))
    with pytest.raises(BadWeights, match="is of inception-v1, which is only there to begin from"):
        evaluate(path, data=moving_data)
    with pytest.raises(BadOption, match="holds no split 'test', only train, val"):
        evaluate(path, data=moving_data, split="test")


def test_a_split_or_stream_that_is_not_there_is_an_error(moving_data, tmp_path):
    with pytest.raises(BadOption, match="holds no split 'test', only train, val"):
        evaluate(save_weights(tmp_path / "some.safetensors"), data=moving_data, split="test")
    with pytest.raises(CorruptShard, match="no dataset.json"):
        evaluate(save_weights(tmp_path / "some.safetensors"), data=tmp_path)


def damaged(data, folder):
    """A copy of a prepared folder in which one record of val does not read back; its path."""
    import shutil

    shutil.copytree(data, folder)
    path = next((folder / "tfrecord").glob("val-00000-*"))
    first = next(tfrecord.read_bytes(path))
    content = bytearray(path.read_bytes())
    content[12 + len(first) // 2] ^= 1
    path.write_bytes(content)
    return folder


def test_a_corrupt_record_stops_an_evaluation_or_is_counted_and_left_out_of_all_streams(moving_data, tmp_path):
    data = damaged(moving_data, tmp_path / "damaged")
    rgb, flow = save_weights(tmp_path / "rgb.safetensors"), save_weights(tmp_path / "flow.safetensors", stream="flow")
    with pytest.raises(CorruptShard, match=r"val-00000-of-0000\d.tfrecord, clip.*checksum is wrong"):
        evaluate(rgb, data=data)
    whole = evaluate(rgb, data=moving_data)[0]
    results = evaluate(rgb, flow, data=data, reading=Reading(skip_corrupt=True))
    assert [len(predictions) for predictions in results] == [5, 5, 5]
    (lost,) = set(whole.clip_ids) - set(results[0].clip_ids)
    kept = [clip_id for clip_id in whole.clip_ids if clip_id != lost]
    assert results[0].logits == pytest.approx(whole.logits_of(kept), abs=1e-6)


def test_the_command_evaluates_compares_and_draws(moving_data, tmp_path, capsys):
    rgb, flow = save_weights(tmp_path / "rgb.safetensors"), save_weights(tmp_path / "flow.safetensors", stream="flow")
    command = [
        "evaluate",
        "--weights",
        str(rgb),
        str(flow),
        "--data",
        str(moving_data),
        "--output",
        str(tmp_path / "e"),
    ]
    assert cli.main(command) == cli.OK
    predictions = capsys.readouterr().out
    assert "RGB + Flow" in predictions
    names = sorted(path.name for path in (tmp_path / "e").iterdir())
    assert names == sorted(
        f"small-{stream}.{kind}" for stream in ("rgb", "flow", "both") for kind in ("parquet", "png")
    )
    files = [f"One={tmp_path / 'e' / f'small-{stream}.parquet'}" for stream in ("rgb", "flow")]
    assert cli.main(["compare", *files, "--markdown"]) == cli.OK
    table = capsys.readouterr().out
    assert table.startswith("| model | RGB | Flow | RGB + Flow |\n")
    both = predictions_file.read(tmp_path / "e" / "small-both.parquet").scores()
    assert f"{100 * both.top1:.1f} / {100 * both.top5:.1f}" in table


def test_errors_of_the_commands_are_one_line(moving_data, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    rgb = save_weights(tmp_path / "rgb.safetensors")
    for command in (
        ["predict", str(tmp_path / "broken.mp4"), "--weights", str(rgb)],
        ["predict", str(tmp_path / "missing.mp4"), "--weights", str(rgb)],
        ["predict", str(tmp_path / "broken.mp4"), "--weights", str(tmp_path / "broken.mp4")],
        ["evaluate", "--weights", str(rgb), "--data", str(tmp_path)],
        ["evaluate", "--weights", str(rgb), "--data", str(moving_data), "--frames", "0"],
        ["train", "--data", str(moving_data), "--model", "resnet"],
        ["train", "--data", str(tmp_path)],
        ["train", "--data", str(moving_data), "--recipe", "small", "--learning-rate", "fast"],
        ["train", "--data", str(moving_data), "--recipe", "small", "--batch-at-once", "3"],
        ["weights", "show", str(tmp_path / "broken.mp4")],
        ["weights", "convert", str(tmp_path / "broken.mp4"), str(tmp_path / "out.safetensors")],
        ["weights", "fetch", "everything"],
        ["compare", str(tmp_path / "broken.mp4")],
    ):
        assert cli.main(command) == cli.CANNOT_GO_ON, command
        output = capsys.readouterr()
        assert output.out == "", command
        assert len(output.err.splitlines()) == 1, output.err
        assert output.err.startswith("kinetics-prep: "), output.err


def test_models_and_weights_are_listed(tmp_path, capsys):
    assert cli.main(["models"]) == cli.OK
    assert "12,704,544" in capsys.readouterr().out
    assert cli.main(["weights", "show", str(save_weights(tmp_path / "some.safetensors", labels=()))]) == cli.OK
    assert "small on rgb, 2 classes, whose labels it does not know" in capsys.readouterr().out


def test_what_the_predictions_file_says_can_be_read_by_anybody(moving_data, tmp_path):
    import pyarrow.parquet as pq

    (predictions,) = evaluate(save_weights(tmp_path / "rgb.safetensors"), data=moving_data)
    predictions_file.write(tmp_path / "predictions.parquet", predictions)
    table = pq.read_table(tmp_path / "predictions.parquet")
    assert np.array_equal(np.array(table["logits"].to_pylist(), np.float32), predictions.logits)
    assert json.loads(table.schema.metadata[b"kinetics_prep/labels"]) == list(LABELS)
