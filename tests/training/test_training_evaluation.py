import json

import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import small

from kinetics_prep import cli
from kinetics_prep.errors import BadOption, BadWeights, CorruptShard
from kinetics_prep.models import MODELS, two_stream, weights
from kinetics_prep.models.spec import Spec
from kinetics_prep.reading.batches import Reading
from kinetics_prep.records import tfrecord
from kinetics_prep.training import evaluation, predictions
from kinetics_prep.training.evaluation import EvaluateJob, clip_logits, span_at_test

LABELS = ("moving left", "moving right")


@pytest.fixture(autouse=True)
def with_a_small_model(monkeypatch):
    monkeypatch.setitem(MODELS, "small", small)


def saved(path, **changes):
    told = {"model": "small", "stream": "rgb", "classes": 2, "labels": LABELS, "size": 32, "span": 4, "fps": "10"}
    facts = weights.Facts(**told | {"short_side": 40} | changes)
    model = MODELS[facts.model].build(facts.classes, facts.stream, facts.size)
    random = np.random.default_rng(len(facts.stream))
    arrays = {
        name: (random.random(array.shape, np.float32) + 0.1) if "variance" in name else array
        for name, array in weights.of_model(model).items()
    }
    weights.save(path, weights.Weights(facts, arrays))
    return path


def evaluated(*paths, **changes):
    with evaluation.prepared(EvaluateJob(paths, **changes)) as ready:
        found = evaluation.carry_out(ready)
        assert ready.done == ready.total - len(ready.skipped) * len(paths)
    return found


def test_every_clip_of_a_split_is_scored_once_in_whatever_batches(moving_data, tmp_path):
    path = saved(tmp_path / "rgb.safetensors")
    (one,) = evaluated(path, data=moving_data)
    (four,) = evaluated(path, data=moving_data, batch=4, reading=Reading("parquet", threads=1))
    assert sorted(one.clip_ids) == sorted(f"clip{k}_000000_000001" for k in range(12, 18)) or len(one) == 6
    assert one.clip_ids == four.clip_ids
    assert four.logits == pytest.approx(one.logits, abs=1e-5)
    assert one.labels == LABELS
    by_id = dict(zip(one.clip_ids, one.class_ids.tolist()))
    assert all(class_id == int(clip_id.split("_")[0][4:]) % 2 for clip_id, class_id in by_id.items())


def test_streams_are_fused_by_adding_their_logits(moving_data, tmp_path):
    rgb, flow = saved(tmp_path / "rgb.safetensors"), saved(tmp_path / "flow.safetensors", stream="flow")
    one, other, both = evaluated(rgb, flow, data=moving_data)
    assert (one.stream, other.stream, both.stream) == ("rgb", "flow", "both")
    assert both.logits == pytest.approx(one.logits + other.logits, abs=1e-6)
    assert not np.allclose(one.logits, other.logits)


def test_windows_are_averaged_and_the_last_step_counts():
    """Two-Stream takes ten frames at a time: the logits of twenty are the mean of two windows'."""
    model = evaluation.forward(evaluation.normalise.from_uint8(two_stream.build(3, "flow", 32), "symmetric"))
    flow = np.random.default_rng(0).integers(1, 256, (2, 20, 32, 32, 2), np.uint8)
    halves = [clip_logits(model, two_stream.SPEC, {"flow": flow[:, k : k + 10]}, 10) for k in (0, 10)]
    whole = clip_logits(model, two_stream.SPEC, {"flow": flow}, 20)
    assert whole.shape == (2, 3)
    assert whole == pytest.approx(np.mean(halves, axis=0), abs=1e-5)
    assert np.abs(halves[0] - halves[1]).max() > 1e-6

    def mean_of_each_frame(streams):
        return streams["rgb"].mean(axis=(2, 3))

    steps = Spec("a", "A", ("rgb",), 32, 4, 4, every_step=True)
    frames = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 4, 1, 1, 3)
    assert clip_logits(mean_of_each_frame, steps, {"rgb": frames}, 4).tolist() == frames[:, -1, 0, 0].tolist()


def test_a_test_spans_what_the_paper_does_in_whole_windows():
    assert span_at_test(MODELS["i3d"].SPEC, 1) == 250
    assert span_at_test(MODELS["i3d"].SPEC, 4) == 62
    assert span_at_test(MODELS["convnet-3d"].SPEC, 1) == 240
    assert span_at_test(MODELS["convnet-3d"].SPEC, 4) == 48
    assert span_at_test(MODELS["two-stream"].SPEC, 100) == 10


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
        evaluated(saved(tmp_path / "some.safetensors", **changes), data=moving_data)


def test_weights_that_make_no_network_are_refused(moving_data, tmp_path):
    path = saved(tmp_path / "some.safetensors")
    found = weights.load(path)
    weights.save(path, weights.Weights(evaluation.dataclasses.replace(found.facts, model="inception-v1"), found.arrays))
    with pytest.raises(BadWeights, match="is of inception-v1, which is only there to begin from"):
        evaluated(path, data=moving_data)
    with pytest.raises(BadOption, match="holds no split 'test', only train, val"):
        evaluated(path, data=moving_data, split="test")


