"""A training run, from shards to weights: prepared, carried out, stopped at any moment, gone on with.

    with train.prepared(TrainJob(recipe, data=Path("k400"), output=Path("run"))) as run:
        train.carry_out(run)

The batch of a step is a function of the seed and the step, and the state between two steps is in the checkpoint: a run
that was killed and goes on has the loss curve of one that was not, on the same machine and versions.
"""

import contextlib
import dataclasses
import hashlib
import logging
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from kinetics_prep.errors import BadOption, CorruptShard, Diverged
from kinetics_prep.models import MODELS, weights
from kinetics_prep.models.spec import Options
from kinetics_prep.models.weights import Facts, Weights
from kinetics_prep.reading.batches import Reading
from kinetics_prep.reading.clips import UNLABELLED, ClipIndex
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.storage.files import sha256_of
from kinetics_prep.training import checkpoints, devices, evaluation, metrics, normalise, samples, transfer
from kinetics_prep.training.history import History
from kinetics_prep.training.optimizer import sgd
from kinetics_prep.training.recipes import TrainRecipe
from kinetics_prep.training.runs import RunFolder
from kinetics_prep.training.tensorboard import Scalars

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainJob:
    """What to train, on what, and where to."""

    recipe: TrainRecipe
    data: Path
    """The output of `kinetics-prep flow`."""
    output: Path
    split: str = "train"
    validation: str | None = None
    """A split to evaluate on now and then."""
    init_from: Path | None = None
    reading: Reading = dataclasses.field(default_factory=Reading)
    accept: frozenset[str] = frozenset()
    """What of the data may differ from what the weights to begin from expect; see `samples.expect`."""
    checkpoint_minutes: float = 10.0
    tensorboard: bool = False

    def __post_init__(self):
        if not self.checkpoint_minutes >= 0:
            raise BadOption(f"--checkpoint-minutes is {self.checkpoint_minutes}, expected 0 or more")
        if self.recipe.early_stop and self.validation is None:
            raise BadOption("--early-stop needs a split to look at: --validation NAME")
        if self.recipe.plateau and self.validation is None:
            raise BadOption(
                f"recipe {self.recipe.name} lowers the learning rate when the validation loss has stopped falling, and "
                "there is no split to look at: say --validation NAME, or --plateau 0 and steps with --learning-rate"
            )


@dataclasses.dataclass
class Run:
    """A run that is ready to go on. `step` and `stop` may be looked at and set from other threads."""

    job: TrainJob
    folder: RunFolder
    core: keras.Model
    model: keras.Model
    """Of uint8 samples, compiled; shares the core's variables."""
    forward: evaluation.Forward
    """The same, at test."""
    module: object
    facts: Facts
    clips: ClipIndex
    validation: ClipIndex | None
    digest: str
    history: History
    devices: devices.Devices
    skipped: Skipped = dataclasses.field(default_factory=Skipped)
    step: int = 0
    """Steps done."""
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)
    """Asks the run to write a checkpoint after this step and end."""

    @property
    def clips_seen(self) -> int:
        return self.step * self.job.recipe.batch

    @property
    def is_over(self) -> bool:
        """Whether the last step is done, or the validation split has not improved for long."""
        recipe = self.job.recipe
        patience = recipe.early_stop
        seen = self.validation is None or self.step in self.history.evaluated
        is_last = self.step >= recipe.steps and seen
        return is_last or bool(patience and self.history.evaluations_since_best() >= patience)


