"""Vectors of sixteen: each operation is NumPy's, lane by lane."""

import numba
import numpy as np
import pytest

from kinetics_prep.flow import simd
from kinetics_prep.flow.simd import LANES, REACH

RNG = np.random.default_rng(0)
A, B, C = RNG.normal(0, 3, (3, LANES)).astype(np.float32)
POSITIVE = np.exp(RNG.uniform(-30, 30, LANES)).astype(np.float32)


def through(operation, *vectors: np.ndarray) -> np.ndarray:
    """What an operation on one to three vectors gives."""
    source = np.concatenate(vectors).astype(np.float32)
    result = np.zeros(LANES, np.float32)
    count = len(vectors)

    @numba.njit
    def kernel(source, result):
        numbers, to = simd.pointer(source, 0), simd.pointer(result, 0)
        if count == 1:
            simd.store(to, 0, operation(simd.load(numbers, 0)))
        elif count == 2:
            simd.store(to, 0, operation(simd.load(numbers, 0), simd.load(numbers, LANES)))
        else:
            first, second, third = simd.load(numbers, 0), simd.load(numbers, LANES), simd.load(numbers, 2 * LANES)
            simd.store(to, 0, operation(first, second, third))

    kernel(source, result)
    return result


@pytest.mark.parametrize(
    "operation, meant",
    [
        (lambda x, y: x + y, np.add),
        (lambda x, y: x - y, np.subtract),
        (lambda x, y: x * y, np.multiply),
        (lambda x, y: x / y, np.divide),
        (lambda x, y: simd.minimum(x, y), np.minimum),
        (lambda x, y: simd.maximum(x, y), np.maximum),
        (lambda x, y: simd.cut(x, simd.absolute(y)), lambda x, y: np.clip(x, -abs(y), abs(y))),
        (lambda x, y: simd.select(simd.less(x, y), x, -y), lambda x, y: np.where(x < y, x, -y)),
    ],
    ids=["+", "-", "*", "/", "minimum", "maximum", "cut", "select"],
)
def test_operations_on_two_vectors(operation, meant):
    assert np.array_equal(through(numba.njit(operation), A, B), meant(A, B))


@pytest.mark.parametrize(
    "operation, meant, of",
    [
        (lambda x: -x, np.negative, A),
        (lambda x: simd.absolute(x), np.abs, A),
        (lambda x: simd.floor(x), np.floor, A),
        (lambda x: simd.sqrt(x), np.sqrt, POSITIVE),
        (lambda x: x + simd.lanes(), lambda x: x + np.arange(LANES, dtype=np.float32), A),
        (lambda x: x * simd.splat(np.float32(3)), lambda x: x * np.float32(3), A),
        (lambda x: simd.splat(simd.lowest(x)), lambda x: np.full(LANES, x.min()), A),
        (lambda x: simd.splat(simd.highest(x)), lambda x: np.full(LANES, x.max()), A),
    ],
    ids=["-", "absolute", "floor", "sqrt", "lanes", "splat", "lowest", "highest"],
)
def test_operations_on_one_vector(operation, meant, of):
    assert np.array_equal(through(numba.njit(operation), of), meant(of))


SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 2.5, -2.5, np.inf, -np.inf, *[0.5] * 8], np.float32)
NAN_OR = np.where(np.arange(LANES) % 2, np.nan, A).astype(np.float32)


def test_less_is_false_for_equal_numbers_and_for_not_a_number():
    less = numba.njit(lambda x, y: simd.select(simd.less(x, y), simd.splat(np.float32(1)), simd.splat(np.float32(0))))
    for x, y in ((A, A), (A, B), (SPECIAL, SPECIAL[::-1]), (NAN_OR, A + 1), (A - 1, NAN_OR)):
        assert np.array_equal(through(less, x, y), x < y)


def test_minimum_and_maximum_give_the_second_where_one_is_not_a_number():
    minimum, maximum = numba.njit(lambda x, y: simd.minimum(x, y)), numba.njit(lambda x, y: simd.maximum(x, y))
    for x, y in ((NAN_OR, B), (B, NAN_OR), (SPECIAL, SPECIAL[::-1])):
        assert np.array_equal(through(minimum, x, y), np.where(x < y, x, y), equal_nan=True)
        assert np.array_equal(through(maximum, x, y), np.where(x > y, x, y), equal_nan=True)


def test_cut_leaves_what_is_within_the_bound_and_nothing_beyond():
    cut = numba.njit(lambda x, y: simd.cut(x, y))
    for bound in (0.0, 1.0, 2.5, np.inf):
        bounds = np.full(LANES, bound, np.float32)
        assert np.array_equal(through(cut, SPECIAL, bounds), np.clip(SPECIAL, -bounds, bounds))


