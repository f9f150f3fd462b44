"""Two-Stream: one Inception-V1 for an image, another for the ten flow fields around it, and the mean of their logits.

Simonyan & Zisserman, "Two-Stream Convolutional Networks for Action Recognition in Videos", NIPS 2014, with Inception-V1
as in Carreira & Zisserman, CVPR 2017, section 2.3. The streams may be trained apart: the arrays of a model for both are
those of the two models. At test the logits of 25 images and 250 fields are averaged.
"""

import keras
from keras import KerasTensor, layers

from kinetics_prep.errors import BadOption
from kinetics_prep.models import inception
from kinetics_prep.models.inception import Builder
from kinetics_prep.models.spec import CHANNELS, PAPER, STREAMS, Options, Spec, check_input, parts
from kinetics_prep.models.units import fold_frames, fold_stacks

WINDOW = 10
"""Frames: an image, and the flow fields that are the channels of a stack."""

SPEC = Spec(
    name="two-stream",
    title="Two-Stream",
    streams=STREAMS,
    size=224,
    train_span=WINDOW,
    test_span=250,
    rgb_every=WINDOW,
    window=WINDOW,
)

PREFIXES = {"rgb": "RGB.", "flow": "Flow."}
"""Of the names of the layers, by stream."""

HEAD = tuple(prefix + inception.HEAD for prefix in PREFIXES.values())


def build(
    classes: int, stream: str, size: int = SPEC.size, span: int | None = None, options: Options = PAPER
) -> keras.Model:
    """Two-Stream, or one stream of it.

    Args:
      classes: how many logits.
      stream: "rgb", "flow" or "both".
      size: height and width, px.
      span: 10 frames, or None for the same: the fields of a stack are channels.
      options: for every layer.

    Returns:
      {"rgb": float32 [B, 1, size, size, 3], "flow": float32 [B, 10, size, size, 2], both in [-1, 1]} -> logits, float32
      [B, classes].

    Raises:
      BadOption: if no model can be built for these arguments.
    """
    SPEC.check_stream(stream)
    check_input(SPEC, classes, size)
    if span not in (None, WINDOW):
        raise BadOption(f"{SPEC.title}: span is {span}, expected {WINDOW}")
    lengths = {part: len(offsets) for part, offsets in SPEC.offsets(stream, WINDOW).items()}
    frames = {part: keras.Input((lengths[part], size, size, CHANNELS[part]), name=part) for part in parts(stream)}
    logits = [_stream(part, frames[part], classes, options) for part in frames]
    if len(logits) > 1:
        logits = [layers.Average(dtype="float32", name="Logits")(logits)]
    return keras.Model(frames, logits[0], name=SPEC.name)


def _stream(part: str, frames: KerasTensor, classes: int, options: Options) -> KerasTensor:
    layer = Builder(2, options, PREFIXES[part])
    x = layer.trunk(fold_frames(frames) if part == "rgb" else fold_stacks(frames, WINDOW))
    return layer.image_logits(x, classes)
