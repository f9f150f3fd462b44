"""The loop of a training run: steps, an evaluation every so many of them, checkpoints.

    with opening.open_run(TrainJob(recipe, data=Path("k400"), output=Path("run"))) as run:
        loop.train(run)

The batch of a step is a function of the seed and the step, and the state between two steps is in the checkpoint. So a
run that was killed and goes on takes the same steps as one that was not. On one machine, with the same versions, their
loss curves are often equal to the last bit, but not always: 16 starts of one command gave two curves, which differ from
the second step on in the seventh digit. Why is not known.
"""

import logging

import numpy as np

from kinetics_prep.errors import CorruptShard
from kinetics_prep.models import model_variables, weights
from kinetics_prep.models.weights import Weights
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.training import checkpoints, metrics, network, samples
from kinetics_prep.training.callbacks import Steps
from kinetics_prep.training.run import TrainRun

log = logging.getLogger(__name__)


def train(run: TrainRun) -> None:
    """Trains until the run is over, or until `run.stop` is set. Both leave a checkpoint, as does every evaluation.

    Raises:
      Diverged: if a loss or a weight is not finite; the last checkpoint is from before.
      CorruptShard: if a record does not read back, unless the job says to skip such.
    """
    recipe = run.job.recipe
    while not run.stop.is_set():
        if run.step and (run.step % recipe.evaluate_every == 0 or run.step == recipe.steps):
            if run.step not in run.history.evaluated:
                validate(run)
            save(run)
        if run.is_over:
            return
        if run.stop.is_set():
            break
        fit(run, min(recipe.steps, (run.step // recipe.evaluate_every + 1) * recipe.evaluate_every))
    save(run)


def fit(run: TrainRun, until: int) -> None:
    """Trains from `run.step` up to a step, without evaluation."""
    recipe = run.job.recipe
    order = Order(len(run.clips), recipe.batch_at_once, recipe.seed)
    first, steps = run.step * recipe.accumulate, (until - run.step) * recipe.accumulate
    with samples.batches(
        run.clips, run.sampler(train=True), order, run.job.reading, run.skipped, first, steps
    ) as batches:
        run.model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[Steps(run, order)])


def validate(run: TrainRun) -> None:
    """Evaluates the middle of each clip of the validation split, if there is one; keeps the best weights.

    Does nothing if `run.stop` is set meanwhile: the evaluation is done when the run goes on.

    Raises:
      CorruptShard: if no clip of the split can be read.
    """
    if run.validation is None:
        return
    outcome = _logits_of(run, run.validation)
    if outcome is None:
        return
    scores, loss = metrics.score(*outcome), metrics.cross_entropy(*outcome)
    if all(scores.top1 > before["val_top1"] for before in run.history.evaluations):
        weights.save(run.folder.best, Weights(run.facts, model_variables.to_arrays(run.core)))
    # Recorded last: after a kill, an evaluation that is not in the history is done again.
    run.history.add({"step": run.step, "val_loss": loss, "val_top1": scores.top1, "val_top5": scores.top5})
    log.info("step %d of %d, %s: loss %.3f, %s", run.step, run.job.recipe.steps, run.job.validation, loss, scores)


def _logits_of(run: TrainRun, clips: ClipIndex) -> tuple[np.ndarray, np.ndarray] | None:
    """Logits, float32 [N, C], and class ids, int32 [N], of the clips of a split that can be read; None if stopped."""
    order = Once(len(clips), run.job.recipe.batch_at_once)
    pairs = []
    with samples.batches(clips, run.sampler(train=False), order, run.job.reading, run.skipped) as batches:
        for pair in network.logits_of(run.forward, run.spec, batches, run.facts.span):
            pairs.append(pair)
            if run.stop.is_set():
                return None
    if not pairs:
        raise CorruptShard(f"none of the {len(clips)} clips of {clips.split} can be read")
    logits, class_ids = (np.concatenate(parts) for parts in zip(*pairs))
    return logits, class_ids


def save(run: TrainRun) -> None:
    """Writes a checkpoint and the weights of the moment.

    Raises:
      Diverged: if a number in them is not finite; no file is written.
    """
    run.history.sync()
    checkpoints.write(run.folder.checkpoints, run.step, run.model, run.digest)
    weights.save(run.folder.weights, Weights(run.facts, model_variables.to_arrays(run.core)))
