"""The paper's optimizer: gradient descent with momentum, of a batch at once or in parts."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def sgd(learning_rate: float, momentum: float, parts: int, devices: int) -> keras.optimizers.Optimizer:
    """Stochastic gradient descent that takes a step after every `parts` batches, by the mean of their gradients."""
    is_mirrored = devices > 1 and keras.backend.backend() == "tensorflow"
    optimizer = MirroredSGD if parts > 1 and is_mirrored else keras.optimizers.SGD
    return optimizer(learning_rate, momentum=momentum, gradient_accumulation_steps=parts if parts > 1 else None)


class MirroredSGD(keras.optimizers.SGD):
    """SGD with gradient accumulation under TensorFlow's MirroredStrategy.

    Keras decides between adding a gradient up and taking a step by a branch in the graph, and inside a branch
    TensorFlow's devices cannot exchange gradients. Here they exchange them after every part, and only the
    last part of a batch changes weights. The state is that of Keras's SGD.

    A step is every `gradient_accumulation_steps`th call. Under mixed_float16, Keras's LossScaleOptimizer does not make
    a call whose gradients are not finite. After such a part, steps no longer end with a batch.
    """

    def _backend_apply_gradients(self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable]) -> None:
        self._backend_update_step(grads, trainable_variables, self.learning_rate)

    def update_step(self, gradient: Any, variable: keras.Variable, learning_rate: Any) -> None:
        """Adds the gradient of a part up; after the last part also changes a variable and its momentum."""
        index = self._get_variable_index(variable)
        accumulated = self._accumulated_gradients[index]
        # Not the property `iterations`, which counts whole batches.
        is_last = ops.equal(ops.mod(self._iterations + 1, self.gradient_accumulation_steps), 0)
        total = ops.cast(gradient, accumulated.dtype) + accumulated
        change = -ops.cast(learning_rate, total.dtype) * total / self.gradient_accumulation_steps
        if self.momentum:
            change = change + self.momentum * self.momentums[index]
            self.assign(self.momentums[index], ops.where(is_last, change, self.momentums[index]))
        self.assign_add(variable, ops.where(is_last, change, 0.0))
        self.assign(accumulated, ops.where(is_last, 0.0, total))
