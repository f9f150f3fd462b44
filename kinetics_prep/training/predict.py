"""What weights say of a clip of any video, which is prepared as `kinetics-prep flow` would prepare it."""

from pathlib import Path

import numpy as np

from kinetics_prep.models import weights
from kinetics_prep.models.spec import parts
from kinetics_prep.reading.clips import UNLABELLED
from kinetics_prep.training import fusion, preview
from kinetics_prep.training.network import Network, clip_logits
from kinetics_prep.training.predictions import Predictions


def predict(
    video: Path,
    paths: tuple[Path, ...],
    start_seconds: float = 0.0,
    seconds: float = preview.SECONDS,
    frames: int | None = None,
    how: str = "logits",
) -> Predictions:
    """Predicts the class of a clip of a video, by weights or by several of them together.

    Args:
      paths: of weights files.
      start_seconds: where the clip begins; it lasts `seconds`, or until the video ends.
      frames: of the clip, after the weights' stride; None for the model's own number at test.
      how: to fuse several weights, see `fusion.fuse`.

    Raises:
      BadVideo: if the video holds no usable clip there.
      BadOption: if several weights do not know the same classes.
    """
    predictions = [_predicted(video, path, start_seconds, seconds, frames) for path in paths]
    return fusion.fuse_predictions(predictions, how) if len(predictions) > 1 else predictions[0]


def _predicted(video: Path, path: Path, start_seconds: float, seconds: float, frames: int | None) -> Predictions:
    loaded = weights.load(path)
    recipe = preview.recipe_for(loaded.facts, seconds)
    network = Network.of(path, loaded, recipe.quantizer, frames)
    clip = preview.of_video(video, recipe, parts(loaded.facts.stream), start_seconds)
    streams = preview.frames_of(clip, network.sampler())
    logits = clip_logits(network.model, network.spec, streams, network.span)
    labels = loaded.facts.labels or tuple(f"class {number}" for number in range(loaded.facts.classes))
    return network.predictions([clip.name], np.array([UNLABELLED]), labels, logits)
