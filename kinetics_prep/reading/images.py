"""Encoded images -> a stack of crops. All readers use this decoder, so all of them give the same pixels.

It is OpenCV's. Its pixels equal those of Pillow, and those of TensorFlow with `INTEGER_ACCURATE`, bit for bit. It
releases Python's lock, and it was the fastest of the three (`benchmarks/input.py`).
"""

import functools
from collections.abc import Mapping

import cv2
import numpy as np

from kinetics_prep.errors import CorruptShard
from kinetics_prep.reading.sampling import Draw

CHANNELS = {"rgb": 3, "flow": 2}
"""Stream -> channels of a sample."""

_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)
"""Decodes to red, green, blue. Only for images of full size, and only since OpenCV 4.11; the others are BGR."""


def stack(images: Mapping[int, memoryview | bytes], stream: str, draw: Draw, quantizer: str, out: np.ndarray) -> None:
    """Decodes, crops and mirrors the images that were drawn from one stream.

    Args:
      images: index of a frame -> encoded image.
      stream: "rgb" or "flow".
      quantizer: of the flow; decides what mirroring does to dx.
      out: uint8 [T, size, size, 3 or 2], which is filled with RGB, or with levels of dx and dy.

    Raises:
      CorruptShard: if an image does not decode.
    """
    first_use: dict[int, int] = {}
    for k, index in enumerate(draw.indices[stream].tolist()):
        if index in first_use:  # a short clip is looped
            out[k] = out[first_use[index]]
            continue
        first_use[index] = k
        pixels = _decode(images[index], draw, out.shape[1], f"{stream} image {index}")
        if stream == "rgb":
            _put_frame(pixels, draw, out[k])
        else:
            _put_levels(pixels, draw, quantizer, out[k])


def _decode(data: memoryview | bytes, draw: Draw, size: int, name: str) -> np.ndarray:
    """uint8 [H, W, 3]: red, green and blue."""
    mode = _RGB if draw.reduce == 1 and _RGB else _REDUCED[draw.reduce]
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), mode | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise CorruptShard(f"{name} does not decode: {error.err}") from None
    if pixels is None or pixels.shape[0] < draw.top + size or pixels.shape[1] < draw.left + size:
        raise CorruptShard(f"{name} does not decode")
    return pixels if mode == _RGB else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _put_frame(pixels: np.ndarray, draw: Draw, out: np.ndarray) -> None:
    height, width, _ = out.shape
    cropped = pixels[draw.top : draw.top + height, draw.left : draw.left + width]
    if draw.flip:
        cv2.flip(cropped, 1, out)
    else:
        out[...] = cropped


def _put_levels(planes: np.ndarray, draw: Draw, quantizer: str, out: np.ndarray) -> None:
    """Takes the first two of three planes. In a mirrored image a motion to the right becomes one to the left, so dx
    changes its sign.

    Two levels are copied as one number of 16 bits, because NumPy copies pairs of bytes one byte at a time.
    """
    row, pixel, _ = planes.strides
    pairs = np.ndarray(out.shape[:2], "<u2", planes, draw.top * row + draw.left * pixel, (row, pixel))
    out.view("<u2")[..., 0] = pairs[:, ::-1] if draw.flip else pairs
    if draw.flip:
        levels, ones, limits = out.reshape(out.shape[0], -1), *_dx_constants(*out.shape[:2])
        if quantizer == "symmetric":
            # Its zero is 128, so dx becomes 256 - dx: we subtract 1 first. Level 0 is never written; if a JPEG decodes
            # to it, OpenCV's saturating arithmetic keeps it at 0, and it becomes 255.
            cv2.subtract(levels, ones, levels)
        cv2.absdiff(limits, levels, levels)


@functools.lru_cache(maxsize=4)
def _dx_constants(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [height, 2 width] each: 1 and 255 at each dx, 0 at each dy; |255 - dx| turns dx, and |0 - dy| keeps dy."""
    ones, limits = (np.tile(np.array([value, 0], np.uint8), (height, width)) for value in (1, 255))
    return ones, limits
