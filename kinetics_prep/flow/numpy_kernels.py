"""The kernels of TV-L1 in NumPy: the reference, in the order of the papers, written to be read.

OpenCV has two TV-L1 classes, which differ; `Rule` lists how. `CUDA_RULE` is what Carreira & Zisserman used and what
the engine `tvl1` computes. `CPU_RULE` with float32 gives the flow of `cv2.optflow` bit for bit, which shows that the
mathematics common to both is right. Line numbers refer to opencv_contrib at 2a5154a:
C for modules/optflow/src/tvl1flow.cpp, K for modules/cudaoptflow/src/cuda/tvl1flow.cu.

All fields of a level are [H, W]; flow is in pixels of that level, x before y.
"""

import dataclasses
import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import DTypeLike

from kinetics_prep.flow import tvl1
from kinetics_prep.flow.parameters import TVL1
from kinetics_prep.flow.tvl1 import Settings


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where OpenCV's two classes differ."""

    resize: Callable[[np.ndarray, tuple[int, int], tuple[float, float]], np.ndarray]
    """(image, (height, width), old pixels per new one in y and x) -> image."""
    sample: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    """(image, y, x) -> the image at these places, by cubic interpolation."""
    next_measured: Callable[[int, float, float, int], tuple[int, bool]]
    """When the change of the flow is measured; see `tvl1.next_measured`."""
    total: Callable[[np.ndarray], float]
    """Sums the change over the pixels."""


# What the two rules choose from --------------------------------------------------------------------


def resize_at_corners(image: np.ndarray, size: tuple[int, int], stride: tuple[float, float]) -> np.ndarray:
    """Bilinear; the first pixels coincide (K, resize of cudawarping); see `tvl1.neighbours`."""
    for axis in (0, 1):
        before, after, share = tvl1.neighbours(size[axis], image.shape[axis], stride[axis])
        share = np.expand_dims(share.astype(image.dtype), 1 - axis)
        image = image.take(before, axis) * (1 - share) + image.take(after, axis) * share
    return image


def resize_at_centres(image: np.ndarray, size: tuple[int, int], stride: tuple[float, float]) -> np.ndarray:
    """Bilinear; the centres of the outer pixels are half a pixel from the border: `cv2.resize` (C479)."""
    return cv2.resize(image, None, fx=1 / stride[1], fy=1 / stride[0], interpolation=cv2.INTER_LINEAR)


def cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -1/2 (K90). Its values at four neighbours, a pixel apart, sum to one."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def sample_clamped(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """By `cubic` at the exact place; outside the image, the value of its border (K106)."""
    height, width = image.shape
    top, left = np.floor(y).astype(int) - 1, np.floor(x).astype(int) - 1
    value = np.zeros_like(y)
    for row in range(4):
        line = np.zeros_like(y)
        for column in range(4):
            pixel = image[np.clip(top + row, 0, height - 1), np.clip(left + column, 0, width - 1)]
            line += cubic(np.abs(x - (left + column))) * pixel
        value += cubic(np.abs(y - (top + row))) * line
    return value


def sample_in_table(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`cv2.remap` (C1371): Keys' kernel with a = -3/4, places rounded to 1/32 px, zero outside the image."""
    return cv2.remap(image, x, y, interpolation=cv2.INTER_CUBIC)


def every_iteration(n: int, previous: float, threshold: float, iterations: int) -> tuple[int, bool]:
    """When the CPU class measures (C1379); see `tvl1.next_measured`."""
    return 1, True


def total_in_order(change: np.ndarray) -> float:
    """The sum in the order of a single loop, in the precision of its numbers (C1028)."""
    return float(np.add.accumulate(change.ravel())[-1])


CUDA_RULE = Rule(resize_at_corners, sample_clamped, tvl1.next_measured, np.sum)
CPU_RULE = Rule(resize_at_centres, sample_in_table, every_iteration, total_in_order)


