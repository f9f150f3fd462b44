"""What a model of the I3D paper takes: streams, sizes, and how many frames in training and at test.

Source: Carreira & Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, section 2 and table 1. This file needs no
Keras.
"""

import dataclasses

import numpy as np

from kinetics_prep.errors import BadOption

CHANNELS = {"rgb": 3, "flow": 2}
"""Of the images of a stream: red, green, blue; dx, dy."""

STREAMS = (*CHANNELS, "both")
"""What a model can be built for."""


def parts(stream: str) -> tuple[str, ...]:
    """The streams that `stream` stands for: two for "both".

    Raises:
      BadOption: if it is not in `STREAMS`.
    """
    if stream not in STREAMS:
        raise BadOption(f"stream is {stream!r}, expected one of {', '.join(STREAMS)}")
    return tuple(CHANNELS) if stream == "both" else (stream,)


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a model of the paper takes."""

    name: str
    title: str
    streams: tuple[str, ...]
    """Those of `STREAMS` that it can be built for."""
    size: int
    """Height and width of its input, px."""
    train_span: int
    """Frames of a clip that a training sample spans."""
    test_span: int
    """The same at test."""
    rgb_every: int = 1
    """It sees an RGB image for every `rgb_every` frames; flow for each frame."""
    window: int | None = None
    """At test the span is cut into windows of this many frames, whose logits are averaged. None: no windows."""
    every_step: bool = False
    """Logits are [B, S, classes], one for each step: the loss is at each, the test uses the last."""

    def __post_init__(self) -> None:
        for stream in self.streams:
            parts(stream)
        whole = {name: getattr(self, name) for name in ("size", "train_span", "test_span", "rgb_every")}
        if self.window is not None:
            whole["window"] = self.window
        for name, value in whole.items():
            if not (isinstance(value, int) and value >= 1):
                raise ValueError(f"{name} is {value!r}, expected a whole number from 1 on")
        if self.test_span % (self.window or 1):
            raise ValueError(f"test_span {self.test_span} cannot be dealt into windows of {self.window}")

    def offsets(self, stream: str, span: int) -> dict[str, np.ndarray]:
        """Which frames of a span make one input.

        An RGB image is the middle one of the frames that it stands for; flow is taken for each frame.

        Returns:
          int64 [T] for each stream of `parts(stream)`, ascending from 0 on.

        Raises:
          BadOption: if the model cannot be built for the stream, or the span is too short for one image.
        """
        self.check_stream(stream)
        least = self.rgb_every // 2 + 1
        if span < least:
            raise BadOption(f"{self.title} cannot take {span} frames, expected {least} or more")
        all_offsets = {
            "rgb": np.arange(self.rgb_every // 2, span, self.rgb_every, dtype=np.int64),
            "flow": np.arange(span, dtype=np.int64),
        }
        return {part: all_offsets[part] for part in parts(stream)}

    def check_stream(self, stream: str) -> None:
        """Raises `BadOption` if the model cannot be built for the stream."""
        if stream not in self.streams:
            raise BadOption(f"{self.title} cannot be built for stream {stream!r}: {', '.join(self.streams)}")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options that every model has. The defaults are the paper's."""

    dropout: float = 0.5
    """Share of the features before the last layer that training leaves out."""
    weight_decay: float = 1e-7
    """Adds `weight_decay * w` to the gradient of every kernel."""
    batch_norm_momentum: float = 0.999
    """Of the moving mean and variance. In a short run they lag far behind: 0.9 suits one of some hundred steps."""

    def __post_init__(self) -> None:
        for name, value, fits, expected in (
            ("dropout", self.dropout, 0 <= self.dropout < 1, "0 to under 1"),
            ("weight_decay", self.weight_decay, 0 <= self.weight_decay < 1, "0 to under 1"),
            ("batch_norm_momentum", self.batch_norm_momentum, 0 < self.batch_norm_momentum < 1, "between 0 and 1"),
        ):
            if not fits:
                raise BadOption(f"{name} is {value}, expected {expected}")


PAPER = Options()
"""The defaults."""


def check_input(spec: Spec, classes: int, size: int, span: int | None = None, least_span: int = 1) -> None:
    """Raises unless a model can be built for an input.

    Args:
      spec: of the model; its title goes into the message.
      classes: how many logits.
      size: height and width, px.
      span: frames; None for any number.
      least_span: frames that the model needs.

    Raises:
      BadOption: if there are fewer than two classes, images under 32 px, or fewer frames than `least_span`.
    """
    for name, value, least in (("classes", classes, 2), ("size", size, 32), ("span", span, least_span)):
        if value is not None and not (isinstance(value, int) and value >= least):
            raise BadOption(f"{spec.title}: {name} is {value}, expected {least} or more")
