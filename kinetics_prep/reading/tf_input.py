"""Batches from TFRecord shards as a `tf.data.Dataset`."""

import contextlib
import functools
import threading
from collections.abc import Iterator, Mapping

import numpy as np

from kinetics_prep.errors import BadOption, MissingTool, RunError
from kinetics_prep.reading import reader as reading
from kinetics_prep.reading.clips import Clip, Clips
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.records import partial_reader, tfrecord

_own = threading.local()


def batches(
    clips: Clips,
    sampler: Sampler,
    order: Order | Once,
    first_step: int,
    steps: int,
    streams: tuple[str, ...],
    threads: int | None = None,
    skipped: reading.Skipped | None = None,
):
    """The batches of some steps, in order, read ahead of time.

    Args:
      threads: that read and decode; None for one a processor.
      skipped: takes note of clips that cannot be read, for which others stand in (`Order.stand_ins`), or which
        are left out (`Once`); None to stop at the first one.

    Returns:
      tf.data.Dataset of `reading.Batch`es, which can be gone through any number of times. What goes wrong while
      one goes through it is a TensorFlow error, unless it is done in `faults_of(dataset)`.

    Raises:
      BadOption: if the data cannot be sampled so.
    """
    tf = _tensorflow()
    if clips.format != "tfrecord":
        raise BadOption(f"{clips.folder} is read as {clips.format}; this reader takes TFRecord")
    reading.expect_run(first_step, steps, threads)
    reader = reading.Reader(clips, sampler, order, streams, fetch, skipped)
    faults: list[RunError] = []
    share = len(order.positions(first_step)) if isinstance(order, Order) else None
    signature = {name: tf.TensorSpec((share, *shape), tf.uint8) for name, shape in reader.shapes().items()}
    dataset = tf.data.Dataset.from_generator(
        functools.partial(_generate, reader, first_step, steps, threads, faults),
        output_signature=(signature, tf.TensorSpec((share,), tf.int32)),
    )
    if skipped is None or isinstance(order, Order):
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    dataset = dataset.prefetch(1)
    dataset.faults = faults
    return dataset


def _tensorflow():
    try:
        import tensorflow
    except ImportError:
        raise MissingTool(
            "TFRecord is read through tf.data, and TensorFlow is not there: pip install 'kinetics-prep[train]', or "
            "prepare the data with --format parquet"
        ) from None
    return tensorflow


def _generate(
    reader: reading.Reader, first_step: int, steps: int, threads: int | None, faults: list[RunError]
) -> Iterator[reading.Batch]:
    ahead = reading.Ahead(reader, first_step, steps, threads)
    try:
        for number in range(steps):
            batch = ahead.batch(number)
            if len(batch[1]):
                yield batch
    except RunError as error:
        faults.append(error)
        raise
    finally:
        ahead.close()


@contextlib.contextmanager
def faults_of(dataset) -> Iterator[None]:
    """Raises what went wrong in a dataset of `batches` as what it was. TensorFlow makes it an error of its own."""
    try:
        yield
    except Exception:
        if dataset.faults:
            raise dataset.faults[0] from None
        raise


def fetch(clip: Clip, wanted: Mapping[str, list[int]], verify: bool = True) -> reading.Part:
    """Reads some images of a clip from a TFRecord file; all of the record, whose checksum is checked.

    Raises:
      CorruptShard: if the record cannot be read.
    """
    names = {f"{reading.PREFIX[stream]}image/encoded": stream for stream in wanted}
    record = tfrecord.read_at(clip.path, clip.place, _buffer(clip.bytes), verify)
    context, values, lengths = partial_reader.pick(record, {name: wanted[stream] for name, stream in names.items()})
    return reading.Part(
        {name: _value(context[name]) for name in reading.CONTEXT if name in context},
        {stream: values[name] for name, stream in names.items()},
        {stream: lengths[name] for name, stream in names.items()},
    )


def _value(values: list):
    value = values[0] if len(values) == 1 else values
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _buffer(size: int) -> np.ndarray:
    """Memory of this thread, uint8 [size]; the same each time."""
    if getattr(_own, "memory", None) is None or len(_own.memory) < size:
        _own.memory = np.empty(size, np.uint8)
    return _own.memory[:size]
