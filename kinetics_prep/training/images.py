"""Encoded images -> a stack of crops. The one decoder of both readers, so that their pixels are the same.

It is OpenCV's: its pixels are those of Pillow, and of TensorFlow told `INTEGER_ACCURATE`, bit for
bit; it lets go of Python's lock; and of the three it was the fastest where it was measured.
"""

import struct
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from kinetics_prep.errors import CorruptShard
from kinetics_prep.training.sampling import Draw

CHANNELS = {"rgb": 3, "flow": 2}

_FLAGS = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}

_TURNED = {"symmetric": 256}
"""Level that the level of dx becomes when the sign turns is so much less the level; 255 for the others."""

_PNG = b"\x89PNG\r\n\x1a\n"
_WITHOUT_SIZE = (0xC4, 0xC8, 0xCC)
"""Markers between 0xC0 and 0xCF that begin no frame of a JPEG: tables of codes."""


def expect(data: bytes, height: int, width: int) -> None:
    """Makes sure that an image is whole, as far as its two ends tell, and of the size that it should have.

    Decoders take images of any size and kind, and give half of one that breaks off.

    Raises:
      CorruptShard: if it is not.
    """
    if data.startswith(_PNG):
        whole, found = data.endswith(b"IEND\xaeB`\x82"), _png_size(data)
    elif data.startswith(b"\xff\xd8\xff"):
        whole, found = data.endswith(b"\xff\xd9"), _jpeg_size(data)
    else:
        raise CorruptShard("is neither a JPEG nor a PNG")
    if found != (height, width):
        raise CorruptShard(f"is no colour image of {width}x{height} pixels, but {found and found[::-1]}")
    if not whole:
        raise CorruptShard("breaks off before its end")


def _png_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of an RGB image of 8 bits; None of another."""
    if len(data) < 33:
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    return (height, width) if (depth, colour) == (8, 2) else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of an image of three components of 8 bits; None of another."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _WITHOUT_SIZE:
            depth, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            return (height, width) if (depth, components) == (8, 3) else None
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return None


def stack(images: Mapping[int, bytes], stream: str, draw: Draw, quantizer: str, out: np.ndarray) -> None:
    """Decodes, crops and mirrors what is drawn of one stream.

    Args:
      images: encoded, by index.
      stream: "rgb" or "flow".
      out: uint8 [T, size, size, 3 or 2], which is filled: RGB, or levels of dx and dy.

    Raises:
      CorruptShard: if an image does not decode.
    """
    put = _put_frame if stream == "rgb" else _put_levels
    turned = _TURNED.get(quantizer, 255)
    first = {}
    for k, index in enumerate(draw.indices[stream].tolist()):
        if index in first:  # a short clip, looped
            out[k] = out[first[index]]
        else:
            put(_cropped(images[index], draw, out.shape[1], f"{stream} image {index}"), draw.flip, turned, out[k])
            first[index] = k


def _cropped(data: bytes, draw: Draw, size: int, what: str) -> np.ndarray:
    """The drawn part of an image: uint8 [size, size, 3], blue, green and red."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[draw.reduce] | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise CorruptShard(f"{what} does not decode")
    return pixels[draw.top : draw.top + size, draw.left : draw.left + size]


def _put_frame(pixels: np.ndarray, flip: bool, turned: int, out: np.ndarray) -> None:
    cv2.cvtColor(cv2.flip(pixels, 1) if flip else pixels, cv2.COLOR_BGR2RGB, out)


def _put_levels(pixels: np.ndarray, flip: bool, turned: int, out: np.ndarray) -> None:
    """Mirrors the picture, and with it what moves to the right, so that the sign of dx turns."""
    if flip:
        pixels = cv2.flip(pixels, 1)
        # Level 0 becomes 256 in the symmetric quantizer; it is never written, but a JPEG may give it: 255.
        negated = cv2.subtract((turned, turned, turned, 0), pixels)
        cv2.mixChannels([pixels, negated], [out], [5, 0, 1, 1])
    else:
        cv2.mixChannels([pixels], [out], [2, 0, 1, 1])


def empty(shape: Sequence[int]) -> np.ndarray:
    """An uninitialised uint8 array that begins at a multiple of 64 bytes, which TensorFlow takes without copying."""
    count = int(np.prod(shape))
    memory = np.empty(count + 64, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + count].reshape(shape)
