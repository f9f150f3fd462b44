"""Small layers that several models share: frames folded into the batch and out of it."""

import keras
from keras import KerasTensor, ops

Shape = tuple[int | None, ...]
"""Of a tensor; None where it is unknown until there are data."""


def fold_frames(frames: KerasTensor) -> KerasTensor:
    """[B, T, H, W, C] -> [B * T, H, W, C]. A 2D network then sees the frames as images, all at once.

    `keras.layers.TimeDistributed` does the same and is many times slower.
    """
    return ops.reshape(frames, (-1, *frames.shape[2:]))


def fold_stacks(flow: KerasTensor, frames: int) -> KerasTensor:
    """[B, T, H, W, C] -> [B * T / frames, H, W, frames * C]: the fields of a stack as channels, in order of time."""
    _, _, height, width, channels = flow.shape
    stacks = ops.reshape(flow, (-1, frames, height, width, channels))
    return ops.reshape(ops.transpose(stacks, (0, 2, 3, 1, 4)), (-1, height, width, frames * channels))


@keras.saving.register_keras_serializable("kinetics_prep")
class Unfold(keras.layers.Layer):
    """[B * T, ...] -> [B, T, ...], with the T of another tensor, which may be unknown until there are data."""

    def call(self, folded: KerasTensor, like: KerasTensor) -> KerasTensor:
        return ops.reshape(folded, (-1, ops.shape(like)[1], *folded.shape[1:]))

    def compute_output_shape(self, folded_shape: Shape, like_shape: Shape) -> Shape:
        return (None, like_shape[1], *folded_shape[1:])
