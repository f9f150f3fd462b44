"""The paper's optimizer: gradient descent with momentum, a batch at once or in parts."""

import keras
from keras import ops


def sgd(learning_rate: float, momentum: float, parts: int, devices: int) -> keras.optimizers.Optimizer:
    """Stochastic gradient descent that takes a step after every `parts` batches, by the mean of their gradients."""
    several = devices > 1 and keras.backend.backend() == "tensorflow"
    kind = SharedInParts if parts > 1 and several else keras.optimizers.SGD
    return kind(learning_rate, momentum=momentum, gradient_accumulation_steps=parts if parts > 1 else None)


class SharedInParts(keras.optimizers.SGD):
    """The same for several devices of TensorFlow.

    Keras chooses between adding a gradient up and taking a step by a branch in the graph, in which TensorFlow's
    devices cannot meet to share gradients. Here they meet after every part, and all but the last move nothing. The
    state is Keras's own.
    """

    def _backend_apply_gradients(self, grads, trainable_variables):
        self._backend_update_step(grads, trainable_variables, self.learning_rate)

    def update_step(self, gradient, variable, learning_rate):
        place = self._get_variable_index(variable)
        gathered = self._accumulated_gradients[place]
        # `iterations` would count whole batches.
        is_last = ops.equal(ops.mod(self._iterations + 1, self.gradient_accumulation_steps), 0)
        total = ops.cast(gradient, gathered.dtype) + gathered
        change = -ops.cast(learning_rate, total.dtype) * total / self.gradient_accumulation_steps
        if self.momentum:
            change = change + self.momentum * self.momentums[place]
            self.assign(self.momentums[place], ops.where(is_last, change, self.momentums[place]))
        self.assign_add(variable, ops.where(is_last, change, 0.0))
        self.assign(gathered, ops.where(is_last, 0.0, total))
