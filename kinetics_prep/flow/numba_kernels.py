"""The kernels of TV-L1 for the CPU: float32, sixteen pixels at a time, compiled by Numba.

The same kernels as `numpy_kernels` under `CUDA_RULE`: the same names, the same mathematics. What makes them fast:

**Scaling.** With g = |grad I1w| the threshold operator is a clamp: rho / g, cut to +-lambda theta g, along
the unit vector grad I1w / g. `_linearise` stores these four (`RHO`, `BOUND`, `NX`, `NY`), so an iteration
needs no division and no branch for it. p is stored times theta, so its divergence is added to v unscaled.

**One pass for both steps.** `_row` computes u in one row (primal) and then p in the row above (dual), which
needs u in both. p waits for two square roots; so it is finished one vector later (`_dual_begun`,
`_dual_ended`), while the next u is computed. Both quotients of the dual step come from a single reciprocal,
computed by multiplications and additions (`_reciprocal`), because the divider is busy with the roots.

**Many iterations per pass.** Iteration k + 1 may follow iteration k one row behind: the row above has its new
p when u in this row is done. So `_iterate_together` takes dozens of iterations down the picture together,
each a few rows at a time that fit in the first cache, all within the second; linearising goes ahead of
them. Only the order changes: the bits are those of one iteration after another. How many iterations may go
together is known beforehand, because the change is measured seldom (`tvl1.next_measured`).

**Memory.** Each row holds the ten fields of a level. Fields whose neighbours in x are needed are stored in lines
(`U1`, `U2`, `P11`, `P21`): a margin of sixteen numbers, then the pixels, padded to a multiple of sixteen. The
others are stored in blocks, sixteen pixels of each field after another, so that a loop needs few addresses.
No loop tests for the border: p left of the first pixel is a zero in memory, u right of the last pixel is a copy
of the last, which `_row` writes, and above the first row there is a row of zeros. The padding on the right is
computed like pixels; it has no data term, and nothing flows from it into the picture.

**Warping.** Sixteen pixels that move alike read from a few rows, within 32 columns. Each such row is loaded
once for I1, I1x and I1y, and `take` picks each pixel's four neighbours in registers. Where the motion
tears pixels further apart, `gather` fetches them one by one; the arithmetic is the same. The rows and
columns needed are computed one vector ahead, because everything else waits for them.

`python benchmarks/tvl1.py profile` makes a profile. CONTRIBUTING.md says how much each step gained.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numba.extending import register_jitable

from kinetics_prep.flow import tvl1
from kinetics_prep.flow.compiled import align_stack, compiled, inlined, not_inlined
from kinetics_prep.flow.parameters import TVL1
from kinetics_prep.flow.simd import (
    LANES,
    NEAR_REACH,
    NEAR_SHIFT,
    REACH,
    FloatPointer,
    FloatVector,
    IntegerVector,
    absolute,
    cut,
    floor,
    fma,
    gather,
    highest,
    lanes,
    less,
    load,
    load_integers,
    lowest,
    maximum,
    minimum,
    moved,
    near_shift,
    pointer,
    reciprocal_guess,
    select,
    splat,
    splat_integer,
    sqrt,
    store,
    take,
    take_near,
    to_integers,
    total,
)
from kinetics_prep.flow.tvl1 import GO_ON, LEVEL, Settings

U1, U2, P11, P21 = range(4)
LINES = 4
P12, P22, RHO, NX, NY, BOUND = range(0, 6 * LANES, LANES)
BLOCK = 6 * LANES
MARGIN = LANES

L1_BYTES, L2_BYTES = 46_000, 600_000
"""How much of a core's two caches `iterate` fills. These sizes affect the speed only."""

FLT_EPSILON = np.float32(np.finfo(np.float32).eps)


class Plan(NamedTuple):
    """Where pyramids and fields lie in memory, and how to resize, for frames of one size."""

    levels: np.ndarray
    """int64 [levels, 8]; `HEIGHT` to `ENLARGE_COLUMNS` name the columns."""
    before: np.ndarray
    after: np.ndarray
    share: np.ndarray
    """What `tvl1.neighbours` returns, all tables in a row, those of columns padded: int32, int32 and float32 [n]."""
    scale: np.float32
    """The factor by which flow grows from a level to the next finer level."""


