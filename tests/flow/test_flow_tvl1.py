"""The algorithm and its reference: the same as OpenCV's CPU class bit for bit, and each rule as OpenCV states it."""

import cv2
import numpy as np
import pytest

from kinetics_prep import flow
from kinetics_prep.flow import TVL1, numpy_kernels, tvl1
from kinetics_prep.flow.numpy_kernels import CPU_RULE, CUDA_RULE
from kinetics_prep.sample import Motion, render


def moving(motion: Motion, height: int = 72, width: int = 80) -> np.ndarray:
    """uint8 [2, H, W]."""
    frames = render.frames(motion, seed=3, number=2, side=96)
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[:height, :width] for frame in frames])


def opencv(pair: np.ndarray, parameters: TVL1) -> np.ndarray:
    (field,) = flow.engine("opencv-cpu").flows(pair, parameters)
    return field


# The mathematics that both of OpenCV's classes share


@pytest.mark.parametrize(
    "parameters",
    [
        TVL1(),
        TVL1(scales=1, warps=1, iterations=1),
        TVL1(scales=1, warps=1, iterations=7),
        TVL1(scales=2, warps=2, iterations=20),
        TVL1(scale_step=0.5, lambda_=0.05, theta=0.2, tau=0.1),
        TVL1(epsilon=0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("motion", [Motion(dx=1.5, dy=-0.5), Motion(zoom=0.03)], ids=["shift", "zoom"])
def test_under_the_cpu_rule_the_reference_is_opencvs_cpu_class_bit_for_bit(motion, parameters):
    pair = moving(motion)
    ours = numpy_kernels.flow_of_pair(*pair, parameters, CPU_RULE, np.float32)
    assert np.array_equal(ours, opencv(pair, parameters))


def test_so_it_is_on_real_pictures(shared_data):
    folder = shared_data / "flow_truth/RubberWhale"
    pair = [cv2.imread(str(folder / f"frame{k}.png"), cv2.IMREAD_GRAYSCALE)[100:190, 200:320] for k in (10, 11)]
    ours = numpy_kernels.flow_of_pair(*pair, TVL1(), CPU_RULE, np.float32)
    assert np.array_equal(ours, opencv(np.stack(pair), TVL1()))


def test_the_two_rules_differ_by_little():
    pair = moving(Motion(dx=1.5, dy=-0.5))
    cuda = numpy_kernels.flow_of_pair(*pair, TVL1(), CUDA_RULE)
    cpu = numpy_kernels.flow_of_pair(*pair, TVL1(), CPU_RULE, np.float32)
    assert 0 < np.abs(cuda - cpu).mean() < 0.05


# When the change is measured: OpenCV's schedule, written as its loop


def opencvs_schedule(changes: list[float], threshold: float, iterations: int) -> list[int]:
    """The iterations, counted from 0, in which procOneScale measures, if these are the changes in each."""
    measured, error, previous, n = [], np.inf, 0.0, 0
    while error > threshold and n < iterations:
        if n & 1 and previous < threshold:
            error = previous = changes[n]
            measured.append(n)
        else:
            error = np.inf
            previous -= threshold
        n += 1
    return measured


def our_schedule(changes: list[float], threshold: float, iterations: int) -> list[int]:
    measured, change, previous, n = [], np.inf, 0.0, 0
    while change > threshold and n < iterations:
        count, is_measured = tvl1.next_measured(n, previous, threshold, iterations)
        n += count
        change = previous = changes[n - 1] if is_measured else np.inf
        if is_measured:
            measured.append(n - 1)
    assert n <= iterations
    return measured


@pytest.mark.parametrize("iterations", [1, 2, 3, 30, 31, 300])
@pytest.mark.parametrize("seed", range(8))
def test_the_change_is_measured_when_the_cuda_class_measures_it(seed, iterations):
    decay = np.random.default_rng(seed).uniform(0.5, 1.02, 300).cumprod()
    changes = list(200 * decay)
    assert our_schedule(changes, 1.0, iterations) == opencvs_schedule(changes, 1.0, iterations)


def test_a_change_far_above_the_threshold_is_trusted_to_fall_by_it():
    assert tvl1.next_measured(0, 0.0, 1.0, 300) == (2, True)
    assert tvl1.next_measured(2, 57.3, 1.0, 300) == (58, True)
    assert tvl1.next_measured(2, 1e9, 1.0, 300) == (298, False)


# Pyramids


@pytest.mark.parametrize(
    "size, parameters, sizes",
    [
        ((256, 340), TVL1(), [(256, 340), (205, 272), (164, 218), (131, 174), (105, 139)]),
        ((20, 300), TVL1(), [(20, 300), (16, 240)]),
        ((19, 300), TVL1(), [(19, 300)]),
        ((2, 2), TVL1(), [(2, 2)]),
        ((64, 64), TVL1(scales=2, scale_step=0.5), [(64, 64), (32, 32)]),
        ((50, 50), TVL1(scales=2, scale_step=0.5), [(50, 50), (25, 25)]),
        ((50, 45), TVL1(scales=2, scale_step=0.5), [(50, 45), (25, 22)]),
    ],
)
def test_levels_are_rounded_to_even_and_none_but_the_frame_is_under_16_px(size, parameters, sizes):
    assert tvl1.level_sizes(*size, parameters) == sizes


def test_neighbours_are_the_pixels_on_both_sides_and_stop_at_the_last():
    before, after, share = tvl1.neighbours(5, of=4, stride=0.8)
    assert before.tolist() == [0, 0, 1, 2, 3]
    assert after.tolist() == [1, 1, 2, 3, 3]
    assert share.tolist() == pytest.approx([0, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("length, of, stride", [(1, 1, 1.0), (7, 5, 5 / 7), (4, 5, 1.25), (300, 240, 0.8)])
def test_resizing_is_linear_interpolation(length, of, stride):
    row = np.random.default_rng(0).normal(size=of)
    before, after, share = tvl1.neighbours(length, of, stride)
    expected = np.interp(np.arange(length) * stride, np.arange(of), row)
    assert np.allclose(row[before] * (1 - share) + row[after] * share, expected)


def test_a_level_gets_the_parameters_by_name():
    parameters = TVL1(tau=0.1, lambda_=0.2, theta=0.4, epsilon=0.05, warps=2, iterations=7)
    settings = tvl1.settings_of(parameters)
    assert settings._asdict() == {name: getattr(parameters, name) for name in settings._fields}
    assert settings._fields == ("tau", "lambda_", "theta", "epsilon", "warps", "iterations")


def test_resizing_puts_the_first_pixels_upon_each_other_and_goes_on_beyond_the_last():
    ramp = np.arange(5.0)[None].repeat(2, 0)
    assert numpy_kernels.resize_at_corners(ramp, (2, 4), (1.0, 1.25))[0].tolist() == [0, 1.25, 2.5, 3.75]
    assert numpy_kernels.resize_at_corners(ramp, (2, 7), (1.0, 5 / 7))[0].tolist() == pytest.approx(
        [0, 5 / 7, 10 / 7, 15 / 7, 20 / 7, 25 / 7, 4]
    )


def test_the_four_weights_of_cubic_interpolation_sum_to_one():
    share = np.linspace(0, 1, 101)
    weights = [numpy_kernels.cubic(np.abs(share - k)) for k in (-1, 0, 1, 2)]
    assert np.allclose(sum(weights), 1, atol=1e-15)
    assert numpy_kernels.cubic(np.array([0.0, 1.0, 2.0, 3.0])).tolist() == [1, 0, 0, 0]


def test_sampling_at_pixels_gives_them_and_outside_the_border():
    image = np.random.default_rng(0).normal(size=(6, 7))
    y, x = np.mgrid[-9:15, -9:16].astype(float)
    expected = np.pad(image, 9, mode="edge")[: y.shape[0], : y.shape[1]]
    assert np.allclose(numpy_kernels.sample_clamped(image, y, x), expected)


def test_pyramids_begin_with_the_frame_and_flow_grows_by_the_step():
    frame = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
    images = numpy_kernels.pyramid(frame, TVL1(scales=3, scale_step=0.5), CUDA_RULE, np.float64)
    assert np.array_equal(images[0], frame) and [image.shape for image in images] == [(40, 60), (20, 30)]
    assert np.array_equal(images[1], frame[::2, ::2])  # the first pixels coincide, and every other one with them
    pair = numpy_kernels.Pair(CUDA_RULE, TVL1(scales=2, scale_step=0.5), images, images)
    numpy_kernels.rest(pair)
    assert not pair.u[1][0].any() and not pair.u[1][1].any()
    pair.u[1] = np.full((20, 30), 1.5), np.full((20, 30), -2.0)
    numpy_kernels.enlarge(pair, 0)
    assert [u.shape for u in pair.u[0]] == [(40, 60)] * 2
    assert (pair.u[0][0] == 3.0).all() and (pair.u[0][1] == -4.0).all()


# The operators


def test_gradients_are_differences_of_pixels():
    y, x = np.mgrid[:5, :6].astype(float)
    image = 3 * x - 2 * y
    dx, dy = numpy_kernels.centred_gradient(image)
    assert dx[2].tolist() == [1.5, 3, 3, 3, 3, 1.5] and dy[:, 2].tolist() == [-1, -2, -2, -2, -1]
    ux, uy = numpy_kernels.forward_gradient(image)
    assert ux[2].tolist() == [3, 3, 3, 3, 3, 0] and uy[:, 2].tolist() == [-2, -2, -2, -2, 0]


def state_with(**fields: np.ndarray) -> numpy_kernels.State:
    """A level of 3x4 pixels, all zeros but for these fields."""
    state = numpy_kernels.State(CUDA_RULE, *np.zeros((6, 3, 4)))
    numpy_kernels.clear_dual(state)
    state.I1wx, state.I1wy, state.grad, state.rho_c = np.zeros((4, 3, 4))
    for name, values in fields.items():
        setattr(state, name, values)
    return state


@pytest.mark.parametrize("rho, step", [(10.0, -0.045), (-10.0, 0.045), (0.09, -0.018), (-0.09, 0.018)])
def test_the_threshold_operator_steps_along_the_gradient(rho, step):
    """IPOL, eq. 16, at lambda theta = 0.045 and a gradient of (2, 1): linear for |rho| up to 0.225."""
    shape = (3, 4)
    state = state_with(
        I1wx=np.full(shape, 2.0), I1wy=np.full(shape, 1.0), grad=np.full(shape, 5.0), rho_c=np.full(shape, rho)
    )
    v1, v2 = numpy_kernels.threshold(state, tvl1.settings_of(TVL1()))
    assert v1 == pytest.approx(np.full(shape, 2 * step)) and v2 == pytest.approx(np.full(shape, step))


def test_the_threshold_operator_leaves_flat_places_as_they_are():
    state = state_with(u1=np.full((3, 4), 0.7), rho_c=np.full((3, 4), 0.0))
    v1, v2 = numpy_kernels.threshold(state, tvl1.settings_of(TVL1()))
    assert (v1 == 0.7).all() and not v2.any()


def test_the_dual_variable_stays_within_the_unit_circle():
    """IPOL, eq. 19: what its projection is for."""
    rng = np.random.default_rng(0)
    u1, u2 = rng.normal(scale=50, size=(2, 3, 4))
    state = state_with(u1=u1, u2=u2)
    for _ in range(30):
        numpy_kernels.dual(state, tvl1.settings_of(TVL1()))
    for p1, p2 in ((state.p11, state.p12), (state.p21, state.p22)):
        length = np.hypot(p1, p2)
        assert 0.9 < length.max() <= 1
    ux, uy = numpy_kernels.forward_gradient(u2)
    steep = np.hypot(ux, uy) > 10
    assert steep.sum() > 4
    assert np.allclose((state.p21 * uy)[steep], (state.p22 * ux)[steep])  # and points along the gradient


def test_divergence_is_minus_the_adjoint_of_the_gradient():
    rng = np.random.default_rng(0)
    u, p1, p2 = rng.normal(size=(3, 9, 11))
    ux, uy = numpy_kernels.forward_gradient(u)
    # p is zero at the last pixel in the direction in which it points, as the gradient is.
    p1[:, -1] = p2[-1] = 0
    assert (ux * p1 + uy * p2).sum() == pytest.approx(-(u * numpy_kernels.divergence(p1, p2)).sum())


def test_a_module_of_kernels_that_lacks_one_says_which():
    with pytest.raises(NameError, match="'pixels' is not defined"):
        tvl1.over({}, tvl1.solve)(None, tvl1.settings_of(TVL1()))