def test_pointers_are_moved_by_numbers():
    @numba.njit
    def kernel(source, result):
        numbers = simd.moved(simd.moved(simd.pointer(source, 5), 7), -2)
        simd.store(simd.pointer(result, 0), 3, simd.load(numbers, 1))

    result = np.zeros(LANES + 4, np.float32)
    kernel(np.arange(40, dtype=np.float32), result)
    assert result.tolist() == [0, 0, 0, *range(11, 11 + LANES), 0]


def test_integers_are_added_subtracted_and_multiplied_lane_by_lane():
    @numba.njit
    def kernel(index, numbers, result):
        x, two = simd.load_integers(index, 1), simd.splat_integer(np.int32(2))
        for k, places in enumerate((x + two, x - two, x * two)):
            simd.store(simd.pointer(result, 0), k * LANES, simd.gather(simd.pointer(numbers, 0), 0, places))

    index = np.random.default_rng(3).integers(2, 20, LANES + 1).astype(np.int32)
    result = np.zeros(3 * LANES, np.float32)
    kernel(index, np.arange(60, dtype=np.float32), result)
    x = index[1:]
    assert result.tolist() == [*(x + 2), *(x - 2), *(x * 2)]


def test_fma_rounds_once():
    if not simd.FUSED:
        pytest.skip("this processor cannot multiply and add in one step")
    exact = (A.astype(np.float64) * B + C).astype(np.float32)  # float64 holds the product of two float32
    assert np.array_equal(through(numba.njit(lambda x, y, z: simd.fma(x, y, z)), A, B, C), exact)


def test_a_guessed_reciprocal_is_off_by_a_twentieth_at_most():
    guessed = through(numba.njit(lambda x: simd.reciprocal_guess(x)), POSITIVE)
    assert np.abs(guessed * POSITIVE - 1).max() < 0.051


def test_total_adds_halves_to_halves():
    halves = A
    while len(halves) > 1:
        halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
    assert through(numba.njit(lambda x: simd.splat(simd.total(x))), A)[0] == halves[0]


@numba.njit
def picked(numbers, index, result):
    source, to, places = simd.pointer(numbers, 0), simd.pointer(result, 0), simd.load_integers(index, 0)
    simd.store(to, 0, simd.take(source, 3, places))
    simd.store(to, LANES, simd.gather(source, 3, places))
    simd.store(to, 2 * LANES, simd.gather(source, 5, places * simd.splat_integer(np.int32(2)) + places - places))


@pytest.mark.parametrize("seed", range(5))
def test_take_and_gather_fetch_what_the_index_says(seed):
    rng = np.random.default_rng(seed)
    numbers, index = rng.normal(size=100).astype(np.float32), rng.integers(0, REACH, LANES).astype(np.int32)
    index[:2] = 0, REACH - 1
    result = np.zeros(3 * LANES, np.float32)
    picked(numbers, index, result)
    expected = np.concatenate([numbers[3 + index], numbers[3 + index], numbers[5 + 2 * index]])
    assert np.array_equal(result, expected)


@numba.njit
def picked_near(numbers, index, result):
    simd.store(simd.pointer(result, 0), 0, simd.take_near(simd.pointer(numbers, 0), 3, simd.load_integers(index, 0)))


@pytest.mark.parametrize("seed", range(5))
def test_take_near_fetches_what_the_index_says(seed):
    rng = np.random.default_rng(seed)
    shift = np.repeat([0, simd.NEAR_SHIFT], LANES // 2)
    numbers = rng.normal(size=100).astype(np.float32)
    index = (rng.integers(0, simd.NEAR_REACH, LANES) + shift).astype(np.int32)
    index[[0, -1]] = 0, simd.NEAR_SHIFT + simd.NEAR_REACH - 1
    result = np.zeros(LANES, np.float32)
    picked_near(numbers, index, result)
    assert np.array_equal(result, numbers[3 + index])


def test_float_indices_become_integers():
    @numba.njit
    def fetched(numbers, result):
        places = simd.to_integers(simd.lanes() + simd.splat(np.float32(2)))
        simd.store(simd.pointer(result, 0), 0, simd.gather(simd.pointer(numbers, 0), 0, places))

    numbers, result = np.arange(40, dtype=np.float32), np.zeros(LANES, np.float32)
    fetched(numbers, result)
    assert result.tolist() == list(range(2, 18))
