"""Which frames of a clip are seen, and which part of them."""

import collections
import fractions
import hashlib
import math

import numpy as np
import pytest

from kinetics_prep.errors import BadOption
from kinetics_prep.reading import sampling
from kinetics_prep.reading.sampling import Draw, Sampler


def sampler(**settings) -> Sampler:
    return Sampler(**({"offsets": {"rgb": range(4)}, "size": 224, "train": True} | settings))


def draw(clip_id="clip", epoch=0, frames=10, height=256, width=340, **settings) -> Draw:
    return sampler(**settings).draw(clip_id, epoch, frames, height, width)


def parts(draw: Draw) -> tuple:
    """What a draw says, as values that can be compared."""
    return {name: list(indices) for name, indices in draw.indices.items()}, draw.top, draw.left, draw.flip


def test_a_draw_depends_on_seed_epoch_and_clip_alone():
    first = draw(seed=1, flip=True)
    assert parts(draw(seed=1, flip=True)) == parts(first)
    others = [draw(seed=2, flip=True), draw(seed=1, epoch=1, flip=True), draw("clap", seed=1, flip=True)]
    assert len({str(parts(other)) for other in (first, *others)}) == 4


def test_a_draw_is_the_same_on_every_machine():
    # Written down once: a checkpoint of today must go on with the same samples in years.
    assert parts(draw("abc_000001_000011", 7, 250, seed=42, flip=True)) == ({"rgb": [94, 95, 96, 97]}, 24, 11, True)


@pytest.mark.parametrize("clip_id, epoch, seed", [("abc", 0, 0), ("-_x", 9, 5), ("é", 1000, 2**64 - 1)])
def test_a_draw_is_made_of_four_numbers_of_a_keyed_hash(clip_id, epoch, seed):
    """The same by big integers: each number is a share of 2**64, rounded down."""
    text = f"{seed} {epoch} {clip_id}".encode()
    digest = hashlib.blake2b(text, digest_size=32, person=b"kinetics-prep").digest()
    shares = [fractions.Fraction(int.from_bytes(digest[k : k + 8], "little"), 2**64) for k in range(0, 32, 8)]
    start, top, left = (math.floor(share * count) for share, count in zip(shares, (61 - 9, 256 - 223, 340 - 223)))
    drawn = draw(clip_id, epoch, frames=61, seed=seed, flip=True, stride=3)
    assert parts(drawn) == (
        {"rgb": [start + k for k in (0, 3, 6, 9)]},
        top,
        left,
        shares[3] >= fractions.Fraction(1, 2),
    )


@pytest.mark.parametrize("number, start, top, left, flip", [(0, 0, 0, 0, False), (2**64 - 1, 37, 32, 116, True)])
def test_the_first_and_the_last_window_and_crop_can_be_drawn(monkeypatch, number, start, top, left, flip):
    monkeypatch.setattr(sampling, "_random_numbers", lambda *key: (number,) * 4)
    drawn = draw(frames=50, stride=4, flip=True)
    assert parts(drawn) == ({"rgb": [start, start + 4, start + 8, start + 12]}, top, left, flip)
    assert start in (0, 50 - 13)  # the last window ends with the last frame


def test_windows_crops_and_flips_are_drawn_evenly():
    draws = [draw(str(number), flip=True) for number in range(7000)]
    starts = collections.Counter(int(each.indices["rgb"][0]) for each in draws)
    assert sorted(starts) == list(range(7))  # 10 frames, windows of 4
    assert max(abs(count - 1000) for count in starts.values()) < 150  # five sigma
    assert {each.top for each in draws} == set(range(33))
    assert {each.left for each in draws} == set(range(117))
    assert abs(sum(each.flip for each in draws) - 3500) < 210
    together = np.corrcoef([(each.indices["rgb"][0], each.top, each.left, each.flip) for each in draws], rowvar=False)
    assert np.abs(together - np.eye(4)).max() < 0.06


def test_streams_are_taken_in_step():
    indices = draw(offsets={"rgb": range(2, 10, 5), "flow": range(10)}, frames=50).indices
    assert list(indices["rgb"]) == [indices["flow"][2], indices["flow"][7]]


def test_streams_that_are_read_apart_see_the_same_window():
    both = draw(offsets={"rgb": range(2, 10, 5), "flow": range(10)}, frames=50)
    alone = draw(offsets={"rgb": range(2, 10, 5)}, span=10, frames=50)
    assert list(alone.indices["rgb"]) == list(both.indices["rgb"])
    assert (alone.top, alone.left) == (both.top, both.left)


def test_a_stride_leaves_frames_out_and_stays_inside():
    starts = set()
    for number in range(200):
        indices = draw(str(number), stride=3, frames=12).indices["rgb"]
        assert list(np.diff(indices)) == [3, 3, 3]
        assert indices[-1] < 12
        starts.add(int(indices[0]))
    assert starts == {0, 1, 2}


@pytest.mark.parametrize("train", [True, False])
def test_a_short_clip_is_looped_from_its_beginning(train):
    assert list(draw(frames=3, offsets={"rgb": range(8)}, train=train).indices["rgb"]) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert list(draw(frames=1, train=train).indices["rgb"]) == [0, 0, 0, 0]


def test_the_middle_is_taken_at_test_and_never_mirrored():
    for number in range(30):
        drawn = draw(str(number), train=False, flip=True, frames=11)
        assert parts(drawn) == ({"rgb": [3, 4, 5, 6]}, 16, 58, False)


def test_samples_are_not_mirrored_by_default():
    assert not any(draw(str(number)).flip for number in range(50))


@pytest.mark.parametrize(
    "short_side, size, reduce",
    [(256, 224, 1), (511, 224, 1), (512, 224, 2), (1023, 224, 2), (1024, 224, 4), (4096, 224, 4), (256, 112, 2)],
)
def test_large_frames_are_shrunk_to_no_less_than_the_papers_share(short_side, size, reduce):
    for height, width in ((short_side, 2 * short_side + 1), (2 * short_side + 1, short_side)):
        drawn = draw(height=height, width=width, size=size)
        assert drawn.reduce == reduce
        assert 0 <= drawn.top <= -(-height // reduce) - size
        assert 0 <= drawn.left <= -(-width // reduce) - size


def test_the_size_of_a_shrunk_image_is_rounded_up_as_libjpeg_does(monkeypatch):
    monkeypatch.setattr(sampling, "_random_numbers", lambda *key: (2**64 - 1,) * 4)
    drawn = draw(height=513, width=1029, flip=True)  # 257x515 when shrunk by 2
    assert (drawn.reduce, drawn.top, drawn.left) == (2, 257 - 224, 515 - 224)


def test_flow_is_not_shrunk():
    with pytest.raises(BadOption, match="too large for crops of 112 px, and flow cannot be shrunk.* --short-side 128"):
        draw(offsets={"flow": range(4)}, size=112)


def test_an_image_must_hold_a_crop():
    assert draw(height=224, width=224).top == 0
    with pytest.raises(BadOption, match="223 px are too small for crops of 224 px.* --short-side 256"):
        draw(height=340, width=223)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"offsets": {}}, "streams are none"),
        ({"offsets": {"sound": range(4)}}, "streams are sound"),
        ({"offsets": {"rgb": []}}, "at least one"),
        ({"offsets": {"rgb": [-1]}}, "from 0"),
        ({"span": 3}, "a window of 3 frames has no frame 3"),
        ({"span": 0}, "a window of 0 frames has no frame 3"),
        ({"size": 0}, "size is 0"),
        ({"stride": 0}, "stride 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(BadOption, match=message):
        sampler(**settings)
