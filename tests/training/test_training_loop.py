import dataclasses
import io
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import pyarrow.parquet as pq
import small
from run_cases import facts, read_history, save_weights, train, train_and_kill, train_job

from kinetics_prep import cli
from kinetics_prep.cli.exit_codes import INTERRUPTED
from kinetics_prep.errors import CorruptShard, Diverged
from kinetics_prep.models import model_variables, weights
from kinetics_prep.reading.batches import Reading
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.records.record import FEATURES
from kinetics_prep.training import checkpoints, loop, opening
from kinetics_prep.training.run import TrainRun

pytestmark = pytest.mark.usefixtures("small_model")


def test_a_run_learns_and_leaves_weights_and_a_history(moving_data, tmp_path):
    settings = {"stream": "flow", "steps": 40, "evaluate_every": 20, "learning_rates": ((0, 0.05),), "flip": False}
    job = train_job(moving_data, tmp_path / "run", batch_norm_momentum=0.8, **settings)
    entries = train(job)
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert [entry["val_top1"] for entry in entries if "val_loss" in entry][-1] == 1.0
    trained = weights.load(tmp_path / "run" / "weights.safetensors")
    assert trained.facts.labels == ("moving left", "moving right")
    assert (trained.facts.fps, trained.facts.short_side, trained.facts.quantizer) == ("10", 40, "symmetric")
    assert weights.load(tmp_path / "run" / "best.safetensors").facts == trained.facts


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_killed_again_and_again_has_the_loss_curve_of_one_that_was_not(
    moving_data, tmp_path, monkeypatch, accumulate
):
    whole = train(train_job(moving_data, tmp_path / "whole", accumulate=accumulate))
    # A checkpoint after each step, so that there is one between evaluations too; one is damaged on the way.
    often = train_job(moving_data, tmp_path / "killed", accumulate=accumulate, checkpoint_minutes=0.0)
    for step in (1, 2, 3, 5):
        train_and_kill(often, step, monkeypatch)
    with opening.open_run(often) as run:
        assert run.step == 4
    newest = checkpoints.list_checkpoints(tmp_path / "killed" / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:-9])
    with opening.open_run(often) as run:
        assert run.step == 3
    assert train(often) == whole
    same = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "killed")]
    assert same[0] == same[1]


KILLED_AT_STEP_2 = """
import os, signal, sys
from kinetics_prep import cli
from kinetics_prep.training.history import History

def add(self, entry):
    if entry["step"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)

History.add = add
cli.main(sys.argv[1:])
"""


def test_a_run_killed_by_the_system_goes_on(moving_data, tmp_path, capsys):
    """The same with a real SIGKILL, and with the real I3D through the command line."""
    command = ["train", "--data", str(moving_data), "--recipe", "small", "--steps", "3", "--batch", "2"]
    command += ["--frames", "9", "--size", "32", "--checkpoint-minutes", "0", "--evaluate-every", "2"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_STEP_2, *command, "--output", str(tmp_path / "killed")], capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL
    assert cli.main([*command, "--output", str(tmp_path / "killed")]) == cli.OK
    assert "going on from step 1" in capsys.readouterr().err
    assert cli.main([*command, "--output", str(tmp_path / "whole")]) == cli.OK
    assert read_history(tmp_path / "whole")[1:] == read_history(tmp_path / "killed")
    assert len(read_history(tmp_path / "whole")) == 3 + 2
    assert (tmp_path / "whole" / "curves.png").stat().st_size > 1000


def test_a_run_that_is_asked_to_stop_ends_after_its_step(moving_data, tmp_path):
    job = train_job(moving_data, tmp_path / "run")
    with opening.open_run(job) as run:
        run.stop.set()
        loop.train(run)
        assert run.step == 0
    with opening.open_run(job) as run:
        run.history.listener = StopAfter(run, 2)
        loop.train(run)
        assert run.step == 2
    assert train(job) == train(train_job(moving_data, tmp_path / "whole"))


@dataclasses.dataclass
class StopAfter:
    run: TrainRun
    step: int

    def add(self, entry):
        if entry["step"] == self.step:
            self.run.stop.set()


def test_both_formats_give_the_same_curve(moving_data, tmp_path):
    curves = [
        train(train_job(moving_data, tmp_path / name, None, reading=Reading(name))) for name in ("tfrecord", "parquet")
    ]
    assert curves[0] == curves[1]


def test_another_seed_gives_another_curve(moving_data, tmp_path):
    curves = [train(train_job(moving_data, tmp_path / str(seed), None, steps=2, seed=seed)) for seed in (0, 1)]
    assert curves[0] != curves[1]