def test_a_split_or_stream_that_is_not_there_is_an_error(moving_data, tmp_path):
    with pytest.raises(BadOption, match="holds no split 'test', only train, val"):
        evaluated(saved(tmp_path / "some.safetensors"), data=moving_data, split="test")
    with pytest.raises(CorruptShard, match="no dataset.json"):
        evaluated(saved(tmp_path / "some.safetensors"), data=tmp_path)


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
    rgb, flow = saved(tmp_path / "rgb.safetensors"), saved(tmp_path / "flow.safetensors", stream="flow")
    with pytest.raises(CorruptShard, match=r"val-00000-of-0000\d.tfrecord, clip.*checksum is wrong"):
        evaluated(rgb, data=data)
    whole = evaluated(rgb, data=moving_data)[0]
    found = evaluated(rgb, flow, data=data, reading=Reading(skip_corrupt=True))
    assert [len(said) for said in found] == [5, 5, 5]
    (lost,) = set(whole.clip_ids) - set(found[0].clip_ids)
    kept = [clip_id for clip_id in whole.clip_ids if clip_id != lost]
    assert found[0].logits == pytest.approx(whole.of_clips(kept), abs=1e-5)


def test_the_command_evaluates_compares_and_draws(moving_data, tmp_path, capsys):
    rgb, flow = saved(tmp_path / "rgb.safetensors"), saved(tmp_path / "flow.safetensors", stream="flow")
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
    said = capsys.readouterr().out
    assert "RGB + Flow" in said
    names = sorted(path.name for path in (tmp_path / "e").iterdir())
    assert names == sorted(
        f"small-{stream}.{kind}" for stream in ("rgb", "flow", "both") for kind in ("parquet", "png")
    )
    files = [f"One={tmp_path / 'e' / f'small-{stream}.parquet'}" for stream in ("rgb", "flow")]
    assert cli.main(["compare", *files, "--markdown"]) == cli.OK
    table = capsys.readouterr().out
    assert table.startswith("| model | RGB | Flow | RGB + Flow |\n")
    both = predictions.read(tmp_path / "e" / "small-both.parquet").scores()
    assert f"{100 * both.top1:.1f} / {100 * both.top5:.1f}" in table


def test_predict_names_the_classes_of_a_video_by_each_stream_and_by_both(moving_data, tmp_path, capsys):
    rgb, flow = saved(tmp_path / "rgb.safetensors"), saved(tmp_path / "flow.safetensors", stream="flow")
    video = str(moving_data.parent / "clip13.mp4")
    probabilities = []
    for paths in ([rgb], [flow], [rgb, flow]):
        assert cli.main(["predict", video, "--weights", *map(str, paths), "--seconds", "1.2"]) == cli.OK
        lines = capsys.readouterr().out.splitlines()
        assert {line.split(None, 1)[1] for line in lines} == set(LABELS)
        probabilities.append(lines)
    assert len({tuple(lines) for lines in probabilities}) == 3


def test_predict_says_of_a_clip_what_evaluate_says(moving_data, tmp_path):
    """It goes through the code that prepared the shard, with its settings."""
    path = saved(tmp_path / "flow.safetensors", stream="flow")
    (whole,) = evaluated(path, data=moving_data)
    clip_id = whole.clip_ids[0]
    video = moving_data.parent / f"{clip_id.split('_')[0]}.mp4"
    said = evaluation.predict(video, (path,), seconds=1.2)
    assert said.logits[0] == pytest.approx(whole.of_clips([clip_id])[0], abs=1e-5)


def test_errors_of_the_commands_are_one_line(moving_data, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    rgb = saved(tmp_path / "rgb.safetensors")
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
        said = capsys.readouterr()
        assert said.out == "", command
        assert len(said.err.splitlines()) == 1, said.err
        assert said.err.startswith("kinetics-prep: "), said.err


def test_models_and_weights_are_listed(tmp_path, capsys):
    assert cli.main(["models"]) == cli.OK
    assert "12,704,544" in capsys.readouterr().out
    assert cli.main(["weights", "show", str(saved(tmp_path / "some.safetensors", labels=()))]) == cli.OK
    assert "small on rgb, 2 classes, whose labels it does not know" in capsys.readouterr().out


def test_what_the_predictions_file_says_can_be_read_by_anybody(moving_data, tmp_path):
    import pyarrow.parquet as pq

    (said,) = evaluated(saved(tmp_path / "rgb.safetensors"), data=moving_data)
    predictions.write(tmp_path / "said.parquet", said)
    table = pq.read_table(tmp_path / "said.parquet")
    assert np.array_equal(np.array(table["logits"].to_pylist(), np.float32), said.logits)
    assert json.loads(table.schema.metadata[b"kinetics_prep/labels"]) == list(LABELS)
