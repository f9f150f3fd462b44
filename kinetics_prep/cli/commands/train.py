"""`kinetics-prep train`: trains a model on a prepared folder."""

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kinetics_prep.cli import training_flags, training_options
from kinetics_prep.cli.exit_codes import INTERRUPTED, OK
from kinetics_prep.cli.keras_backend import load_keras
from kinetics_prep.cli.notices import notices
from kinetics_prep.report.plot import require_matplotlib
from kinetics_prep.report.progress import Progress
from kinetics_prep.report.text import printable
from kinetics_prep.report.units import format_duration

if TYPE_CHECKING:
    from kinetics_prep.training.run import TrainRun

DESCRIPTION = """\
Trains one of the paper's five models on one stream of a prepared folder. The same command goes on
where it was stopped, with the steps that a run without a stop would take.
"""

EPILOG = """\
examples:
  kinetics-prep train --data k400 --stream rgb --model i3d --recipe i3d-kinetics --batch-at-once 48
      the paper's run: 384 clips a step, here in eight parts, on all GPUs that there are
  kinetics-prep train --data ucf101 --validation test --recipe ucf101-hmdb51 --init-from rgb-kinetics400.safetensors
      the paper's transfer: a new last layer, and all of it trained on (--protocol full-ft)
  kinetics-prep train --data small --recipe small --frames 16 --size 112
      something that two cores can do

in RUN:
  history.jsonl        the loss of each step, the accuracy at each evaluation; curves.png draws them
  weights.safetensors  for `kinetics-prep evaluate`, `predict`, and --init-from; best.safetensors, where there
                       is a validation split
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    training_flags.add_train_arguments(parser)


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Trains a model."""
    start = time.monotonic()
    recipe = training_options.recipe_from(arguments)
    load_keras()
    require_matplotlib()  # now, and not when hours of work are to be drawn
    with notices():
        from kinetics_prep.training import loop, opening

        job = training_options.train_job_from(arguments, recipe)
        with opening.open_run(job) as training, _stopped_by_signals(training.stop):
            for line in _describe(training):
                print(line, file=sys.stderr)
            with _progress(training):
                loop.train(training)
            return _print_summary(training, time.monotonic() - start)


def _describe(run: "TrainRun") -> list[str]:
    recipe, facts = run.job.recipe, run.facts
    at_once = f", {recipe.batch_at_once} at once" if recipe.accumulate > 1 else ""
    validation = f"; {run.job.validation}: {len(run.validation)} clips" if run.validation else ""
    lines = [
        f"{recipe.model} on {recipe.stream}, {facts.span} frames of {facts.size}x{facts.size}"
        + (f", one in {facts.stride}" if facts.stride > 1 else ""),
        f"recipe {recipe.name}, {recipe.protocol}: {recipe.steps} steps of {recipe.batch} clips{at_once}",
        str(run.devices),
        f"{run.job.data}: {run.job.split}: {len(run.clips)} clips of {facts.classes} classes{validation}",
    ]
    if run.step:
        lines.append(f"{run.job.output}: going on from step {run.step}")
    return [printable(line) for line in lines]


@contextlib.contextmanager
def _progress(run: "TrainRun") -> Iterator[None]:
    total = run.job.recipe.steps * run.job.recipe.batch
    with Progress(total, run.clips_seen, lambda: {"trained on": run.clips_seen}):
        yield


@contextlib.contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Has the first Ctrl-C, or SIGTERM, end a run after its step, with a checkpoint; the second ends it at once."""
    before: dict[int, Any] = {}

    def end_after_step(number: int, frame: object) -> None:
        stop.set()
        for each, handler in before.items():
            signal.signal(each, handler)
        with contextlib.suppress(OSError):
            os.write(2, b"\nending after this step; once more ends at once\n")

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, end_after_step)
    except ValueError:  # not the main thread: no signals come here
        pass
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _print_summary(run: "TrainRun", seconds: float) -> int:
    from kinetics_prep.report import curves, history

    recipe, output = run.job.recipe, run.job.output
    if run.step:
        title = f"{recipe.model}, {recipe.stream}, recipe {recipe.name}, {recipe.protocol}\n{output}"
        curves.curves_picture(history.read_history(run.folder.history), title).save(output / "curves.png", format="PNG")
    if len(run.skipped):
        print(
            f"{len(run.skipped)} clips could not be read and were skipped, {run.skipped.times} times", file=sys.stderr
        )
    if run.stop.is_set() and not run.is_over:
        print(f"{output}: stopped after step {run.step} of {recipe.steps}; the same command goes on from there")
        return INTERRUPTED
    best = max(run.history.evaluations, key=lambda entry: entry["val_top1"], default=None)
    said = f"; best top-1 on {run.job.validation} {best['val_top1']:.1%}, after step {best['step']}" if best else ""
    print(f"{output}: {run.step} steps, {run.clips_seen} clips in {format_duration(seconds)}{said}")
    print(f"weights: {run.folder.weights}{f', {run.folder.best}' if best else ''}; curves: {output / 'curves.png'}")
    return OK
