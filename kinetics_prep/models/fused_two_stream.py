"""3D-Fused Two-Stream: Inception-V1 on images and on stacks of flow, and a convolution over both and over time.

After Feichtenhofer et al., "Convolutional Two-Stream Network Fusion for Video Action Recognition", CVPR 2016, as
Carreira & Zisserman, CVPR 2017, section 2.3, built it. One trunk sees five images, 10 frames apart, the other the ten
flow fields around each. Their features are put side by side; then come a 3x3x3 convolution with 512 channels, a 3x3x3
max pool, a mean and a dense layer. All is trained together. At test it takes 25 images and 250 fields at once.
"""

import keras
from keras import layers

from kinetics_prep.errors import BadOption
from kinetics_prep.models.inception import Builder, decay
from kinetics_prep.models.spec import CHANNELS, PAPER, Options, Spec, check_input, parts
from kinetics_prep.models.units import Unfold, fold_frames, fold_stacks

SPEC = Spec(
    name="fused-two-stream",
    title="3D-Fused Two-Stream",
    streams=("both",),
    size=224,
    train_span=50,
    test_span=250,
    rgb_every=10,
)

HEAD = ("Logits",)

STACK = SPEC.rgb_every
"""Flow fields for each image."""


def build(
    classes: int, stream: str, size: int = SPEC.size, span: int | None = None, options: Options = PAPER
) -> keras.Model:
    """3D-Fused Two-Stream.

    Args:
      classes: how many logits.
      stream: "both".
      size: height and width, px.
      span: frames, a multiple of ten; None for any.
      options: for every layer.

    Returns:
      {"rgb": float32 [B, T / 10, size, size, 3], "flow": float32 [B, T, size, size, 2], both in [-1, 1]} -> logits,
      float32 [B, classes].

    Raises:
      BadOption: if no model can be built for these arguments.
    """
    SPEC.check_stream(stream)
    check_input(SPEC, classes, size, span, least_span=STACK)
    if span is not None and span % STACK:
        raise BadOption(f"{SPEC.title}: span is {span}, expected a multiple of {STACK}")
    lengths: dict[str, int | None] = dict.fromkeys(parts(stream))
    if span is not None:
        lengths |= {part: len(offsets) for part, offsets in SPEC.offsets(stream, span).items()}
    frames = {part: keras.Input((lengths[part], size, size, CHANNELS[part]), name=part) for part in lengths}
    rgb = Builder(2, options, "RGB.").trunk(fold_frames(frames["rgb"]))
    flow = Builder(2, options, "Flow.").trunk(fold_stacks(frames["flow"], STACK))
    x = layers.Concatenate(name="Fusion")([rgb, flow])
    x = Unfold(name="Fusion.steps")(x, frames["rgb"])
    fuse = Builder(3, options)
    x = fuse.conv(x, "Fusion.Conv3d_3x3", 512, kernel=3)
    x = fuse.max_pool(x, "Fusion.MaxPool3d_3x3", 3, 2)
    x = layers.GlobalAveragePooling3D(name="Fusion.AvgPool")(x)
    x = layers.Dropout(options.dropout, name="Fusion.Dropout")(x)
    logits = layers.Dense(classes, kernel_regularizer=decay(options), dtype="float32", name="Logits")(x)
    return keras.Model(frames, logits, name=SPEC.name)
