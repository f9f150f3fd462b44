"""uint8 samples -> [-1, 1], inside the model: a fourth of the bytes to queue and to send to a device."""

from typing import Any

import keras

from kinetics_prep.errors import BadOption

_FLOW = {"symmetric": (1 / 127, -128 / 127), "mediapipe": (2 / 255, -1.0), "denseflow": (2 / 255, -1.0)}
"""Quantizer -> (scale, offset) that take levels to px / bound; see `media.quantize`."""


def from_uint8(core: keras.Model, quantizer: str | None) -> keras.Model:
    """Puts the scaling of uint8 samples before a model.

    Args:
      core: model of a dict of streams in [-1, 1], such as `models.MODELS[name].build` makes.
      quantizer: of the flow's levels; may be None if the model sees no flow.

    Returns:
      The model of a dict of uint8 [B, T, H, W, C], RGB and levels of flow, as the readers make them. It shares the
      core's variables.

    Raises:
      BadOption: if the model sees flow and the quantizer is unknown.
    """
    inputs = {name: keras.Input(tensor.shape[1:], dtype="uint8", name=name) for name, tensor in core.input.items()}
    scaled = {name: _scaled(name, tensor, quantizer) for name, tensor in inputs.items()}
    return keras.Model(inputs, core(scaled), name=f"{core.name}_from_uint8")


def _scaled(stream: str, levels: Any, quantizer: str | None) -> Any:
    if stream == "rgb":
        scale, offset = 1 / 127.5, -1.0
    elif quantizer in _FLOW:
        scale, offset = _FLOW[quantizer]
    else:
        raise BadOption(f"flow was quantized by {quantizer!r}, expected one of {', '.join(_FLOW)}")
    # In float32 under any policy: bfloat16 has just enough bits for the levels, and would round the products.
    # And not by `keras.layers.Rescaling`, which imports TensorFlow under every backend.
    return keras.ops.cast(levels, "float32") * scale + offset
