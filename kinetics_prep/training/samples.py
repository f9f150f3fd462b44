"""The batches of a prepared folder as Keras takes them, and whether the folder is what weights expect."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import keras

from kinetics_prep.errors import BadOption
from kinetics_prep.models.spec import parts
from kinetics_prep.models.weights import Facts
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


def expect(clips: ClipIndex, facts: Facts, stream: str, accept: frozenset[str] = frozenset()) -> None:
    """Makes sure that clips are what weights were made for.

    Args:
      stream: that the weights are to see.
      accept: what may differ: some of `options.ACCEPTABLE`.

    Raises:
      BadOption: if something else does.
    """
    known = {"fps": (Fraction(facts.fps), clips.fps), "short-side": (facts.short_side, clips.short_side)}
    if "flow" in parts(stream) and "flow" in parts(facts.stream):
        known |= {"quantizer": (facts.quantizer, clips.quantizer), "bound": (facts.bound_px, clips.bound_px)}
    differing = [
        f"{name} is {there} in {clips.folder}, and the weights expect {wanted}"
        for name, (wanted, there) in known.items()
        if wanted is not None and wanted != there and name not in accept
    ]
    if differing:
        names = ",".join(text.split(" ", 1)[0] for text in differing)
        raise BadOption(f"{'; '.join(differing)}. Prepare the data so, or say --accept {names} if it is meant")


def expect_labels(clips: ClipIndex, facts: Facts) -> None:
    """Makes sure that class ids mean the same to clips and weights.

    Raises:
      BadOption: if not; the message names the first class that differs.
    """
    there = tuple(clips.labels)
    if len(there) != facts.classes:
        raise BadOption(f"{clips.folder} has {len(there)} classes, and the weights know {facts.classes}")
    if not facts.labels or there == facts.labels:
        return
    place = next(k for k, (one, other) in enumerate(zip(there, facts.labels)) if one != other)
    raise BadOption(f"class {place} is {there[place]!r} in {clips.folder} and {facts.labels[place]!r} to the weights")
