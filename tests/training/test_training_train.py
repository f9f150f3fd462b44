import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import keras
import small

from kinetics_prep import cli
from kinetics_prep.errors import BadOption, CorruptShard, Diverged, OtherRecipe
from kinetics_prep.models import MODELS, weights
from kinetics_prep.reading.batches import Reading
from kinetics_prep.training import checkpoints, history, normalise, train
from kinetics_prep.training.recipes import Plateau, TrainRecipe
from kinetics_prep.training.train import TrainJob

RECIPE = TrainRecipe(
    model="small", stream="rgb", steps=6, batch=4, learning_rates=((0, 0.05), (4, 0.01)), size=32, evaluate_every=3
)


@pytest.fixture(autouse=True)
def with_a_small_model(monkeypatch):
    monkeypatch.setitem(MODELS, "small", small)


def job(data: Path, output: Path, validation: str | None = "val", recipe: TrainRecipe = RECIPE, **changes) -> TrainJob:
    recipe = dataclasses.replace(recipe, **{name: changes.pop(name) for name in list(changes) if hasattr(recipe, name)})
    return TrainJob(recipe, data, output, validation=validation, **changes)


def trained(asked: TrainJob) -> list[dict]:
    """The history of a run, without how fast it was."""
    with train.prepared(asked) as run:
        train.carry_out(run)
    return told(asked.output)


def told(output: Path) -> list[dict]:
    return [
        {name: value for name, value in entry.items() if name != "clips_per_second"}
        for entry in history.read(output / "history.jsonl")
    ]


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and nothing is tidied up."""


def killed(asked: TrainJob, step: int, monkeypatch) -> None:
    """Goes on with a run until a step's line is written, and no further."""
    add = history.History.add

    def add_or_die(self, entry):
        add(self, entry)
        if entry["step"] == step:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(history.History, "add", add_or_die)
        with pytest.raises(Killed):
            trained(asked)


def test_a_run_learns_and_leaves_weights_and_a_history(moving_data, tmp_path):
    asked = job(moving_data, tmp_path / "run", stream="flow", steps=40, evaluate_every=20, learning_rates=((0, 0.05),),
                batch_norm_momentum=0.8, flip=False)  # fmt: skip
    entries = trained(asked)
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert [entry["val_top1"] for entry in entries if "val_loss" in entry][-1] == 1.0
    found = weights.load(tmp_path / "run" / "weights.safetensors")
    assert found.facts.labels == ("moving left", "moving right")
    assert (found.facts.fps, found.facts.short_side, found.facts.quantizer) == ("10", 40, "symmetric")
    assert weights.load(tmp_path / "run" / "best.safetensors").facts == found.facts


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_killed_again_and_again_has_the_loss_curve_of_one_that_was_not(
    moving_data, tmp_path, monkeypatch, accumulate
):
    whole = trained(job(moving_data, tmp_path / "whole", accumulate=accumulate))
    # A checkpoint after each step, so that there is one between evaluations too; one is damaged on the way.
    often = job(moving_data, tmp_path / "killed", accumulate=accumulate, checkpoint_minutes=0.0)
    for step in (1, 2, 3, 5):
        killed(often, step, monkeypatch)
    with train.prepared(often) as run:
        assert run.step == 4
    newest = checkpoints.found(tmp_path / "killed" / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:-9])
    with train.prepared(often) as run:
        assert run.step == 3
    assert trained(often) == whole
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
    assert told(tmp_path / "whole")[1:] == told(tmp_path / "killed")
    assert len(told(tmp_path / "whole")) == 3 + 2
    assert (tmp_path / "whole" / "curves.png").stat().st_size > 1000


def test_a_run_that_is_asked_to_stop_ends_after_its_step(moving_data, tmp_path):
    asked = job(moving_data, tmp_path / "run")
    with train.prepared(asked) as run:
        run.stop.set()
        train.carry_out(run)
        assert run.step == 0
    with train.prepared(asked) as run:
        run.history.listener = StopAfter(run, 2)
        train.carry_out(run)
        assert run.step == 2
    assert trained(asked) == trained(job(moving_data, tmp_path / "whole"))


@dataclasses.dataclass
class StopAfter:
    run: train.Run
    step: int

    def add(self, entry):
        if entry["step"] == self.step:
            self.run.stop.set()


