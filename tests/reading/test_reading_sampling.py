"""Which frames of a clip are seen, and which part of them."""

import collections

import numpy as np
import pytest

from kinetics_prep.errors import BadOption
from kinetics_prep.reading.sampling import Draw, Sampler


def sampler(**settings) -> Sampler:
    return Sampler(**({"offsets": {"rgb": range(4)}, "size": 224, "train": True} | settings))


def draw(clip_id="clip", epoch=0, frames=10, height=256, width=340, **settings) -> Draw:
    return sampler(**settings).draw(clip_id, epoch, frames, height, width)


def taken(found: Draw) -> tuple:
    return {name: list(places) for name, places in found.indices.items()}, found.top, found.left, found.flip


def test_a_draw_depends_on_seed_epoch_and_clip_alone():
    one = draw(seed=1, flip=True)
    assert taken(draw(seed=1, flip=True)) == taken(one)
    others = [draw(seed=2, flip=True), draw(seed=1, epoch=1, flip=True), draw("clap", seed=1, flip=True)]
    assert len({str(taken(found)) for found in (one, *others)}) == 4


def test_a_draw_is_the_same_on_every_machine():
    # Written down once: a checkpoint of today must go on with the same samples in years.
    found = draw("abc_000001_000011", 7, 250, seed=42, flip=True)
    assert taken(found) == ({"rgb": [94, 95, 96, 97]}, 24, 11, True)


def test_windows_crops_and_flips_are_drawn_evenly():
    found = [draw(str(number), flip=True) for number in range(7000)]
    starts = collections.Counter(int(one.indices["rgb"][0]) for one in found)
    assert sorted(starts) == list(range(7))  # 10 frames, windows of 4
    assert max(abs(count - 1000) for count in starts.values()) < 150  # five sigma
    assert {one.top for one in found} == set(range(33))
    assert {one.left for one in found} == set(range(117))
    assert abs(sum(one.flip for one in found) - 3500) < 210
    together = np.corrcoef([(one.indices["rgb"][0], one.top, one.left, one.flip) for one in found], rowvar=False)
    assert np.abs(together - np.eye(4)).max() < 0.06


def test_streams_are_taken_in_step():
    found = draw(offsets={"rgb": range(2, 10, 5), "flow": range(10)}, frames=50)
    assert list(found.indices["rgb"]) == [found.indices["flow"][2], found.indices["flow"][7]]


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
    found = [draw(str(number), train=False, flip=True, frames=11) for number in range(30)]
    assert {str(taken(one)) for one in found} == {str(taken(found[0]))}
    assert list(found[0].indices["rgb"]) == [3, 4, 5, 6]
    assert (found[0].top, found[0].left, found[0].flip) == (16, 58, False)


def test_nothing_is_mirrored_unless_asked():
    assert not any(draw(str(number)).flip for number in range(50))


@pytest.mark.parametrize(
    "short_side, size, reduce",
    [(256, 224, 1), (511, 224, 1), (512, 224, 2), (1023, 224, 2), (1024, 224, 4), (4096, 224, 4), (256, 112, 2)],
)
def test_large_frames_are_shrunk_to_no_less_than_the_papers_share(short_side, size, reduce):
    for height, width in ((short_side, 2 * short_side + 1), (2 * short_side + 1, short_side)):
        found = draw(height=height, width=width, size=size)
        assert found.reduce == reduce
        assert 0 <= found.top <= -(-height // reduce) - size
        assert 0 <= found.left <= -(-width // reduce) - size


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
        ({"size": 0}, "size is 0"),
        ({"stride": 0}, "stride 0"),
    ],
)
def test_a_sampler_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(BadOption, match=message):
        sampler(**settings)
