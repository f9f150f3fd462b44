"""3D-ConvNet: C3D with batch norm. Eight convolutions, five pools, three dense layers; trained from scratch.

Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015, figure 3, with two changes
of Carreira & Zisserman, CVPR 2017, section 2.2: batch norm after every convolution and dense layer, and a first pool
that halves the frames too. It takes 16 frames at a time; the logits of a longer clip are the mean over its windows.
"""

import keras
from keras import KerasTensor, layers

from kinetics_prep.errors import BadOption
from kinetics_prep.models.inception import Builder, batch_norm, decay
from kinetics_prep.models.spec import CHANNELS, PAPER, Options, Spec, check_input

WINDOW = 16
"""Frames that it takes at a time."""

SPEC = Spec(
    name="convnet-3d",
    title="3D-ConvNet (C3D with batch norm)",
    streams=("rgb",),
    size=112,
    train_span=WINDOW,
    test_span=240,
    window=WINDOW,
)

HEAD = ("fc8",)

CHANNELS_AFTER = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Output channels of the convolutions before each pool."""

UNITS = 4096
"""Of the dense layers."""


def build(
    classes: int, stream: str, size: int = SPEC.size, span: int | None = None, options: Options = PAPER
) -> keras.Model:
    """3D-ConvNet.

    Args:
      classes: how many logits.
      stream: "rgb".
      size: height and width, px.
      span: 16 frames, or None for the same: the first dense layer fits no other number.
      options: for every layer.

    Returns:
      {"rgb": float32 [B, 16, size, size, 3] in [-1, 1]} -> logits, float32 [B, classes].

    Raises:
      BadOption: if no model can be built for these arguments.
    """
    SPEC.check_stream(stream)
    check_input(SPEC, classes, size)
    if span not in (None, WINDOW):
        raise BadOption(f"{SPEC.title}: span is {span}, expected {WINDOW}")
    frames = keras.Input((WINDOW, size, size, CHANNELS["rgb"]), name="rgb")
    layer = Builder(3, options)
    x = frames
    for number, group in enumerate(CHANNELS_AFTER, 1):
        for letter, channels in zip("ab", group):
            x = layer.conv(x, f"conv{number}{letter}", channels, kernel=3)
        x = layer.max_pool(x, f"pool{number}", 2, 2)
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc6", "fc7"):
        x = _dense(x, name, options)
    logits = layers.Dense(classes, kernel_regularizer=decay(options), dtype="float32", name="fc8")(x)
    return keras.Model({"rgb": frames}, logits, name=SPEC.name)


def _dense(x: KerasTensor, name: str, options: Options) -> KerasTensor:
    x = layers.Dense(UNITS, use_bias=False, kernel_regularizer=decay(options), name=f"{name}.dense")(x)
    x = batch_norm(x, f"{name}.batch_norm", options)
    x = layers.ReLU(name=f"{name}.relu")(x)
    return layers.Dropout(options.dropout, name=f"{name}.dropout")(x)
