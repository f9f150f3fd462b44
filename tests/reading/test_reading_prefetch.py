"""Batches read ahead of time: in order whatever the threads do, and in memory that is used again."""

import gc
import os
import threading

import numpy as np
import pytest
from prepared import folder
from sample_cases import BOTH, CENTRE, SAMPLER, SIZE, assert_same, read

from kinetics_prep.errors import BadOption
from kinetics_prep.reading import CLIP_READERS, array_pool, prefetch
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.prefetch import Prefetcher
from kinetics_prep.reading.reader import Reader
from kinetics_prep.records import SHARD_FORMATS


@pytest.fixture(params=SHARD_FORMATS)
def format(request) -> str:
    return request.param


def reader(format: str = "parquet", batch: int = 4, streams=BOTH) -> Reader:
    clips = ClipIndex.open(folder(), "train", format)
    return Reader(clips, SAMPLER, Order(len(clips), batch, seed=5), streams)


def test_samples_do_not_depend_on_the_number_of_threads(format):
    clips = ClipIndex.open(folder(), "train", format)
    assert_same(read(clips, threads=1), read(clips, threads=7))


def test_a_sample_that_takes_longest_still_comes_first(monkeypatch):
    expected = list(Prefetcher(reader(batch=3), 0, 2, threads=1))
    others_are_read, count, lock = threading.Event(), [0], threading.Lock()
    read_part = CLIP_READERS["parquet"].read_part

    def slow_first(clip, wanted, verify=True):
        with lock:
            count[0] += 1
            number = count[0]
        if number == 1:
            assert others_are_read.wait(60)
        part = read_part(clip, wanted, verify)
        if number == 5:
            others_are_read.set()
        return part

    monkeypatch.setattr(CLIP_READERS["parquet"], "read_part", slow_first)
    assert_same(list(Prefetcher(reader(batch=3), 0, 2, threads=6)), expected)


def test_a_run_continues_where_it_was_interrupted(format):
    clips = ClipIndex.open(folder(), "train", format)
    assert_same(read(clips, first_step=3, steps=4), read(clips, steps=7)[3:])


def test_processes_share_each_batch(format):
    clips = ClipIndex.open(folder(), "train", format)
    whole = read(clips)
    shares = [read(clips, order=Order(len(clips), 4, 5, process=process, processes=2)) for process in range(2)]
    joined = [
        ({stream: np.concatenate([first[stream], second[stream]]) for stream in BOTH}, np.concatenate([ids, other_ids]))
        for (first, ids), (second, other_ids) in zip(*shares)
    ]
    assert_same(joined, whole)


def test_once_through_reads_each_clip_and_ends_with_a_short_batch(format):
    clips = ClipIndex.open(folder(), "train", format)
    batches = read(clips, CENTRE, Once(len(clips), 2), steps=3)
    assert [len(class_ids) for _, class_ids in batches] == [2, 2, 1]
    assert [len(images["flow"]) for images, _ in batches] == [2, 2, 1]
    assert np.concatenate([class_ids for _, class_ids in batches]).tolist() == clips.class_ids.tolist()


