"""Checks an encoded image by its first and last bytes, without decoding it."""

import struct

from kinetics_prep.errors import CorruptShard

_PNG_BEGINS, _PNG_ENDS = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG_BEGINS, _JPEG_ENDS = b"\xff\xd8\xff", b"\xff\xd9"

_NOT_A_FRAME = (0xC4, 0xC8, 0xCC)
"""Markers between 0xC0 and 0xCF that do not begin a frame of a JPEG: tables of codes, and a reserved one."""


def check_image(data: memoryview, height: int, width: int) -> None:
    """Checks that an image is complete and has the expected size.

    Decoders accept images of any size and kind, and return half of an image that breaks off.

    Raises:
      CorruptShard: if it is not a JPEG or PNG of three 8-bit components and this size, or breaks off.
    """
    if data[:8] == _PNG_BEGINS:
        complete, size = data[-8:] == _PNG_ENDS, _png_size(data)
    elif data[:3] == _JPEG_BEGINS:
        complete, size = data[-2:] == _JPEG_ENDS, _jpeg_size(data)
    else:
        raise CorruptShard("is neither a JPEG nor a PNG")
    if size != (height, width):
        raise CorruptShard(f"is not a colour image of {width}x{height} pixels, but {size and size[::-1]}")
    if not complete:
        raise CorruptShard("breaks off before its end")


def _png_size(data: memoryview) -> tuple[int, int] | None:
    """(height, width) of an RGB image with 8 bits a component; None for other images."""
    if len(data) < 33:
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    return (height, width) if (depth, colour) == (8, 2) else None


def _jpeg_size(data: memoryview) -> tuple[int, int] | None:
    """(height, width) of an image with three components of 8 bits; None for other images."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_A_FRAME:
            depth, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            return (height, width) if (depth, components) == (8, 3) else None
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return None
