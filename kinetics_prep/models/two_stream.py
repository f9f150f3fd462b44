"""Two-Stream: one Inception-V1 looks at an image, another at the ten flow fields around it; their logits' mean.

Simonyan & Zisserman, "Two-Stream Convolutional Networks for Action Recognition in Videos", NIPS 2014, with Inception-V1
as in Carreira & Zisserman, CVPR 2017, section 2.3. The streams may be trained apart: a model for both takes the arrays
of the two. At test the logits of 25 images and 250 fields are averaged.
"""

import keras
from keras import layers

from kinetics_prep.errors import BadOption
from kinetics_prep.models.inception import Builder
from kinetics_prep.models.spec import CHANNELS, PAPER, STREAMS, Options, Spec, expect_frame, parts
from kinetics_prep.models.units import fold_frames, fold_stacks

SPEC = Spec(
    name="two-stream",
    title="Two-Stream",
    streams=STREAMS,
    size=224,
    train_span=10,
    test_span=250,
    rgb_every=10,
    window=10,
)

PREFIXES = {"rgb": "RGB.", "flow": "Flow."}

HEAD = tuple(f"{prefix}Logits.Conv2d_0c_1x1.conv_2d" for prefix in PREFIXES.values())


def build(
    classes: int, stream: str, size: int = SPEC.size, span: int | None = None, options: Options = PAPER
) -> keras.Model:
    """Two-Stream, or one stream of it.

    Args:
      classes: how many logits.
      stream: "rgb", "flow" or "both".
      size: height and width, px.
      span: 10 frames, or None for the same: the fields of a stack are channels.

    Returns:
      {"rgb": float32 [B, 1, size, size, 3], "flow": float32 [B, 10, size, size, 2], both in [-1, 1]} -> logits, float32
      [B, classes].

    Raises:
      BadOption: if these make no model.
    """
    SPEC.expect(stream)
    expect_frame(SPEC, classes, size)
    if span not in (None, SPEC.window):
        raise BadOption(f"{SPEC.title}: span is {span}, expected {SPEC.window}")
    lengths = {part: len(offsets) for part, offsets in SPEC.offsets(stream, SPEC.window).items()}
    frames = {part: keras.Input((lengths[part], size, size, CHANNELS[part]), name=part) for part in parts(stream)}
    logits = [_stream(part, frames[part], classes, options) for part in frames]
    if len(logits) > 1:
        logits = [layers.Average(dtype="float32", name="Logits")(logits)]
    return keras.Model(frames, logits[0], name=SPEC.name)


def _stream(part: str, frames, classes: int, options: Options):
    layer = Builder(2, options, PREFIXES[part])
    x = layer.trunk(fold_frames(frames) if part == "rgb" else fold_stacks(frames, SPEC.window))
    x = layers.GlobalAveragePooling2D(keepdims=True, name=layer.name("AvgPool_0a_7x7"))(x)
    x = layers.Dropout(options.dropout, name=layer.name("Dropout_0b"))(x)
    x = layer.bare_conv(x, layer.name("Logits.Conv3d_0c_1x1"), classes, kernel=1, dtype="float32")
    return layers.Flatten(dtype="float32", name=layer.name("Logits"))(x)
