"""Batches as a `tf.data.Dataset`. The only file of `reading/` that imports TensorFlow."""

import contextlib
import functools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from kinetics_prep.errors import MissingTool, RunError
from kinetics_prep.reading.order import Order
from kinetics_prep.reading.prefetch import Batch, Prefetcher, check_run
from kinetics_prep.reading.reader import Reader


def dataset(reader: Reader, first_step: int, steps: int, threads: int | None = None) -> Any:
    """The batches of some steps, in order, read ahead of time.

    Args:
      threads: that read and decode; None for one per processor.

    Returns:
      tf.data.Dataset of `Batch`es, which can be iterated any number of times; batches without a clip are left out. An
      error during the iteration is a TensorFlow error, unless it happens in a block `with original_errors(dataset)`.

    Raises:
      BadOption: if `first_step`, `steps` or `threads` make no sense.
      MissingTool: if TensorFlow is not installed.
    """
    tf = _tensorflow()
    check_run(first_step, steps, threads)
    errors: list[RunError] = []
    samples = len(reader.order.positions(first_step)) if isinstance(reader.order, Order) else None
    signature = {name: tf.TensorSpec((samples, *shape), tf.uint8) for name, shape in reader.shapes().items()}
    batches = tf.data.Dataset.from_generator(
        functools.partial(_generate, reader, first_step, steps, threads, errors),
        output_signature=(signature, tf.TensorSpec((samples,), tf.int32)),
    )
    if reader.skipped is None or isinstance(reader.order, Order):
        batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    batches = batches.prefetch(1)
    batches.reader_errors = errors
    return batches


def _tensorflow() -> ModuleType:
    try:
        import tensorflow
    except ImportError:
        raise MissingTool(
            "TFRecord is read through tf.data, and TensorFlow is not installed: pip install 'kinetics-prep[train]', or "
            "prepare the data with --format parquet"
        ) from None
    return tensorflow


def _generate(
    reader: Reader, first_step: int, steps: int, threads: int | None, errors: list[RunError]
) -> Iterator[Batch]:
    with contextlib.closing(Prefetcher(reader, first_step, steps, threads)) as batches:
        try:
            yield from (batch for batch in batches if len(batch[1]))
        except RunError as error:
            errors.append(error)
            raise


@contextlib.contextmanager
def original_errors(dataset: Any) -> Iterator[None]:
    """In this block, an error of the reader under a `dataset` is raised as itself, and not as a TensorFlow error."""
    try:
        yield
    except Exception:
        if dataset.reader_errors:
            raise dataset.reader_errors[0] from None
        raise
