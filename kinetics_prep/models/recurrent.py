"""LSTM with batch norm inside the recurrence.

Cooijmans et al., "Recurrent Batch Normalization", ICLR 2017, equations 6 to 8; W_h, W_x, gamma, beta as there:

    f, i, o, g = BN(W_h h; gamma_h) + BN(W_x x; gamma_x) + b
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(BN(c; gamma_c, beta_c))

Statistics are those of a time step, over the batch. The paper keeps moving statistics for each step, because the first
steps differ from the others, and uses those of the last step for any step beyond. So do we, for `KEPT_STEPS` steps: the
last of them stands for all later steps. The paper's epsilon is 1e-5: with it, training on two clips at a time diverged
from some starts. Ours is that of the other layers.
"""

import functools
from typing import Any

import keras
from keras import KerasTensor, ops

from kinetics_prep.models.inception import EPSILON
from kinetics_prep.models.units import Shape

KEPT_STEPS = 10
"""Steps that have moving statistics of their own; the last one's are also those of all later steps."""

_GAMMA = 0.1
"""The first value of each gamma. Larger ones saturate tanh, and its gradient vanishes; section 4 of the paper."""


Moments = tuple[KerasTensor, KerasTensor]
"""Mean and variance."""
State = dict[str, Any]
"""Of the scan: h and c, float32 [B, units]; the moments of "recurrent" and "cell"; the number of the step."""


def normalise(x: KerasTensor, mean: KerasTensor, variance: KerasTensor, gamma: KerasTensor) -> KerasTensor:
    """BN(x; gamma, 0)."""
    return (x - mean) * ops.rsqrt(variance + EPSILON) * gamma


@keras.saving.register_keras_serializable("kinetics_prep")
class BatchNormLSTM(keras.layers.Layer):
    """[B, T, features] -> [B, T, units]: h of each step. Computes in float32 under any policy."""

    def __init__(
        self, units: int, momentum: float, regularizer: keras.regularizers.Regularizer | None = None, **more: Any
    ) -> None:
        super().__init__(**more)
        self.units, self.momentum = units, momentum
        self.regularizer = keras.regularizers.get(regularizer)
        # With TensorFlow a scan has no gradient under XLA, which needs the number of steps beforehand.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def get_config(self) -> dict[str, Any]:
        own = {"units": self.units, "momentum": self.momentum}
        return super().get_config() | own | {"regularizer": keras.regularizers.serialize(self.regularizer)}

    def build(self, shape: Shape) -> None:
        gates = 4 * self.units
        kernel = {"initializer": "orthogonal", "regularizer": self.regularizer}
        self.kernel = self.add_weight((shape[-1], gates), name="kernel", **kernel)
        self.recurrent_kernel = self.add_weight((self.units, gates), name="recurrent_kernel", **kernel)
        self.bias = self.add_weight((gates,), "zeros", name="bias")
        self.beta = self.add_weight((self.units,), "zeros", name="cell_beta")
        self.gamma, self.mean, self.variance = {}, {}, {}
        for part, size in (("input", gates), ("recurrent", gates), ("cell", self.units)):
            self.gamma[part] = self.add_weight((size,), keras.initializers.Constant(_GAMMA), name=f"{part}_gamma")
            moving = {"shape": (KEPT_STEPS, size), "trainable": False}
            self.mean[part] = self.add_weight(initializer="zeros", name=f"{part}_moving_mean", **moving)
            self.variance[part] = self.add_weight(initializer="ones", name=f"{part}_moving_variance", **moving)

    def compute_output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.units)

    def call(self, x: KerasTensor, training: bool = False) -> KerasTensor:
        training = training and self.trainable  # frozen, it uses its moving statistics, as Keras's batch norm does
        gates = ops.swapaxes(ops.matmul(x, self.kernel), 0, 1)  # [T, B, 4 * units]
        steps = ops.shape(gates)[0]
        of_input = ops.moments(gates, axes=1) if training else self._moving("input", ops.arange(steps))
        mean, variance = of_input
        gates = normalise(gates, mean[:, None], variance[:, None], self.gamma["input"]) + self.bias
        step = functools.partial(self._step, training=training)
        _, states = ops.scan(step, self._start(ops.shape(x)[0]), gates)
        if training:
            self._follow({"input": of_input, "recurrent": states["recurrent"], "cell": states["cell"]}, steps)
        return ops.swapaxes(states["h"], 0, 1)

    def _moving(self, part: str, step: KerasTensor) -> Moments:
        """The moving mean and variance of a step, or of several."""
        kept = ops.minimum(step, KEPT_STEPS - 1)
        return ops.take(self.mean[part], kept, axis=0), ops.take(self.variance[part], kept, axis=0)

    def _start(self, clips: KerasTensor) -> State:
        """The state before the first step. A step's output is its state: TensorFlow's scan knows no other output."""
        state = {name: ops.zeros((clips, self.units)) for name in ("h", "c")}
        of_batch = {part: (ops.zeros(self.gamma[part].shape),) * 2 for part in ("recurrent", "cell")}
        return state | of_batch | {"step": ops.zeros((), "int32")}

    def _step(self, state: State, gates: KerasTensor, training: bool) -> tuple[State, State]:
        """Computes one time step. In training its statistics are those of the batch."""

        def statistics(y: KerasTensor, part: str) -> Moments:
            return ops.moments(y, axes=0) if training else self._moving(part, state["step"])

        recurrent = ops.matmul(state["h"], self.recurrent_kernel)
        of_recurrent = statistics(recurrent, "recurrent")
        gates = gates + normalise(recurrent, *of_recurrent, self.gamma["recurrent"])
        f, i, o, g = ops.split(gates, 4, axis=-1)
        c = ops.sigmoid(f) * state["c"] + ops.sigmoid(i) * ops.tanh(g)
        of_cell = statistics(c, "cell")
        h = ops.sigmoid(o) * ops.tanh(normalise(c, *of_cell, self.gamma["cell"]) + self.beta)
        state = {"h": h, "c": c, "recurrent": of_recurrent, "cell": of_cell, "step": state["step"] + 1}
        return state, state

    def _follow(self, statistics: dict[str, Moments], steps: KerasTensor) -> None:
        """Moves the moving statistics towards those of a batch, [T, size] each."""
        share = _share_of_steps(steps)
        for part, (mean, variance) in statistics.items():
            for moving, batch in ((self.mean[part], mean), (self.variance[part], variance)):
                moving.assign(moving * self.momentum + ops.matmul(share, batch) * (1 - self.momentum))


def _share_of_steps(steps: KerasTensor) -> KerasTensor:
    """float32 [KEPT_STEPS, T]: the share of each step in each kept statistic. Rows add up to 1.

    Row k is step k alone; the last row is the mean of all steps from there on. In a shorter clip the rows beyond it are
    its last step: otherwise they would keep their initial values, and a longer clip would use those.
    """
    kept, step = ops.arange(KEPT_STEPS)[:, None], ops.arange(steps)[None]
    first = ops.minimum(kept, steps - 1)
    counts = ops.logical_or(step == first, ops.logical_and(kept == KEPT_STEPS - 1, step > first))
    counts = ops.cast(counts, "float32")
    return counts / ops.sum(counts, axis=1, keepdims=True)
