"""The decoder of both readers: its pixels are those of Pillow and of TensorFlow, and damage is told."""

import io

import numpy as np
import pytest
from PIL import Image

from kinetics_prep.errors import CorruptShard
from kinetics_prep.media import quantize
from kinetics_prep.reading import images
from kinetics_prep.reading.sampling import Draw
from kinetics_prep.records import image_codec
from kinetics_prep.records.image_codec import ENCODINGS


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Something with edges, slopes and noise. uint8 [height, width, 3]."""
    y, x = np.mgrid[:height, :width]
    waves = [
        127 + 80 * np.sin(x / (3 + k) + seed) * np.cos(y / (5 - k)) + 40 * ((x // 7 + y // 5 + k) % 2) for k in range(3)
    ]
    noise = np.random.default_rng(seed).normal(0, 8, (height, width, 3))
    return np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def decoded(data: bytes, stream="rgb", size=None, top=0, left=0, flip=False, reduce=1, quantizer="symmetric"):
    """The one image as the readers give it: uint8 [size, size, 3 or 2]."""
    out = np.empty((1, size, size, images.CHANNELS[stream]), np.uint8)
    draw = Draw({stream: np.array([0])}, top, left, flip, reduce)
    images.stack({0: memoryview(data)}, stream, draw, quantizer, out)
    return out[0]


def by_pillow(data: bytes, reduce: int = 1) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (image.width // reduce, image.height // reduce))
    return np.asarray(image.convert("RGB"))


SIZES = [(256, 340), (256, 341), (97, 131), (64, 64), (33, 50)]


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("reduce", [1, 2, 4])
@pytest.mark.parametrize("quality", [30, 95])
def test_frames_have_the_pixels_of_pillow(height, width, reduce, quality):
    data = image_codec.encode_frame(picture(height, width), quality)
    whole = by_pillow(data, reduce)
    size = min(whole.shape[:2]) - 3
    for top, left in ((0, 0), (whole.shape[0] - size, whole.shape[1] - size), (2, 1)):
        expected = whole[top : top + size, left : left + size]
        np.testing.assert_array_equal(decoded(data, size=size, top=top, left=left, reduce=reduce), expected)
        mirrored = decoded(data, size=size, top=top, left=left, reduce=reduce, flip=True)
        np.testing.assert_array_equal(mirrored, expected[:, ::-1])


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("reduce", [1, 2, 4])
def test_frames_have_the_pixels_of_tensorflow(height, width, reduce):
    tf = pytest.importorskip("tensorflow")
    data = image_codec.encode_frame(picture(height, width), 95)
    whole = tf.io.decode_jpeg(data, channels=3, ratio=reduce, dct_method="INTEGER_ACCURATE").numpy()
    size = min(whole.shape[:2])
    np.testing.assert_array_equal(decoded(data, size=size, reduce=reduce), whole[:size, :size])


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("height, width", SIZES)
def test_levels_have_the_pixels_of_pillow_and_of_tensorflow(encoding, height, width):
    data = image_codec.encode_levels(picture(height, width)[..., :2], encoding, 95)
    whole, size = by_pillow(data)[..., :2], min(height, width) - 3
    for top, left in ((0, 0), (height - size, width - size), (1, 2)):
        expected = whole[top : top + size, left : left + size]
        np.testing.assert_array_equal(decoded(data, "flow", size, top, left), expected)
    tf = pytest.importorskip("tensorflow")
    # decode_jpeg takes a PNG as well.
    np.testing.assert_array_equal(tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")[..., :2], whole)


@pytest.mark.parametrize("quantizer", quantize.QUANTIZERS)
def test_a_mirrored_flow_is_mirrored_and_dx_has_the_other_sign(quantizer):
    levels = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1).astype(np.uint8)
    data = image_codec.encode_levels(levels, "png", 0)
    found = decoded(data, "flow", 256, flip=True, quantizer=quantizer)
    expected = (quantize.dequantize(levels, quantizer) * np.float32([-1, 1]))[:, ::-1]
    level_px = 20 / 127
    difference = np.abs(quantize.dequantize(found, quantizer) - expected)
    at_level_0 = levels[:, ::-1, 0] == 0  # in the symmetric quantizer it has no counterpart
    assert difference[~at_level_0].max() < 1e-5
    assert difference[at_level_0].max() < (level_px * 1.001 if quantizer == "symmetric" else 1e-5)


@pytest.mark.parametrize("quantizer", quantize.QUANTIZERS)
def test_mirroring_twice_changes_nothing(quantizer):
    levels = picture(40, 40)[..., :2] // 2 + 60
    once = decoded(image_codec.encode_levels(levels, "png", 0), "flow", 40, flip=True, quantizer=quantizer)
    twice = decoded(image_codec.encode_levels(once, "png", 0), "flow", 40, flip=True, quantizer=quantizer)
    np.testing.assert_array_equal(twice, levels)


def test_still_water_stays_still_when_it_is_mirrored():
    levels = np.full((16, 16, 2), 128, np.uint8)
    assert (decoded(image_codec.encode_levels(levels, "jpeg", 95), "flow", 16, flip=True) == 128).all()


def test_a_looped_clip_is_decoded_once_and_repeated():
    data = {k: memoryview(image_codec.encode_frame(picture(32, 32, k), 95)) for k in range(2)}
    out = np.empty((5, 32, 32, 3), np.uint8)
    images.stack(data, "rgb", Draw({"rgb": np.array([0, 1, 0, 1, 0])}, 0, 0, True, 1), "symmetric", out)
    np.testing.assert_array_equal(out[0], by_pillow(data[0])[:, ::-1])
    np.testing.assert_array_equal(out[3], by_pillow(data[1])[:, ::-1])
    np.testing.assert_array_equal(out[[2, 4]], out[[0, 0]])


def test_before_opencv_4_11_pixels_are_the_same(monkeypatch):
    data = image_codec.encode_frame(picture(40, 50), 95)
    expected = decoded(data, size=40)
    monkeypatch.setattr(images, "_RGB", None)
    np.testing.assert_array_equal(decoded(data, size=40), expected)


# Damage -----------------------------------------------------------------------------------------

FRAME = image_codec.encode_frame(picture(40, 50), 95)
LEVELS = image_codec.encode_levels(picture(40, 50)[..., :2], "png", 0)


def other(mode: str, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(40, 50)).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [FRAME, LEVELS, image_codec.encode_levels(picture(40, 50)[..., :2], "jpeg", 95)])
def test_whole_images_of_the_right_size_pass(data):
    images.expect(memoryview(data), 40, 50)


def test_a_progressive_jpeg_passes():
    images.expect(memoryview(other("RGB", "JPEG", progressive=True)), 40, 50)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "neither a JPEG nor a PNG"),
        (b"GIF89a", "neither"),
        (other("RGB", "BMP"), "neither"),
        (FRAME[:-1], "breaks off"),
        (FRAME[:4], "no colour image"),
        (LEVELS[:-1], "breaks off"),
        (LEVELS[:20], "no colour image"),
        (image_codec.encode_frame(picture(41, 50), 95), r"no colour image of 50x40 pixels, but \(50, 41\)"),
        (image_codec.encode_levels(picture(40, 51)[..., :2], "png", 0), r"but \(51, 40\)"),
        (other("L", "JPEG"), "no colour image"),
        (other("CMYK", "JPEG"), "no colour image"),
        (other("RGBA", "PNG"), "no colour image"),
        (other("P", "PNG"), "no colour image"),
        (other("L", "PNG"), "no colour image"),
    ],
)
def test_images_that_are_not_what_they_should_be_are_told(data, message):
    with pytest.raises(CorruptShard, match=message):
        images.expect(memoryview(data), 40, 50)


@pytest.mark.parametrize("data", [FRAME, LEVELS])
def test_random_damage_is_told_or_gives_an_image(data):
    chance = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        for place in chance.integers(0, len(data), chance.integers(1, 9)):
            damaged[place] = chance.integers(256)
        try:
            images.expect(memoryview(damaged), 40, 50)
            decoded(bytes(damaged), size=40)
        except CorruptShard:
            pass
