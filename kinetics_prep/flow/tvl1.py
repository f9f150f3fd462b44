"""TV-L1 optical flow: the algorithm, once, in the order of the papers.

Zach, Pock & Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007;
Sanchez, Meinhardt-Llopis & Facciolo, "TV-L1 Optical Flow Estimation", IPOL 2013, whose names these are:

    I0, I1    the two frames             u = (u1, u2)       the flow, px, x before y
    rho       the linearised difference  p = (p11 .. p22)   the dual variable of u
    v         what u is split into       n                  iterations

From the coarsest level of a pyramid to the finest, and at each level a few times over: warp I1 by the
flow found so far and linearise around it, then improve the flow by turns of three steps: v by
thresholding rho; u from v and the divergence of p; p from the gradient of u (`iterate`).

What computes are the kernels, two modules that are twins: `numpy_kernels`, the reference, in float64,
written to be read; `numba_kernels`, the engine, in float32 and vectors. This file holds what they
share: the sizes of a pyramid, which pixels to interpolate between, the order of things, when to stop.
"""

import collections
import math
import types

import numpy as np

from kinetics_prep.flow.parameters import TVL1

SMALLEST_SIDE = 16
"""Pixels. No level of a pyramid is smaller, save the frame itself."""

Settings = collections.namedtuple("Settings", "tau lambda_ theta epsilon warps iterations")
"""What a level needs to know of `TVL1`, in a form that Numba takes as well."""


def settings_of(parameters: TVL1) -> Settings:
    """The parameters that do not concern the pyramid."""
    return Settings(*(getattr(parameters, name) for name in Settings._fields))


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
    """For bilinear resizing along one axis, to `length` pixels that lie `stride` of the `of` old ones apart.

    The first pixels lie upon each other; what would lie beyond the last old one is the last old one.

    Returns:
      The old pixels before and after each new one, int [length], and how near the one after is, 0 to
      1, float64 [length].
    """
    place = np.arange(length) * stride
    before = np.floor(place).astype(int)
    return np.minimum(before, of - 1), np.minimum(before + 1, of - 1), place - before


def next_measured(n: int, previous: float, threshold: float, iterations: int) -> tuple[int, bool]:
    """When OpenCV's CUDA class next measures how much the flow changes, which costs it a wait for the GPU.

    It measures in odd iterations, and trusts that each iteration in between lowers the change by the
    threshold (opencv_contrib, modules/cudaoptflow/src/tvl1flow.cpp, procOneScale).

    Args:
      n: iterations done at this warp.
      previous: the change as last measured, 0 if it was not: the sum over the level of |u - u_old|^2.
      threshold: the change at which to stop.
      iterations: how many there may be.

    Returns:
      How many iterations to do from here, and whether the change is to be measured in the last of them.
    """
    count = 0
    while n + count < iterations:
        is_odd = (n + count) % 2 == 1
        count += 1
        if is_odd and previous < threshold:
            return count, True
        previous -= threshold
    return count, False


# What a module of kernels has to have --------------------------------------------------------------
# Declared here for the reader and never called: `over` puts a module's own in their place, and where
# one is missing a NameError says which.


def levels(pair):
    """How many levels the pyramids of a pair of frames have; 0 is the finest."""
    raise NotImplementedError


def rest(pair):
    """Sets u to zero at the coarsest level."""
    raise NotImplementedError


def enlarge(pair, level):
    """Brings u from the next coarser level to this one."""
    raise NotImplementedError


def state_of(pair, level):
    """What the kernels below work on: one level of a pair."""
    raise NotImplementedError


def pixels(state):
    """Of the level."""
    raise NotImplementedError


def measured_next(state, n, previous, threshold, iterations):
    """`next_measured`, or what the state has in its stead."""
    raise NotImplementedError


def iterate(state, settings, begin, count, measured):
    """`count` iterations: v from u and rho; u from v and p; p from u.

    Before the first of a warp (`begin` is WARP or LEVEL) it warps I1 and its gradient by u and linearises rho
    around u (IPOL, eq. 10 to 12); before the first of a level (LEVEL) it sets p to zero. Returns the
    change in the last one, infinity unless it is `measured`.
    """
    raise NotImplementedError


GO_ON, WARP, LEVEL = range(3)


# The algorithm -------------------------------------------------------------------------------------


def coarse_to_fine(pair, settings):
    """Finds u between a pair of frames. Returns how many iterations each pixel of each level took in all."""
    rest(pair)
    work = 0
    for level in range(levels(pair) - 1, -1, -1):
        if level < levels(pair) - 1:
            enlarge(pair, level)
        state = state_of(pair, level)
        work += solve(state, settings) * pixels(state)
    return work


def solve(state, settings):
    """Improves u at one level of the pyramid. Returns how many iterations it took."""
    threshold = settings.epsilon * settings.epsilon * pixels(state)
    taken = 0
    for warp in range(settings.warps):
        n, change, previous = 0, math.inf, 0.0
        while change > threshold and n < settings.iterations:
            # p is set to zero once a level and not once a warp: it goes on from where the last warp left it.
            begin = GO_ON if n > 0 else WARP if warp > 0 else LEVEL
            count, measured = measured_next(state, n, previous, threshold, settings.iterations)
            change = iterate(state, settings, begin, count, measured)
            previous = change
            n += count
        taken += n
    return taken


def over(kernels: dict, function: types.FunctionType) -> types.FunctionType:
    """One of the two functions above with a module's names for the kernels: the same code, that computes.

    So Numba can compile it as one whole with its kernels, and keep the result on disk: it does neither
    with functions that are handed other functions.
    """
    shared = {name: globals()[name] for name in ("math", "GO_ON", "WARP", "LEVEL")}
    bound = types.FunctionType(function.__code__, shared | kernels, function.__name__)
    bound.__doc__ = function.__doc__
    return bound