# The kernels ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class State:
    """One level of two frames: the images, the flow, and what the steps compute on the way."""

    rule: Rule
    I0: np.ndarray
    I1: np.ndarray
    I1x: np.ndarray
    I1y: np.ndarray
    u1: np.ndarray
    u2: np.ndarray
    # Set by `clear_dual` and `dual`:
    p11: np.ndarray = dataclasses.field(init=False)
    p12: np.ndarray = dataclasses.field(init=False)
    p21: np.ndarray = dataclasses.field(init=False)
    p22: np.ndarray = dataclasses.field(init=False)
    # Set by `linearise`:
    I1wx: np.ndarray = dataclasses.field(init=False)
    I1wy: np.ndarray = dataclasses.field(init=False)
    grad: np.ndarray = dataclasses.field(init=False)
    rho_c: np.ndarray = dataclasses.field(init=False)


def centred_gradient(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(d/dx, d/dy): half the difference of the two neighbours; beyond the border its pixels repeat."""
    padded = np.pad(image, 1, mode="edge")
    return (
        (padded[1:-1, 2:] - padded[1:-1, :-2]) * image.dtype.type(0.5),
        (padded[2:, 1:-1] - padded[:-2, 1:-1]) * image.dtype.type(0.5),
    )


def forward_gradient(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(d/dx, d/dy): the next pixel minus this one; zero at the last."""
    ux, uy = np.zeros_like(u), np.zeros_like(u)
    ux[:, :-1] = u[:, 1:] - u[:, :-1]
    uy[:-1] = u[1:] - u[:-1]
    return ux, uy


def divergence(p1: np.ndarray, p2: np.ndarray) -> np.ndarray:
    """Of the field (p1, p2), by backward differences; p is zero before the first pixel."""
    d1, d2 = p1.copy(), p2.copy()
    d1[:, 1:] = p1[:, 1:] - p1[:, :-1]
    d2[1:] = p2[1:] - p2[:-1]
    total = d1 + d2
    total[1:, 0] = p1[1:, 0] + p2[1:, 0] - p2[:-1, 0]  # the order in which OpenCV adds in the first column
    return total


def pixels(state: State) -> int:
    """How many pixels the level has."""
    return state.I0.size


def clear_dual(state: State) -> None:
    """Sets the dual variable of both components to zero."""
    state.p11, state.p12, state.p21, state.p22 = (np.zeros_like(state.u1) for _ in range(4))


def linearise(state: State) -> None:
    """Warps I1 and its gradient by the flow, and linearises rho around it (IPOL, eq. 10 to 12)."""
    height, width = state.u1.shape
    y, x = np.mgrid[:height, :width].astype(state.u1.dtype)
    y, x = y + state.u2, x + state.u1
    I1w, state.I1wx, state.I1wy = (state.rule.sample(image, y, x) for image in (state.I1, state.I1x, state.I1y))
    state.grad = state.I1wx * state.I1wx + state.I1wy * state.I1wy
    state.rho_c = I1w - state.I1wx * state.u1 - state.I1wy * state.u2 - state.I0


def threshold(state: State, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """v, from u: the operator TH (IPOL, eq. 16)."""
    l_t = state.u1.dtype.type(settings.lambda_ * settings.theta)
    rho = state.rho_c + (state.I1wx * state.u1 + state.I1wy * state.u2)
    safe = np.where(state.grad > np.finfo(np.float32).eps, state.grad, 1)
    inside = np.where(safe == state.grad, -rho / safe, 0)
    step = np.where(rho < -l_t * state.grad, l_t, np.where(rho > l_t * state.grad, -l_t, inside))
    return state.u1 + step * state.I1wx, state.u2 + step * state.I1wy


def primal(state: State, settings: Settings, v1: np.ndarray, v2: np.ndarray) -> np.ndarray:
    """u, from v and p (IPOL, eq. 18). Returns the change of each pixel, |u - u_old|^2."""
    theta = state.u1.dtype.type(settings.theta)
    new1 = v1 + theta * divergence(state.p11, state.p12)
    new2 = v2 + theta * divergence(state.p21, state.p22)
    change = (new1 - state.u1) * (new1 - state.u1) + (new2 - state.u2) * (new2 - state.u2)
    state.u1[:], state.u2[:] = new1, new2
    return change


def dual(state: State, settings: Settings) -> None:
    """p, from u (IPOL, eq. 19)."""
    taut = state.u1.dtype.type(settings.tau / settings.theta)
    state.p11, state.p12 = _dual_of(state.u1, state.p11, state.p12, taut)
    state.p21, state.p22 = _dual_of(state.u2, state.p21, state.p22, taut)


def _dual_of(u: np.ndarray, p1: np.ndarray, p2: np.ndarray, taut: np.floating) -> tuple[np.ndarray, np.ndarray]:
    ux, uy = forward_gradient(u)
    g = np.hypot(ux, uy)
    ng = 1 + taut * g
    return (p1 + taut * ux) / ng, (p2 + taut * uy) / ng


def measured_next(state: State, n: int, previous: float, threshold: float, iterations: int) -> tuple[int, bool]:
    """See `tvl1.measured_next`."""
    return state.rule.next_measured(n, previous, threshold, iterations)


def iterate(state: State, settings: Settings, begin: int, count: int, measured: bool) -> float:
    """See `tvl1.iterate`."""
    if begin == tvl1.LEVEL:
        clear_dual(state)
    if begin != tvl1.GO_ON:
        linearise(state)
    for _ in range(count):
        change = primal(state, settings, *threshold(state, settings))
        dual(state, settings)
    return float(state.rule.total(change)) if measured else math.inf


# Pyramids ------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Pair:
    """Two frames, in each of the sizes of a pyramid."""

    rule: Rule
    parameters: TVL1
    pyramid0: list[np.ndarray]
    pyramid1: list[np.ndarray]
    u: dict[int, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)
    """The flow (u1, u2) of each level that has been reached, by its number."""


def pyramid(frame: np.ndarray, parameters: TVL1, rule: Rule, dtype: DTypeLike) -> list[np.ndarray]:
    """The frame in each of the sizes, each made from the one before."""
    (height, width), stride = frame.shape, 1 / parameters.scale_step
    images = [frame.astype(dtype)]
    for size in tvl1.level_sizes(height, width, parameters)[1:]:
        images.append(rule.resize(images[-1], size, (stride, stride)))
    return images


def levels(pair: Pair) -> int:
    """How many levels the pyramids have."""
    return len(pair.pyramid0)


def rest(pair: Pair) -> None:
    """Sets u to zero at the coarsest level."""
    coarsest = pair.pyramid0[-1]
    pair.u[levels(pair) - 1] = np.zeros_like(coarsest), np.zeros_like(coarsest)


def enlarge(pair: Pair, level: int) -> None:
    """Sets u at this level to that of the next coarser level, enlarged."""
    new = pair.pyramid0[level]
    (height, width), (old_height, old_width) = new.shape, pair.pyramid0[level + 1].shape
    stride = old_height / height, old_width / width
    # u grows by the pyramid's step, not by the ratio of the rounded sizes.
    scale = new.dtype.type(1 / pair.parameters.scale_step)
    u1, u2 = (pair.rule.resize(u, (height, width), stride) * scale for u in pair.u[level + 1])
    pair.u[level] = u1, u2


def state_of(pair: Pair, level: int) -> State:
    """One level of a pair."""
    I0, I1 = pair.pyramid0[level], pair.pyramid1[level]
    return State(pair.rule, I0, I1, *centred_gradient(I1), *pair.u[level])


# The algorithm -------------------------------------------------------------------------------------

solve = tvl1.over(globals(), tvl1.solve)
coarse_to_fine = tvl1.over(globals(), tvl1.coarse_to_fine)


def flow_of_pair(
    frame0: np.ndarray, frame1: np.ndarray, parameters: TVL1, rule: Rule = CUDA_RULE, dtype: DTypeLike = np.float64
) -> np.ndarray:
    """Computes the flow from one frame to another.

    Args:
      frame0, frame1: uint8 [H, W], grey.

    Returns:
      `dtype` [H, W, 2], (dx, dy) px.
    """
    pyramid0, pyramid1 = (pyramid(frame, parameters, rule, dtype) for frame in (frame0, frame1))
    pair = Pair(rule, parameters, pyramid0, pyramid1)
    coarse_to_fine(pair, tvl1.settings_of(parameters))
    return np.stack(pair.u[0], axis=-1)
