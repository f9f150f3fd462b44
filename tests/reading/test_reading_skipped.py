"""Counting skipped clips."""

import threading
from pathlib import Path

from kinetics_prep.reading.skipped import Skipped

SHARD = Path("train-00000-of-00001.tfrecord")


def test_a_clip_counts_once_and_its_first_message_stays():
    skipped = Skipped()
    assert (len(skipped), skipped.times, skipped.clips) == (0, 0, [])
    skipped.add(SHARD, "a", "broken")
    skipped.add(SHARD, "b", "gone")
    skipped.add(SHARD, "a", "gone")
    assert skipped.clips == [(SHARD, "a", "broken"), (SHARD, "b", "gone")]
    assert (len(skipped), skipped.times) == (2, 3)


def test_clips_of_one_name_in_two_shards_are_two():
    skipped = Skipped()
    skipped.add(SHARD, "a", "broken")
    skipped.add(Path("val-00000-of-00001.tfrecord"), "a", "broken")
    assert len(skipped) == 2


def test_no_skip_of_any_thread_is_lost():
    skipped = Skipped()
    threads = [
        threading.Thread(target=lambda k=k: [skipped.add(SHARD, str(j % 7), str(k)) for j in range(2000)])
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(skipped), skipped.times) == (7, 8000)
