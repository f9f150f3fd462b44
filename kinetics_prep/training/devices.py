"""Which devices compute, in what precision, and in a fixed order."""

import contextlib
import dataclasses
from collections.abc import Iterator

import keras

from kinetics_prep.errors import BadOption


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a run computes on."""

    names: tuple[str, ...]
    """The backend's names of them."""
    kind: str
    """Such as "cpu" or "gpu"."""

    def __str__(self) -> str:
        return (
            f"{len(self.names)} {self.kind.upper()}{'s' if len(self.names) > 1 else ''}, by {keras.backend.backend()}"
        )

    def check_share(self, clips: int) -> None:
        """Makes sure that a batch of so many clips can be divided among the devices equally.

        Raises:
          BadOption: if not.
        """
        if clips % len(self.names):
            raise BadOption(
                f"{clips} clips at once cannot be shared by {self} equally: take a multiple of {len(self.names)} with "
                "--batch or --batch-at-once, or let the program see fewer devices (CUDA_VISIBLE_DEVICES)"
            )


def find_devices() -> Devices:
    """The GPUs or TPUs that Keras's backend sees, else its CPUs: one, unless the backend was set up with more."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for kind in ("gpu", "cpu"):
            if names := tuple(device.name for device in tf.config.list_logical_devices(kind.upper())):
                return Devices(names, kind)
    names = tuple(keras.distribution.list_devices())
    return Devices(names, names[0].split(":")[0])


def make_deterministic(seed: int) -> None:
    """Seeds the random generators, and has the backend compute sums in a fixed order where it can.

    That is not enough for equal bits in every start of a program: see the README, "Train".
    """
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Models made in the block compute in this precision: a name of Keras's dtype policies."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def data_parallel(devices: Devices) -> Iterator[None]:
    """Models made in the block share every batch among several devices.

    On JAX through Keras's own distribution API. That is still a prototype for TensorFlow, where `tf.distribute` does
    it, which Keras's `fit` supports.
    """
    if len(devices.names) < 2:
        yield
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.distribute.MirroredStrategy(list(devices.names)).scope():
            yield
    else:
        before = keras.distribution.distribution()
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=list(devices.names)))
        try:
            yield
        finally:
            keras.distribution.set_distribution(before)
