"""Bootstrapping: a model's weights from those of Inception-V1 for images.

Carreira & Zisserman, CVPR 2017, section 2.4: a filter of N steps of time is the filter for images N times over, divided
by N. On a video of one image repeated ("boring", they say) it then answers as the other does on the image; but only
where all N steps are frames of the video. SAME padding puts zeros before the first frame and after the last one, and
what they change spreads from layer to layer. Of 64 frames the first layer's steps 1 to 29 of 32 are as in 2D, after
Mixed_4f only step 7 of 16, and none from the pool after it on.
"""

import re
from collections.abc import Mapping

import keras
import numpy as np

from kinetics_prep.errors import BadOption
from kinetics_prep.models.weights import Arrays, restore, variables, with_channels

_OF_TRUNK = re.compile(r"(RGB\.|Flow\.)?(Conv[23]d_|Mixed_)")
_FIRST = "Conv2d_1a_7x7.conv_2d/kernel"


def inflated(kernel: np.ndarray, steps: int) -> np.ndarray:
    """float32 [h, w, in, out] -> [steps, h, w, in, out]: repeated along time, and divided by how often."""
    return np.repeat(kernel[None] / np.float32(steps), steps, axis=0)


def arrays_for(model: keras.Model, images: Mapping[str, np.ndarray]) -> Arrays:
    """What Inception-V1's weights are in a model: of its trunk, or of both.

    The first kernel, if it is to take flow, or stacks of it, gets the mean over red, green and blue in each channel:
    see `weights.with_channels`.

    Args:
      images: arrays of "inception-v1". Its last layer is not looked at.

    Raises:
      BadOption: if nothing in the model is Inception-V1.
    """
    found = {}
    for name, variable in variables(model).items():
        source = images.get(_for_images(name))
        if source is not None and _OF_TRUNK.match(name):
            found[name] = _fitted(source, _for_images(name), tuple(variable.shape))
    if not found:
        raise BadOption(f"{model.name} cannot begin from weights for images: nothing in it is Inception-V1")
    return found


def bootstrap(model: keras.Model, images: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Gives a model the weights of Inception-V1, and says which layers are not of it and keep what they have.

    Raises:
      BadOption: if nothing in the model is Inception-V1.
      BadWeights: if those weights lack one, have one too many, or one of another shape.
    """
    arrays = arrays_for(model, images)
    used = {_for_images(name) for name in arrays}
    arrays |= {name: array for name, array in images.items() if _OF_TRUNK.match(name) and name not in used}
    layers = {name.rpartition("/")[0]: None for name in variables(model) if not _OF_TRUNK.match(name)}
    restore(model, arrays, without=layers)
    return tuple(layers)


def _for_images(name: str) -> str:
    """Mixed_3b.Branch_0.Conv3d_0a_1x1.conv_3d/kernel -> Mixed_3b.Branch_0.Conv2d_0a_1x1.conv_2d/kernel"""
    for old, new in (("RGB.", ""), ("Flow.", ""), ("Conv3d_", "Conv2d_"), ("conv_3d", "conv_2d")):
        name = name.replace(old, new)
    return name


def _fitted(source: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name == _FIRST and source.shape[-2] != shape[-2]:
        source = with_channels(source, shape[-2])
    return inflated(source, shape[0]) if len(shape) == 5 else source
