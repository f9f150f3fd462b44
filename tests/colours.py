"""Coloured frames of known motion, and a recipe that keeps their flow exactly."""

from fractions import Fraction

import numpy as np
from conftest import QUICK_TVL1

from kinetics_prep.dataset.recipe import Recipe

FPS = Fraction(10)
BOUND_PX = 2.0

RECIPE = Recipe(
    "tvl1",
    fps=FPS,
    short_side=48,
    clip_seconds=1.0,
    min_seconds=0.5,
    tvl1=QUICK_TVL1,
    bound_px=BOUND_PX,
    flow_encoding="png",
)
"""Flow as PNG, so that what the record holds is exactly what was computed."""


def moving_colours(count: int) -> np.ndarray:
    """Red blocks that move right by 1 px a frame over green blocks that move down by 3: uint8 [count, 48, 64, 3], RGB.

    Grey made with red and blue exchanged would see little of the red blocks, and so another motion.
    """
    rng = np.random.default_rng(5)
    red = np.kron(rng.integers(0, 2, (6, 8)), np.ones((8, 8))) * 200
    green = np.kron(rng.integers(0, 2, (6, 8)), np.ones((8, 8))) * 40
    frames = np.zeros((count, 48, 64, 3), np.uint8)
    for k in range(count):
        frames[k, ..., 0] = np.roll(red, k, axis=1)
        frames[k, ..., 1] = np.roll(green, 3 * k, axis=0)
    return frames
