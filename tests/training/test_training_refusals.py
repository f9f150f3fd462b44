"""What a run refuses, and what it must not lose."""

import io
import json
import logging
import resource
import shutil

import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import keras
import pyarrow.parquet as pq
import small
from test_training_train import job, saved, told, trained

from kinetics_prep import cli
from kinetics_prep.cli.common import INTERRUPTED
from kinetics_prep.errors import BadOption, CorruptShard, Diverged, NoRoom
from kinetics_prep.models import MODELS
from kinetics_prep.reading.batches import Reading
from kinetics_prep.reading.clips import UNLABELLED, ClipIndex
from kinetics_prep.records.record import FEATURES
from kinetics_prep.training import checkpoints, evaluation, history, normalise, train
from kinetics_prep.training.recipes import Plateau
from kinetics_prep.training.runs import RunFolder


@pytest.fixture(autouse=True)
def with_a_small_model(monkeypatch):
    monkeypatch.setitem(MODELS, "small", small)


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
        trained(job(moving_data, tmp_path / "run", None, **changes))
    assert not list((tmp_path / "run").glob("*"))


def test_too_few_frames_at_test_are_refused(moving_data, tmp_path):
    path = saved(tmp_path / "some.safetensors")
    found = evaluation.weights.load(path)
    facts = evaluation.dataclasses.replace(found.facts, model="i3d")
    with pytest.raises(BadOption, match="span is 4, expected 9 or more"):
        evaluation.Network.of(path, evaluation.Weights(facts, {}), None, frames=4)


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
        trained(job(moving_data, tmp_path / "run"))


def test_the_validation_split_is_part_of_a_run_where_it_decides_the_curve(moving_data):
    clips = {name: ClipIndex.open(moving_data, name) for name in ("train", "val")}
    for changes, matters in (({}, False), ({"plateau": Plateau()}, True), ({"early_stop": 3}, True)):
        asked = job(moving_data, None, **changes)
        found = [train._asked(asked, clips["train"], clips[name], train.Facts("small", "rgb", 2)) for name in clips]
        assert (found[0] != found[1]) == matters


@pytest.mark.parametrize("format", ["tfrecord", "parquet"])
def test_clips_of_validation_that_cannot_be_read_are_left_out_unless_all_are(moving_data, tmp_path, format):
    reading = Reading(format, skip_corrupt=True)
    one = damaged(moving_data, tmp_path / "one", format, 1)
    entries = trained(job(one, tmp_path / "run", steps=1, batch=1, evaluate_every=1, reading=reading))
    assert entries[-1]["val_top1"] in [k / 5 for k in range(6)]
    every = damaged(moving_data, tmp_path / "every", format, 6)
    with pytest.raises(CorruptShard, match="none of the 6 clips of val can be read"):
        trained(job(every, tmp_path / "other", steps=1, reading=reading))


