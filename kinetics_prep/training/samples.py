"""Batches of a prepared folder, whichever format it is in."""

import contextlib
import dataclasses
from collections.abc import Iterator

from kinetics_prep.errors import BadOption
from kinetics_prep.reading import parquet_input, tf_input
from kinetics_prep.reading.clips import Clips
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.reader import Skipped
from kinetics_prep.reading.sampling import Sampler


@dataclasses.dataclass(frozen=True)
class Reading:
    """How shards are read; of no consequence for what is read."""

    format: str | None = None
    """A name of `formats.SHARD_FORMATS`; None for the one that is there."""
    threads: int | None = None
    """That decode; None for one a processor."""
    skip_corrupt: bool = False

    def __post_init__(self):
        if self.threads is not None and self.threads < 1:
            raise BadOption(f"--threads is {self.threads}, expected 1 or more")


@contextlib.contextmanager
def batches(
    clips: Clips,
    sampler: Sampler,
    order: Order | Once,
    reading: Reading,
    skipped: Skipped,
    first_step: int = 0,
    steps: int | None = None,
) -> Iterator:
    """The batches of some steps, for a block: what Keras's `fit` takes.

    Args:
      steps: None for all that `order` has.
      skipped: counts what cannot be read, if `reading` says to go on without it.

    Raises:
      CorruptShard: in the block, if a record cannot be read and is not to be skipped.
    """
    steps = order.steps if steps is None else steps
    told = (reading.threads, skipped if reading.skip_corrupt else None)
    if clips.format == "parquet":
        with contextlib.closing(
            parquet_input.Batches(clips, sampler, order, first_step, steps, sampler.streams, *told)
        ) as found:
            yield found
    else:
        found = tf_input.batches(clips, sampler, order, first_step, steps, sampler.streams, *told)
        with tf_input.faults_of(found):
            yield found