def test_both_formats_give_the_same_curve(moving_data, tmp_path):
    curves = [
        trained(job(moving_data, tmp_path / name, None, reading=Reading(name))) for name in ("tfrecord", "parquet")
    ]
    assert curves[0] == curves[1]


def test_another_seed_gives_another_curve(moving_data, tmp_path):
    curves = [trained(job(moving_data, tmp_path / str(seed), None, steps=2, seed=seed)) for seed in (0, 1)]
    assert curves[0] != curves[1]


def test_a_batch_in_parts_moves_weights_as_the_whole_batch_does(moving_data, tmp_path):
    """Without dropout, and with batch norm that does not depend on the batch: it is frozen."""
    start = weights.Weights(facts(), weights.of_model(small.build(2, "rgb")))
    weights.save(tmp_path / "start.safetensors", start)
    moved = []
    for accumulate in (1, 4):
        asked = job(moving_data, tmp_path / f"{accumulate}", None, accumulate=accumulate, dropout=0.0, weight_decay=0.0,
                    protocol="fixed", init_from=tmp_path / "start.safetensors", steps=3)  # fmt: skip
        trained(asked)
        moved.append(weights.load(asked.output / "weights.safetensors").arrays)
    for name, array in moved[0].items():
        assert moved[1][name] == pytest.approx(array, abs=1e-6)
    assert np.abs(moved[0]["head/kernel"] - start.arrays["head/kernel"]).max() > 1e-3


def facts(**changes) -> weights.Facts:
    told = {"model": "small", "stream": "rgb", "classes": 2, "labels": ("moving left", "moving right"), "size": 32}
    return weights.Facts(**told | {"span": 4, "fps": "10", "short_side": 40} | changes)


def saved(path: Path, **changes) -> Path:
    told = facts(**changes)
    weights.save(path, weights.Weights(told, weights.of_model(small.build(told.classes, told.stream))))
    return path


def test_fixed_trains_the_last_layer_alone_and_full_ft_all_of_them(moving_data, tmp_path):
    start = saved(tmp_path / "start.safetensors", classes=3, labels=("a", "b", "c"))
    before = weights.load(start).arrays
    for protocol in ("fixed", "full-ft"):
        asked = job(moving_data, tmp_path / protocol, None, protocol=protocol, init_from=start, steps=2)
        trained(asked)
        after = weights.load(asked.output / "weights.safetensors").arrays
        same = {name for name in before if np.array_equal(before[name], after[name])}
        assert same == (set(before) - {"head/kernel", "head/bias"} if protocol == "fixed" else set())


def test_the_last_layer_is_taken_where_the_classes_are_the_same(moving_data, tmp_path):
    start = saved(tmp_path / "start.safetensors")
    with train.prepared(job(moving_data, tmp_path / "run", None, protocol="full-ft", init_from=start)) as run:
        found = weights.of_model(run.core)
    assert np.array_equal(found["head/kernel"], weights.load(start).arrays["head/kernel"])


def test_flow_begins_from_rgb_with_the_mean_over_colours(moving_data, tmp_path):
    start = saved(tmp_path / "start.safetensors")
    kernel = weights.load(start).arrays["conv/kernel"]
    asked = job(moving_data, tmp_path / "run", None, stream="flow", protocol="full-ft", init_from=start)
    with train.prepared(asked) as run:
        found = weights.of_model(run.core)["conv/kernel"]
    assert found.shape == (*kernel.shape[:3], 2, 8)
    assert found[..., 0, :] == pytest.approx(kernel.mean(axis=3), abs=1e-7)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"fps": "25"}, "fps is 10 in .*data, and the weights expect 25.*--accept fps"),
        ({"short_side": 256}, "short-side is 40 in .*, and the weights expect 256.*--accept short-side"),
        ({"stream": "flow"}, "for stream flow, and the model is for rgb"),
        (
            {"stream": "flow", "quantizer": "mediapipe", "asked": "flow"},
            "quantizer is symmetric in .* expect mediapipe",
        ),
        ({"model": "i3d"}, "are of i3d, and the model is small"),
    ],
)
def test_weights_that_do_not_go_with_the_data_are_refused(moving_data, tmp_path, changes, message):
    stream = changes.pop("asked", "rgb")
    start = saved(tmp_path / "start.safetensors", **changes)
    with pytest.raises(BadOption, match=message):
        trained(job(moving_data, tmp_path / "run", protocol="full-ft", init_from=start, stream=stream))


