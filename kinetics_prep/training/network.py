"""A model at test: compiled for one device, of clips of any length."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from kinetics_prep.errors import BadOption, BadWeights
from kinetics_prep.models import MODELS, ModelModule, model_variables
from kinetics_prep.models.facts import Facts
from kinetics_prep.models.spec import Spec
from kinetics_prep.models.weights import Weights
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.training import normalise
from kinetics_prep.training.predictions import Predictions

Forward = Callable[[dict[str, np.ndarray]], np.ndarray]
"""Samples of a batch, uint8 [B, T, H, W, C] by stream -> the model's logits, float32 [B, ...]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A model with its weights, to test with, for clips whose flow has one quantizer."""

    path: Path
    """Of the weights file."""
    facts: Facts
    spec: Spec
    model: Forward
    span: int
    """Frames of a clip that it sees, after the stride."""

    @classmethod
    def of(cls, path: Path, loaded: Weights, quantizer: str | None, frames: int | None = None) -> "Network":
        """Builds the model that weights are for, and puts them into it.

        Args:
          quantizer: of the clips' flow; may be None if the model sees no flow.
          frames: of a clip, after the weights' stride; None for the model's own number at test.

        Raises:
          BadWeights: if there is no such model, or the weights do not fit it.
          BadOption: if it cannot take so many frames.
        """
        facts = loaded.facts
        if facts.model not in MODELS:
            raise BadWeights(f"{path} is of {facts.model}, which is only there to begin from: {', '.join(MODELS)}")
        architecture = MODELS[facts.model]
        spec: Spec = architecture.SPEC
        span = span_at_test(spec, facts.stride) if frames is None else frames
        window = spec.window or 1
        if span % window:
            raise BadOption(f"--frames is {span}, and {spec.title} takes a multiple of {window}")
        if span < 1:
            raise BadOption(f"--frames is {span}, expected 1 or more")
        check_span(architecture, facts.stream, facts.size, span)
        core = architecture.build(facts.classes, facts.stream, facts.size)
        model_variables.restore(core, loaded.arrays)
        return cls(path, facts, spec, forward(normalise.from_uint8(core, quantizer)), span)

    def sampler(self) -> Sampler:
        """Takes the middle of each clip and of its frames."""
        offsets = self.spec.offsets(self.facts.stream, self.span)
        return Sampler(offsets, self.facts.size, train=False, stride=self.facts.stride, span=self.span)

    def predictions(
        self, clip_ids: Sequence[str], class_ids: np.ndarray, labels: Sequence[str], logits: np.ndarray
    ) -> Predictions:
        """This network's logits of some clips as `Predictions`.

        Args:
          class_ids: int [N], `UNLABELLED` where a clip has no label.
          labels: C of them, in the order of class ids.
          logits: float32 [N, C].
        """
        return Predictions(
            model=self.facts.model,
            stream=self.facts.stream,
            weights=f"{self.path.name}: {self.facts.origin}",
            labels=tuple(labels),
            clip_ids=tuple(clip_ids),
            class_ids=class_ids.astype(np.int64),
            logits=logits,
        )


def check_span(architecture: ModelModule, stream: str, size: int, span: int) -> None:
    """Refuses a number of frames that a model cannot take. A model of open length would fail only at its first clip.

    Args:
      architecture: a row of `models.MODELS`.

    Raises:
      BadOption: if the model cannot take so many.
    """
    if span not in (architecture.SPEC.train_span, architecture.SPEC.test_span):
        architecture.build(2, stream, size, span=architecture.SPEC.window or span)


def span_at_test(spec: Spec, stride: int) -> int:
    """Frames of a test clip: every `stride`th of those that the paper takes, rounded down to whole windows."""
    window = spec.window or 1
    return max(window, spec.test_span // stride // window * window)


def forward(model: keras.Model) -> Forward:
    """Compiles a model for testing on one device, with the weights that it has when it is called.

    Not by Keras's `predict`: with several devices it gives each of them the whole batch.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(functools.partial(model, training=False), reduce_retracing=True)
        return lambda streams: compiled(streams).numpy()
    if keras.backend.backend() == "jax":
        return _forward_of_jax(model)
    return model.predict_on_batch


def _forward_of_jax(model: keras.Model) -> Forward:
    import jax

    compiled = jax.jit(lambda *state_and_streams: model.stateless_call(*state_and_streams, training=False)[0])
    variables = (model.trainable_variables, model.non_trainable_variables)

    def call(streams: dict[str, np.ndarray]) -> np.ndarray:
        # Read at each call: training changes them in between.
        state = ([variable.value for variable in part] for part in variables)
        return np.asarray(compiled(*state, streams))

    return call


def logits_of(model: Forward, spec: Spec, batches: Iterable, span: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The logits of each batch of samples that span `span` frames; batches without a clip are left out.

    Args:
      model: `forward` of a model of samples as the readers make them, `normalise.from_uint8(...)`.
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
    """The logits of whole clips: the mean over windows, and of a model with logits at every step the last.

    Args:
      streams: uint8 [B, T, H, W, C] by stream.
      span: frames of the clips, a multiple of the model's window.

    Returns:
      float32 [B, classes].
    """
    windows = span // spec.window if spec.window else 1
    logits = model({name: _split(frames, windows) for name, frames in streams.items()})
    if spec.every_step:
        logits = logits[:, -1]
    return logits.reshape(-1, windows, logits.shape[-1]).mean(axis=1, dtype=np.float32)


def _split(frames: np.ndarray, windows: int) -> np.ndarray:
    """[B, windows * T, ...] -> [B * windows, T, ...]."""
    return frames.reshape(-1, frames.shape[1] // windows, *frames.shape[2:])