@contextlib.contextmanager
def prepared(job: TrainJob) -> Iterator[Run]:
    """Opens the data, makes the model, and finds where a run in `job.output` stands.

    Raises:
      RunError: if the data, the weights to begin from and the recipe do not go together, or the folder holds another
        run.
    """
    recipe = job.recipe
    module = _module(recipe)
    beginning = weights.load(job.init_from) if job.init_from else None
    transfer.expect(recipe.protocol, beginning and beginning.facts)
    clips = ClipIndex.open(job.data, job.split, job.reading.format)
    validation = ClipIndex.open(job.data, job.validation, job.reading.format) if job.validation else None
    facts = _facts(job, module, clips)
    for each in filter(None, (clips, validation)):
        _expect_labelled(each)
    _sampler(recipe, module, facts, train=True).reduction(clips.short_side)
    evaluation.expect_span(module, recipe.stream, facts.size, facts.span)
    if beginning and beginning.facts.model != transfer.IMAGE_MODEL:
        samples.expect(clips, beginning.facts, recipe.stream, job.accept)
    folder = RunFolder(job.output)
    with folder.taken():
        devices.make_deterministic(recipe.seed)
        found = devices.found()
        found.expect_share(recipe.batch_at_once)
        with devices.policy(recipe.precision), devices.shared(found):
            core = _core(recipe, module, facts)
            if beginning:
                log.info(transfer.begin(core, module, recipe.stream, facts.labels, beginning))
            model = _compiled(core, module, recipe, facts, found)
            # Not before all else is well: a folder that was taken by what could never run would refuse what can.
            digest = folder.describe(_asked(job, clips, validation, facts), str(found))
            step = _restored(folder, model, digest, str(found))
            history = History.resumed(folder.history, step)
            with _board(job, folder) as history.listener:
                forward = evaluation.forward(model)
                yield Run(
                    job,
                    folder,
                    core,
                    model,
                    forward,
                    module,
                    facts,
                    clips,
                    validation,
                    digest,
                    history,
                    found,
                    step=step,
                )


@contextlib.contextmanager
def _board(job: TrainJob, folder: RunFolder) -> Iterator[Scalars | None]:
    if job.tensorboard:
        with contextlib.closing(Scalars(folder.tensorboard)) as board:
            yield board
    else:
        yield None


def _module(recipe: TrainRecipe):
    if recipe.model not in MODELS:
        raise BadOption(f"model is {recipe.model!r}, expected one of {', '.join(MODELS)}")
    module = MODELS[recipe.model]
    module.SPEC.expect(recipe.stream)
    window = module.SPEC.window
    if window and recipe.frames not in (None, window):
        raise BadOption(f"{module.SPEC.title} takes {window} frames at a time, not --frames {recipe.frames}")
    return module


def _facts(job: TrainJob, module, clips: ClipIndex) -> Facts:
    recipe = job.recipe
    if len(clips.labels) < 2:
        raise BadOption(f"{job.data} has {len(clips.labels)} classes, expected two or more: nothing to learn")
    return Facts(
        model=recipe.model,
        stream=recipe.stream,
        classes=len(clips.labels),
        labels=tuple(clips.labels),
        size=recipe.size or module.SPEC.size,
        span=recipe.frames or module.SPEC.train_span,
        stride=recipe.stride,
        fps=str(clips.fps),
        short_side=clips.short_side,
        quantizer=None if recipe.stream == "rgb" else clips.quantizer,
        bound_px=clips.bound_px,
        origin=f"kinetics-prep train, {recipe.name}, {recipe.protocol}, {recipe.steps} steps of {recipe.batch} clips",
    )


def _expect_labelled(clips: ClipIndex) -> None:
    without = int((clips.class_ids == UNLABELLED).sum())
    if without:
        raise BadOption(
            f"{without} of the {len(clips)} clips of split {clips.split} of {clips.folder} have no label: it can "
            "neither be trained on nor validated with"
        )


def _asked(job: TrainJob, clips: ClipIndex, validation: ClipIndex | None, facts: Facts) -> dict:
    """Everything that decides the loss curve."""
    data = {"split": job.split, "validation": job.validation, "clips": len(clips), "content": _content(clips)}
    if validation and (job.recipe.plateau or job.recipe.early_stop):
        data["validation content"] = _content(validation)
    return {
        "recipe": job.recipe.settings(),
        "data": data,
        "labels": list(facts.labels),
        "init_from": sha256_of(job.init_from) if job.init_from else None,
        "backend": keras.backend.backend(),
    }