def test_what_differs_may_be_accepted(moving_data, tmp_path):
    start = saved(tmp_path / "start.safetensors", fps="25")
    accepted = job(moving_data, tmp_path / "run", None, protocol="full-ft", init_from=start, steps=1,
                   accept=frozenset({"fps"}))  # fmt: skip
    assert len(trained(accepted)) == 1


def test_protocols_need_their_weights(moving_data, tmp_path):
    with pytest.raises(BadOption, match="--protocol fixed needs weights"):
        trained(job(moving_data, tmp_path / "run", protocol="fixed"))
    with pytest.raises(BadOption, match="--protocol original begins with nothing"):
        trained(job(moving_data, tmp_path / "run", init_from=saved(tmp_path / "start.safetensors")))


def test_a_folder_takes_one_run(moving_data, tmp_path):
    asked = job(moving_data, tmp_path / "run", None, steps=1)
    trained(asked)
    with pytest.raises(OtherRecipe, match="recipe seed is 0 there and 7 here"):
        trained(job(moving_data, tmp_path / "run", None, steps=1, seed=7))
    with train.prepared(asked), pytest.raises(OtherRecipe, match="another run is writing"), train.prepared(asked):
        pass


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_clips(moving_data, tmp_path):
    start = saved(tmp_path / "start.safetensors")
    found = weights.load(start)
    found.arrays["norm/moving_variance"][:] = 0
    found.arrays["head/kernel"][:] = 3e38
    found.arrays["conv/kernel"][:] = 1e30
    weights.save(start, found)
    asked = job(moving_data, tmp_path / "run", None, protocol="fixed", init_from=start)
    with pytest.raises(Diverged, match=r"loss of step 1 is (nan|inf), at learning rate 0\.05.*clip\d+_"):
        trained(asked)
    assert not checkpoints.found(tmp_path / "run" / "checkpoints")


def test_the_learning_rate_falls_with_the_schedule_and_at_a_plateau():
    assert [RECIPE.learning_rate(step) for step in (0, 3, 4, 5)] == [0.05, 0.05, 0.01, 0.01]
    falling = dataclasses.replace(RECIPE, plateau=Plateau(patience=2, factor=0.1, drops=1), learning_rates=((0, 1.0),))
    assert falling.learning_rate(5, [3, 2, 1]) == 1.0
    assert falling.learning_rate(5, [3, 4]) == 1.0
    assert falling.learning_rate(5, [3, 4, 3]) == pytest.approx(0.1)
    assert falling.learning_rate(5, [3, 4, 3, 5, 6, 7, 8]) == pytest.approx(0.1)


def test_what_looks_at_the_validation_loss_needs_a_validation_split(moving_data, tmp_path):
    for changes in ({"plateau": Plateau()}, {"early_stop": 2}):
        with pytest.raises(BadOption, match="a split to look at|no split to look at"):
            trained(job(moving_data, tmp_path / "run", None, **changes))


def test_a_run_that_no_longer_improves_ends_early(moving_data, tmp_path):
    entries = trained(job(moving_data, tmp_path / "run", steps=50, evaluate_every=1, early_stop=2, protocol="fixed",
                          init_from=saved(tmp_path / "start.safetensors"), learning_rates=((0, 1e-9),)))  # fmt: skip
    assert [entry["step"] for entry in entries if "val_loss" in entry] == [1, 2, 3]


def test_mixed_precision_trains_and_resumes(moving_data, tmp_path, monkeypatch):
    whole = trained(job(moving_data, tmp_path / "whole", precision="mixed_float16"))
    killed(job(moving_data, tmp_path / "killed", precision="mixed_float16"), 5, monkeypatch)
    assert trained(job(moving_data, tmp_path / "killed", precision="mixed_float16")) == whole
    assert keras.config.dtype_policy().name == "float32"
    assert weights.load(tmp_path / "whole" / "weights.safetensors").arrays["conv/kernel"].dtype == np.float32


