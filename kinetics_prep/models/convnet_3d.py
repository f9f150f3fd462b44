"""3D-ConvNet: C3D with batch norm. Eight convolutions, five pools, three dense layers; trained from nothing.

Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015, figure 3, with two changes
of Carreira & Zisserman, CVPR 2017, section 2.2: batch norm after every convolution and dense layer, and a first pool
that halves the frames too. It looks at 16 frames at a time; a longer clip is the mean of the logits of its windows.
"""

import keras
from keras import layers

from kinetics_prep.errors import BadOption
from kinetics_prep.models.inception import Builder, batch_norm, decay
from kinetics_prep.models.spec import CHANNELS, PAPER, Options, Spec, expect_frame

SPEC = Spec(
    name="convnet-3d",
    title="3D-ConvNet (C3D with batch norm)",
    streams=("rgb",),
    size=112,
    train_span=16,
    test_span=240,
    window=16,
)

HEAD = ("fc8",)

CHANNELS_AFTER = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Of the convolutions, pool by pool."""

UNITS = 4096


def build(
    classes: int, stream: str, size: int = SPEC.size, span: int | None = None, options: Options = PAPER
) -> keras.Model:
    """3D-ConvNet.

    Args:
      classes: how many logits.
      stream: "rgb".
      size: height and width, px.
      span: 16 frames, or None for the same; the first dense layer fits no other number.

    Returns:
      {"rgb": float32 [B, 16, size, size, 3] in [-1, 1]} -> logits, float32 [B, classes].

    Raises:
      BadOption: if these make no model.
    """
    SPEC.expect(stream)
    expect_frame(SPEC, classes, size)
    if span not in (None, SPEC.window):
        raise BadOption(f"{SPEC.title}: span is {span}, expected {SPEC.window}")
    frames = keras.Input((SPEC.window, size, size, CHANNELS["rgb"]), name="rgb")
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


def _dense(x, name: str, options: Options):
    x = layers.Dense(UNITS, use_bias=False, kernel_regularizer=decay(options), name=f"{name}.dense")(x)
    x = batch_norm(x, f"{name}.batch_norm", options)
    x = layers.ReLU(name=f"{name}.relu")(x)
    return layers.Dropout(options.dropout, name=f"{name}.dropout")(x)
