"""Batches as a tf.data.Dataset: those of the reader, and the reader's errors."""

import sys

import pytest
from prepared import copy, folder
from sample_cases import BOTH, CENTRE, SAMPLER, SIZE, assert_same, damage, read

from kinetics_prep.errors import BadOption, CorruptShard, MissingTool
from kinetics_prep.reading import tensorflow_batches
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.reader import Reader
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.records import SHARD_FORMATS

tf = pytest.importorskip("tensorflow", reason="the extra `train` is not installed")


def shuffled(clips: ClipIndex, batch: int = 4) -> Reader:
    return Reader(clips, SAMPLER, Order(len(clips), batch, 5), BOTH)


def as_arrays(dataset) -> list:
    return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("format", SHARD_FORMATS)
@pytest.mark.parametrize("threads", [1, 6])
def test_a_dataset_has_the_batches_of_the_reader_in_order(format, threads):
    clips = ClipIndex.open(folder(), "train", format)
    assert_same(
        as_arrays(tensorflow_batches.dataset(shuffled(clips), 2, 5, threads)), read(clips, first_step=2, steps=5)
    )


def test_a_dataset_can_be_iterated_again_and_knows_its_length_and_shapes():
    clips = ClipIndex.open(folder(), "train", "tfrecord")
    dataset = tensorflow_batches.dataset(shuffled(clips), 0, 3)
    assert len(dataset) == 3
    assert_same(as_arrays(dataset), as_arrays(dataset))
    images, class_ids = dataset.element_spec
    assert images["flow"].shape == (4, 6, SIZE, SIZE, 2)
    assert class_ids.shape == (4,)


def test_the_last_batch_of_once_through_is_short():
    clips = ClipIndex.open(folder(), "train", "tfrecord")
    dataset = tensorflow_batches.dataset(Reader(clips, CENTRE, Once(5, 2), BOTH), 0, 3)
    assert len(dataset) == 3
    assert dataset.element_spec[1].shape == (None,)
    assert_same(as_arrays(dataset), read(clips, CENTRE, Once(5, 2)))


def test_a_batch_without_a_readable_clip_is_left_out(tmp_path):
    clips, skipped = ClipIndex.open(copy(tmp_path), "train", "tfrecord"), Skipped()
    for number in (2, 3):
        damage(clips, number)
    dataset = tensorflow_batches.dataset(Reader(clips, CENTRE, Once(5, 2), BOTH, skipped), 0, 3)
    assert [class_ids.tolist() for _, class_ids in as_arrays(dataset)] == [
        clips.class_ids[:2].tolist(),
        clips.class_ids[4:].tolist(),
    ]
    assert len(skipped) == 2


def test_errors_of_the_reader_are_tensorflows_unless_the_block_asks_for_the_original(tmp_path):
    clips = ClipIndex.open(copy(tmp_path), "train", "tfrecord")
    damage(clips, 0)
    dataset = tensorflow_batches.dataset(shuffled(clips, 5), 0, 1)
    with pytest.raises(tf.errors.OpError, match="checksum is wrong"):
        list(dataset)
    with pytest.raises(CorruptShard, match="checksum is wrong"), tensorflow_batches.original_errors(dataset):
        list(dataset)


def test_other_errors_in_the_block_stay_as_they_are():
    dataset = tensorflow_batches.dataset(shuffled(ClipIndex.open(folder(), "train", "tfrecord")), 0, 1)
    with pytest.raises(ZeroDivisionError), tensorflow_batches.original_errors(dataset):
        1 / 0  # noqa: B018


def test_impossible_numbers_are_refused_before_the_first_batch():
    reader = shuffled(ClipIndex.open(folder(), "train", "tfrecord"))
    for run in ((-1, 3, None), (0, -1, None), (0, 3, 0)):
        with pytest.raises(BadOption, match="expected 0 or more"):
            tensorflow_batches.dataset(reader, *run)


def test_without_tensorflow_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    reader = shuffled(ClipIndex.open(folder(), "train", "tfrecord"))
    with pytest.raises(MissingTool, match=r"pip install 'kinetics-prep\[train\]', or prepare the data with --format p"):
        tensorflow_batches.dataset(reader, 0, 1)