def test_a_batch_in_parts_moves_weights_as_the_whole_batch_does(moving_data, tmp_path):
    """Without dropout, and with batch norm that does not depend on the batch: it is frozen."""
    start = weights.Weights(facts(), model_variables.to_arrays(small.build(2, "rgb")))
    weights.save(tmp_path / "start.safetensors", start)
    moved = []
    for accumulate in (1, 4):
        settings = {"accumulate": accumulate, "dropout": 0.0, "weight_decay": 0.0, "protocol": "fixed", "steps": 3}
        start_from = tmp_path / "start.safetensors"
        job = train_job(moving_data, tmp_path / f"{accumulate}", None, init_from=start_from, **settings)
        train(job)
        moved.append(weights.load(job.output / "weights.safetensors").arrays)
    for name, array in moved[0].items():
        assert moved[1][name] == pytest.approx(array, abs=1e-6)
    assert np.abs(moved[0]["head/kernel"] - start.arrays["head/kernel"]).max() > 1e-3


def test_fixed_trains_the_last_layer_alone_and_full_ft_all_of_them(moving_data, tmp_path):
    start = save_weights(tmp_path / "start.safetensors", classes=3, labels=("a", "b", "c"))
    before = weights.load(start).arrays
    for protocol in ("fixed", "full-ft"):
        job = train_job(moving_data, tmp_path / protocol, None, protocol=protocol, init_from=start, steps=2)
        train(job)
        after = weights.load(job.output / "weights.safetensors").arrays
        same = {name for name in before if np.array_equal(before[name], after[name])}
        assert same == (set(before) - {"head/kernel", "head/bias"} if protocol == "fixed" else set())


def test_a_run_that_no_longer_improves_ends_early(moving_data, tmp_path):
    settings = {"steps": 50, "evaluate_every": 1, "early_stop": 2, "learning_rates": ((0, 1e-9),), "protocol": "fixed"}
    start = save_weights(tmp_path / "start.safetensors")
    entries = train(train_job(moving_data, tmp_path / "run", init_from=start, **settings))
    assert [entry["step"] for entry in entries if "val_loss" in entry] == [1, 2, 3]


@pytest.mark.parametrize(
    "model, stream, frames",
    [
        ("convnet-lstm", "rgb", 15),
        ("convnet-3d", "rgb", None),
        ("two-stream", "both", None),
        ("fused-two-stream", "both", 20),
    ],
)
def test_every_model_trains_from_shards_and_is_evaluated(moving_data, tmp_path, model, stream, frames):
    """I3D is in other tests. Every kind of sample: steps, windows, stacks, both streams."""
    data = train_job(moving_data, tmp_path / "run", model=model, stream=stream, frames=frames, steps=1, batch=2)
    entries = train(data)
    assert [set(entry) for entry in entries] == [
        {"step", "loss", "learning_rate"},
        {"step", "val_loss", "val_top1", "val_top5"},
    ]
    assert 0 < entries[0]["loss"] < 20


@pytest.mark.parametrize("format", ["tfrecord", "parquet"])
def test_clips_of_validation_that_cannot_be_read_are_left_out_unless_all_are(moving_data, tmp_path, format):
    reading = Reading(format, skip_corrupt=True)
    one = damaged(moving_data, tmp_path / "one", format, 1)
    entries = train(train_job(one, tmp_path / "run", steps=1, batch=1, evaluate_every=1, reading=reading))
    assert entries[-1]["val_top1"] in [k / 5 for k in range(6)]
    every = damaged(moving_data, tmp_path / "every", format, 6)
    with pytest.raises(CorruptShard, match="none of the 6 clips of val can be read"):
        train(train_job(every, tmp_path / "other", steps=1, reading=reading))


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
    job = train_job(moving_data, tmp_path / "run", steps=2, evaluate_every=2, batch=2)
    with opening.open_run(job) as run:
        forward = run.forward

        def stop_then_forward(streams):
            run.stop.set()
            return forward(streams)

        run.forward = stop_then_forward
        loop.train(run)
        assert (run.step, run.is_over) == (2, False)
    assert [set(entry) & {"loss", "val_loss"} for entry in read_history(job.output)] == [{"loss"}] * 2
    assert train(job) == train(train_job(moving_data, tmp_path / "whole", steps=2, evaluate_every=2, batch=2))


def test_a_run_that_is_stopped_before_its_first_step_says_so(moving_data, tmp_path, monkeypatch, capsys):
    train = loop.train

    def stopped(run):
        run.stop.set()
        train(run)

    monkeypatch.setattr(loop, "train", stopped)
    command = ["train", "--data", str(moving_data), "--model", "small", "--recipe", "small", "--size", "32"]
    assert cli.main([*command, "--output", str(tmp_path / "run")]) == INTERRUPTED
    assert "stopped after step 0 of 400; the same command goes on from there" in capsys.readouterr().out


def test_weights_that_are_no_numbers_are_never_gone_on_from(moving_data, tmp_path):
    """The loss of a step is that of the weights before it: a step may end finite, and leave nothing to go on from."""
    with opening.open_run(train_job(moving_data, tmp_path / "run", None)) as run:
        loop.fit(run, 1)
        loop.save(run)
        kernel = run.core.get_layer("head").kernel
        kernel.assign(kernel * np.nan)
        run.step = 2
        with pytest.raises(Diverged, match="after step 2 .*kernel holds values that are not finite"):
            loop.save(run)
        names = [path.name for path in checkpoints.list_checkpoints(run.folder.checkpoints)]
        assert names == ["step-00000001.safetensors"]
