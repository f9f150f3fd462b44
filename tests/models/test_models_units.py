import numpy as np
import pytest

pytest.importorskip("keras")
import keras

from kinetics_prep.models import units


def numbered(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_frames_are_folded_into_the_batch_clip_by_clip():
    frames = numbered(2, 3, 4, 5, 2)
    folded = keras.ops.convert_to_numpy(units.fold_frames(frames))
    assert folded.shape == (6, 4, 5, 2)
    for clip in range(2):
        for frame in range(3):
            np.testing.assert_array_equal(folded[3 * clip + frame], frames[clip, frame])


def test_flow_fields_are_stacked_in_order_of_time():
    flow = numbered(2, 6, 1, 1, 2)  # clip, frame, dx or dy
    stacks = keras.ops.convert_to_numpy(units.fold_stacks(flow, 3))
    assert stacks[:, 0, 0].tolist() == np.arange(24).reshape(4, 6).tolist()


def test_a_stack_keeps_the_pixels_where_they_are():
    flow = numbered(2, 6, 3, 4, 2)
    stacks = keras.ops.convert_to_numpy(units.fold_stacks(flow, 3))
    assert stacks.shape == (4, 3, 4, 6)
    for channel in range(6):
        np.testing.assert_array_equal(stacks[1, :, :, channel], flow[0, 3 + channel // 2, :, :, channel % 2])


@pytest.mark.parametrize("frames", [3, None])
def test_unfolding_is_the_inverse_also_of_clips_of_unknown_length(frames):
    x = keras.Input((frames, 4, 5, 2))
    unfolded = units.Unfold()(units.fold_frames(x), x)
    assert unfolded.shape == (None, frames, 4, 5, 2)
    given = numbered(2, 3, 4, 5, 2)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(keras.Model(x, unfolded)(given)), given)
