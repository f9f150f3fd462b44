"""Opens a training run: data, weights to begin from, model, folder, and the state of its last checkpoint."""

import contextlib
import hashlib
import logging
from collections.abc import Iterator

import keras

from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.models import MODELS, ModelModule, weights
from kinetics_prep.models.facts import Facts
from kinetics_prep.models.weights import Weights
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.storage.files import sha256_of
from kinetics_prep.training import checkpoints, compiling, devices, expectations, network, transfer
from kinetics_prep.training.history import History
from kinetics_prep.training.job import TrainJob
from kinetics_prep.training.recipes import TrainRecipe
from kinetics_prep.training.run import TrainRun, sampler_for
from kinetics_prep.training.run_folder import RunFolder
from kinetics_prep.training.tensorboard import Scalars

log = logging.getLogger(__name__)


@contextlib.contextmanager
def open_run(job: TrainJob) -> Iterator[TrainRun]:
    """Opens a run in `job.output`, new or as its last checkpoint left it, and keeps other processes out of it.

    Raises:
      RunError: if the data, the weights to begin from and the recipe do not go together, or the folder holds another
        run.
    """
    recipe = job.recipe
    architecture = _architecture(recipe)
    beginning = weights.load(job.init_from) if job.init_from else None
    transfer.check_protocol(recipe.protocol, beginning.facts if beginning else None)
    clips = ClipIndex.open(job.data, job.split, job.reading.format)
    validation = ClipIndex.open(job.data, job.validation, job.reading.format) if job.validation else None
    facts = _facts(job, architecture, clips)
    _check(job, architecture, facts, beginning, clips, validation)
    folder = RunFolder(job.output)
    with folder.exclusive():
        devices.make_deterministic(recipe.seed)
        computing = devices.find_devices()
        computing.check_share(recipe.batch_at_once)
        with devices.policy(recipe.precision), devices.data_parallel(computing):
            core = compiling.build_core(recipe, architecture, facts)
            if beginning:
                log.info(transfer.begin(core, architecture, recipe.stream, facts.labels, beginning))
            model = compiling.compile_model(core, architecture, recipe, facts, computing)
            # Only after every other check: a folder marked by a run that can never start would refuse one that can.
            digest = folder.describe(_settings(job, clips, validation, facts), str(computing))
            step = _restored(folder, model, digest, str(computing))
            history = History.resume(folder.history, step)
            with _board(job, folder) as history.listener:
                yield TrainRun(
                    job=job,
                    folder=folder,
                    core=core,
                    model=model,
                    forward=network.forward(model),
                    spec=architecture.SPEC,
                    facts=facts,
                    clips=clips,
                    validation=validation,
                    digest=digest,
                    history=history,
                    devices=computing,
                    step=step,
                )


def _architecture(recipe: TrainRecipe) -> ModelModule:
    """The row of `MODELS` that a recipe names.

    Raises:
      BadOption: if there is none, or it takes another stream or number of frames.
    """
    if recipe.model not in MODELS:
        raise BadOption(f"model is {recipe.model!r}, expected one of {', '.join(MODELS)}")
    architecture = MODELS[recipe.model]
    architecture.SPEC.check_stream(recipe.stream)
    window = architecture.SPEC.window
    if window and recipe.frames not in (None, window):
        raise BadOption(f"{architecture.SPEC.title} takes {window} frames at a time, not --frames {recipe.frames}")
    return architecture


def _facts(job: TrainJob, architecture: ModelModule, clips: ClipIndex) -> Facts:
    """What the weights of a run will be for."""
    recipe = job.recipe
    if len(clips.labels) < 2:
        raise BadOption(f"{job.data} has {len(clips.labels)} classes, expected two or more: nothing to learn")
    return Facts(
        model=recipe.model,
        stream=recipe.stream,
        classes=len(clips.labels),
        labels=tuple(clips.labels),
        size=recipe.size or architecture.SPEC.size,
        span=recipe.frames or architecture.SPEC.train_span,
        stride=recipe.stride,
        fps=str(clips.fps),
        short_side=clips.short_side,
        quantizer=None if recipe.stream == "rgb" else clips.quantizer,
        bound_px=clips.bound_px,
        origin=f"kinetics-prep train, {recipe.name}, {recipe.protocol}, {recipe.steps} steps of {recipe.batch} clips",
    )


def _check(
    job: TrainJob,
    architecture: ModelModule,
    facts: Facts,
    beginning: Weights | None,
    clips: ClipIndex,
    validation: ClipIndex | None,
) -> None:
    """Refuses what cannot run, before the run's folder is touched.

    Raises:
      BadOption: if clips have no labels, or are too small, or not as the weights to begin from expect.
    """
    for split in filter(None, (clips, validation)):
        expectations.check_all_labelled(split)
    sampler_for(job.recipe, architecture.SPEC, facts, train=True).reduction(clips.short_side)
    network.check_span(architecture, job.recipe.stream, facts.size, facts.span)
    if beginning and beginning.facts.model != transfer.IMAGE_MODEL:
        expectations.check_clips(clips, beginning.facts, job.recipe.stream, job.accept)


def _settings(job: TrainJob, clips: ClipIndex, validation: ClipIndex | None, facts: Facts) -> dict:
    """Everything that decides the loss curve, as plain values."""
    data = {"split": job.split, "validation": job.validation, "clips": len(clips), "content": _content_digest(clips)}
    if validation and (job.recipe.plateau or job.recipe.early_stop):
        data["validation content"] = _content_digest(validation)
    return {
        "recipe": job.recipe.settings(),
        "data": data,
        "labels": list(facts.labels),
        "init_from": sha256_of(job.init_from) if job.init_from else None,
        "backend": keras.backend.backend(),
    }


def _content_digest(clips: ClipIndex) -> str:
    """A digest of what the clips hold: ids, classes and lengths, in order, and the recipe of their preparation."""
    digest = hashlib.sha256(clips.digest.encode())
    for clip_id, class_id, frames in zip(clips.ids, clips.class_ids.tolist(), clips.table["frames"].tolist()):
        digest.update(f"{clip_id} {class_id} {frames}\n".encode())
    return digest.hexdigest()[:16]


def _restored(folder: RunFolder, model: keras.Model, digest: str, computes: str) -> int:
    """Puts the model into the state of the last checkpoint that reads back; returns the steps done.

    Raises:
      CorruptShard: if there are checkpoints and none reads back. Beginning anew would throw days of work away.
    """
    paths = checkpoints.list_checkpoints(folder.checkpoints)
    for path in reversed(paths):
        try:
            step = checkpoints.restore(path, model, digest)
        except CorruptShard as error:
            log.warning("%s; trying the one before", error)
            continue
        if changed := folder.changed_versions(computes):
            log.warning("begun with %s: the loss curve may differ from here on", "; ".join(changed))
        return step
    if paths:
        raise CorruptShard(
            f"none of the {len(paths)} checkpoints in {folder.checkpoints} reads back as one of this run; to begin "
            "anew, delete them"
        )
    return 0


@contextlib.contextmanager
def _board(job: TrainJob, folder: RunFolder) -> Iterator[Scalars | None]:
    if job.tensorboard:
        with contextlib.closing(Scalars(folder.tensorboard)) as board:
            yield board
    else:
        yield None
