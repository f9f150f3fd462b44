"""The order in which clips are read."""

import itertools

import numpy as np
import pytest

from kinetics_prep.errors import BadOption
from kinetics_prep.reading.order import Once, Order


def test_every_epoch_holds_each_clip_once_in_an_order_of_its_own():
    order = Order(clips=10, batch=5, seed=3)
    epochs = [[order.at(position) for position in range(first, first + 10)] for first in (0, 10, 20)]
    for number, epoch in enumerate(epochs):
        assert [epoch_number for epoch_number, _ in epoch] == [number] * 10
        assert sorted(clip for _, clip in epoch) == list(range(10))
    assert len({tuple(clip for _, clip in epoch) for epoch in epochs}) == 3


def test_the_order_is_that_of_the_seed_on_every_machine():
    # Written down once: a checkpoint of today must go on with the same clips in years.
    assert [clip for _, clip in Order(8, 8, seed=1).batch_at(0)] == [3, 5, 2, 7, 0, 6, 1, 4]
    assert [clip for _, clip in Order(8, 8, seed=2**64 - 1).batch_at(5)] == [0, 2, 1, 5, 7, 6, 4, 3]


def test_batches_follow_each_other_across_the_end_of_an_epoch():
    order = Order(clips=5, batch=3, seed=0)
    assert [epoch for step in range(4) for epoch, _ in order.batch_at(step)] == [0] * 5 + [1] * 5 + [2] * 2
    assert [order.at(position) for position in order.positions(1)] == order.batch_at(1)


def test_a_batch_may_be_larger_than_an_epoch():
    assert [epoch for epoch, _ in Order(clips=2, batch=5, seed=0).batch_at(1)] == [2, 3, 3, 4, 4]


def test_any_step_can_be_computed_first():
    far = Order(1000, 16, seed=5).batch_at(123_456)
    order = Order(1000, 16, seed=5)
    for step in (0, 123_455, 7):
        order.batch_at(step)
    assert order.batch_at(123_456) == far


@pytest.mark.parametrize("processes", [1, 2, 3, 6])
def test_processes_share_each_batch_equally(processes):
    whole = Order(clips=7, batch=6, seed=9)
    shares = [Order(7, 6, 9, process=process, processes=processes) for process in range(processes)]
    for step in range(5):
        assert [sample for share in shares for sample in share.batch_at(step)] == whole.batch_at(step)
        assert {len(share.batch_at(step)) for share in shares} == {6 // processes}


def test_without_a_shuffle_clips_come_as_they_stand():
    assert Order(3, 2, shuffle=False).batch_at(1) == [(0, 2), (1, 0)]


def test_once_through_ends_with_a_short_batch():
    once = Once(clips=7, batch=3)
    assert once.steps == 3
    assert [once.batch_at(step) for step in range(4)] == [
        [(0, 0), (0, 1), (0, 2)],
        [(0, 3), (0, 4), (0, 5)],
        [(0, 6)],
        [],
    ]


def test_once_through_each_clip_is_read_by_one_process():
    shares = [Once(11, 4, process, 3) for process in range(3)]
    read = [clip for step in range(3) for share in shares for _, clip in share.batch_at(step)]
    assert read == list(range(11))


def test_a_clip_that_cannot_be_read_is_replaced_by_the_next_one_and_once_through_by_none():
    order = Order(clips=4, batch=2, seed=0)
    assert list(order.stand_ins(5)) == [6, 7, 8]
    assert not Once(4, 2).stand_ins(1)


def test_orders_differ_by_seed_and_look_uniform():
    # Each clip stands at each place about equally often: 2000 permutations of 6, 333 expected, five sigma are 83.
    counts = np.zeros((6, 6), int)
    for seed in range(2000):
        for place, (_, clip) in enumerate(Order(6, 6, seed).batch_at(0)):
            counts[place, clip] += 1
    assert np.abs(counts - 2000 / 6).max() < 83


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"clips": 0, "batch": 1}, "0 clips"),
        ({"clips": 1, "batch": 0}, "batches of 0"),
        ({"clips": 1, "batch": 4, "processes": 3}, "a batch of 4 cannot be shared among 3 processes"),
        ({"clips": 1, "batch": 4, "process": 2, "processes": 2}, "process 2 of 2: expected 0 to 1"),
        ({"clips": 1, "batch": 4, "seed": -1}, "seed is -1"),
        ({"clips": 1, "batch": 4, "seed": 2**64}, "expected 0 to 2.64 - 1"),
    ],
)
def test_impossible_orders_are_refused(settings, message):
    with pytest.raises(BadOption, match=message):
        Order(**settings)


@pytest.mark.parametrize("process, processes", [(-1, 2), (2, 2), (0, 0)])
def test_impossible_processes_are_refused_once_through_too(process, processes):
    with pytest.raises(BadOption, match=f"process {process} of {processes}"):
        Once(4, 2, process, processes)


def test_a_permutation_is_the_order_of_philox_numbers():
    """The same from the raw numbers, sorted by Python."""
    for seed, epoch in ((0, 0), (7, 3), (2**64 - 1, 12)):
        numbers = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(50).tolist()
        expected = sorted(range(50), key=numbers.__getitem__)
        assert [Order(50, 1, seed).at(epoch * 50 + place) for place in range(50)] == [(epoch, k) for k in expected]


def test_neighbouring_epochs_share_their_order_only_by_chance():
    order = Order(clips=6, batch=6, seed=1)
    orders = [tuple(clip for _, clip in order.batch_at(epoch)) for epoch in range(200)]
    assert sum(first == second for first, second in itertools.pairwise(orders)) <= 3  # 200 tries of 1 in 720
