import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import keras

from kinetics_prep.errors import BadOption
from kinetics_prep.training import devices, normalise


def test_levels_and_colours_become_minus_one_to_one():
    core = keras.Sequential([keras.Input((None, 1, 1, 2)), keras.layers.Identity()])
    frames = keras.Input((None, 1, 1, 2), name="flow")
    core = keras.Model({"flow": frames}, keras.layers.Identity()(frames))
    levels = np.array([[1, 128], [255, 128]], np.uint8).reshape(1, 2, 1, 1, 2)
    scaled = normalise.from_uint8(core, "symmetric").predict_on_batch({"flow": levels})
    assert scaled.ravel() == pytest.approx([-1, 0, 1, 0], abs=1e-6)
    levels = np.array([[0, 255]], np.uint8).reshape(1, 1, 1, 1, 2)
    for name in ("mediapipe", "denseflow"):
        scaled = normalise.from_uint8(core, name).predict_on_batch({"flow": levels})
        assert scaled.ravel() == pytest.approx([-1, 1], abs=1e-6)
    with pytest.raises(BadOption, match="quantized by 'other'"):
        normalise.from_uint8(core, "other")


def test_levels_are_scaled_in_float32_under_any_policy():
    with devices.policy("mixed_bfloat16"):
        frames = keras.Input((None, 1, 1, 2), name="flow")
        core = keras.Model({"flow": frames}, keras.layers.Identity(dtype="float32")(frames))
        model = normalise.from_uint8(core, "symmetric")
    levels = np.arange(1, 255, dtype=np.uint8).reshape(1, -1, 1, 1, 2)
    scaled = np.asarray(model.predict_on_batch({"flow": levels}))
    assert scaled.ravel() == pytest.approx((levels.ravel() - 128.0) / 127, abs=1e-6)
