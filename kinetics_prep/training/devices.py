"""Which devices compute, in what precision, and that they do so in one order."""

import contextlib
import dataclasses
from collections.abc import Iterator

import keras

from kinetics_prep.errors import BadOption


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a run computes on."""

    names: tuple[str, ...]
    kind: str

    def __str__(self):
        return (
            f"{len(self.names)} {self.kind.upper()}{'s' if len(self.names) > 1 else ''}, by {keras.backend.backend()}"
        )

    def expect_share(self, clips: int) -> None:
        """Refuses a batch that cannot be dealt to all devices in equal shares.

        Raises:
          BadOption: if so.
        """
        if clips % len(self.names):
            raise BadOption(
                f"{clips} clips at once cannot be shared by {self} equally: take a multiple of {len(self.names)} with "
                "--batch or --batch-at-once, or let the program see fewer devices (CUDA_VISIBLE_DEVICES)"
            )


def found() -> Devices:
    """The GPUs or TPUs that Keras's backend sees, else its processors: one, unless more were asked of the backend."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for kind in ("gpu", "cpu"):
            if names := tuple(device.name for device in tf.config.list_logical_devices(kind.upper())):
                return Devices(names, kind)
    names = tuple(keras.distribution.list_devices())
    return Devices(names, names[0].split(":")[0])


def make_deterministic(seed: int) -> None:
    """Has the backend compute sums in one order, and seeds what draws at random."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Builds the models of a block to compute in a precision: a name of Keras's dtype policies."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def shared(devices: Devices) -> Iterator[None]:
    """Has each of several devices compute its share of every batch of the models made in a block.

    Keras's own distribution API does so on JAX. On TensorFlow, for which it is a prototype as yet, it is that of
    TensorFlow, which Keras's `fit` knows how to use.
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
