"""What tests of training runs share: jobs for a model of a few thousand parameters, weights to begin from, kills."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from kinetics_prep.models import MODELS, model_variables, weights
from kinetics_prep.models.facts import Facts
from kinetics_prep.models.weights import Weights
from kinetics_prep.training import evaluation, history, loop, opening
from kinetics_prep.training.evaluation import EvaluateJob
from kinetics_prep.training.job import TrainJob
from kinetics_prep.training.predictions import Predictions
from kinetics_prep.training.recipes import TrainRecipe

LABELS = ("moving left", "moving right")

RECIPE = TrainRecipe(
    model="small", stream="rgb", steps=6, batch=4, learning_rates=((0, 0.05), (4, 0.01)), size=32, evaluate_every=3
)


def train_job(
    data: Path, output: Path, validation: str | None = "val", recipe: TrainRecipe = RECIPE, **changes
) -> TrainJob:
    """A job of `RECIPE`; changes are settings of the recipe or of the job."""
    recipe = dataclasses.replace(recipe, **{name: changes.pop(name) for name in list(changes) if hasattr(recipe, name)})
    return TrainJob(recipe, data, output, validation=validation, **changes)


def train(job: TrainJob) -> list[dict]:
    """Trains; returns the history, without how fast the run was."""
    with opening.open_run(job) as run:
        loop.train(run)
    return read_history(job.output)


def read_history(output: Path) -> list[dict]:
    """The history of a run, without how fast it was."""
    return [
        {name: value for name, value in entry.items() if name != "clips_per_second"}
        for entry in history.read(output / "history.jsonl")
    ]


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and nothing is tidied up."""


def train_and_kill(job: TrainJob, step: int, monkeypatch) -> None:
    """Goes on with a run until a step's line is written, and no further."""
    add = history.History.add

    def add_or_die(self, entry):
        add(self, entry)
        if entry["step"] == step:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(history.History, "add", add_or_die)
        with pytest.raises(Killed):
            train(job)


def facts(**changes) -> Facts:
    """What weights of `small` for the clips of `moving_data` are for."""
    values = {"model": "small", "stream": "rgb", "classes": 2, "labels": LABELS, "size": 32, "span": 4, "fps": "10"}
    return Facts(**values | {"short_side": 40} | changes)


def save_weights(path: Path, arrays: dict[str, np.ndarray] | None = None, **changes) -> Path:
    """Writes weights, random except for those given, by name. They differ between streams."""
    described = facts(**changes)
    model = MODELS[described.model].build(described.classes, described.stream, described.size)
    random = np.random.default_rng(len(described.stream))
    drawn = {
        name: random.random(array.shape, np.float32) + 0.1 if "variance" in name else array
        for name, array in model_variables.to_arrays(model).items()
    }
    weights.save(path, Weights(described, drawn | (arrays or {})))
    return path


def evaluate(*paths: Path, **changes) -> list[Predictions]:
    """The predictions of weights, and of several fused."""
    with evaluation.open_evaluation(EvaluateJob(paths, **changes)) as opened:
        predictions = evaluation.evaluate(opened)
        assert opened.done == opened.total - len(opened.skipped) * len(paths)
    return predictions
