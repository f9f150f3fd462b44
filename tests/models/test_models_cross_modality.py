import numpy as np
import pytest

pytest.importorskip("keras")
import model_cases
from model_cases import same

from kinetics_prep.errors import BadWeights
from kinetics_prep.models import cross_modality, i3d, model_variables

FIRST = "Conv3d_1a_7x7.conv_3d/kernel"


def test_each_channel_gets_the_mean_over_the_colours():
    kernel = np.array([[[1, 10], [2, 20], [6, 90]]], np.float32)  # [1, 3 colours, 2 outputs]
    for channels in (1, 2, 20):
        adapted = cross_modality.with_channels(kernel, channels)
        assert (adapted.shape, adapted.dtype) == ((1, channels, 2), np.float32)
        assert (adapted == [3, 40]).all()
    assert kernel.tolist() == [[[1, 10], [2, 20], [6, 90]]]


def test_weights_for_rgb_become_weights_for_flow():
    given = model_cases.arrays(i3d.build(3, "rgb", size=32))
    adapted = cross_modality.adapt_rgb_to_flow(given)
    model_variables.restore(i3d.build(3, "flow", size=32), adapted)
    mean = (given[FIRST][:, :, :, 0] + given[FIRST][:, :, :, 1] + given[FIRST][:, :, :, 2]) / 3
    assert np.abs(mean).max() > 0.05
    assert adapted[FIRST].shape == (7, 7, 7, 2, 64)
    for channel in range(2):
        np.testing.assert_allclose(adapted[FIRST][:, :, :, channel], mean, atol=1e-7)
    assert same({**adapted, FIRST: 0}, {**given, FIRST: 0})


@pytest.mark.parametrize("shapes, count", [([], 0), ([(7, 7, 2, 4)], 0), ([(3, 4)], 0), ([(7, 7, 3, 4)] * 2, 2)])
def test_there_must_be_exactly_one_kernel_for_rgb(shapes, count):
    arrays = {f"layer{k}/kernel": np.zeros(shape, np.float32) for k, shape in enumerate(shapes)}
    arrays["other/weights"] = np.zeros((7, 7, 3, 4), np.float32)
    with pytest.raises(BadWeights, match=f"expected one kernel that takes RGB, found {count}: "):
        cross_modality.adapt_rgb_to_flow(arrays)
