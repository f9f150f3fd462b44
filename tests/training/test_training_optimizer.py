"""The optimizer against the formulas of gradient descent with momentum, in NumPy."""

import numpy as np
import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import keras

from kinetics_prep.training.optimizer import MirroredSGD, sgd

RATES = (0.5, 0.5, 0.1, 0.1, 0.1)
MOMENTUM = 0.9


def gradients(steps: int, parts: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(steps, parts, 3)).astype(np.float32)


def expected(start: np.ndarray, steps: np.ndarray, momentum: float = MOMENTUM) -> list[np.ndarray]:
    """Weights after each step: v <- m v - rate * mean gradient, w <- w + v."""
    weights, velocity, after = start.astype(np.float64), np.zeros(3), []
    for rate, parts in zip(RATES, steps):
        velocity = momentum * velocity - rate * parts.astype(np.float64).mean(axis=0)
        weights = weights + velocity
        after.append(weights)
    return after


def apply(optimizer, steps: np.ndarray) -> list[np.ndarray]:
    """Weights after each part."""
    variable = keras.Variable(np.array([1.0, -2.0, 3.0], np.float32))
    optimizer.build([variable])
    after = []
    for rate, parts in zip(RATES, steps):
        optimizer.learning_rate = rate
        for part in parts:
            optimizer.apply([keras.ops.convert_to_tensor(part)], [variable])
            after.append(variable.numpy())
    return after


@pytest.mark.parametrize("momentum", [0.0, MOMENTUM])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_step_is_that_of_the_mean_gradient_of_its_parts(parts, momentum):
    steps = gradients(len(RATES), parts)
    after = apply(sgd(0.5, momentum, parts, devices=1), steps)
    for k, weights in enumerate(expected(np.array([1.0, -2.0, 3.0]), steps, momentum)):
        assert after[(k + 1) * parts - 1] == pytest.approx(weights, abs=1e-5)


@pytest.mark.parametrize("momentum", [0.0, MOMENTUM])
def test_the_optimizer_for_several_devices_takes_the_same_steps_and_none_before_the_last_part(momentum):
    steps = gradients(len(RATES), 3)
    after = apply(MirroredSGD(0.5, momentum=momentum, gradient_accumulation_steps=3), steps)
    start = np.array([1.0, -2.0, 3.0], np.float32)
    for k, weights in enumerate(expected(start, steps, momentum)):
        assert after[3 * k + 2] == pytest.approx(weights, abs=1e-5)
        before = after[3 * k - 1] if k else start
        assert np.array_equal(after[3 * k], before) and np.array_equal(after[3 * k + 1], before)


@pytest.mark.parametrize("parts, devices, mirrored", [(1, 1, False), (1, 2, False), (2, 1, False), (2, 2, True)])
def test_only_parts_on_several_devices_need_an_optimizer_of_ours(parts, devices, mirrored):
    optimizer = sgd(0.5, MOMENTUM, parts, devices)
    assert isinstance(optimizer, MirroredSGD) == mirrored
    assert optimizer.gradient_accumulation_steps == (parts if parts > 1 else None)
    assert optimizer.momentum == MOMENTUM and float(optimizer.learning_rate) == 0.5
