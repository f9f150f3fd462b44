"""The batches of a prepared folder in either format."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from kinetics_prep.errors import BadOption
from kinetics_prep.reading import tensorflow_batches
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.prefetch import Prefetcher
from kinetics_prep.reading.reader import Reader
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.reading.skipped import Skipped


@dataclasses.dataclass(frozen=True)
class Reading:
    """Settings of reading that do not change the samples."""

    format: str | None = None
    """A name of `records.SHARD_FORMATS`; None for the one that the folder holds, TFRecord if it holds both."""
    threads: int | None = None
    """Threads that read and decode; None for one per processor."""
    skip_corrupt: bool = False
    """Whether to go on without clips that cannot be read."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise BadOption(f"--threads is {self.threads}, expected 1 or more")


@contextlib.contextmanager
def batches(
    clips: ClipIndex,
    sampler: Sampler,
    order: Order | Once,
    reading: Reading,
    skipped: Skipped,
    first_step: int = 0,
    steps: int | None = None,
) -> Iterator[Any]:
    """The batches of some steps, for a `with` block.

    Args:
      skipped: counts the clips that cannot be read, if `reading` says to go on without them.
      steps: None for all of `order`, which is then a `Once`.

    Yields:
      An iterable of `prefetch.Batch`es: from TFRecord a tf.data.Dataset, from Parquet a `Prefetcher`, which needs no
      TensorFlow.

    Raises:
      BadOption: if the data cannot be sampled like this.
      MissingTool: if the clips are TFRecord, and TensorFlow is not installed.
      CorruptShard: in the block, if a record cannot be read and is not to be skipped.
    """
    if steps is None:
        if isinstance(order, Order):
            raise BadOption("a shuffled order has no end: say how many steps to read")
        steps = order.steps
    reader = Reader(clips, sampler, order, sampler.streams, skipped if reading.skip_corrupt else None)
    if clips.format == "tfrecord":
        dataset = tensorflow_batches.dataset(reader, first_step, steps, reading.threads)
        with tensorflow_batches.original_errors(dataset):
            yield dataset
    else:
        with contextlib.closing(Prefetcher(reader, first_step, steps, reading.threads)) as prefetcher:
            yield prefetcher
