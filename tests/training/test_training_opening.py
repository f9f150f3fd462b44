import dataclasses
import json
import logging

import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from run_cases import save_weights, train, train_job

from kinetics_prep.errors import BadOption, CorruptShard, FolderInUse, OtherRecipe
from kinetics_prep.models import model_variables, weights
from kinetics_prep.models.facts import Facts
from kinetics_prep.reading.clips import UNLABELLED, ClipIndex
from kinetics_prep.training import checkpoints, opening
from kinetics_prep.training.recipes import Plateau

pytestmark = pytest.mark.usefixtures("small_model")


def test_the_last_layer_is_taken_where_the_classes_are_the_same(moving_data, tmp_path):
    start = save_weights(tmp_path / "start.safetensors")
    with opening.open_run(train_job(moving_data, tmp_path / "run", None, protocol="full-ft", init_from=start)) as run:
        loaded = model_variables.to_arrays(run.core)
    assert np.array_equal(loaded["head/kernel"], weights.load(start).arrays["head/kernel"])


def test_flow_begins_from_rgb_with_the_mean_over_colours(moving_data, tmp_path):
    start = save_weights(tmp_path / "start.safetensors")
    kernel = weights.load(start).arrays["conv/kernel"]
    job = train_job(moving_data, tmp_path / "run", None, stream="flow", protocol="full-ft", init_from=start)
    with opening.open_run(job) as run:
        loaded = model_variables.to_arrays(run.core)["conv/kernel"]
    assert loaded.shape == (*kernel.shape[:3], 2, 8)
    assert loaded[..., 0, :] == pytest.approx(kernel.mean(axis=3), abs=1e-7)


def test_original_begins_with_weights_of_images_inflated(moving_data, tmp_path):
    from kinetics_prep.models import inception

    images = inception.build(7, 32)
    facts = Facts(model=inception.NAME, stream="rgb", classes=7, size=32, origin="ImageNet")
    weights.save(tmp_path / "images.safetensors", weights.Weights(facts, model_variables.to_arrays(images)))
    job = train_job(
        moving_data, tmp_path / "run", None, model="i3d", frames=9, init_from=tmp_path / "images.safetensors"
    )
    with opening.open_run(job) as run:
        loaded = model_variables.to_arrays(run.core)
    kernel = model_variables.to_arrays(images)["Conv2d_1a_7x7.conv_2d/kernel"]
    assert loaded["Conv3d_1a_7x7.conv_3d/kernel"] == pytest.approx(np.repeat(kernel[None] / 7, 7, axis=0))
    with pytest.raises(BadOption, match="--protocol full-ft begins with weights of videos"):
        train(dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, protocol="full-ft")))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"fps": "25"}, "fps is 10 in .*data, and the weights expect 25.*--accept fps"),
        ({"short_side": 256}, "short-side is 40 in .*, and the weights expect 256.*--accept short-side"),
        ({"stream": "flow"}, "for stream flow, and the model is for rgb"),
        (
            {"stream": "flow", "quantizer": "mediapipe", "train_on": "flow"},
            "quantizer is symmetric in .* expect mediapipe",
        ),
        ({"model": "i3d"}, "are of i3d, and the model is small"),
    ],
)
def test_weights_that_do_not_go_with_the_data_are_refused(moving_data, tmp_path, changes, message):
    stream = changes.pop("train_on", "rgb")
    start = save_weights(tmp_path / "start.safetensors", **changes)
    with pytest.raises(BadOption, match=message):
        train(train_job(moving_data, tmp_path / "run", protocol="full-ft", init_from=start, stream=stream))


def test_what_differs_may_be_accepted(moving_data, tmp_path):
    start = save_weights(tmp_path / "start.safetensors", fps="25")
    accepted = train_job(moving_data, tmp_path / "run", None, protocol="full-ft", init_from=start, steps=1,
                   accept=frozenset({"fps"}))  # fmt: skip
    assert len(train(accepted)) == 1


