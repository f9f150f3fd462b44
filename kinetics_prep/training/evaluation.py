"""What weights are worth: whole clips, centre crop, as the paper tests; of a prepared split, or of any video."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from kinetics_prep.errors import BadOption, BadWeights, CorruptShard
from kinetics_prep.models import MODELS, weights
from kinetics_prep.models.spec import Spec, parts
from kinetics_prep.models.weights import Facts, Weights
from kinetics_prep.reading.batches import Reading
from kinetics_prep.reading.clips import UNLABELLED, ClipIndex
from kinetics_prep.reading.order import Once
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.training import devices, fusion, normalise, preview, samples
from kinetics_prep.training.predictions import Predictions

Forward = Callable[[dict[str, np.ndarray]], np.ndarray]
"""Samples of a batch, uint8 by stream -> what the model says of them, float32 [B, ...]."""


@dataclasses.dataclass(frozen=True)
class EvaluateJob:
    """Which weights to evaluate, on what."""

    weights: tuple[Path, ...]
    data: Path
    split: str = "val"
    frames: int | None = None
    """Of a clip, after the weights' stride; None for the model's own at test."""
    batch: int = 1
    how: str = "logits"
    """To fuse, see `fusion.fuse`."""
    reading: Reading = dataclasses.field(default_factory=Reading)
    accept: frozenset[str] = frozenset()


@dataclasses.dataclass
class Evaluation:
    """An evaluation that is ready to begin. `done` may be looked at from other threads."""

    job: EvaluateJob
    clips: ClipIndex
    networks: tuple["Network", ...]
    skipped: set[str] = dataclasses.field(default_factory=set)
    """Ids of clips that could not be read, where such are left out."""
    done: int = 0
    """Clips, those of each network counted."""

    @property
    def total(self) -> int:
        return len(self.clips) * len(self.networks)


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A model with its weights, for clips of one quantizer, to test with."""

    path: Path
    facts: Facts
    spec: Spec
    model: Forward
    span: int
    """Frames of a clip that it sees, after the stride."""

    @classmethod
    def of(cls, path: Path, found: Weights, quantizer: str | None, frames: int | None = None) -> "Network":
        """Builds the model of weights and gives it them.

        Raises:
          BadWeights: if there is no such model, or they are not its own.
          BadOption: if it cannot take so many frames.
        """
        facts = found.facts
        if facts.model not in MODELS:
            raise BadWeights(f"{path} is of {facts.model}, which is only there to begin from: {', '.join(MODELS)}")
        module = MODELS[facts.model]
        span = span_at_test(module.SPEC, facts.stride) if frames is None else frames
        window = module.SPEC.window or 1
        if span % window:
            raise BadOption(f"--frames is {span}, and {module.SPEC.title} takes a multiple of {window}")
        if span < 1:
            raise BadOption(f"--frames is {span}, expected 1 or more")
        expect_span(module, facts.stream, facts.size, span)
        core = module.build(facts.classes, facts.stream, facts.size)
        weights.restore(core, found.arrays)
        return cls(path, facts, module.SPEC, forward(normalise.from_uint8(core, quantizer)), span)

    def sampler(self) -> Sampler:
        """The middle of clips and frames."""
        offsets = self.spec.offsets(self.facts.stream, self.span)
        return Sampler(offsets, self.facts.size, train=False, stride=self.facts.stride, span=self.span)

    def said(self, clip_ids: Sequence[str], class_ids: np.ndarray, labels: Sequence[str], logits) -> Predictions:
        """Logits, float32 [N, classes], as predictions of this network."""
        facts = self.facts
        origin = f"{self.path.name}: {facts.origin}"
        ids = (tuple(clip_ids), class_ids.astype(np.int64))
        return Predictions(facts.model, facts.stream, origin, tuple(labels), *ids, logits)


def expect_span(module, stream: str, size: int, span: int) -> None:
    """Refuses a number of frames that a model of any length would only stumble over when it meets them.

    Args:
      module: a row of `models.MODELS`.

    Raises:
      BadOption: if so.
    """
    if span not in (module.SPEC.train_span, module.SPEC.test_span):
        module.build(2, stream, size, span=module.SPEC.window or span)