def _content(clips: ClipIndex) -> str:
    """Stands for what the clips hold: their ids, classes and lengths, in order, and the recipe of their preparation."""
    digest = hashlib.sha256(clips.digest.encode())
    for clip_id, class_id, frames in zip(clips.ids, clips.class_ids.tolist(), clips.table["frames"].tolist()):
        digest.update(f"{clip_id} {class_id} {frames}\n".encode())
    return digest.hexdigest()[:16]


def _core(recipe: TrainRecipe, module, facts: Facts) -> keras.Model:
    options = Options(recipe.dropout, recipe.weight_decay, recipe.batch_norm_momentum)
    # Its length is left open, where the architecture allows that: training and test differ in it.
    return module.build(facts.classes, recipe.stream, facts.size, options=options)


def _compiled(core, module, recipe: TrainRecipe, facts: Facts, found: devices.Devices) -> keras.Model:
    if recipe.protocol == "fixed":
        transfer.freeze(core, module)
    model = normalise.from_uint8(core, facts.quantizer)
    optimizer = sgd(recipe.learning_rate(0), recipe.momentum, recipe.accumulate, len(found.names))
    # On a CPU what XLA makes of a 3D convolution takes TensorFlow's time several times over. JAX has nothing else.
    without_xla = found.kind == "cpu" and keras.backend.backend() == "tensorflow"
    model.compile(optimizer, cross_entropy, jit_compile=False if without_xla else "auto")
    model.optimizer.build(model.trainable_variables)
    return model


def cross_entropy(class_ids, logits):
    """Of int [B] and float [B, classes], or [B, S, classes] for a loss at every step: float [B] or [B, S]."""
    if len(logits.shape) == 3:
        class_ids = keras.ops.broadcast_to(keras.ops.reshape(class_ids, (-1, 1)), keras.ops.shape(logits)[:2])
    return keras.losses.sparse_categorical_crossentropy(class_ids, logits, from_logits=True)


def _restored(folder: RunFolder, model: keras.Model, digest: str, computes: str) -> int:
    """Puts the model into the state of the last checkpoint that reads back; returns the steps done.

    Raises:
      CorruptShard: if none of those that there are does. To begin anew unasked would throw days of work away.
    """
    found = checkpoints.found(folder.checkpoints)
    for path in reversed(found):
        try:
            step = checkpoints.restore(path, model, digest)
        except CorruptShard as error:
            log.warning("%s; trying the one before", error)
            continue
        if changed := folder.changed_versions(computes):
            log.warning("begun with %s: the loss curve may differ from here on", "; ".join(changed))
        return step
    if found:
        raise CorruptShard(
            f"none of the {len(found)} checkpoints in {folder.checkpoints} can be gone on from; to begin anew, delete "
            "them"
        )
    return 0


