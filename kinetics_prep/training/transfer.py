"""Where a model's weights come from before the first step, and which of them are trained.

The protocols are those of table 4 in Carreira & Zisserman, CVPR 2017: Original trains on a small data set from nothing,
or from ImageNet; Fixed and Full-FT begin with a network trained on videos, under a new last layer. Fixed trains that
layer alone.
"""

import keras

from kinetics_prep.errors import BadOption
from kinetics_prep.models import cross_modality, inflate, model_variables
from kinetics_prep.models.facts import Facts
from kinetics_prep.models.weights import Weights

IMAGE_MODEL = "inception-v1"
"""What weights of images, and not of videos, say that they are for."""


def expect(protocol: str, beginning: Facts | None) -> None:
    """Refuses a protocol that does not go with the weights to begin from.

    Raises:
      BadOption: if so.
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


def begin(core: keras.Model, module, stream: str, labels: tuple[str, ...], beginning: Weights) -> str:
    """Gives a model the weights of another to begin from, all but a last layer for other classes.

    Args:
      core: what `module.build` made.
      module: a row of `models.MODELS`.

    Returns:
      What was done, in words.

    Raises:
      BadWeights: if they are of another architecture.
    """
    facts, arrays = beginning.facts, beginning.arrays
    if facts.model == IMAGE_MODEL:
        new = inflate.bootstrap(core, arrays)
        return f"begins with {facts.origin}, inflated; new: {', '.join(new)}"
    if facts.model != module.SPEC.name:
        raise BadOption(f"the weights to begin from are of {facts.model}, and the model is {module.SPEC.name}")
    said = f"begins with {facts.origin}"
    if facts.stream != stream:
        if (facts.stream, stream) != ("rgb", "flow"):
            raise BadOption(f"the weights to begin from are for stream {facts.stream}, and the model is for {stream}")
        arrays = cross_modality.adapt_rgb_to_flow(arrays)
        said += ", its first kernel averaged over colours for dx and dy"
    same_classes = bool(labels) and facts.labels == labels
    model_variables.restore(core, arrays, without=() if same_classes else module.HEAD)
    return said + (", last layer included" if same_classes else ", under a new last layer")


def freeze(core: keras.Model, module) -> None:
    """Leaves only the last layer to be trained; batch norm keeps its means and variances too."""
    for layer in core.layers:
        layer.trainable = layer.name in module.HEAD