HEIGHT, WIDTH, IMAGE, FIELDS_AT, SHRINK, SHRINK_COLUMNS, ENLARGE, ENLARGE_COLUMNS = range(8)
"""Columns of `Plan.levels`: a level's size, where its image and its fields begin, and where the tables begin for
resizing to it from the next finer level (SHRINK) and from the next coarser level (ENLARGE)."""


class Pair(NamedTuple):
    """Two frames, and memory for the flow between them."""

    plan: Plan
    fields: np.ndarray
    """float32 [n]: the fields of all levels; see `Plan`."""
    pyramid0: np.ndarray
    pyramid1: np.ndarray
    """float32 [n]: the images of all levels, each followed by its gradient in x and in y."""
    row: np.ndarray
    """float32 [n]: room for a row of the finest level."""


class State(NamedTuple):
    """One level of a pair."""

    fields: FloatPointer
    """To float32 [(height + 1) * row_of(width)]."""
    I0: FloatPointer
    I1: FloatPointer
    """To float32 [height * line_of(width)]; I1x and I1y, of the same size, follow I1."""
    height: int
    width: int


Aim: TypeAlias = tuple[int, int, int, bool, FloatVector, tuple[IntegerVector, ...], tuple[FloatVector, ...]]
"""Where sixteen pixels have moved to; see `_aimed`."""


