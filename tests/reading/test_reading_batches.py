"""The batches of a folder, in whichever format it is."""

import pytest
from prepared import copy, folder
from sample_cases import CENTRE, SAMPLER, assert_same, damage, read

from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.reading.batches import Reading, batches
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.prefetch import Prefetcher
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.records import SHARD_FORMATS


@pytest.fixture(params=SHARD_FORMATS)
def clips(request) -> ClipIndex:
    if request.param == "tfrecord":
        pytest.importorskip("tensorflow")
    return ClipIndex.open(folder(), "train", request.param)


def as_arrays(dataset) -> list:
    """What iterating gives, as NumPy arrays."""
    if isinstance(dataset, Prefetcher):
        return list(dataset)
    return list(dataset.as_numpy_iterator())


def test_the_batches_of_both_formats_are_those_of_the_reader(clips):
    with batches(clips, SAMPLER, Order(5, 4, 5), Reading(), Skipped(), first_step=2, steps=3) as dataset:
        assert_same(as_arrays(dataset), read(clips, first_step=2, steps=3))


def test_once_through_has_an_end_of_its_own(clips):
    with batches(clips, CENTRE, Once(5, 2), Reading(threads=1), Skipped()) as dataset:
        assert_same(as_arrays(dataset), read(clips, CENTRE, Once(5, 2)))


def test_a_shuffled_order_without_a_number_of_steps_is_refused(clips):
    with (
        pytest.raises(BadOption, match="has no end: say how many steps"),
        batches(clips, SAMPLER, Order(5, 4), Reading(), Skipped()),
    ):
        pass


def test_corrupt_clips_are_skipped_and_counted_only_if_the_settings_say_so(clips, tmp_path):
    clips = ClipIndex.open(copy(tmp_path), "train", clips.format)
    damage(clips, 3)
    skipped = Skipped()
    with batches(clips, CENTRE, Once(5, 5), Reading(skip_corrupt=True), skipped) as dataset:
        ((_, class_ids),) = as_arrays(dataset)
    assert class_ids.tolist() == clips.class_ids[[0, 1, 2, 4]].tolist()
    assert [clip_id for _, clip_id, _ in skipped.clips] == [clips.ids[3]]
    with (
        pytest.raises(CorruptShard, match="checksum"),
        batches(clips, CENTRE, Once(5, 5), Reading(), skipped) as dataset,
    ):
        as_arrays(dataset)
    assert skipped.times == 1


def test_parquet_needs_no_tensorflow_and_its_threads_end_with_the_block():
    clips = ClipIndex.open(folder(), "train", "parquet")
    with batches(clips, SAMPLER, Order(5, 4), Reading("parquet", threads=2), Skipped(), steps=2) as dataset:
        assert isinstance(dataset, Prefetcher)
    with pytest.raises(RuntimeError, match="after shutdown"):
        dataset[0]


def test_threads_must_be_at_least_one():
    assert Reading(threads=1).threads == 1
    with pytest.raises(BadOption, match="--threads is 0, expected 1 or more"):
        Reading(threads=0)
