"""From clips to logits: whole clips, centre crop, as the paper tests."""

from collections.abc import Iterable, Iterator

import keras
import numpy as np

from kinetics_prep.models.spec import Spec


def logits(model: keras.Model, spec: Spec, batches: Iterable, span: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The logits of each batch of samples that span `span` frames.

    Args:
      model: of samples as the readers give them, `normalise.from_uint8(...)`.
      batches: of (dict of uint8 [B, T, H, W, C], class ids int32 [B]).

    Yields:
      float32 [B, classes], int32 [B].
    """
    for inputs, class_ids in batches:
        streams = {name: np.asarray(value) for name, value in inputs.items()}
        yield clip_logits(model, spec, streams, span), np.asarray(class_ids)


def clip_logits(model: keras.Model, spec: Spec, streams: dict[str, np.ndarray], span: int) -> np.ndarray:
    """float32 [B, classes] of uint8 [B, T, H, W, C] by stream: of windows the mean, of steps the last."""
    count = span // spec.window if spec.window else 1
    found = model.predict_on_batch({name: _dealt(value, count) for name, value in streams.items()})
    found = found[:, -1] if spec.every_step else found
    return found.reshape(-1, count, found.shape[-1]).mean(axis=1, dtype=np.float32)


def _dealt(frames: np.ndarray, count: int) -> np.ndarray:
    """[B, count * T, ...] -> [B * count, T, ...]."""
    return frames.reshape(-1, frames.shape[1] // count, *frames.shape[2:])
