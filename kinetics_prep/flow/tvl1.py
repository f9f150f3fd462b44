"""TV-L1 optical flow: the algorithm, once, in the order of the papers.

Zach, Pock & Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007;
Sanchez, Meinhardt-Llopis & Facciolo, "TV-L1 Optical Flow Estimation", IPOL 2013, whose names these are:

    I0, I1    the two frames             u = (u1, u2)       the flow, px, x before y
    rho       the linearised difference  p = (p11 .. p22)   the dual variable of u
    v         what u is split into       n                  iterations

From the coarsest level of a pyramid to the finest, and at each level several times: warp I1 by the current flow and
linearise around it, then improve the flow by repeating three steps: v by thresholding rho; u from v and the
divergence of p; p from the gradient of u (`iterate`).

The kernels compute; they are in two modules with the same names: `numpy_kernels`, the reference, in float64, written
to be read; `numba_kernels`, the engine, in float32 and vectors. This file holds what they share: the sizes of a
pyramid, which pixels to interpolate between, the order of the steps, when to stop.
"""

import math
import types
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias, cast

import numpy as np

from kinetics_prep.flow.parameters import TVL1

SMALLEST_SIDE = 16
"""Pixels. No level of a pyramid has a smaller side, except the frame itself."""


class Settings(NamedTuple):
    """The fields of `TVL1` that a level needs, in a form that Numba can compile."""

    tau: float
    lambda_: float
    theta: float
    epsilon: float
    warps: int
    iterations: int


def settings_of(parameters: TVL1) -> Settings:
    """The parameters that do not concern the pyramid."""
    return Settings._make(getattr(parameters, name) for name in Settings._fields)


def level_sizes(height: int, width: int, parameters: TVL1) -> list[tuple[int, int]]:
    """(height, width) of each level of a pyramid, the frame itself first.

    As in OpenCV: a side is rounded to the nearest whole number, halves to even, and the first level
    with a side under 16 px is left out.
    """
    sizes = [(height, width)]
    while len(sizes) < parameters.scales:
        height, width = (round(side * parameters.scale_step) for side in sizes[-1])
        if min(height, width) < SMALLEST_SIDE:
            break
        sizes.append((height, width))
    return sizes


def neighbours(length: int, of: int, stride: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where to interpolate when resizing bilinearly along one axis, from `of` pixels to `length`.

    The first pixels coincide; new pixels beyond the last old pixel take its value.

    Args:
      stride: the distance between new pixels, in old pixels.

    Returns:
      The old pixels before and after each new pixel, int [length], and the weight of the latter, 0 to 1,
      float64 [length].
    """
    place = np.arange(length) * stride
    before = np.floor(place).astype(int)
    return np.minimum(before, of - 1), np.minimum(before + 1, of - 1), place - before


def next_measured(n: int, previous: float, threshold: float, iterations: int) -> tuple[int, bool]:
    """When OpenCV's CUDA class next measures how much the flow changes; measuring makes it wait for the GPU.

    It measures in odd iterations, and assumes that each iteration in between lowers the change by the
    threshold (opencv_contrib, modules/cudaoptflow/src/tvl1flow.cpp, procOneScale).

    Args:
      n: iterations done at this warp.
      previous: the change when last measured, the sum over the level of |u - u_old|^2; 0 if not measured yet.
      threshold: the change at which to stop.
      iterations: how many a warp may take.

    Returns:
      How many iterations to do next, and whether to measure the change in the last of them.
    """
    count = 0
    while n + count < iterations:
        is_odd = (n + count) % 2 == 1
        count += 1
        if is_odd and previous < threshold:
            return count, True
        previous -= threshold
    return count, False


# What a module of kernels must define --------------------------------------------------------------
# Declared here for the reader and never called: `over` replaces them with a module's own functions, and a NameError
# says which is missing.

Pair: TypeAlias = object
"""Two frames in each size of a pyramid; each module of kernels has a type of its own."""

State: TypeAlias = object
"""What the kernels work on, one level of a pair; each module of kernels has a type of its own."""


def levels(pair: Pair) -> int:
    """How many levels the pyramids of a pair of frames have; 0 is the finest."""
    raise NotImplementedError


def rest(pair: Pair) -> None:
    """Sets u to zero at the coarsest level."""
    raise NotImplementedError


def enlarge(pair: Pair, level: int) -> None:
    """Sets u at this level to that of the next coarser level, enlarged."""
    raise NotImplementedError


def state_of(pair: Pair, level: int) -> State:
    """One level of a pair, for the kernels below."""
    raise NotImplementedError


def pixels(state: State) -> int:
    """How many pixels the level has."""
    raise NotImplementedError


def measured_next(state: State, n: int, previous: float, threshold: float, iterations: int) -> tuple[int, bool]:
    """`next_measured`, or the state's own rule."""
    raise NotImplementedError


def iterate(state: State, settings: Settings, begin: int, count: int, measured: bool) -> float:
    """Does `count` iterations: v from u and rho; u from v and p; p from u.

    Args:
      begin: WARP to first warp I1 and its gradient by u and linearise rho around u (IPOL, eq. 10 to 12); LEVEL to
        set p to zero as well; GO_ON for neither.

    Returns:
      The change of u in the last iteration, if it is `measured`; else infinity.
    """
    raise NotImplementedError


GO_ON, WARP, LEVEL = range(3)


# The algorithm -------------------------------------------------------------------------------------


def coarse_to_fine(pair: Pair, settings: Settings) -> int:
    """Computes u between a pair of frames. Returns the iterations, summed over the pixels of all levels."""
    rest(pair)
    work = 0
    for level in range(levels(pair) - 1, -1, -1):
        if level < levels(pair) - 1:
            enlarge(pair, level)
        state = state_of(pair, level)
        work += solve(state, settings) * pixels(state)
    return work


def solve(state: State, settings: Settings) -> int:
    """Improves u at one level of the pyramid. Returns how many iterations it took."""
    threshold = settings.epsilon * settings.epsilon * pixels(state)
    taken = 0
    for warp in range(settings.warps):
        n, change, previous = 0, math.inf, 0.0
        while change > threshold and n < settings.iterations:
            # p is set to zero once per level, not per warp: it continues from where the last warp left it.
            begin = GO_ON if n > 0 else WARP if warp > 0 else LEVEL
            count, measured = measured_next(state, n, previous, threshold, settings.iterations)
            change = iterate(state, settings, begin, count, measured)
            previous = change
            n += count
        taken += n
    return taken


def over(kernels: Mapping[str, object], function: Callable[[object, Settings], int]) -> types.FunctionType:
    """Binds the code of `solve` or `coarse_to_fine` to a module's kernels.

    Numba compiles the result as one whole with its kernels and keeps it on disk; it can do neither with a function
    that gets its kernels as arguments.

    Args:
      kernels: the module's globals.
    """
    shared = {name: globals()[name] for name in ("math", "GO_ON", "WARP", "LEVEL")}
    original = cast(types.FunctionType, function)
    bound = types.FunctionType(original.__code__, {**shared, **kernels}, original.__name__)
    bound.__doc__ = original.__doc__
    return bound
