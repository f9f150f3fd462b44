"""Bootstrapping: a model's weights from those of Inception-V1 for images.

Carreira & Zisserman, CVPR 2017, section 2.4: a filter of N time steps is the filter for images, repeated N times and
divided by N. On a video that repeats one image (the paper calls it "boring") it then answers as the filter for images
does, but only where all N steps are frames of the video. SAME padding puts zeros before the first frame and after the
last, and what they change spreads from layer to layer. Of 64 frames, the first layer's steps 1 to 29 of 32 are as in
2D, after Mixed_4f only step 7 of 16, and after the next pool none.
"""

import re
from collections.abc import Mapping

import keras
import numpy as np

from kinetics_prep.errors import BadOption
from kinetics_prep.models import model_variables
from kinetics_prep.models.cross_modality import with_channels
from kinetics_prep.models.model_variables import layer_of
from kinetics_prep.models.weights import Arrays

_OF_TRUNK = re.compile(r"(RGB\.|Flow\.)?(Conv[23]d_|Mixed_)")
_FIRST = "Conv2d_1a_7x7.conv_2d/kernel"


def inflate_kernel(kernel: np.ndarray, steps: int) -> np.ndarray:
    """float32 [h, w, in, out] -> [steps, h, w, in, out]: repeated along time, and divided by `steps`."""
    return np.repeat(kernel[None] / np.float32(steps), steps, axis=0)


def inflate_arrays(model: keras.Model, images: Mapping[str, np.ndarray]) -> Arrays:
    """The weights of Inception-V1 as arrays for the trunk of a model, or for both of its trunks.

    A first kernel that takes flow, or stacks of it, gets in each channel the mean over red, green and blue: see
    `cross_modality`.

    Args:
      model: which arrays it has, and their shapes.
      images: arrays of "inception-v1". Its last layer is ignored.

    Raises:
      BadOption: if no part of the model is Inception-V1.
    """
    arrays = {}
    for name, variable in model_variables.by_name(model).items():
        source = images.get(_image_name(name))
        if source is not None and _OF_TRUNK.match(name):
            arrays[name] = _fit(source, _image_name(name), tuple(variable.shape))
    if not arrays:
        raise BadOption(f"{model.name} cannot begin from weights for images: nothing in it is Inception-V1")
    return arrays


def bootstrap(model: keras.Model, images: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Sets the weights of a model to those of Inception-V1.

    Args:
      images: arrays of "inception-v1". Its last layer is ignored.

    Returns:
      The layers that are not part of Inception-V1: they keep what they have.

    Raises:
      BadOption: if no part of the model is Inception-V1.
      BadWeights: if an array is missing, unknown, or of another shape.
    """
    arrays = inflate_arrays(model, images)
    used = {_image_name(name) for name in arrays}
    arrays |= {name: array for name, array in images.items() if _OF_TRUNK.match(name) and name not in used}
    others = tuple(
        dict.fromkeys(layer_of(name) for name in model_variables.by_name(model) if not _OF_TRUNK.match(name))
    )
    model_variables.restore(model, arrays, without=others)
    return others


def _image_name(name: str) -> str:
    """Mixed_3b.Branch_0.Conv3d_0a_1x1.conv_3d/kernel -> Mixed_3b.Branch_0.Conv2d_0a_1x1.conv_2d/kernel"""
    for old, new in (("RGB.", ""), ("Flow.", ""), ("Conv3d_", "Conv2d_"), ("conv_3d", "conv_2d")):
        name = name.replace(old, new)
    return name


def _fit(source: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name == _FIRST and source.shape[-2] != shape[-2]:
        source = with_channels(source, shape[-2])
    return inflate_kernel(source, shape[0]) if len(shape) == 5 else source
