"""Which frame is shown when: small true cases, and a second way to compute it."""

import random
from fractions import Fraction

import pytest

from kinetics_prep.media.resample import frame_count, frame_times_us, resample, with_times

NTSC = Fraction(30_000, 1001)


@pytest.mark.parametrize(
    "seconds, fps, count",
    [
        (10.0, Fraction(25), 250),
        (10.0, NTSC, 300),
        (0.5, Fraction(25), 13),
        (0.04, Fraction(25), 1),
        (0.0400001, Fraction(25), 1),  # less than a microsecond over
        (0.040001, Fraction(25), 2),
        (1 / 3, Fraction(30), 10),
    ],
)
def test_frame_count_counts_the_frames_that_begin_before_the_end(seconds, fps, count):
    assert frame_count(seconds, fps) == count
    times = frame_times_us(count + 1, fps)
    assert times[count - 1] < round(seconds * 1e6) <= times[count]


def test_frame_times_are_exact_at_uneven_rates():
    times = frame_times_us(301, NTSC)
    assert times[:2] == [0, Fraction(1001 * 1_000_000, 30_000)] and times[300] == 10_010_000


def test_resample_shows_the_last_frame_whose_time_has_come():
    decoded = [(0, 10, "a"), (10, 10, "b"), (15, 10, "c"), (40, 10, "d")]
    assert list(resample(decoded, [0, 9, 10, 14, 16, 39, 40, 49])) == list(enumerate("aabbccdd"))


def test_resample_stops_where_the_last_frame_ends():
    assert list(resample([(0, 10, "a"), (10, 10, "b")], [0, 10, 19, 20, 30])) == list(enumerate("abb"))


def test_resample_fills_the_time_before_the_first_frame_with_it():
    assert list(resample([(25, 10, "a"), (35, 10, "b")], [0, 10, 20, 30, 40])) == list(enumerate("aaaab"))


def test_resample_ignores_frames_that_go_back_in_time():
    assert list(resample([(0, 9, "a"), (20, 9, "b"), (10, 9, "x"), (30, 9, "c")], [0, 15, 25, 30])) == list(
        enumerate("aabc")
    )


def test_of_two_frames_at_one_time_the_second_is_shown():
    assert list(resample([(0, 9, "a"), (0, 9, "b"), (10, 9, "c")], [0, 5, 10])) == list(enumerate("bbc"))


def test_resample_of_nothing_is_nothing():
    assert list(resample([], [0, 10])) == []


def test_resample_reads_no_further_than_it_must():
    """A clip from the middle of a film must not decode the rest of it."""
    frames = iter([(0, 10, "a"), (10, 10, "b"), (20, 10, "c"), (30, 10, "d")])
    assert list(resample(frames, [0, 10])) == list(enumerate("ab"))
    assert list(frames) == [(30, 10, "d")]


@pytest.mark.parametrize("seed", range(20))
def test_resample_agrees_with_a_search_for_each_time(seed):
    chance = random.Random(seed)
    starts = sorted(chance.sample(range(-50, 200), 12))
    decoded = [(start, chance.randrange(1, 30), number) for number, start in enumerate(starts)]
    times = sorted(chance.sample(range(220), 40))
    ends = decoded[-1][0] + decoded[-1][1]
    expected = [max((n for start, _, n in decoded if start <= time), default=0) for time in times if time < ends]
    assert list(resample(decoded, times)) == list(enumerate(expected))


# Durations and tolerance


def test_a_frame_of_unknown_duration_lasts_as_long_as_the_frame_before_it():
    decoded = [(0, None, "a"), (30, None, "b"), (100, 7, "c"), (100, None, "d"), (50, 0, "e")]
    timed = list(with_times(decoded, Fraction(0), Fraction(25)))
    assert [duration for _, duration, _ in timed] == [40_000, 30, 7, 70, 70]


def test_each_frame_begins_earlier_by_the_tolerance_and_carries_its_time():
    timed = list(with_times([(-5, 10, "a"), (1000, 10, "b")], Fraction(1, 2), Fraction(25)))
    assert timed == [
        (Fraction(-11, 2), 10, (Fraction(-11, 2), "a")),
        (Fraction(1999, 2), 10, (Fraction(1999, 2), "b")),
    ]
