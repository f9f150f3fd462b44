"""Tally: how many items there are, and which examples are shown."""

import random

import pytest

from kinetics_prep.annotations.check.tally import EXAMPLES, Finding, Tally


def finding(items, **options):
    tally = Tally("numbers", str, **options)
    for item in items:
        tally.add(item)
    return tally.finding()


@pytest.mark.parametrize("count", [0, 1, EXAMPLES - 1, EXAMPLES, EXAMPLES + 1, 100])
def test_all_items_are_counted_and_the_first_are_shown(count):
    expected = tuple(map(str, range(min(count, EXAMPLES))))
    assert finding(range(count)) == Finding("numbers", count, expected, is_refused=False)


def test_other_items_are_not_counted():
    odd = finding(range(100), concerns=lambda number: number % 2 == 1, is_refused=True)
    assert odd == Finding("numbers", 50, ("1", "3", "5", "7", "9"), is_refused=True)


@pytest.mark.parametrize("seed", range(10))
def test_the_examples_are_those_of_the_lowest_order_and_then_those_that_were_added_first(seed):
    items = [divmod(number, 4) for number in range(40)]
    random.Random(seed).shuffle(items)
    lowest = tuple(map(str, sorted(items, key=lambda item: item[1])[:EXAMPLES]))
    assert finding(items, order=lambda item: item[1]) == Finding("numbers", 40, lowest)


def test_a_finding_is_taken_at_any_time():
    tally = Tally("numbers", str)
    assert tally.finding().count == 0
    tally.add(7)
    assert tally.finding() == Finding("numbers", 1, ("7",))
