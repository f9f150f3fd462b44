"""LSTM with batch norm inside the recurrence.

Cooijmans et al., "Recurrent Batch Normalization", ICLR 2017, equations 6 to 8; W_h, W_x, gamma, beta as there:

    f, i, o, g = BN(W_h h; gamma_h) + BN(W_x x; gamma_x) + b
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(BN(c; gamma_c, beta_c))

Statistics are those of a time step, over the batch. The paper keeps moving ones for each step, because the first steps
are unlike the others, and uses those of the last step for any beyond. So do we, for `SETTLES` steps: all later ones
share one. Its epsilon is 1e-5, with which training on two clips at a time ran away from some starts; ours is that of
the other layers.
"""

import functools

import keras
from keras import ops

from kinetics_prep.models.inception import EPSILON

SETTLES = 10
"""Steps after which statistics are taken for settled."""

_GAMMA = 0.1
"""Larger ones saturate tanh, and no gradient comes back; section 4 of the paper."""


def normalise(x, mean, variance, gamma):
    """BN(x; gamma, 0)."""
    return (x - mean) * ops.rsqrt(variance + EPSILON) * gamma


@keras.saving.register_keras_serializable("kinetics_prep")
class BatchNormLSTM(keras.layers.Layer):
    """[B, T, features] -> [B, T, units]: h of every step. Computes in float32 under any policy."""

    def __init__(self, units: int, momentum: float, regularizer=None, **more):
        super().__init__(**more)
        self.units, self.momentum = units, momentum
        self.regularizer = keras.regularizers.get(regularizer)
        # There a scan has no gradient under XLA, which needs to know beforehand how many steps there will be.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def get_config(self):
        own = {"units": self.units, "momentum": self.momentum}
        return super().get_config() | own | {"regularizer": keras.regularizers.serialize(self.regularizer)}

    def build(self, shape):
        gates = 4 * self.units
        kernel = {"initializer": "orthogonal", "regularizer": self.regularizer}
        self.kernel = self.add_weight((shape[-1], gates), name="kernel", **kernel)
        self.recurrent_kernel = self.add_weight((self.units, gates), name="recurrent_kernel", **kernel)
        self.bias = self.add_weight((gates,), "zeros", name="bias")
        self.beta = self.add_weight((self.units,), "zeros", name="cell_beta")
        self.gamma, self.mean, self.variance = {}, {}, {}
        for what, size in (("input", gates), ("recurrent", gates), ("cell", self.units)):
            self.gamma[what] = self.add_weight((size,), keras.initializers.Constant(_GAMMA), name=f"{what}_gamma")
            moving = {"shape": (SETTLES, size), "trainable": False}
            self.mean[what] = self.add_weight(initializer="zeros", name=f"{what}_moving_mean", **moving)
            self.variance[what] = self.add_weight(initializer="ones", name=f"{what}_moving_variance", **moving)

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)

    def call(self, x, training=False):
        training = training and self.trainable  # frozen, it keeps to what it knows, as Keras's batch norm does
        gates = ops.swapaxes(ops.matmul(x, self.kernel), 0, 1)  # [T, B, 4 * units]
        steps = ops.shape(gates)[0]
        if training:
            of_input = ops.moments(gates, axes=1)
        else:
            of_input = self._moving("input", ops.arange(steps))
        mean, variance = of_input
        gates = normalise(gates, mean[:, None], variance[:, None], self.gamma["input"]) + self.bias
        step = functools.partial(self._step, training=training)
        _, told = ops.scan(step, self._start(ops.shape(x)[0]), gates)
        if training:
            self._follow({"input": of_input, "recurrent": told["recurrent"], "cell": told["cell"]}, steps)
        return ops.swapaxes(told["h"], 0, 1)

    def _moving(self, what, step):
        """The moving mean and variance that a step has, or many have."""
        kept = ops.minimum(step, SETTLES - 1)
        return ops.take(self.mean[what], kept, axis=0), ops.take(self.variance[what], kept, axis=0)

    def _start(self, clips):
        """The state before the first step. What a step hands out is its state: TensorFlow's scan knows no other."""
        state = {name: ops.zeros((clips, self.units)) for name in ("h", "c")}
        of_batch = {what: (ops.zeros(self.gamma[what].shape),) * 2 for what in ("recurrent", "cell")}
        return state | of_batch | {"step": ops.zeros((), "int32")}

    def _step(self, state, gates, training):
        """One step of time. In training its statistics are those of the batch."""

        def statistics(y, what):
            return ops.moments(y, axes=0) if training else self._moving(what, state["step"])

        recurrent = ops.matmul(state["h"], self.recurrent_kernel)
        of_recurrent = statistics(recurrent, "recurrent")
        gates = gates + normalise(recurrent, *of_recurrent, self.gamma["recurrent"])
        f, i, o, g = ops.split(gates, 4, axis=-1)
        c = ops.sigmoid(f) * state["c"] + ops.sigmoid(i) * ops.tanh(g)
        of_cell = statistics(c, "cell")
        h = ops.sigmoid(o) * ops.tanh(normalise(c, *of_cell, self.gamma["cell"]) + self.beta)
        state = {"h": h, "c": c, "recurrent": of_recurrent, "cell": of_cell, "step": state["step"] + 1}
        return state, state

    def _follow(self, statistics, steps):
        """Moves the moving statistics towards those of a batch, [T, size] each."""
        share = _share_of_steps(steps)
        for what, (mean, variance) in statistics.items():
            for moving, seen in ((self.mean[what], mean), (self.variance[what], variance)):
                moving.assign(moving * self.momentum + ops.matmul(share, seen) * (1 - self.momentum))


def _share_of_steps(steps):
    """float32 [SETTLES, T]: what share each step has in the statistics kept. Rows add up to one.

    A row is its step's, the last one that of all steps from there on. In a clip that has fewer, further rows are its
    last step's: else they would keep what they were born with, and a longer clip would meet it.
    """
    kept, step = ops.arange(SETTLES)[:, None], ops.arange(steps)[None]
    first = ops.minimum(kept, steps - 1)
    has = ops.logical_or(step == first, ops.logical_and(kept == SETTLES - 1, step > first))
    has = ops.cast(has, "float32")
    return has / ops.sum(has, axis=1, keepdims=True)
