"""Where a model's weights come from before the first step, and which of them are trained.

The protocols are those of table 4 in Carreira & Zisserman, CVPR 2017. Original trains on a small data set from random
weights, or from ImageNet. Fixed and Full-FT begin with a network trained on videos, under a new last layer; Fixed
trains only that layer.
"""

import keras

from kinetics_prep.errors import BadOption
from kinetics_prep.models import ModelModule, cross_modality, inflate, model_variables
from kinetics_prep.models.facts import Facts
from kinetics_prep.models.weights import Weights

IMAGE_MODEL = "inception-v1"
"""The model that weights of images, rather than videos, are for."""


def check_protocol(protocol: str, beginning: Facts | None) -> None:
    """Makes sure that a protocol goes with the weights to begin from.

    Args:
      protocol: a name of `recipes.PROTOCOLS`.
      beginning: facts of the weights; None if the run begins with random weights.

    Raises:
      BadOption: if not.
    """
    if protocol == "original" and beginning and beginning.model != IMAGE_MODEL:
        raise BadOption(
            f"--protocol original begins with nothing or with weights of images, and these are of {beginning.model}, "
            f"{beginning.origin}: take fixed or full-ft"
        )
    if protocol != "original" and beginning and beginning.model == IMAGE_MODEL:
        raise BadOption(
            f"--protocol {protocol} begins with weights of videos, and these are of images: take --protocol original"
        )
    if protocol != "original" and beginning is None:
        raise BadOption(f"--protocol {protocol} needs weights to begin from: --init-from FILE")


def begin(
    core: keras.Model, architecture: ModelModule, stream: str, labels: tuple[str, ...], beginning: Weights
) -> str:
    """Puts weights into a model to begin from. Its last layer stays new if the weights are for other classes.

    Args:
      core: made by `architecture.build`.
      architecture: a row of `models.MODELS`.
      stream: of the model. Weights for "rgb" also fit "flow": their first kernel is averaged over colours.
      labels: of the data, in the order of class ids.

    Returns:
      What was done, in words.

    Raises:
      BadOption: if the weights are of another architecture or stream.
      BadWeights: if arrays are missing, unknown, or of another shape.
    """
    facts, arrays = beginning.facts, beginning.arrays
    if facts.model == IMAGE_MODEL:
        new = inflate.bootstrap(core, arrays)
        return f"begins with {facts.origin}, inflated; new: {', '.join(new)}"
    if facts.model != architecture.SPEC.name:
        raise BadOption(f"the weights to begin from are of {facts.model}, and the model is {architecture.SPEC.name}")
    done = f"begins with {facts.origin}"
    if facts.stream != stream:
        if (facts.stream, stream) != ("rgb", "flow"):
            raise BadOption(f"the weights to begin from are for stream {facts.stream}, and the model is for {stream}")
        arrays = cross_modality.adapt_rgb_to_flow(arrays)
        done += ", its first kernel averaged over colours for dx and dy"
    same_classes = bool(labels) and facts.labels == labels
    model_variables.restore(core, arrays, without=() if same_classes else architecture.HEAD)
    return done + (", last layer included" if same_classes else ", under a new last layer")


def freeze(core: keras.Model, architecture: ModelModule) -> None:
    """Makes only the last layer trainable. Batch norm then also keeps its means and variances."""
    for layer in core.layers:
        layer.trainable = layer.name in architecture.HEAD