def test_protocols_need_their_weights(moving_data, tmp_path):
    with pytest.raises(BadOption, match="--protocol fixed needs weights"):
        train(train_job(moving_data, tmp_path / "run", protocol="fixed"))
    with pytest.raises(BadOption, match="--protocol original begins with nothing"):
        train(train_job(moving_data, tmp_path / "run", init_from=save_weights(tmp_path / "start.safetensors")))


def test_a_folder_takes_one_run(moving_data, tmp_path):
    job = train_job(moving_data, tmp_path / "run", None, steps=1)
    train(job)
    with pytest.raises(OtherRecipe, match="recipe seed is 0 there and 7 here"):
        train(train_job(moving_data, tmp_path / "run", None, steps=1, seed=7))
    with opening.open_run(job), pytest.raises(FolderInUse, match="another run is writing"), opening.open_run(job):
        pass


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"size": 16, "model": "i3d"}, "size is 16, expected 32 or more"),
        ({"size": 48}, "short side 40 px are too small for crops of 48 px"),
        ({"frames": 8, "model": "i3d"}, "span is 8, expected 9 or more"),
        ({"frames": 15, "model": "fused-two-stream", "stream": "both"}, "span is 15, expected a multiple of 10"),
        ({"batch_norm_momentum": 0.0}, "batch_norm_momentum is 0.0"),
    ],
)
def test_what_can_never_run_takes_no_folder(moving_data, tmp_path, changes, message):
    with pytest.raises(BadOption, match=message):
        train(train_job(moving_data, tmp_path / "run", None, **changes))
    assert not list((tmp_path / "run").glob("*"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_clips_without_labels_are_refused(moving_data, tmp_path, monkeypatch, split):
    opened = ClipIndex.open

    def some_unlabelled(folder, name, format=None):
        clips = opened(folder, name, format)
        if name == split:
            clips.table["class_id"][:2] = UNLABELLED
        return clips

    monkeypatch.setattr(ClipIndex, "open", some_unlabelled)
    with pytest.raises(BadOption, match=rf"2 of the \d+ clips of split {split} of .* have no label"):
        train(train_job(moving_data, tmp_path / "run"))


def test_the_validation_split_is_part_of_a_run_where_it_decides_the_curve(moving_data):
    clips = {name: ClipIndex.open(moving_data, name) for name in ("train", "val")}
    for changes, matters in (({}, False), ({"plateau": Plateau()}, True), ({"early_stop": 3}, True)):
        job = train_job(moving_data, None, **changes)
        loaded = [opening._settings(job, clips["train"], clips[name], Facts("small", "rgb", 2)) for name in clips]
        assert (loaded[0] != loaded[1]) == matters


def test_a_run_that_goes_on_with_other_versions_or_devices_says_so(moving_data, tmp_path, caplog):
    job = train_job(moving_data, tmp_path / "run", None, steps=1)
    train(job)
    path = tmp_path / "run" / "run.json"
    begun = json.loads(path.read_text())
    path.write_text(json.dumps(begun | {"versions": begun["versions"] | {"devices": "8 GPUs, by tensorflow"}}))
    caplog.set_level(logging.WARNING, "kinetics_prep")
    train(job)
    assert "begun with devices 8 GPUs, by tensorflow, now 1 CPU, by tensorflow: the loss curve may" in caplog.text


def test_a_run_without_a_checkpoint_that_reads_back_does_not_begin_anew_unasked(moving_data, tmp_path):
    job = train_job(moving_data, tmp_path / "run", None, steps=1)
    train(job)
    for path in checkpoints.list_checkpoints(tmp_path / "run" / "checkpoints"):
        path.write_bytes(b"")
    with pytest.raises(CorruptShard, match="none of the 1 checkpoints in .* to begin anew, delete them"):
        train(job)


def test_a_checkpoint_under_another_name_is_refused(moving_data, tmp_path):
    job = train_job(moving_data, tmp_path / "run", None, steps=1)
    train(job)
    (path,) = checkpoints.list_checkpoints(tmp_path / "run" / "checkpoints")
    path.rename(path.with_name("step-00000003.safetensors"))
    with pytest.raises(CorruptShard, match="none of the 1 checkpoints"):
        train(job)