@register_jitable
def padded(width: int) -> int:
    """The width rounded up to a multiple of sixteen."""
    return -(-width // LANES) * LANES


@register_jitable
def line_of(width: int) -> int:
    """How many numbers a line takes: its margin and its pixels."""
    return MARGIN + padded(width)


@register_jitable
def row_of(width: int) -> int:
    """How many numbers a row takes: its lines and its blocks."""
    return LINES * line_of(width) + padded(width) // LANES * BLOCK


_next_measured = register_jitable(tvl1.next_measured)


@inlined
def pixels(state: State) -> int:
    return state.height * state.width


@inlined
def measured_next(state: State, n: int, previous: float, threshold: float, iterations: int) -> tuple[int, bool]:
    return _next_measured(n, previous, threshold, iterations)


@inlined
def _lines_of(state: State, y: int) -> FloatPointer:
    """Pointer to the first pixel of the first line of row y. Row -1 exists and holds zeros."""
    return moved(state.fields, (y + 1) * row_of(state.width) + MARGIN)


@inlined
def _blocks_of(state: State, y: int) -> FloatPointer:
    """Pointer to the first block of row y."""
    return moved(state.fields, (y + 1) * row_of(state.width) + LINES * line_of(state.width))


# Warping -------------------------------------------------------------------------------------------


@inlined
def _near(distance: FloatVector) -> FloatVector:
    """Keys' kernel, a = -1/2, at distances from 0 to 1."""
    value = fma(splat(np.float32(1.5)), distance, splat(np.float32(-2.5)))
    return fma(value, distance * distance, splat(np.float32(1)))


@inlined
def _far(distance: FloatVector) -> FloatVector:
    """Keys' kernel at distances from 1 to 2."""
    value = fma(splat(np.float32(-0.5)), distance, splat(np.float32(2.5)))
    return fma(fma(value, distance, splat(np.float32(-4))), distance, splat(np.float32(2)))


@inlined
def _cubic(distance: FloatVector) -> FloatVector:
    """Keys' kernel at any distance d: e^2 (e - 1) / 2 + b^2 (1 - 2 b), e = max(2 - |d|, 0), b = max(1 - |d|, 0)."""
    ones, zero = splat(np.float32(1)), splat(np.float32(0))
    e = maximum(splat(np.float32(2)) - absolute(distance), zero)
    e_1 = e - ones
    b = maximum(e_1, zero)
    return fma(e * e * e_1, splat(np.float32(0.5)), b * b * fma(splat(np.float32(-2)), b, ones))


@inlined
def _clamped(x: FloatVector, limit: float | np.float32) -> FloatVector:
    """Clipped to 0 ... limit."""
    return minimum(maximum(x, splat(np.float32(0))), splat(np.float32(limit)))


def _picked_by(take: Callable[..., FloatVector]) -> Callable[..., FloatVector]:
    """Makes a function that sums four neighbours of each pixel along a row, weighted. `take` fetches them."""

    @inlined
    def picked(
        image: FloatPointer, at: int, columns: tuple[IntegerVector, ...], weights: tuple[FloatVector, ...]
    ) -> FloatVector:
        value = take(image, at, columns[0]) * weights[0]
        value = fma(take(image, at, columns[1]), weights[1], value)
        value = fma(take(image, at, columns[2]), weights[2], value)
        return fma(take(image, at, columns[3]), weights[3], value)

    return picked


_fetched = _picked_by(gather)


@inlined
def _weights_of(t: FloatVector) -> tuple[FloatVector, ...]:
    """The weights of four neighbouring pixels, for a place t to the right of the second."""
    ones = splat(np.float32(1))
    return _far(t + ones), _near(t), _near(ones - t), _far(splat(np.float32(2)) - t)


@inlined
def _place_of(state: State, y: int, x0: int) -> tuple[FloatVector, FloatVector]:
    """Where sixteen pixels of row y have moved to by u: x and y."""
    lines, line = _lines_of(state, y), line_of(state.width)
    x = splat(np.float32(x0)) + lanes() + load(lines, x0 + U1 * line)
    y = splat(np.float32(y)) + load(lines, x0 + U2 * line)
    # Two or more pixels outside the picture, every pixel has the border's colour.
    x = minimum(maximum(x, splat(np.float32(-2))), splat(np.float32(state.width + 1)))
    return x, minimum(maximum(y, splat(np.float32(-2))), splat(np.float32(state.height + 1)))


@inlined
def _columns_of(left: FloatVector, inside: bool, first: int, width: int) -> tuple[IntegerVector, ...]:
    """The four columns from left - 1 on, relative to `first`; those outside the image become its first or last."""
    base = splat(np.float32(first))
    if inside:
        ones, column = splat_integer(np.int32(1)), to_integers(left - base)
        return column - ones, column, column + ones, column + ones + ones
    ones, rightmost = splat(np.float32(1)), np.float32(width - 1)
    return (
        to_integers(_clamped(left - ones, rightmost) - base),
        to_integers(_clamped(left, rightmost) - base),
        to_integers(_clamped(left + ones, rightmost) - base),
        to_integers(_clamped(left + ones + ones, rightmost) - base),
    )


@inlined
def _aimed(state: State, y0: int, x0: int) -> Aim:
    """Where in I1 the sixteen pixels of row y0 from x0 on have moved to.

    Returns:
      The first row and the first column that they need; how many rows, 0 if they are too far apart for `take`;
      whether they are near enough for `take_near`; each pixel's place in y; each pixel's four columns, relative
      to the first, and their weights.
    """
    x, y = _place_of(state, y0, x0)
    left, top = floor(x), floor(y)
    weights = _weights_of(x - left)
    shifted = left - near_shift()
    first, last = int(lowest(shifted)) - 1, int(highest(shifted)) + 2
    first_row, rows = int(lowest(top)) - 1, int(highest(top) - lowest(top)) + 4
    if last + NEAR_SHIFT - first >= REACH or rows > REACH:
        rows = 0
    inside = first >= 0 and last + NEAR_SHIFT < state.width
    is_near = inside and last - first < NEAR_REACH
    first = min(max(first, 0), state.width - 1)
    columns = _columns_of(left, inside, first, state.width)
    return first_row, first, rows, is_near, y, columns, weights


@not_inlined
def _scattered(state: State, y0: int, x0: int) -> tuple[FloatVector, FloatVector, FloatVector]:
    """I1, I1x and I1y where sixteen pixels have moved to, however far apart."""
    line = line_of(state.width)
    plane = state.height * line
    x, y = _place_of(state, y0, x0)
    left = floor(x)
    weights = _weights_of(x - left)
    columns = _columns_of(left, False, 0, state.width)
    I1w, I1wx, I1wy = splat(np.float32(0)), splat(np.float32(0)), splat(np.float32(0))
    for k in range(4):
        row = floor(y) + splat(np.float32(k - 1))
        weight = _cubic(y - row)
        begin = to_integers(_clamped(row, np.float32(state.height - 1))) * splat_integer(np.int32(line))
        places = (begin + columns[0], begin + columns[1], begin + columns[2], begin + columns[3])
        I1w = fma(_fetched(state.I1, MARGIN, places, weights), weight, I1w)
        I1wx = fma(_fetched(state.I1, MARGIN + plane, places, weights), weight, I1wx)
        I1wy = fma(_fetched(state.I1, MARGIN + 2 * plane, places, weights), weight, I1wy)
    return I1w, I1wx, I1wy


def _warped_by(take: Callable[..., FloatVector]) -> Callable[..., tuple[FloatVector, FloatVector, FloatVector]]:
    """Makes `_warped` for pixels whose columns are within the reach of `take`."""

    picked = _picked_by(take)

    @inlined
    def warped(state: State, aim: Aim) -> tuple[FloatVector, FloatVector, FloatVector]:
        first_row, first, rows, _, y, columns, weights = aim
        line, ones = line_of(state.width), splat(np.float32(1))
        plane = state.height * line
        I1w, I1wx, I1wy = splat(np.float32(0)), splat(np.float32(0)), splat(np.float32(0))
        row_y = splat(np.float32(first_row))
        for row in range(first_row, first_row + rows):
            at = MARGIN + min(max(row, 0), state.height - 1) * line + first
            # Zero for rows that a pixel does not need. The bits must be those of `_scattered`, because which of the two
            # computes a pixel depends on the instruction set.
            weight = _cubic(y - row_y)
            row_y = row_y + ones
            I1w = fma(picked(state.I1, at, columns, weights), weight, I1w)
            I1wx = fma(picked(state.I1, at + plane, columns, weights), weight, I1wx)
            I1wy = fma(picked(state.I1, at + 2 * plane, columns, weights), weight, I1wy)
        return I1w, I1wx, I1wy

    return warped


_warped_near, _warped_far = _warped_by(take_near), _warped_by(take)


@inlined
def _warped(state: State, y0: int, x0: int, aim: Aim) -> tuple[FloatVector, FloatVector, FloatVector]:
    """I1, I1x and I1y where sixteen pixels have moved to."""
    _, _, rows, is_near, _, _, _ = aim
    if rows == 0:
        return _scattered(state, y0, x0)
    if NEAR_SHIFT > 0 and is_near:
        return _warped_near(state, aim)
    return _warped_far(state, aim)


@inlined
def _stored(
    state: State, settings: Settings, y: int, x0: int, warped: tuple[FloatVector, FloatVector, FloatVector]
) -> None:
    """Stores the four fields of the threshold operator for sixteen pixels."""
    line = line_of(state.width)
    lines, block = _lines_of(state, y), moved(_blocks_of(state, y), x0 // LANES * BLOCK)
    u1, u2 = load(lines, x0 + U1 * line), load(lines, x0 + U2 * line)
    I1w, I1wx, I1wy = warped
    I0 = load(state.I0, y * line + MARGIN + x0)
    rho = I1w - I1wx * u1 - I1wy * u2 - I0
    grad = fma(I1wx, I1wx, I1wy * I1wy)
    g, zero = sqrt(grad), splat(np.float32(0))
    # Flat places and the padding say nothing about the motion. (In OpenCV a flat place changes u by at most
    # lambda theta sqrt(FLT_EPSILON), 0.00002 px at the defaults.)
    inside = less(splat(np.float32(x0)) + lanes(), splat(np.float32(state.width)))
    textured = less(splat(FLT_EPSILON), select(inside, grad, zero))
    inverse = select(textured, splat(np.float32(1)) / g, zero)
    store(block, RHO, rho * inverse)
    store(block, NX, I1wx * inverse)
    store(block, NY, I1wy * inverse)
    store(block, BOUND, g * splat(np.float32(settings.lambda_ * settings.theta)))


@not_inlined
def _linearise(state: State, settings: Settings, y: int) -> None:
    """Computes row y of the threshold operator's fields. Three vectors are in progress at a time, at three stages."""
    align_stack()
    aim, warped = _aimed(state, y, 0), (splat(np.float32(0)), splat(np.float32(0)), splat(np.float32(0)))
    for x0 in range(0, state.width, LANES):
        next_aim = _aimed(state, y, x0 + LANES)
        if x0 > 0:
            _stored(state, settings, y, x0 - LANES, warped)
        warped = _warped(state, y, x0, aim)
        aim = next_aim
    _stored(state, settings, y, padded(state.width) - LANES, warped)


@not_inlined
def _clear_dual(state: State, y: int) -> None:
    """Sets row y of p to zero."""
    lines, blocks = _lines_of(state, y), _blocks_of(state, y)
    line, zero = line_of(state.width), splat(np.float32(0))
    for x in range(0, state.width, LANES):
        store(lines, x + P11 * line, zero)
        store(lines, x + P21 * line, zero)
        store(blocks, x // LANES * BLOCK + P12, zero)
        store(blocks, x // LANES * BLOCK + P22, zero)


# Iterating -----------------------------------------------------------------------------------------


@inlined
def _reciprocal(x: FloatVector) -> FloatVector:
    """1 / x to 1e-7: a third-order step from a guess good to 5%, then a Newton step.

    A cheaper version, good to 1e-6, was tried: its errors all have the same sign, and more pixels differed from the
    reference.
    """
    ones = splat(np.float32(1))
    y = reciprocal_guess(x)
    error = fma(-x, y, ones)
    y = fma(y, fma(error, error, error), y)
    return fma(y, fma(-x, y, ones), y)


@inlined
def _primal(
    lines: FloatPointer, block: FloatPointer, block_above: FloatPointer, x: int, line: int
) -> tuple[FloatVector, ...]:
    """For sixteen pixels: v from u, then the new u from v and p. Returns the old u and the new u."""
    u1, u2 = load(lines, x + U1 * line), load(lines, x + U2 * line)
    nx, ny, bound = load(block, NX), load(block, NY), load(block, BOUND)
    rho = fma(ny, u2, fma(nx, u1, load(block, RHO)))
    d = -cut(rho, bound)
    p11_x = load(lines, x + P11 * line) - load(lines, x + P11 * line - 1)
    p21_x = load(lines, x + P21 * line) - load(lines, x + P21 * line - 1)
    new1 = fma(d, nx, u1) + p11_x + (load(block, P12) - load(block_above, P12))
    new2 = fma(d, ny, u2) + p21_x + (load(block, P22) - load(block_above, P22))
    return u1, u2, new1, new2


@inlined
def _dual_begun(
    lines: FloatPointer, x: int, line: int, below1: FloatVector, below2: FloatVector
) -> tuple[FloatVector, ...]:
    """The gradients of u1 and u2 at sixteen pixels, and their lengths; below1 and below2 are u a row further down."""
    u1, u2 = load(lines, x + U1 * line), load(lines, x + U2 * line)
    u1x, u1y = load(lines, x + U1 * line + 1) - u1, below1 - u1
    u2x, u2y = load(lines, x + U2 * line + 1) - u2, below2 - u2
    return u1x, u1y, u2x, u2y, sqrt(fma(u1x, u1x, u1y * u1y)), sqrt(fma(u2x, u2x, u2y * u2y))


@inlined
def _dual_ended(
    lines: FloatPointer,
    block: FloatPointer,
    x: int,
    line: int,
    gradients: tuple[FloatVector, ...],
    tau: FloatVector,
    taut: FloatVector,
) -> None:
    """Stores the new p, times theta, from the result of `_dual_begun`."""
    u1x, u1y, u2x, u2y, length1, length2 = gradients
    ones = splat(np.float32(1))
    ng1, ng2 = fma(taut, length1, ones), fma(taut, length2, ones)
    r = _reciprocal(ng1 * ng2)
    r1, r2 = r * ng2, r * ng1
    store(lines, x + P11 * line, fma(tau, u1x, load(lines, x + P11 * line)) * r1)
    store(block, P12, fma(tau, u1y, load(block, P12)) * r1)
    store(lines, x + P21 * line, fma(tau, u2x, load(lines, x + P21 * line)) * r2)
    store(block, P22, fma(tau, u2y, load(block, P22)) * r2)


@inlined
def _change_of(u1: FloatVector, u2: FloatVector, new1: FloatVector, new2: FloatVector) -> FloatVector:
    """|u - u_old|^2 of sixteen pixels."""
    d1, d2 = new1 - u1, new2 - u2
    return fma(d1, d1, d2 * d2)


def _row_of(is_measured: bool) -> Callable[..., float]:
    """Makes `_row` in two versions; the one that does not measure the change is faster."""

    @not_inlined
    def row(
        lines: FloatPointer,
        blocks: FloatPointer,
        lines_above: FloatPointer,
        blocks_above: FloatPointer,
        has_u: bool,
        has_p: bool,
        width: int,
        line: int,
        tau: FloatVector,
        taut: FloatVector,
    ) -> float:
        """Computes u in this row and p in the row above, where these rows exist. Returns the change of u."""
        align_stack()
        # Added a vector later, because only those pixels of the last vector count that are in the picture.
        change, latest = splat(np.float32(0)), splat(np.float32(0))
        if has_u and has_p:
            u1, u2, new1, new2 = _primal(lines, blocks, blocks_above, 0, line)
            store(lines, U1 * line, new1)
            store(lines, U2 * line, new2)
            if is_measured:
                latest = _change_of(u1, u2, new1, new2)
            begun = _dual_begun(lines_above, 0, line, new1, new2)
            for x in range(LANES, width, LANES):
                blocks = moved(blocks, BLOCK)
                u1, u2, new1, new2 = _primal(lines, blocks, moved(blocks_above, BLOCK), x, line)
                store(lines, x + U1 * line, new1)
                store(lines, x + U2 * line, new2)
                if is_measured:
                    change = change + latest
                    latest = _change_of(u1, u2, new1, new2)
                next_begun = _dual_begun(lines_above, x, line, new1, new2)
                _dual_ended(lines_above, blocks_above, x - LANES, line, begun, tau, taut)
                begun = next_begun
                blocks_above = moved(blocks_above, BLOCK)
            _dual_ended(lines_above, blocks_above, padded(width) - LANES, line, begun, tau, taut)
        elif has_u:
            for x in range(0, width, LANES):
                u1, u2, new1, new2 = _primal(lines, blocks, blocks_above, x, line)
                store(lines, x + U1 * line, new1)
                store(lines, x + U2 * line, new2)
                if is_measured:
                    change = change + latest
                    latest = _change_of(u1, u2, new1, new2)
                blocks, blocks_above = moved(blocks, BLOCK), moved(blocks_above, BLOCK)
        else:
            for x in range(0, width, LANES):
                # Below the last row, u repeats the last row.
                u1, u2 = load(lines_above, x + U1 * line), load(lines_above, x + U2 * line)
                begun = _dual_begun(lines_above, x, line, u1, u2)
                _dual_ended(lines_above, blocks_above, x, line, begun, tau, taut)
                blocks_above = moved(blocks_above, BLOCK)
        if has_u:
            # Right of the last pixel, u repeats that pixel.
            lines[U1 * line + width] = lines[U1 * line + width - 1]
            lines[U2 * line + width] = lines[U2 * line + width - 1]
        if is_measured:
            inside = less(splat(np.float32(padded(width) - LANES)) + lanes(), splat(np.float32(width)))
            change = change + select(inside, latest, splat(np.float32(0)))
        return np.float64(total(change))

    return row


_row, _measured_row = _row_of(False), _row_of(True)


@not_inlined
def _iterate_together(state: State, settings: Settings, begin: int, count: int, measured: bool, rows: int) -> float:
    """Does `count` iterations in one pass, each a row behind the previous. Returns the change in the last."""
    height, width, line = state.height, state.width, line_of(state.width)
    tau, taut = splat(np.float32(settings.tau)), splat(np.float32(settings.tau / settings.theta))
    change = 0.0
    for front in range(0, height + count, rows):
        if begin != GO_ON:
            for y in range(front, min(front + rows, height)):
                if begin == LEVEL:
                    _clear_dual(state, y)
                _linearise(state, settings, y)
        for k in range(max(0, front - height), min(count, front + rows)):
            for y in range(max(0, front - k), min(height + 1, front - k + rows)):
                lines, blocks = _lines_of(state, y), _blocks_of(state, y)
                lines_above, blocks_above = _lines_of(state, y - 1), _blocks_of(state, y - 1)
                has_u, has_p = y < height, y > 0
                if measured and k == count - 1:
                    change += _measured_row(
                        lines, blocks, lines_above, blocks_above, has_u, has_p, width, line, tau, taut
                    )  # fmt: skip
                else:
                    _row(lines, blocks, lines_above, blocks_above, has_u, has_p, width, line, tau, taut)
    return change


@inlined
def iterate(state: State, settings: Settings, begin: int, count: int, measured: bool) -> float:
    together = max(2, L2_BYTES // (row_of(state.width) * 4))
    passes = -(-count // together)
    rows = max(1, L1_BYTES // (row_of(state.width) * 4) - 1)
    change, done = math.inf, 0
    for k in range(passes):
        upto = count * (k + 1) // passes
        is_last = k == passes - 1
        change = _iterate_together(state, settings, begin, upto - done, measured and is_last, rows)
        begin = GO_ON
        done = upto
    return change if measured else math.inf


# Pyramids ------------------------------------------------------------------------------------------


@inlined
def _resized_row(
    row: FloatPointer, plan: Plan, columns: int, result: FloatPointer, at: int, width: int, scale: FloatVector
) -> None:
    """Resizes a row to another width."""
    share = pointer(plan.share, 0)
    for x in range(0, width, LANES):
        first, last = plan.before[columns + x], plan.after[columns + x + LANES - 1]
        base = splat_integer(np.int32(first))
        before = load_integers(plan.before, columns + x) - base
        after = load_integers(plan.after, columns + x) - base
        if last - first < REACH:
            a, b = take(row, first, before), take(row, first, after)
        else:
            a, b = gather(row, first, before), gather(row, first, after)
        store(result, at + x, fma(load(share, columns + x), b - a, a) * scale)


@not_inlined
def _resize(
    image: FloatPointer,
    step: int,
    old_width: int,
    row: FloatPointer,
    plan: Plan,
    rows: int,
    columns: int,
    result: FloatPointer,
    result_step: int,
    height: int,
    width: int,
    scale: float | np.float32,
) -> None:
    """Resizes an image bilinearly and multiplies it by `scale`. The steps are the distances between rows."""
    scales = splat(np.float32(scale))
    for y in range(height):
        above, below = plan.before[rows + y] * step, plan.after[rows + y] * step
        share = splat(plan.share[rows + y])
        for x in range(0, old_width, LANES):
            a, b = load(image, above + x), load(image, below + x)
            store(row, x, fma(share, b - a, a))
        _resized_row(row, plan, columns, result, y * result_step, width, scales)


@not_inlined
def _centred_gradient(image: FloatPointer, height: int, width: int) -> None:
    """Writes the gradient of an image behind it, first in x, then in y."""
    line = line_of(width)
    dx, dy = height * line, 2 * height * line
    half = splat(np.float32(0.5))
    for y in range(height):
        row = MARGIN + y * line
        above, below = row - min(y, 1) * line, row + min(height - 1 - y, 1) * line
        for x in range(0, width, LANES):
            store(image, dx + row + x, (load(image, row + x + 1) - load(image, row + x - 1)) * half)
            store(image, dy + row + x, (load(image, below + x) - load(image, above + x)) * half)
        for x in (0, width - 1):
            left, right = image[row + max(x - 1, 0)], image[row + min(x + 1, width - 1)]
            image[dx + row + x] = (right - left) * np.float32(0.5)


def _fill_pyramid(frame: np.ndarray, plan: Plan, pyramid: np.ndarray, scratch: np.ndarray) -> None:
    """Writes a frame, uint8 [H, W], into a pyramid, in each of the sizes, and the gradients of each."""
    row = pointer(scratch, 0)
    for level in range(len(plan.levels)):
        of = plan.levels[level]
        height, width, line = of[HEIGHT], of[WIDTH], line_of(of[WIDTH])
        image = pointer(pyramid, of[IMAGE])
        if level == 0:
            for y in range(height):
                for x in range(width):
                    image[MARGIN + y * line + x] = frame[y, x]
        else:
            finer = plan.levels[level - 1]
            _resize(
                pointer(pyramid, finer[IMAGE] + MARGIN), line_of(finer[WIDTH]), finer[WIDTH], row,
                plan, of[SHRINK], of[SHRINK_COLUMNS],
                pointer(pyramid, of[IMAGE] + MARGIN), line, height, width, 1.0,
            )  # fmt: skip
        _centred_gradient(image, height, width)


@inlined
def levels(pair: Pair) -> int:
    return len(pair.plan.levels)


@inlined
def state_of(pair: Pair, level: int) -> State:
    of = pair.plan.levels[level]
    I0, I1 = pointer(pair.pyramid0, of[IMAGE]), pointer(pair.pyramid1, of[IMAGE])
    return State(pointer(pair.fields, of[FIELDS_AT]), I0, I1, of[HEIGHT], of[WIDTH])


@inlined
def rest(pair: Pair) -> None:
    state = state_of(pair, levels(pair) - 1)
    line = line_of(state.width)
    for y in range(state.height):
        for x in range(0, state.width, LANES):
            store(_lines_of(state, y), x + U1 * line, splat(np.float32(0)))
            store(_lines_of(state, y), x + U2 * line, splat(np.float32(0)))


@not_inlined
def enlarge(pair: Pair, level: int) -> None:
    plan, of = pair.plan, pair.plan.levels[level]
    old, new = state_of(pair, level + 1), state_of(pair, level)
    for u in (U1, U2):
        _resize(
            moved(_lines_of(old, 0), u * line_of(old.width)), row_of(old.width), old.width,
            pointer(pair.row, 0), plan, of[ENLARGE], of[ENLARGE_COLUMNS],
            moved(_lines_of(new, 0), u * line_of(new.width)), row_of(new.width), new.height, new.width, plan.scale,
        )  # fmt: skip


# The algorithm -------------------------------------------------------------------------------------

solve = inlined(tvl1.over(globals(), tvl1.solve))


def _flow(pair: Pair, settings: Settings, flow: np.ndarray) -> int:
    """Computes u between a pair of frames into `flow`, float32 [H, W, 2]. Returns the iterations of all pixels."""
    work = coarse_to_fine(pair, settings)
    state = state_of(pair, 0)
    line = line_of(state.width)
    for y in range(state.height):
        lines = _lines_of(state, y)
        for x in range(state.width):
            flow[y, x, 0] = lines[U1 * line + x]
            flow[y, x, 1] = lines[U2 * line + x]
    return work


coarse_to_fine = inlined(tvl1.over(globals(), tvl1.coarse_to_fine))
fill_pyramid, flow_between = compiled(_fill_pyramid), compiled(_flow)


# Working memory -----------------------------------------------------------------------------------


class Workspace:
    """The kernels' memory for frames of one size: the pyramids of the last two frames, and the fields of each level."""

    def __init__(self, height: int, width: int, parameters: TVL1) -> None:
        self.key = height, width, parameters
        self.settings = tvl1.settings_of(parameters)
        self.plan, image_numbers, field_numbers = _plan_for(tvl1.level_sizes(height, width, parameters), parameters)
        self._pyramids = [aligned(image_numbers) for _ in range(2)]
        self._fields = aligned(field_numbers)
        self._row = aligned(padded(width) + REACH)

    def add(self, frame: np.ndarray) -> None:
        """Adds the next frame, uint8 [H, W]."""
        self._pyramids.reverse()
        fill_pyramid(frame, self.plan, self._pyramids[1], self._row)

    def flow(self) -> tuple[np.ndarray, int]:
        """Computes the flow to the last frame from the frame before it.

        Returns:
          float32 [H, W, 2], (dx, dy) in pixels; and what `coarse_to_fine` returns.
        """
        flow = np.empty((*self.key[:2], 2), np.float32)
        pyramid0, pyramid1 = self._pyramids
        pair = Pair(self.plan, self._fields, pyramid0, pyramid1, self._row)
        return flow, flow_between(pair, self.settings, flow)


def aligned(numbers: int) -> np.ndarray:
    """Zeros, float32 [numbers], of which the first is at the beginning of a cache line."""
    room = np.zeros(numbers + LANES, np.float32)
    begin = -room.ctypes.data % (LANES * 4) // 4
    return room[begin : begin + numbers]


def _plan_for(sizes: list[tuple[int, int]], parameters: TVL1) -> tuple[Plan, int, int]:
    """The plan for these sizes of levels, and how many numbers a pyramid and the fields take."""
    tables: tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]] = [], [], []
    levels = np.zeros((len(sizes), 8), np.int64)
    images, fields = LANES, 0
    for level, (height, width) in enumerate(sizes):
        levels[level, [HEIGHT, WIDTH, IMAGE, FIELDS_AT]] = height, width, images, fields
        images += 3 * height * line_of(width)
        fields += (height + 1) * row_of(width)
        if level > 0:
            strides = (1 / parameters.scale_step,) * 2
            levels[level, [SHRINK, SHRINK_COLUMNS]] = _add_tables(tables, sizes[level], sizes[level - 1], strides)
        if level + 1 < len(sizes):
            coarser = sizes[level + 1]
            strides = coarser[0] / height, coarser[1] / width
            levels[level, [ENLARGE, ENLARGE_COLUMNS]] = _add_tables(tables, sizes[level], coarser, strides)
    before, after, share = (np.concatenate([*table, np.zeros(LANES)]) for table in tables)
    plan = Plan(
        levels,
        before.astype(np.int32),
        after.astype(np.int32),
        share.astype(np.float32),
        np.float32(1 / parameters.scale_step),
    )
    # `take` and the last vector of a line read beyond what they need.
    return plan, images + REACH, fields + REACH


def _add_tables(
    tables: tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]],
    new: tuple[int, int],
    old: tuple[int, int],
    strides: tuple[float, float],
) -> list[int]:
    """Appends the results of `tvl1.neighbours` for rows and for columns; returns where the two begin."""
    begins = []
    for length, of, stride in zip((new[0], padded(new[1])), old, strides):
        begins.append(sum(map(len, tables[0])))
        for table, values in zip(tables, tvl1.neighbours(length, of, stride)):
            table.append(values)
    return begins
