"""Images of a record: what is encoded comes back, and a header's claim is not believed."""

import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import image_codec
from kinetics_prep.records.image_codec import ENCODINGS, LARGEST_PIXELS, decode_image, encode_frame, encode_levels

HEIGHT, WIDTH = 24, 40


def smooth() -> np.ndarray:
    """uint8 [H, W, 3] with three different channels."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([40 + 5 * x, 200 - 4 * y, x + y], -1).astype(np.uint8)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def png_header(width: int, height: int) -> bytes:
    """The beginning of an RGB PNG that claims a size, with a few bytes of pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100)))


def test_a_frame_comes_back_with_its_channels_in_their_order():
    frame = smooth()
    read = decode_image(encode_frame(frame, 95), "frame")
    assert (read.shape, read.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert np.abs(read.astype(int) - frame).mean(axis=(0, 1)).max() < 2
    assert np.abs(read[..., ::-1].astype(int) - frame).mean() > 50


def test_a_higher_quality_is_closer_and_longer():
    frame = noise(HEIGHT, WIDTH, 3)
    coarse, fine = encode_frame(frame, 50), encode_frame(frame, 95)
    errors = [np.abs(decode_image(data, "frame").astype(int) - frame).mean() for data in (coarse, fine)]
    assert len(coarse) < len(fine) and errors[1] < errors[0]


def test_flow_as_png_is_exact_and_has_a_third_plane_of_zeros():
    levels = noise(HEIGHT, WIDTH, 2)
    planes = decode_image(encode_levels(levels, "png", quality=1), "flow")
    assert np.array_equal(planes[..., :2], levels) and not planes[..., 2].any()


def test_flow_as_jpeg_keeps_its_planes_apart():
    levels = np.full((HEIGHT, WIDTH, 2), 128, np.uint8)
    levels[..., 0] = smooth()[..., 0]
    planes = decode_image(encode_levels(levels, "jpeg", 95), "flow")
    assert (planes[..., 1] == 128).all() and not planes[..., 2].any()
    assert np.abs(planes[..., 0].astype(int) - levels[..., 0]).mean() < 1


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_encoding_gives_images_of_its_name(encoding):
    data = encode_levels(noise(HEIGHT, WIDTH, 2), encoding, 95)
    assert Image.open(io.BytesIO(data)).format == encoding.upper()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_same_pixels_give_the_same_bytes(encoding):
    def digest() -> str:
        data = encode_frame(smooth(), 95) + encode_levels(smooth()[..., :2], encoding, 95)
        return hashlib.sha256(data).hexdigest()

    assert digest() == digest()


# Hostile images


@pytest.mark.parametrize("width, height", [(8001, 8000), (64_000_001, 1), (1, 64_000_001), (2**31 - 1, 1)])
def test_an_image_over_the_limit_is_refused_by_its_header(width, height):
    assert width * height > LARGEST_PIXELS
    with pytest.raises(CorruptShard, match=rf"^flow 3 of a does not decode: .*(claims {width}x{height} pixels|bomb)"):
        decode_image(png_header(width, height), "flow 3 of a")


def test_an_image_over_the_limit_is_refused_though_it_would_decode(monkeypatch):
    data = encode_frame(smooth(), 95)
    monkeypatch.setattr(image_codec, "LARGEST_PIXELS", HEIGHT * WIDTH)
    assert decode_image(data, "frame").shape == (HEIGHT, WIDTH, 3)
    monkeypatch.setattr(image_codec, "LARGEST_PIXELS", HEIGHT * WIDTH - 1)
    with pytest.raises(CorruptShard, match=f"frame 7 does not decode: it claims {WIDTH}x{HEIGHT} pixels"):
        decode_image(data, "frame 7")


def saved(image_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(smooth()).save(buffer, format=image_format)
    return buffer.getvalue()


@pytest.mark.parametrize("image_format", ["GIF", "BMP", "TIFF", "WEBP"])
def test_images_of_other_formats_are_refused(image_format):
    """Fewer parsers, fewer holes."""
    with pytest.raises(CorruptShard, match="does not decode"):
        decode_image(saved(image_format), "frame")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_an_image_that_ends_early_is_refused(image_format):
    data = saved(image_format)
    for length in range(0, len(data) - 20, 7):
        with pytest.raises(CorruptShard, match="frame does not decode"):
            decode_image(data[:length], "frame")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_flipped_bits_give_corruption_or_an_image_and_nothing_else(image_format):
    chance, data = np.random.default_rng(0), saved(image_format)
    for place in chance.integers(0, len(data), 500):
        changed = bytearray(data)
        changed[place] ^= 1 << chance.integers(8)
        try:
            read = decode_image(bytes(changed), "frame")
        except CorruptShard:
            continue
        assert read.dtype == np.uint8 and read.ndim == 3 and read.shape[2] == 3


def test_a_grey_image_of_others_reads_as_three_channels():
    buffer = io.BytesIO()
    Image.fromarray(smooth()[..., 0]).save(buffer, format="PNG")
    assert np.array_equal(decode_image(buffer.getvalue(), "frame"), np.repeat(smooth()[..., :1], 3, axis=2))
