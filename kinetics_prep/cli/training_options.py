"""Parsed flags -> training recipes, jobs of training and evaluation."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinetics_prep.dataset import manifest
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.errors import BadOption
from kinetics_prep.training.recipes import Plateau, TrainRecipe, recipe

if TYPE_CHECKING:
    from kinetics_prep.training.evaluation import EvaluateJob
    from kinetics_prep.training.job import TrainJob


def recipe_from(arguments: argparse.Namespace) -> TrainRecipe:
    """The recipe that the flags ask for.

    Raises:
      BadOption: if a value makes no sense.
    """
    names = (
        *("steps", "batch", "frames", "stride", "size", "dropout", "weight_decay", "momentum", "precision", "seed"),
        *("batch_norm_momentum", "evaluate_every", "early_stop", "protocol"),
    )
    changes: dict[str, Any] = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.learning_rate:
        changes["learning_rates"] = tuple(map(_rate, arguments.learning_rate))
    if arguments.plateau is not None:
        changes["plateau"] = Plateau(arguments.plateau) if arguments.plateau else None
    if arguments.no_flip:
        changes["flip"] = False
    name = arguments.recipe or ("i3d-kinetics" if arguments.model == "i3d" else "kinetics")
    if arguments.init_from and arguments.protocol is None:
        changes["protocol"] = "full-ft"
    elif not arguments.init_from and arguments.protocol is None and name == "ucf101-hmdb51":
        changes["protocol"] = "original"
    plain = recipe(name, arguments.model, arguments.stream, **changes)
    if arguments.batch_at_once is None:
        return plain
    if arguments.batch_at_once < 1 or plain.batch % arguments.batch_at_once:
        raise BadOption(f"--batch-at-once is {arguments.batch_at_once}, expected a divisor of the batch, {plain.batch}")
    return recipe(name, arguments.model, arguments.stream, **changes, accumulate=plain.batch // arguments.batch_at_once)


def _rate(text: str) -> tuple[int, float]:
    step, _, rate = text.rpartition(":")
    try:
        return int(step or 0), float(rate)
    except ValueError:
        raise BadOption(f"--learning-rate is {text!r}, expected RATE or STEP:RATE") from None


def train_job_from(arguments: argparse.Namespace, recipe: TrainRecipe) -> "TrainJob":
    """The `job.TrainJob` that the flags ask for."""
    from kinetics_prep.reading.batches import Reading
    from kinetics_prep.training.job import TrainJob

    return TrainJob(
        recipe,
        data=arguments.data,
        output=arguments.output or Path(f"train-{recipe.model}-{recipe.stream}"),
        split=arguments.split,
        validation=_validation(arguments),
        init_from=arguments.init_from,
        reading=Reading(arguments.format, arguments.threads, arguments.skip_corrupt),
        accept=arguments.accept,
        checkpoint_minutes=arguments.checkpoint_minutes,
        tensorboard=arguments.tensorboard,
    )


def _validation(arguments: argparse.Namespace) -> str | None:
    if arguments.validation != "auto":
        return None if arguments.validation == "none" else arguments.validation
    there = manifest.read(Layout(arguments.data).store)["splits"]
    return "val" if "val" in there and arguments.split != "val" else None


def evaluate_job_from(arguments: argparse.Namespace) -> "EvaluateJob":
    """The `evaluation.EvaluateJob` that the flags ask for."""
    from kinetics_prep.reading.batches import Reading
    from kinetics_prep.training.evaluation import EvaluateJob

    if arguments.batch < 1:
        raise BadOption(f"--batch is {arguments.batch}, expected 1 or more")
    return EvaluateJob(
        tuple(arguments.weights),
        arguments.data,
        arguments.split,
        frames=arguments.frames,
        batch=arguments.batch,
        how=arguments.fuse,
        reading=Reading(arguments.format, arguments.threads, arguments.skip_corrupt),
        accept=arguments.accept,
    )
