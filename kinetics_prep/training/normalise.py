"""uint8 samples -> [-1, 1], inside the model: a fourth of the bytes to queue, batch and send to a device."""

import keras

from kinetics_prep.errors import BadOption

_FLOW = {"symmetric": (1 / 127, -128 / 127), "mediapipe": (2 / 255, -1.0), "denseflow": (2 / 255, -1.0)}
"""(scale, offset) that take levels to px / bound; see quantize.py."""


def from_uint8(core: keras.Model, quantizer: str | None) -> keras.Model:
    """The model of samples as the readers give them.

    Args:
      core: model of a dict of streams in [-1, 1], such as `models.MODELS[name].build` makes.
      quantizer: of the flow's levels; may be None if the model sees no flow.

    Returns:
      The same model of a dict of uint8: RGB, and levels of flow. It shares the core's variables.
    """
    inputs = {name: keras.Input(tensor.shape[1:], dtype="uint8", name=name) for name, tensor in core.input.items()}
    scaled = {name: _scaled(name, tensor, quantizer) for name, tensor in inputs.items()}
    return keras.Model(inputs, core(scaled), name=f"{core.name}_from_uint8")


def _scaled(stream: str, levels, quantizer: str | None):
    if stream == "rgb":
        scale, offset = 1 / 127.5, -1.0
    elif quantizer in _FLOW:
        scale, offset = _FLOW[quantizer]
    else:
        raise BadOption(f"flow was quantized by {quantizer!r}, expected one of {', '.join(_FLOW)}")
    # In float32 under any policy: bfloat16 holds no more than the levels, and would round what becomes of them. And not
    # by `keras.layers.Rescaling`, which asks for TensorFlow whatever the backend.
    return keras.ops.cast(levels, "float32") * scale + offset