def test_a_checkpoint_of_another_run_is_refused(moving_data, tmp_path):
    asked = job(moving_data, tmp_path / "run", None, steps=1)
    trained(asked)
    (path,) = checkpoints.found(tmp_path / "run" / "checkpoints")
    with train.prepared(asked) as run:
        with pytest.raises(CorruptShard, match="of another run"):
            checkpoints.restore(path, run.model, "0123456789abcdef")
        assert checkpoints.restore(path, run.model, run.digest) == 1


def test_a_run_without_a_checkpoint_that_reads_back_does_not_begin_anew_unasked(moving_data, tmp_path):
    asked = job(moving_data, tmp_path / "run", None, steps=1)
    trained(asked)
    for path in checkpoints.found(tmp_path / "run" / "checkpoints"):
        path.write_bytes(b"")
    with pytest.raises(CorruptShard, match="none of the 1 checkpoints in .* to begin anew, delete them"):
        trained(asked)


def test_tensorboard_gets_what_the_history_says(moving_data, tmp_path):
    from tensorflow.core.util import event_pb2

    from kinetics_prep.records import tfrecord

    trained(job(moving_data, tmp_path / "run", steps=3, tensorboard=True))
    (path,) = (tmp_path / "run" / "tensorboard").iterdir()
    events = [event_pb2.Event.FromString(data) for data in tfrecord.read_bytes(path)]
    found = {(event.step, value.tag) for event in events for value in event.summary.value}
    assert {(1, "loss"), (3, "learning_rate"), (3, "validation/top1")} <= found


def test_levels_and_colours_become_minus_one_to_one():
    core = keras.Sequential([keras.Input((None, 1, 1, 2)), keras.layers.Identity()])
    frames = keras.Input((None, 1, 1, 2), name="flow")
    core = keras.Model({"flow": frames}, keras.layers.Identity()(frames))
    levels = np.array([[1, 128], [255, 128]], np.uint8).reshape(1, 2, 1, 1, 2)
    found = normalise.from_uint8(core, "symmetric").predict_on_batch({"flow": levels})
    assert found.ravel() == pytest.approx([-1, 0, 1, 0], abs=1e-6)
    levels = np.array([[0, 255]], np.uint8).reshape(1, 1, 1, 1, 2)
    for name in ("mediapipe", "denseflow"):
        found = normalise.from_uint8(core, name).predict_on_batch({"flow": levels})
        assert found.ravel() == pytest.approx([-1, 1], abs=1e-6)
    with pytest.raises(BadOption, match="quantized by 'other'"):
        normalise.from_uint8(core, "other")


def test_a_history_ends_before_a_line_that_was_not_finished(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo')
    assert [entry["step"] for entry in history.read(path)] == [1, 2]
    resumed = history.History.resumed(path, 1)
    resumed.add({"step": 2, "loss": 1.25})
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [2.0, 1.25]


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
    data = job(moving_data, tmp_path / "run", model=model, stream=stream, frames=frames, steps=1, batch=2)
    entries = trained(data)
    assert [set(entry) for entry in entries] == [
        {"step", "loss", "learning_rate"},
        {"step", "val_loss", "val_top1", "val_top5"},
    ]
    assert 0 < entries[0]["loss"] < 20


def test_original_begins_with_weights_of_images_inflated(moving_data, tmp_path):
    from kinetics_prep.models import inception

    images = inception.build(7, 32)
    facts = weights.Facts(model=inception.NAME, stream="rgb", classes=7, size=32, origin="ImageNet")
    weights.save(tmp_path / "images.safetensors", weights.Weights(facts, weights.of_model(images)))
    asked = job(moving_data, tmp_path / "run", None, model="i3d", frames=9, init_from=tmp_path / "images.safetensors")
    with train.prepared(asked) as run:
        found = weights.of_model(run.core)
    kernel = weights.of_model(images)["Conv2d_1a_7x7.conv_2d/kernel"]
    assert found["Conv3d_1a_7x7.conv_3d/kernel"] == pytest.approx(np.repeat(kernel[None] / 7, 7, axis=0))
    with pytest.raises(BadOption, match="--protocol full-ft begins with weights of videos"):
        trained(dataclasses.replace(asked, recipe=dataclasses.replace(asked.recipe, protocol="full-ft")))
