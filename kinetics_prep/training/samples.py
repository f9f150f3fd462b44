"""The batches of a prepared folder as Keras takes them."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from kinetics_prep.reading import batches as reading_batches
from kinetics_prep.reading.batches import Reading
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.prefetch import Batch, Prefetcher
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.reading.skipped import Skipped


class KerasBatches(keras.utils.PyDataset):
    """The batches of a `Prefetcher`, for Keras with any backend; without TensorFlow.

    Keras needs no workers for it. Its `fit` shuffles the batches unless it is called with `shuffle=False`.
    """

    def __init__(self, prefetcher: Prefetcher):
        super().__init__()
        self._prefetcher = prefetcher

    def __len__(self) -> int:
        return len(self._prefetcher)

    def __getitem__(self, number: int) -> Batch:
        return self._prefetcher[number]


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
    """Yields what `reading.batches.batches` does, as a type that Keras's `fit` takes."""
    with reading_batches.batches(clips, sampler, order, reading, skipped, first_step, steps) as samples:
        yield KerasBatches(samples) if isinstance(samples, Prefetcher) else samples