def test_batches_can_be_requested_in_any_order_and_from_many_threads():
    expected = list(Prefetcher(reader(), 0, 8, threads=3))
    batches = Prefetcher(reader(), 0, 8, threads=3)
    numbers = (6, 1, 1, 7, 0, -1, -8)
    assert_same([batches[number] for number in numbers], [expected[number] for number in numbers])
    received = {}
    threads = [threading.Thread(target=lambda k=k: received.setdefault(k, batches[k])) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same([received[k] for k in range(8)], expected)


def test_two_threads_never_begin_batches_at_once(monkeypatch):
    begin, active, most, overlap = Prefetcher._begin, [0], [0], threading.Event()

    def noted(self, step):
        active[0] += 1
        most[0] = max(most[0], active[0])
        if active[0] > 1:
            overlap.set()
        overlap.wait(0.05)  # time for another thread to come, if nothing keeps it out
        active[0] -= 1
        return begin(self, step)

    monkeypatch.setattr(Prefetcher, "_begin", noted)
    batches = Prefetcher(reader(), 0, 4, threads=2)
    threads = [threading.Thread(target=batches.__getitem__, args=(k,)) for k in (0, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_step_that_is_not_there_is_an_index_error():
    batches = Prefetcher(reader(), 2, 3)
    assert len(batches) == 3
    with pytest.raises(IndexError):
        batches[3]


def filled_positions(monkeypatch) -> list[int]:
    """A list to which each position that is read is added."""
    positions, fill = [], Reader.fill

    def noted(self, position, out):
        positions.append(position)
        return fill(self, position, out)

    monkeypatch.setattr(Reader, "fill", noted)
    return positions


@pytest.mark.parametrize("batch, threads, ahead", [(4, 1, 1), (4, 4, 1), (4, 5, 2), (1, 3, 3)])
def test_as_many_batches_are_begun_as_give_every_thread_a_clip(monkeypatch, batch, threads, ahead):
    positions = []
    fill = Reader.fill
    monkeypatch.setattr(
        Reader, "fill", lambda self, position, out: positions.append(position) or fill(self, position, out)
    )
    batches = Prefetcher(reader(batch=batch), 0, 10, threads)
    batches[0]
    batches._pool.shutdown(wait=True)
    assert sorted(positions) == list(range(batch * (1 + ahead)))


def test_batches_that_were_begun_and_not_requested_are_dropped():
    batches = Prefetcher(reader(batch=1), 0, 100, threads=3)
    for number in (0, 50, 20, 80, 10):
        batches[number]
        assert list(batches._begun) == [number + 1, number + 2, number + 3]


def test_nothing_is_read_beyond_the_last_step(monkeypatch):
    positions = []
    fill = Reader.fill
    monkeypatch.setattr(
        Reader, "fill", lambda self, position, out: positions.append(position) or fill(self, position, out)
    )
    batches = Prefetcher(reader(batch=1), 3, 2, threads=4)
    assert len(list(batches)) == 2
    batches._pool.shutdown(wait=True)
    assert sorted(positions) == [3, 4]


@pytest.mark.parametrize("run", [(-1, 3, 1), (0, -1, 1), (0, 3, 0)])
def test_a_run_of_impossible_numbers_is_refused(run):
    with pytest.raises(BadOption, match="expected 0 or more, and 1 thread or more"):
        Prefetcher(reader(), *run)


def test_a_run_of_no_steps_is_empty():
    assert list(Prefetcher(reader(), 0, 0)) == []


def test_by_default_there_is_a_thread_for_each_processor_of_the_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 4, 6}, raising=False)
    assert prefetch.default_threads() == 3
    assert Prefetcher(reader(), 0, 1)._pool._max_workers == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert prefetch.default_threads() == 1


# Memory -----------------------------------------------------------------------------------------


def test_a_batch_that_is_still_used_is_not_overwritten(format):
    clips = ClipIndex.open(folder(), "train", format)
    kept = read(clips, steps=12)
    assert_same(kept, read(clips, steps=12))
    part = read(clips, steps=1)[0][0]["rgb"][2, 1]
    before = part.copy()
    gc.collect()
    read(clips, first_step=1, steps=6)
    np.testing.assert_array_equal(part, before)


def test_freed_memory_is_kept_in_the_process(monkeypatch):
    calls = []
    monkeypatch.setattr(prefetch, "keep_freed_memory", lambda: calls.append("kept"))
    Prefetcher(reader(), 0, 1)
    assert calls == ["kept"]


def test_the_memory_of_a_batch_that_is_gone_is_used_again(monkeypatch):
    allocations, allocate = [], array_pool._allocate
    monkeypatch.setattr(array_pool, "_allocate", lambda count: allocations.append(count) or allocate(count))
    batches = Prefetcher(reader(), 0, 40, threads=2)
    for number in range(40):
        batches[number]
    flow_bytes = 4 * 6 * SIZE * SIZE * 2
    assert 1 <= allocations.count(flow_bytes) <= 3  # the current batch, and those that are being filled


def test_no_thread_is_left_after_close(format):
    before = set(threading.enumerate())
    for _ in range(3):
        read(ClipIndex.open(folder(), "train", format), threads=5)
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("clips"):
            thread.join(10)
            assert not thread.is_alive()
