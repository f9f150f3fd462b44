"""Encoded images -> a stack of crops. The one decoder of both readers, so that their pixels are the same.

It is OpenCV's: its pixels are those of Pillow, and of TensorFlow told `INTEGER_ACCURATE`, bit for
bit; it lets go of Python's lock; and it was the fastest of the three (`benchmarks/input.py`).
"""

import functools
import struct
from collections.abc import Mapping

import cv2
import numpy as np

from kinetics_prep.errors import CorruptShard
from kinetics_prep.reading.sampling import Draw

CHANNELS = {"rgb": 3, "flow": 2}

_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
_RGB = getattr(cv2, "IMREAD_COLOR_RGB", None)
"""To decode to red, green, blue: of whole images, and since OpenCV 4.11. Else they come in the other order."""

_PNG = b"\x89PNG\r\n\x1a\n"
_WITHOUT_SIZE = (0xC4, 0xC8, 0xCC)
"""Markers between 0xC0 and 0xCF that begin no frame of a JPEG: tables of codes."""


def expect(data: memoryview, height: int, width: int) -> None:
    """Makes sure that an image is whole, as far as its two ends tell, and of the size that it should have.

    Decoders take images of any size and kind, and give half of one that breaks off.

    Raises:
      CorruptShard: if it is not.
    """
    if data[:8] == _PNG:
        whole, found = data[-8:] == b"IEND\xaeB`\x82", _png_size(data)
    elif data[:3] == b"\xff\xd8\xff":
        whole, found = data[-2:] == b"\xff\xd9", _jpeg_size(data)
    else:
        raise CorruptShard("is neither a JPEG nor a PNG")
    if found != (height, width):
        raise CorruptShard(f"is no colour image of {width}x{height} pixels, but {found and found[::-1]}")
    if not whole:
        raise CorruptShard("breaks off before its end")


def _png_size(data: memoryview) -> tuple[int, int] | None:
    """(height, width) of an RGB image of 8 bits; None of another."""
    if len(data) < 33:
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    return (height, width) if (depth, colour) == (8, 2) else None


def _jpeg_size(data: memoryview) -> tuple[int, int] | None:
    """(height, width) of an image of three components of 8 bits; None of another."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _WITHOUT_SIZE:
            depth, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            return (height, width) if (depth, components) == (8, 3) else None
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return None


def stack(images: Mapping[int, memoryview], stream: str, draw: Draw, quantizer: str, out: np.ndarray) -> None:
    """Decodes, crops and mirrors what is drawn of one stream.

    Args:
      images: encoded, by index.
      stream: "rgb" or "flow".
      out: uint8 [T, size, size, 3 or 2], which is filled: RGB, or levels of dx and dy.

    Raises:
      CorruptShard: if an image does not decode.
    """
    first = {}
    for k, index in enumerate(draw.indices[stream].tolist()):
        if index in first:  # a short clip, looped
            out[k] = out[first[index]]
            continue
        first[index] = k
        pixels = _decoded(images[index], draw, out.shape[1], f"{stream} image {index}")
        if stream == "rgb":
            _put_frame(pixels, draw, out[k])
        else:
            _put_levels(pixels, draw, quantizer, out[k])


def _decoded(data: memoryview, draw: Draw, size: int, what: str) -> np.ndarray:
    """uint8 [H, W, 3]: red, green and blue."""
    asked = _RGB if draw.reduce == 1 and _RGB else _REDUCED[draw.reduce]
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), asked | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise CorruptShard(f"{what} does not decode: {error.err}") from None
    if pixels is None or pixels.shape[0] < draw.top + size or pixels.shape[1] < draw.left + size:
        raise CorruptShard(f"{what} does not decode")
    return pixels if asked == _RGB else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _put_frame(pixels: np.ndarray, draw: Draw, out: np.ndarray) -> None:
    height, width, _ = out.shape
    cropped = pixels[draw.top : draw.top + height, draw.left : draw.left + width]
    if draw.flip:
        cv2.flip(cropped, 1, out)
    else:
        out[...] = cropped


def _put_levels(planes: np.ndarray, draw: Draw, quantizer: str, out: np.ndarray) -> None:
    """Takes the first two of three planes. Mirrored, what moves to the right moves to the left: the sign of dx turns.

    Two levels are taken for one number of 16 bits, as NumPy copies pairs of bytes one byte at a time.
    """
    row, pixel, _ = planes.strides
    pairs = np.ndarray(out.shape[:2], "<u2", planes, draw.top * row + draw.left * pixel, (row, pixel))
    out.view("<u2")[..., 0] = pairs[:, ::-1] if draw.flip else pairs
    if draw.flip:
        levels, less, most = out.reshape(out.shape[0], -1), *_constants(*out.shape[:2])
        if quantizer == "symmetric":
            # Its zero is 128, so dx becomes 256 - dx: less one first. Level 0 is never written, and if it comes out of
            # a JPEG it stays there, to become 255: OpenCV's arithmetic ends at the ends of a byte.
            cv2.subtract(levels, less, levels)
        cv2.absdiff(most, levels, levels)


@functools.lru_cache(maxsize=4)
def _constants(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """What is taken from levels, and from what levels are taken, to turn dx into 255 - dx: uint8 [height, 2 width]."""
    return tuple(np.tile(np.array([value, 0], np.uint8), (height, width)) for value in (1, 255))
