"""The five models of the I3D paper, in Keras 3. A model is one file here and one row in `MODELS`; the tests find it by
its row.
"""

from typing import Protocol

import keras

from kinetics_prep.models import convnet_3d, convnet_lstm, fused_two_stream, i3d, two_stream
from kinetics_prep.models.spec import Options, Spec


class ModelModule(Protocol):
    """What the file of a model has."""

    @property
    def SPEC(self) -> Spec:
        """What the model takes."""

    @property
    def HEAD(self) -> tuple[str, ...]:
        """The names of the layers that hold the classes. A model for one stream has those of that stream alone."""

    def build(
        self, classes: int, stream: str, size: int = ..., span: int | None = ..., options: Options = ...
    ) -> keras.Model:
        """Builds the model with random weights.

        Args:
          classes: how many logits.
          stream: one of `SPEC.streams`.
          size: height and width of its input, px; by default `SPEC.size`.
          span: frames of its input; None for any number, where the architecture allows that.
          options: by default the paper's.

        Returns:
          A dict of float32 [B, T, H, W, C] in [-1, 1] under "rgb" and "flow" -> logits, float32 [B, classes], or
          [B, S, classes] if `SPEC.every_step`.

        Raises:
          BadOption: if no model can be built for these arguments.
        """


MODELS: dict[str, ModelModule] = {
    "convnet-lstm": convnet_lstm,
    "convnet-3d": convnet_3d,
    "two-stream": two_stream,
    "fused-two-stream": fused_two_stream,
    "i3d": i3d,
}
"""In the order of the paper's table 1."""
