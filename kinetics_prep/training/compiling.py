"""A recipe's model in Keras: built, and compiled with the paper's loss and optimizer."""

from typing import Any

import keras

from kinetics_prep.models import ModelModule
from kinetics_prep.models.facts import Facts
from kinetics_prep.models.spec import Options
from kinetics_prep.training import normalise, transfer
from kinetics_prep.training.devices import Devices
from kinetics_prep.training.optimizer import sgd
from kinetics_prep.training.recipes import TrainRecipe


def build_core(recipe: TrainRecipe, architecture: ModelModule, facts: Facts) -> keras.Model:
    """The model of frames in [-1, 1], with new weights.

    Args:
      architecture: a row of `models.MODELS`.
    """
    options = Options(recipe.dropout, recipe.weight_decay, recipe.batch_norm_momentum)
    # Its length is left open, where the architecture allows that: training and test differ in it.
    return architecture.build(facts.classes, recipe.stream, facts.size, options=options)


def compile_model(
    core: keras.Model, architecture: ModelModule, recipe: TrainRecipe, facts: Facts, devices: Devices
) -> keras.Model:
    """The model of uint8 samples, ready for Keras's `fit`; shares the core's variables."""
    if recipe.protocol == "fixed":
        transfer.freeze(core, architecture)
    model = normalise.from_uint8(core, facts.quantizer)
    optimizer = sgd(recipe.learning_rate(0), recipe.momentum, recipe.accumulate, len(devices.names))
    # On a CPU, XLA's code for a 3D convolution takes several times as long as TensorFlow's. JAX has nothing but XLA.
    without_xla = devices.kind == "cpu" and keras.backend.backend() == "tensorflow"
    model.compile(optimizer, cross_entropy, jit_compile=False if without_xla else "auto")
    model.optimizer.build(model.trainable_variables)
    return model


def cross_entropy(class_ids: Any, logits: Any) -> Any:
    """The loss of each sample, and of each step of a model that has logits at every step, in nats.

    Args:
      class_ids: int [B].
      logits: float [B, classes], or [B, S, classes].

    Returns:
      float [B], or [B, S].
    """
    if len(logits.shape) == 3:
        class_ids = keras.ops.broadcast_to(keras.ops.reshape(class_ids, (-1, 1)), keras.ops.shape(logits)[:2])
    return keras.losses.sparse_categorical_crossentropy(class_ids, logits, from_logits=True)
