"""The images of a record: frames and quantized flow as JPEG or PNG, and back."""

import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from kinetics_prep.errors import CorruptShard

LARGEST_PIXELS = 64_000_000
"""Of an image in a record. A header can claim any size, and we also read records that others wrote."""

ENCODINGS = ("jpeg", "png")
"""Of flow images. Frames are always JPEG, because their source was lossy already."""


def encode_frame(frame: np.ndarray, quality: int) -> bytes:
    """uint8 [H, W, 3] RGB -> JPEG."""
    return _save(frame, format="JPEG", quality=quality)


def encode_levels(levels: np.ndarray, encoding: str, quality: int) -> bytes:
    """uint8 [H, W, 2] -> image with planes dx, dy, 0.

    A colour JPEG would mix dx and dy, because it turns them into luma and chroma; `keep_rgb` prevents that.

    Args:
      encoding: "jpeg" or "png".
      quality: of JPEG; PNG is exact.
    """
    planes = np.zeros((*levels.shape[:2], 3), np.uint8)
    planes[..., :2] = levels
    if encoding == "png":
        return _save(planes, format="PNG", compress_level=6)
    return _save(planes, format="JPEG", quality=quality, subsampling=0, keep_rgb=True)


def decode_image(data: bytes, name: str) -> np.ndarray:
    """JPEG or PNG -> uint8 [H, W, 3].

    Args:
      name: what to call the image in an error.

    Raises:
      CorruptShard: if it does not decode, or claims more than `LARGEST_PIXELS`.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        if image.width * image.height > LARGEST_PIXELS:
            raise ValueError(f"it claims {image.width}x{image.height} pixels")
        return np.asarray(image.convert("RGB"))
    # Pillow raises SyntaxError for some damaged PNGs.
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise CorruptShard(f"{name} does not decode: {error}") from None


def _save(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **options)
    return buffer.getvalue()
