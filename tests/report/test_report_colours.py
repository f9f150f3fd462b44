import numpy as np
import pytest

from kinetics_prep.report import colours


def rgb_of(dx, dy, max_px=1.0):
    return colours.flow_to_rgb(np.full((1, 1, 2), (dx, dy), np.float32), max_px)[0, 0].tolist()


def test_no_motion_is_white():
    assert rgb_of(0, 0) == [255, 255, 255]


def test_motion_to_the_right_is_red():
    assert rgb_of(1, 0) == [255, 0, 0]


@pytest.mark.parametrize(
    "dx, dy, colour",
    [
        (1, 0, [255, 0, 0]),
        (0, 1, [255, 234, 0]),  # downwards: a quarter of 55 colours is 13.75 of the 15 from red to yellow
        (-1, 0, [0, 197, 255]),  # 27.5: 2.5 of the 11 from cyan to blue
        (0, -1, [103, 0, 255]),  # 41.25: 5.25 of the 13 from blue to magenta
    ],
)
def test_the_four_directions_have_their_colours(dx, dy, colour):
    assert rgb_of(dx, dy) == pytest.approx(colour, abs=1)


def test_diagonals_lie_between_their_neighbours():
    half = 0.5**0.5
    right_down, left_up = (colours.wheel_colour(np.arctan2(y, x)) for x, y in ((half, half), (-half, -half)))
    assert 255 * right_down == pytest.approx([255, 255 * 6.875 / 15, 0])
    assert 255 * left_up == pytest.approx([0, 255 * (36 - 34.375) / 11, 255])


@pytest.mark.parametrize(
    "place, colour",
    [
        (0, [255, 0, 0]),
        (15, [255, 255, 0]),
        (21, [0, 255, 0]),
        (25, [0, 255, 255]),
        (36, [0, 0, 255]),
        (49, [255, 0, 255]),
        (55, [255, 0, 0]),
    ],
)
def test_the_wheel_has_55_colours_in_arcs_of_15_6_4_11_13_and_6(place, colour):
    angle = 2 * np.pi * place / 55
    assert (255 * colours.wheel_colour(angle)).tolist() == pytest.approx(colour, abs=1e-9)


def test_the_wheel_runs_on_without_a_seam():
    angles = np.linspace(-np.pi, 3 * np.pi, 10_000)
    steps = np.abs(np.diff(colours.wheel_colour(angles), axis=0))
    assert steps.max() < 0.05


def test_half_the_motion_is_half_as_saturated():
    assert rgb_of(1, 0, max_px=2) == [255, 128, 128]


def test_motion_beyond_the_scale_is_darker_however_far():
    assert rgb_of(1.1, 0) == rgb_of(1e30, 0) == [191, 0, 0]


def test_motion_that_is_not_finite_is_black():
    assert rgb_of(np.nan, 0) == rgb_of(0, -np.inf) == [0, 0, 0]


def test_every_leading_dimension_is_kept():
    rgb = colours.flow_to_rgb(np.zeros((2, 3, 4, 5, 2), np.float32))
    assert rgb.shape == (2, 3, 4, 5, 3)
    assert rgb.dtype == np.uint8


def test_one_vector_in_a_thousand_does_not_set_the_scale():
    flow = np.full((1000, 1, 2), (3, 4), np.float32)
    flow[0] = 1000
    assert colours.scale_px(flow) == 5
    assert colours.flow_to_rgb(flow)[1:].tolist() == colours.flow_to_rgb(flow, max_px=5)[1:].tolist()


def test_the_scale_is_the_99th_percentile_of_the_magnitudes():
    flow = np.zeros((101, 1, 2), np.float32)
    flow[:, 0, 0] = np.arange(101)
    assert colours.scale_px(flow) == 99
    assert colours.scale_px(flow, percentile=50) == 50
    flow[100] = np.nan
    assert colours.scale_px(flow) == pytest.approx(98.01)


def test_motion_at_the_rim_is_saturated_and_not_darkened():
    assert rgb_of(3, 4, max_px=5) == pytest.approx((255 * colours.wheel_colour(np.arctan2(4, 3))).tolist(), abs=0.51)


def test_a_vector_that_is_not_finite_leaves_its_neighbours_alone():
    flow = np.full((1, 2, 2), (1, 0), np.float32)
    flow[0, 0, 1] = np.nan
    assert colours.flow_to_rgb(flow, 1).tolist() == [[[0, 0, 0], [255, 0, 0]]]


def test_the_scale_of_a_still_scene_is_one_pixel():
    assert colours.scale_px(np.full((4, 4, 2), 0.01, np.float32)) == 1


def test_an_unknown_flow_has_a_scale_too():
    assert colours.scale_px(np.full((4, 4, 2), np.nan, np.float32)) == 1


@pytest.mark.parametrize("max_px", [0, -1, np.nan, np.inf])
def test_a_scale_that_is_not_a_length_is_refused(max_px):
    with pytest.raises(ValueError, match="positive number of pixels"):
        colours.flow_to_rgb(np.zeros((1, 1, 2), np.float32), max_px)


def test_an_array_that_is_not_a_flow_is_refused():
    with pytest.raises(ValueError, match=r"needs the shape \[..., H, W, 2\], has \[4, 4, 3\]"):
        colours.flow_to_rgb(np.zeros((4, 4, 3), np.float32))


def test_the_legend_shows_each_motion_where_it_leads():
    legend = colours.wheel_legend(101)
    assert legend.shape == (101, 101, 3)
    right, below, middle, corner = legend[50, 99], legend[99, 50], legend[50, 50], legend[0, 0]
    assert right.tolist() == pytest.approx(rgb_of(1, 0), abs=10)
    assert below.tolist() == pytest.approx(rgb_of(0, 1), abs=10)
    assert middle.min() > 245
    assert corner.tolist() == [255, 255, 255]
