"""ConvNet+LSTM: Inception-V1 on every fifth frame, and an LSTM over its features.

Carreira & Zisserman, CVPR 2017, section 2.1: LSTM with batch norm after the last average pool, 512 units, one dense
layer on top. The loss is at the outputs of all steps; the test uses that of the last step.
"""

import keras
from keras import layers

from kinetics_prep.models.inception import Builder, decay
from kinetics_prep.models.recurrent import BatchNormLSTM
from kinetics_prep.models.spec import CHANNELS, PAPER, Options, Spec, check_input
from kinetics_prep.models.units import Unfold, fold_frames

SPEC = Spec(
    name="convnet-lstm",
    title="ConvNet+LSTM",
    streams=("rgb",),
    size=224,
    train_span=125,
    test_span=250,
    rgb_every=5,
    every_step=True,
)

HEAD = ("Logits",)

UNITS = 512
"""Of the LSTM."""


def build(
    classes: int, stream: str, size: int = SPEC.size, span: int | None = None, options: Options = PAPER
) -> keras.Model:
    """ConvNet+LSTM.

    Args:
      classes: how many logits.
      stream: "rgb".
      size: height and width, px.
      span: frames of the clip; the model takes every fifth. None for any number.
      options: for every layer.

    Returns:
      {"rgb": float32 [B, T, size, size, 3] in [-1, 1]} -> logits of each step, float32 [B, T, classes].

    Raises:
      BadOption: if no model can be built for these arguments.
    """
    SPEC.check_stream(stream)
    check_input(SPEC, classes, size, span)
    images = None if span is None else len(SPEC.offsets(stream, span)["rgb"])
    frames = keras.Input((images, size, size, CHANNELS["rgb"]), name="rgb")
    x = Builder(2, options).trunk(fold_frames(frames))
    x = layers.GlobalAveragePooling2D(name="AvgPool_0a_7x7")(x)
    x = Unfold(name="steps")(x, frames)
    x = BatchNormLSTM(UNITS, options.batch_norm_momentum, decay(options), dtype="float32", name="LSTM")(x)
    x = layers.Dropout(options.dropout, name="Dropout")(x)
    logits = layers.Dense(classes, kernel_regularizer=decay(options), dtype="float32", name="Logits")(x)
    return keras.Model({"rgb": frames}, logits, name=SPEC.name)
