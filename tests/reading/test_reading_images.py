"""The decoder of all readers: its pixels are those of Pillow and of TensorFlow, and damage is an error."""

import io

import numpy as np
import pytest
from PIL import Image

from kinetics_prep.errors import CorruptShard
from kinetics_prep.media import quantize
from kinetics_prep.reading import images
from kinetics_prep.reading.image_header import check_image
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


def decode(data: bytes, stream="rgb", size=None, top=0, left=0, flip=False, reduce=1, quantizer="symmetric"):
    """One image as the readers return it: uint8 [size, size, 3 or 2]."""
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
        np.testing.assert_array_equal(decode(data, size=size, top=top, left=left, reduce=reduce), expected)
        mirrored = decode(data, size=size, top=top, left=left, reduce=reduce, flip=True)
        np.testing.assert_array_equal(mirrored, expected[:, ::-1])


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("reduce", [1, 2, 4])
def test_frames_have_the_pixels_of_tensorflow(height, width, reduce):
    tf = pytest.importorskip("tensorflow")
    data = image_codec.encode_frame(picture(height, width), 95)
    whole = tf.io.decode_jpeg(data, channels=3, ratio=reduce, dct_method="INTEGER_ACCURATE").numpy()
    size = min(whole.shape[:2])
    np.testing.assert_array_equal(decode(data, size=size, reduce=reduce), whole[:size, :size])


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("height, width", SIZES)
def test_levels_have_the_pixels_of_pillow_and_of_tensorflow(encoding, height, width):
    data = image_codec.encode_levels(picture(height, width)[..., :2], encoding, 95)
    whole, size = by_pillow(data)[..., :2], min(height, width) - 3
    for top, left in ((0, 0), (height - size, width - size), (1, 2)):
        expected = whole[top : top + size, left : left + size]
        np.testing.assert_array_equal(decode(data, "flow", size, top, left), expected)
    tf = pytest.importorskip("tensorflow")
    # decode_jpeg takes a PNG as well.
    np.testing.assert_array_equal(tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")[..., :2], whole)


@pytest.mark.parametrize("quantizer", quantize.QUANTIZERS)
def test_a_mirrored_flow_is_mirrored_and_dx_has_the_other_sign(quantizer):
    levels = np.stack(np.meshgrid(np.arange(256), np.arange(256)), -1).astype(np.uint8)
    data = image_codec.encode_levels(levels, "png", 0)
    mirrored = decode(data, "flow", 256, flip=True, quantizer=quantizer)
    expected = (quantize.dequantize(levels, quantizer) * np.float32([-1, 1]))[:, ::-1]
    level_px = 20 / 127
    difference = np.abs(quantize.dequantize(mirrored, quantizer) - expected)
    at_level_0 = levels[:, ::-1, 0] == 0  # in the symmetric quantizer it has no counterpart
    assert difference[~at_level_0].max() < 1e-5
    assert difference[at_level_0].max() < (level_px * 1.001 if quantizer == "symmetric" else 1e-5)


@pytest.mark.parametrize("quantizer", quantize.QUANTIZERS)
def test_mirroring_twice_changes_nothing(quantizer):
    levels = picture(40, 40)[..., :2] // 2 + 60
    mirrored = decode(image_codec.encode_levels(levels, "png", 0), "flow", 40, flip=True, quantizer=quantizer)
    twice = decode(image_codec.encode_levels(mirrored, "png", 0), "flow", 40, flip=True, quantizer=quantizer)
    np.testing.assert_array_equal(twice, levels)


def test_still_water_stays_still_when_it_is_mirrored():
    levels = np.full((16, 16, 2), 128, np.uint8)
    assert (decode(image_codec.encode_levels(levels, "jpeg", 95), "flow", 16, flip=True) == 128).all()


def test_a_looped_clip_is_decoded_once_and_repeated():
    data = {k: memoryview(image_codec.encode_frame(picture(32, 32, k), 95)) for k in range(2)}
    out = np.empty((5, 32, 32, 3), np.uint8)
    images.stack(data, "rgb", Draw({"rgb": np.array([0, 1, 0, 1, 0])}, 0, 0, True, 1), "symmetric", out)
    np.testing.assert_array_equal(out[0], by_pillow(data[0])[:, ::-1])
    np.testing.assert_array_equal(out[3], by_pillow(data[1])[:, ::-1])
    np.testing.assert_array_equal(out[[2, 4]], out[[0, 0]])


def test_before_opencv_4_11_pixels_are_the_same(monkeypatch):
    data = image_codec.encode_frame(picture(40, 50), 95)
    expected = decode(data, size=40)
    monkeypatch.setattr(images, "_RGB", None)
    np.testing.assert_array_equal(decode(data, size=40), expected)


# Damage -----------------------------------------------------------------------------------------

FRAME = image_codec.encode_frame(picture(40, 50), 95)
LEVELS = image_codec.encode_levels(picture(40, 50)[..., :2], "png", 0)


@pytest.mark.parametrize("data", [FRAME, LEVELS])
def test_random_damage_is_refused_or_gives_an_image_of_the_right_size(data):
    chance, refused = np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(data)
        for place in chance.integers(0, len(data), chance.integers(1, 9)):
            damaged[place] = chance.integers(256)
        try:
            check_image(memoryview(damaged), 40, 50)
            assert decode(bytes(damaged), size=40).shape == (40, 40, 3)
        except CorruptShard:
            refused += 1
    assert 10 < refused < 300


@pytest.mark.parametrize("top, left", [(13, 0), (0, 23), (13, 23)])
def test_an_image_smaller_than_the_crop_needs_is_refused(top, left):
    assert decode(FRAME, size=28, top=12, left=22).shape == (28, 28, 3)
    with pytest.raises(CorruptShard, match="rgb image 0 does not decode"):
        decode(FRAME, size=28, top=top, left=left)


def test_bytes_that_are_no_image_are_refused():
    for data in (b"", b"not an image", FRAME[:30]):
        with pytest.raises(CorruptShard, match="rgb image 0 does not decode"):
            decode(data, size=28)


def test_the_third_plane_of_a_flow_image_is_ignored():
    planes = picture(30, 44)  # noise in all three planes
    buffer = io.BytesIO()
    Image.fromarray(planes).save(buffer, "PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue(), "flow", 28, 1, 5), planes[1:29, 5:33, :2])


def test_top_counts_rows_and_left_counts_columns():
    planes = np.zeros((40, 60, 3), np.uint8)
    planes[..., 0], planes[..., 1] = np.mgrid[:40, :60]
    data = image_codec.encode_levels(planes[..., :2], "png", 0)
    for stream in ("rgb", "flow"):
        assert decode(data, stream, 28, top=3, left=30)[0, 0, :2].tolist() == [3, 30]


def test_the_orientation_in_exif_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    buffer = io.BytesIO()
    Image.fromarray(picture(40, 50)).save(buffer, "JPEG", quality=95, exif=exif)
    expected = np.asarray(Image.open(io.BytesIO(buffer.getvalue())))
    for reduce in (1, 2):
        pixels = decode(buffer.getvalue(), size=20, left=5, reduce=reduce)
        whole = expected if reduce == 1 else by_pillow(buffer.getvalue(), 2)
        np.testing.assert_array_equal(pixels, whole[:20, 5:25])


def test_red_is_red_and_blue_is_blue():
    planes = np.zeros((32, 32, 3), np.uint8)
    planes[..., 0] = 250
    for reduce in (1, 2, 4):
        red, green, blue = decode(image_codec.encode_frame(planes, 95), size=8, reduce=reduce)[4, 4].tolist()
        assert red > 240
        assert green < 10
        assert blue < 10
