"""I3D, the Inflated 3D ConvNet: Inception-V1 with every filter given a third dimension, time.

Carreira & Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, figure 3. Each stream is a network of its own; two
are combined by adding their logits. 12,704,544 parameters for RGB and 12,682,592 for flow, at 400 classes.

The first two pools leave time alone. Only the last pool does not pad: it averages two time steps over the whole height
and width. Then come the logits of each step, and their mean.
"""

import keras
from keras import layers

from kinetics_prep.models.inception import SHRINKS, Builder
from kinetics_prep.models.spec import CHANNELS, PAPER, Options, Spec, check_input

SPEC = Spec(
    name="i3d",
    title="Inflated 3D ConvNet (I3D)",
    streams=("rgb", "flow"),
    size=224,
    train_span=64,
    test_span=250,
)

HEAD = ("Logits.Conv3d_0c_1x1.conv_3d",)

LEAST_SPAN = 9
"""Frames. The trunk leaves an eighth of them, rounded up: here the two time steps that the last pool needs."""


def build(
    classes: int, stream: str, size: int = SPEC.size, span: int | None = None, options: Options = PAPER
) -> keras.Model:
    """I3D for one stream.

    Args:
      classes: how many logits.
      stream: "rgb" or "flow".
      size: height and width, px.
      span: frames, or None for any number from 9 on.
      options: for every layer.

    Returns:
      {stream: float32 [B, T, size, size, 3 or 2] in [-1, 1]} -> logits, float32 [B, classes].

    Raises:
      BadOption: if no model can be built for these arguments.
    """
    SPEC.check_stream(stream)
    check_input(SPEC, classes, size, span, LEAST_SPAN)
    frames = keras.Input((span, size, size, CHANNELS[stream]), name=stream)
    layer = Builder(3, options)
    x = layer.trunk(frames)
    side = -(-size // SHRINKS)
    x = layers.AveragePooling3D((2, side, side), 1, "valid", name="Logits.AvgPool3d_0a_7x7")(x)
    x = layers.Dropout(options.dropout, name="Logits.Dropout_0b")(x)
    x = layer.bare_conv(x, "Logits.Conv3d_0c_1x1", classes, kernel=1, dtype="float32")
    logits = layers.GlobalAveragePooling3D(dtype="float32", name="Logits")(x)
    return keras.Model({stream: frames}, logits, name=SPEC.name)
