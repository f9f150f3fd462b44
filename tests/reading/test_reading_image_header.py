"""Images are checked by their first and last bytes."""

import io

import numpy as np
import pytest
from PIL import Image

from kinetics_prep.errors import CorruptShard
from kinetics_prep.reading.image_header import check_image
from kinetics_prep.records import image_codec


def picture(height: int, width: int) -> np.ndarray:
    """Noise. uint8 [height, width, 3]."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


FRAME = image_codec.encode_frame(picture(40, 50), 95)
LEVELS = image_codec.encode_levels(picture(40, 50)[..., :2], "png", 0)


def encoded(mode: str, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(40, 50)).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [FRAME, LEVELS, image_codec.encode_levels(picture(40, 50)[..., :2], "jpeg", 95)])
def test_whole_images_of_the_right_size_pass(data):
    check_image(memoryview(data), 40, 50)


def test_a_progressive_jpeg_passes():
    check_image(memoryview(encoded("RGB", "JPEG", progressive=True)), 40, 50)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "neither a JPEG nor a PNG"),
        (b"GIF89a", "neither"),
        (encoded("RGB", "BMP"), "neither"),
        (FRAME[:-1], "breaks off"),
        (FRAME[:4], "not a colour image"),
        (LEVELS[:-1], "breaks off"),
        (LEVELS[:20], "not a colour image"),
        (LEVELS[:32], "not a colour image"),
        (b"\xff\xd8\xff", "not a colour image"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "not a colour image"),
        (image_codec.encode_frame(picture(41, 50), 95), r"not a colour image of 50x40 pixels, but \(50, 41\)"),
        (image_codec.encode_levels(picture(40, 51)[..., :2], "png", 0), r"but \(51, 40\)"),
        (encoded("L", "JPEG"), "not a colour image"),
        (encoded("CMYK", "JPEG"), "not a colour image"),
        (encoded("RGBA", "PNG"), "not a colour image"),
        (encoded("P", "PNG"), "not a colour image"),
        (encoded("L", "PNG"), "not a colour image"),
        (LEVELS[:24] + b"\x10" + LEVELS[25:], "not a colour image"),  # 16 bits a component
    ],
)
def test_images_of_another_kind_or_size_are_refused(data, message):
    with pytest.raises(CorruptShard, match=message):
        check_image(memoryview(data), 40, 50)


def test_a_jpeg_with_tables_before_its_frame_is_measured_by_the_frame():
    """Huffman tables have the marker 0xC4, in the range of those of frames."""
    at = FRAME.index(b"\xff\xc4")
    tables = FRAME[at : at + 2 + int.from_bytes(FRAME[at + 2 : at + 4], "big")]
    frame = FRAME.index(b"\xff\xc0")
    check_image(memoryview(FRAME[:frame] + tables + FRAME[frame:]), 40, 50)


@pytest.mark.parametrize("data", [FRAME, LEVELS])
def test_every_shorter_part_of_an_image_is_refused(data):
    for length in range(len(data)):
        with pytest.raises(CorruptShard):
            check_image(memoryview(data[:length]), 40, 50)
