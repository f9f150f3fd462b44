"""Batches of a prepared folder, whichever format it is in, and whether it is what weights expect."""

import contextlib
import dataclasses
from collections.abc import Iterator
from fractions import Fraction

from kinetics_prep.errors import BadOption
from kinetics_prep.models.facts import Facts
from kinetics_prep.models.spec import parts
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


def expect(clips: Clips, facts: Facts, stream: str, accept: frozenset[str] = frozenset()) -> None:
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


def expect_labels(clips: Clips, facts: Facts) -> None:
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
