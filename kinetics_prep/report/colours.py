"""Optical flow as colours.

The wheel is that of Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011 (Middlebury).
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Where each arc of the wheel begins, and how many of the 55 colours it takes: more where the eye tells more hues apart.
ARCS = (
    ((255, 0, 0), 15),  # red to yellow
    ((255, 255, 0), 6),  # yellow to green
    ((0, 255, 0), 4),  # green to cyan
    ((0, 255, 255), 11),  # cyan to blue
    ((0, 0, 255), 13),  # blue to magenta
    ((255, 0, 255), 6),  # magenta to red
)
BEYOND_MAX = 0.75  # a motion beyond the scale is darkened by this, to set it apart from a motion at the rim
UNKNOWN = (0, 0, 0)


def flow_to_rgb(flow: ArrayLike, max_px: float | None = None) -> NDArray[np.uint8]:
    """Colours a flow: direction is the hue, magnitude the saturation.

    No motion is white, motion to the right red, down yellow; motion beyond `max_px` is darker, a vector that is not
    finite is black. The hues run on around the whole circle, where Middlebury's own program leaves out the step from
    the last colour to the first: they differ from its pictures by less than one of the 55 colours.

    Args:
      flow: float32 [..., H, W, 2], (dx, dy) in pixels.
      max_px: the magnitude that is fully saturated; by default `scale_px(flow)`, one scale for the whole array.

    Returns:
      uint8 [..., H, W, 3], RGB.
    """
    vectors = np.asarray(flow, np.float32)
    if vectors.ndim < 3 or vectors.shape[-1] != 2:
        raise ValueError(f"flow needs the shape [..., H, W, 2], has {list(vectors.shape)}")
    max_px = scale_px(vectors) if max_px is None else max_px
    if not (np.isfinite(max_px) and max_px > 0):
        raise ValueError(f"max_px must be a positive number of pixels, is {max_px}")

    known = np.asarray(np.isfinite(vectors).all(-1))
    dx, dy = np.moveaxis(np.where(known[..., None], vectors, 0), -1, 0)
    radius = (np.hypot(dx, dy) / max_px)[..., None]
    hue = wheel_colour(np.arctan2(dy, dx))
    rgb = np.rint(255 * np.where(radius <= 1, 1 - radius * (1 - hue), BEYOND_MAX * hue)).astype(np.uint8)
    rgb[~known] = UNKNOWN
    return rgb


def scale_px(flow: NDArray[np.float32], percentile: float = 99) -> float:
    """Returns the magnitude in pixels that few vectors exceed, so that an outlier does not bleach the picture.

    At least 1 px, or the noise of a still scene would be painted in full colours. Vectors that are not
    finite do not count.

    Args:
      flow: float32 [..., 2], (dx, dy) in pixels.
      percentile: how many of 100 vectors lie within the scale.
    """
    magnitude = np.hypot(flow[..., 0], flow[..., 1])
    magnitude = magnitude[np.isfinite(magnitude)]
    return max(1.0, float(np.percentile(magnitude, percentile))) if magnitude.size else 1.0


def wheel_colour(angle: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Returns the fully saturated colour of a direction.

    Args:
      angle: float [...], radians, clockwise from the right as y points down.

    Returns:
      float [..., 3], RGB in 0..1.
    """
    corners = np.array([colour for colour, _ in ARCS] + [ARCS[0][0]]) / 255
    starts = np.cumsum([0] + [length for _, length in ARCS])
    place = angle / (2 * np.pi) % 1 * starts[-1]
    return np.stack([np.interp(place, starts, channel) for channel in corners.T], axis=-1)


def wheel_legend(size: int) -> NDArray[np.uint8]:
    """Draws the wheel: each point of the disc has the colour of the motion from the centre to it.

    Args:
      size: height and width in pixels.

    Returns:
      uint8 [size, size, 3], RGB, white around the disc.
    """
    fine = 4  # each pixel is the mean of fine x fine, for a smooth rim
    ticks = (np.arange(size * fine, dtype=np.float32) + 0.5) / (size * fine) * 2 - 1
    flow = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    rgb = flow_to_rgb(flow, max_px=1)
    rgb[np.hypot(flow[..., 0], flow[..., 1]) > 1] = 255
    return np.rint(rgb.reshape(size, fine, size, fine, 3).mean((1, 3))).astype(np.uint8)
