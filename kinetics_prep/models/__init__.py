"""The five models of the I3D paper, in Keras 3. A model is one file here and one row in `MODELS`; the tests find it by
its row. Each is a module with

* `SPEC`: what it eats;
* `build(classes, stream, size, span, options) -> keras.Model`: from a dict of float [B, T, H, W, C] in [-1, 1] under
  "rgb" and "flow" to logits, float32 [B, classes], or [B, S, classes] where `SPEC.every_step` says so;
* `HEAD`: the names of the layers that hold the classes. A model for one stream has those of that stream alone.
"""

from kinetics_prep.models import convnet_3d, convnet_lstm, fused_two_stream, i3d, two_stream

MODELS = {
    "convnet-lstm": convnet_lstm,
    "convnet-3d": convnet_3d,
    "two-stream": two_stream,
    "fused-two-stream": fused_two_stream,
    "i3d": i3d,
}
"""In the order of the paper's table 1."""