def carry_out(run: Run) -> None:
    """Trains until the run is over or asked to stop. The latter leaves a checkpoint, as does every evaluation.

    Raises:
      Diverged: if a loss is not finite; the last checkpoint is of before.
      CorruptShard: if a record does not read back, unless such are to be skipped.
    """
    recipe = run.job.recipe
    while not run.stop.is_set():
        if run.step and (run.step % recipe.evaluate_every == 0 or run.step == recipe.steps):
            if run.step not in run.history.evaluated:
                _evaluate(run)
            _save(run)
        if run.is_over:
            return
        if run.stop.is_set():
            break
        fit(run, min(recipe.steps, (run.step // recipe.evaluate_every + 1) * recipe.evaluate_every))
    _save(run)


def fit(run: Run, until: int) -> None:
    """Trains up to a step."""
    recipe = run.job.recipe
    order = Order(len(run.clips), recipe.batch_at_once, recipe.seed)
    first, steps = run.step * recipe.accumulate, (until - run.step) * recipe.accumulate
    sampler = sampler_of(run, train=True)
    with samples.batches(run.clips, sampler, order, run.job.reading, run.skipped, first, steps) as batches:
        run.model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[_Steps(run, order)])


def sampler_of(run: Run, train: bool) -> Sampler:
    return _sampler(run.job.recipe, run.module, run.facts, train)


def _sampler(recipe: TrainRecipe, module, facts: Facts, train: bool) -> Sampler:
    offsets = module.SPEC.offsets(recipe.stream, facts.span)
    return Sampler(offsets, facts.size, train, recipe.flip and train, recipe.stride, recipe.seed, facts.span)


class _Steps(keras.callbacks.Callback):
    """Sets the learning rate before each step, and writes down what came of it."""

    def __init__(self, run: Run, order: Order):
        super().__init__()
        self._run, self._order = run, order
        self._parts = run.job.recipe.accumulate
        self._saved = time.monotonic()
        self._begun = self._saved
        self._rate = None

    def on_train_batch_begin(self, batch, logs=None):
        if batch % self._parts == 0:
            # Keras reports the mean since the metrics were last reset: the loss of this step alone.
            self.model.reset_metrics()
            run = self._run
            rate = run.job.recipe.learning_rate(run.step, run.history.validation_losses)
            if rate != self._rate:
                self.model.optimizer.learning_rate = self._rate = rate

    def on_train_batch_end(self, batch, logs=None):
        run, loss = self._run, float(logs["loss"])
        if not math.isfinite(loss):
            raise Diverged(self._in_words(loss, run.step * self._parts + batch % self._parts))
        if (batch + 1) % self._parts:
            return
        run.step += 1
        now = time.monotonic()
        speed, self._begun = run.job.recipe.batch / (now - self._begun), now
        entry = {"step": run.step, "loss": loss, "learning_rate": self._rate, "clips_per_second": round(speed, 3)}
        run.history.add(entry)
        if run.stop.is_set():
            self.model.stop_training = True
        elif now - self._saved > 60 * run.job.checkpoint_minutes:
            run.history.sync()
            checkpoints.write(run.folder.checkpoints, run.step, self.model, run.digest)
            self._saved = now

    def _in_words(self, loss: float, position: int) -> str:
        run = self._run
        ids = [run.clips[number].clip_id for _, number in self._order.batch_at(position)]
        return (
            f"the loss of step {run.step + 1} is {loss}, at learning rate {self._rate}. Try a lower one in another "
            f"--output, or look at the clips of that step: {', '.join(ids[:8])}"
        )


def _evaluate(run: Run) -> None:
    """Looks at the validation split, the middle of each clip, and keeps the weights if they are the best so far."""
    if run.validation is None:
        return
    recipe, order = run.job.recipe, Once(len(run.validation), run.job.recipe.batch_at_once)
    sampler = sampler_of(run, train=False)
    found = []
    with samples.batches(run.validation, sampler, order, run.job.reading, run.skipped) as batches:
        for each in evaluation.logits_of(run.forward, run.module.SPEC, batches, run.facts.span):
            found.append(each)
            if run.stop.is_set():
                return  # looked at again when the run goes on
    if not found:
        raise CorruptShard(f"none of the {len(run.validation)} clips of {run.job.validation} can be read")
    logits, class_ids = (np.concatenate(parts) for parts in zip(*found))
    scores, loss = metrics.score(logits, class_ids), metrics.cross_entropy(logits, class_ids)
    if all(scores.top1 > before["val_top1"] for before in run.history.evaluations):
        weights.save(run.folder.best, Weights(run.facts, weights.of_model(run.core)))
    # Noted last: what a kill leaves without a note is looked at again.
    run.history.add({"step": run.step, "val_loss": loss, "val_top1": scores.top1, "val_top5": scores.top5})
    log.info("step %d of %d, %s: loss %.3f, %s", run.step, recipe.steps, run.job.validation, loss, scores)


def _save(run: Run) -> None:
    run.history.sync()
    checkpoints.write(run.folder.checkpoints, run.step, run.model, run.digest)
    weights.save(run.folder.weights, Weights(run.facts, weights.of_model(run.core)))
