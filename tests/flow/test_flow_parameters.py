"""The parameters of TV-L1: their defaults, what they refuse, and how `--tvl1` writes them."""

import math

import pytest

from kinetics_prep.errors import BadOption
from kinetics_prep.flow.parameters import LARGEST, SMALLEST, TVL1

FLOATS = ("tau", "lambda_", "theta", "scale_step", "epsilon")
WHOLE = ("scales", "warps", "iterations")


def test_defaults_are_those_of_opencvs_cuda_class():
    """As `cuda::OpticalFlowDual_TVL1::create` declares them in opencv2/cudaoptflow.hpp."""
    assert vars(TVL1()) == {
        "tau": 0.25,
        "lambda_": 0.15,
        "theta": 0.3,
        "scales": 5,
        "warps": 5,
        "epsilon": 0.01,
        "iterations": 300,
        "scale_step": 0.8,
    }


def test_parse_reads_key_value_words():
    assert TVL1.parse([]) == TVL1()
    assert TVL1.parse(["lambda=0.2", "scales=3", "tau = 0.1"]) == TVL1(lambda_=0.2, scales=3, tau=0.1)
    assert TVL1.parse(["lambda_=0.2", "epsilon=1e-3"]) == TVL1(lambda_=0.2, epsilon=0.001)
    assert TVL1.parse(["tau=0.1", "tau=0.2"]) == TVL1(tau=0.2)


@pytest.mark.parametrize(
    "word, message",
    [
        ("tau", "expected key=value"),
        ("=1", "expected key=value"),
        ("gamma=1", "one of tau, lambda, theta, scales, scale_step, warps, epsilon, iterations"),
        ("scales=2.5", "scales must be of type int"),
        ("tau=fast", "tau must be of type float"),
        ("tau=", "tau must be of type float"),
        ("tau=0", "must be positive"),
        ("tau=-1", "must be positive"),
        ("iterations=0", "must be positive"),
        ("scale_step=1", "scale_step must be under 1, got 1"),
        ("scale_step=1.5", "scale_step must be under 1, got 1.5"),
        ("epsilon=nan", "epsilon must be positive, got nan"),
        ("tau=inf", "tau must be positive, got inf"),
        ("lambda=inf", "lambda_ must be positive, got inf"),
    ],
)
def test_parse_refuses_nonsense(word, message):
    with pytest.raises(BadOption, match=message):
        TVL1.parse([word])


@pytest.mark.parametrize("name", ["tau", "lambda_", "theta", "epsilon"])
def test_parameters_are_within_limits(name):
    for value in (SMALLEST, LARGEST):
        assert getattr(TVL1(**{name: value}), name) == value
    for value in (math.nextafter(SMALLEST, 0), math.nextafter(LARGEST, math.inf)):
        with pytest.raises(BadOption, match=f"tvl1 {name} must be 1e-09 to 1e\\+06"):
            TVL1(**{name: value})


@pytest.mark.parametrize("name", WHOLE)
def test_counts_are_whole_numbers(name):
    value = getattr(TVL1(**{name: 2.0}), name)
    assert value == 2 and type(value) is int
    with pytest.raises(BadOption, match=f"tvl1 {name} must be whole, got 2.5"):
        TVL1(**{name: 2.5})


def test_whole_numbers_become_floats_where_floats_are_due():
    """Parameters are compared and written: 1 and 1.0 must be the same everywhere."""
    assert all(type(getattr(TVL1(tau=1, lambda_=1, theta=1, epsilon=1), name)) is float for name in FLOATS)