def span_at_test(spec: Spec, stride: int) -> int:
    """Frames of a test clip: of what the paper takes every `stride`th, in whole windows."""
    window = spec.window or 1
    return max(window, spec.test_span // stride // window * window)


@contextlib.contextmanager
def prepared(job: EvaluateJob) -> Iterator[Evaluation]:
    """Opens the data and the weights.

    Raises:
      RunError: if they do not go together.
    """
    clips = ClipIndex.open(job.data, job.split, job.reading.format)
    devices.make_deterministic(0)
    found = []
    for path in job.weights:
        loaded = weights.load(path)
        samples.expect(clips, loaded.facts, loaded.facts.stream, job.accept)
        samples.expect_labels(clips, loaded.facts)
        found.append(Network.of(path, loaded, clips.quantizer, job.frames))
    yield Evaluation(job, clips, tuple(found))


def carry_out(ready: Evaluation) -> list[Predictions]:
    """What each network says of each clip, and last what all say together, if they are several.

    A clip that one of them could not read is left out of all.
    """
    said = [_evaluated(ready, network) for network in ready.networks]
    said = [_without(each, ready.skipped) for each in said] if ready.skipped else said
    return [*said, fusion.fuse_predictions(said, ready.job.how)] if len(said) > 1 else said


def _evaluated(ready: Evaluation, network: Network) -> Predictions:
    clips, order, skipped, read = ready.clips, Once(len(ready.clips), ready.job.batch), Skipped(), []
    with samples.batches(clips, network.sampler(), order, ready.job.reading, skipped) as batches:
        for logits, _ in logits_of(network.model, network.spec, batches, network.span):
            read.append(logits)
            ready.done += len(logits)
    lost = {clip_id for _, clip_id, _ in skipped.clips}
    if len(lost) == len(clips):
        raise CorruptShard(f"none of the {len(clips)} clips of {clips.folder} can be read")
    ready.skipped |= lost
    kept = [number for number, clip_id in enumerate(clips.ids) if clip_id not in lost]
    return network.said([clips.ids[k] for k in kept], clips.class_ids[kept], clips.labels, np.concatenate(read))


def _without(said: Predictions, lost: set[str]) -> Predictions:
    kept = [k for k, clip_id in enumerate(said.clip_ids) if clip_id not in lost]
    if not kept:
        raise CorruptShard("no clip could be read by every network")
    clip_ids = tuple(said.clip_ids[k] for k in kept)
    return dataclasses.replace(said, clip_ids=clip_ids, class_ids=said.class_ids[kept], logits=said.logits[kept])


def predict(
    video: Path,
    paths: tuple[Path, ...],
    start_seconds: float = 0.0,
    seconds: float = preview.SECONDS,
    frames: int | None = None,
    how: str = "logits",
) -> Predictions:
    """What weights, or several of them together, say of a clip of a video.

    Raises:
      BadVideo: if it holds no usable clip there.
      BadOption: if several weights do not know the same classes.
    """
    said = [_predicted(video, path, start_seconds, seconds, frames) for path in paths]
    return fusion.fuse_predictions(said, how) if len(said) > 1 else said[0]


def _predicted(video: Path, path: Path, start_seconds: float, seconds: float, frames: int | None) -> Predictions:
    found = weights.load(path)
    recipe = preview.recipe_for(found.facts, seconds)
    network = Network.of(path, found, recipe.quantizer, frames)
    made = preview.of_video(video, recipe, parts(found.facts.stream), start_seconds)
    streams = preview.frames_of(made, network.sampler())
    logits = clip_logits(network.model, network.spec, streams, network.span)
    labels = found.facts.labels or tuple(f"class {number}" for number in range(found.facts.classes))
    return network.said([made.name], np.array([UNLABELLED]), labels, logits)


def forward(model: keras.Model) -> Forward:
    """The model at test, compiled, on one device: Keras's `predict` would deal a batch to all, or hand it to each."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(functools.partial(model, training=False), reduce_retracing=True)
        return lambda streams: compiled(streams).numpy()
    if keras.backend.backend() == "jax":
        import jax

        compiled = jax.jit(lambda *state_and_streams: model.stateless_call(*state_and_streams, training=False)[0])
        variables = (model.trainable_variables, model.non_trainable_variables)

        def call(streams):
            state = ([variable.value for variable in part] for part in variables)  # as of now: training goes on
            return np.asarray(compiled(*state, streams))

        return call
    return model.predict_on_batch


def logits_of(model: Forward, spec: Spec, batches: Iterable, span: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The logits of each batch of samples that span `span` frames.

    Args:
      model: `forward` of a model of samples as the readers give them, `normalise.from_uint8(...)`.
      batches: of (dict of uint8 [B, T, H, W, C], class ids int32 [B]).

    Yields:
      float32 [B, classes], int32 [B].
    """
    for inputs, class_ids in batches:
        if not len(class_ids):  # none of its clips could be read
            continue
        streams = {name: np.asarray(value) for name, value in inputs.items()}
        yield clip_logits(model, spec, streams, span), np.asarray(class_ids)


def clip_logits(model: Forward, spec: Spec, streams: dict[str, np.ndarray], span: int) -> np.ndarray:
    """float32 [B, classes] of uint8 [B, T, H, W, C] by stream: of windows the mean, of steps the last."""
    count = span // spec.window if spec.window else 1
    found = model({name: _dealt(value, count) for name, value in streams.items()})
    found = found[:, -1] if spec.every_step else found
    return found.reshape(-1, count, found.shape[-1]).mean(axis=1, dtype=np.float32)


def _dealt(frames: np.ndarray, count: int) -> np.ndarray:
    """[B, count * T, ...] -> [B * count, T, ...]."""
    return frames.reshape(-1, frames.shape[1] // count, *frames.shape[2:])