def damaged(data, folder, format, clips):
    """A copy of a prepared folder in which so many clips of val do not read back; its path."""
    shutil.copytree(data, folder)
    opened = ClipIndex.open(folder, "val", format)
    for clip in [opened[k] for k in range(clips)]:
        content = bytearray(clip.path.read_bytes())
        if format == "tfrecord":
            content[clip.offset_or_row + clip.record_bytes // 2] ^= 1
        else:
            group = pq.read_metadata(opened_bytes(content)).row_group(clip.offset_or_row)  # a clip each
            columns = map(group.column, range(group.num_columns))
            images = next(each for each in columns if each.path_in_schema.startswith(FEATURES["image/encoded"].column))
            content[images.data_page_offset : images.data_page_offset + 40] = b"\xff" * 40
        clip.path.write_bytes(content)
    return folder


def opened_bytes(content):
    return io.BytesIO(bytes(content))


def test_a_stop_does_not_wait_for_an_evaluation_which_comes_when_the_run_goes_on(moving_data, tmp_path):
    asked = job(moving_data, tmp_path / "run", steps=2, evaluate_every=2, batch=2)
    with train.prepared(asked) as run:
        forward = run.forward

        def stop_then_forward(streams):
            run.stop.set()
            return forward(streams)

        run.forward = stop_then_forward
        train.carry_out(run)
        assert (run.step, run.is_over) == (2, False)
    assert [set(entry) & {"loss", "val_loss"} for entry in told(asked.output)] == [{"loss"}] * 2
    assert trained(asked) == trained(job(moving_data, tmp_path / "whole", steps=2, evaluate_every=2, batch=2))


def test_a_run_that_is_stopped_before_its_first_step_says_so(moving_data, tmp_path, monkeypatch, capsys):
    carry_out = train.carry_out

    def stopped(run):
        run.stop.set()
        carry_out(run)

    monkeypatch.setattr(train, "carry_out", stopped)
    command = ["train", "--data", str(moving_data), "--model", "small", "--recipe", "small", "--size", "32"]
    assert cli.main([*command, "--output", str(tmp_path / "run")]) == INTERRUPTED
    assert "stopped after step 0 of 400; the same command goes on from there" in capsys.readouterr().out


def test_weights_that_are_no_numbers_are_never_gone_on_from(moving_data, tmp_path):
    """The loss of a step is that of the weights before it: a step may end finite, and leave nothing to go on from."""
    with train.prepared(job(moving_data, tmp_path / "run", None)) as run:
        train.fit(run, 1)
        train._save(run)
        kernel = run.core.get_layer("head").kernel
        kernel.assign(kernel * np.nan)
        run.step = 2
        with pytest.raises(Diverged, match="after step 2 .*kernel holds values that are no numbers"):
            train._save(run)
        assert [path.name for path in checkpoints.found(run.folder.checkpoints)] == ["step-00000001.safetensors"]


def test_a_checkpoint_under_another_name_is_refused(moving_data, tmp_path):
    asked = job(moving_data, tmp_path / "run", None, steps=1)
    trained(asked)
    (path,) = checkpoints.found(tmp_path / "run" / "checkpoints")
    path.rename(path.with_name("step-00000003.safetensors"))
    with pytest.raises(CorruptShard, match="none of the 1 checkpoints"):
        trained(asked)


def test_no_room_for_a_checkpoint_is_told(moving_data, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with train.prepared(job(moving_data, tmp_path / "run", None)) as run:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
        try:
            with pytest.raises(NoRoom, match="no room to write .*step-00000000"):
                checkpoints.write(run.folder.checkpoints, 0, run.model, run.digest)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_a_killed_run_had_begun_to_write_goes(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    begun = [folder.checkpoints / f"{'0a' * 16}-step-00000003.safetensors", tmp_path / f"{'f1' * 16}-best.safetensors"]
    kept = [folder.checkpoints / "step-00000002.safetensors", tmp_path / "my-notes.txt"]
    for path in (*begun, *kept):
        path.write_bytes(b"")
    with folder.taken():
        assert [path.exists() for path in (*begun, *kept)] == [False, False, True, True]


def test_only_what_happens_to_the_folder_is_said_of_it(tmp_path):
    with pytest.raises(PermissionError, match="a shard"), RunFolder(tmp_path).taken():
        raise PermissionError(13, "not allowed", "a shard")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadOption, match="file cannot be written to"), RunFolder(tmp_path / "file").taken():
        pass


@pytest.mark.parametrize(
    "text", ["[]", "[" * 100_000, '{"digest": "a", "asked": {}, "versions": [1]}', '{"asked": {}}']
)
def test_a_description_that_is_none_is_an_error(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CorruptShard, match=r"run\.json (cannot be read|describes no run)"):
        RunFolder(tmp_path).describe({}, "1 CPU")


@pytest.mark.parametrize(
    "line",
    ["step 2", "[]", '{"step": 2, "val_loss": 1.0}', '{"step": 2, "val_loss": NaN, "val_top1": 0.5}', '{"step": "2"}'],
)
def test_a_history_is_never_cut_short_at_a_line_that_is_none(tmp_path, line):
    path = tmp_path / "history.jsonl"
    text = f'{{"step": 1, "loss": 2.0}}\n{line}\n{{"step": 3, "loss": 1.0}}\n'
    path.write_text(text)
    with pytest.raises(CorruptShard, match="line 2 of .* is none that a run writes"):
        history.History.resumed(path, 3)
    assert path.read_text() == text


def test_a_history_that_lacks_what_a_checkpoint_follows_on_is_told(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "kinetics_prep")
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps({"step": 1, "loss": 2.0}) + "\n")
    history.History.resumed(path, 1)
    assert not caplog.text
    history.History.resumed(path, 2)
    assert "lacks step 2" in caplog.text


def test_levels_are_scaled_in_float32_under_any_policy():
    with train.devices.policy("mixed_bfloat16"):
        frames = keras.Input((None, 1, 1, 2), name="flow")
        core = keras.Model({"flow": frames}, keras.layers.Identity(dtype="float32")(frames))
        model = normalise.from_uint8(core, "symmetric")
    levels = np.arange(1, 255, dtype=np.uint8).reshape(1, -1, 1, 1, 2)
    found = np.asarray(model.predict_on_batch({"flow": levels}))
    assert found.ravel() == pytest.approx((levels.ravel() - 128.0) / 127, abs=1e-6)


def test_settings_that_would_do_nothing_are_refused(moving_data, tmp_path):
    with pytest.raises(BadOption, match="--early-stop needs a split to look at"):
        job(moving_data, tmp_path / "run", None, early_stop=2)
    with pytest.raises(BadOption, match="--threads is 0"):
        Reading(threads=0)
    with pytest.raises(BadOption, match="--checkpoint-minutes is nan"):
        job(moving_data, tmp_path / "run", checkpoint_minutes=float("nan"))


def test_a_run_that_goes_on_with_other_versions_or_devices_says_so(moving_data, tmp_path, caplog):
    asked = job(moving_data, tmp_path / "run", None, steps=1)
    trained(asked)
    path = tmp_path / "run" / "run.json"
    begun = json.loads(path.read_text())
    path.write_text(json.dumps(begun | {"versions": begun["versions"] | {"devices": "8 GPUs, by tensorflow"}}))
    caplog.set_level(logging.WARNING, "kinetics_prep")
    trained(asked)
    assert "begun with devices 8 GPUs, by tensorflow, now 1 CPU, by tensorflow: the loss curve may" in caplog.text
