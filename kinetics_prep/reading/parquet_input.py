"""Batches from Parquet shards as a `keras.utils.PyDataset`, for any backend of Keras; without TensorFlow."""

from collections.abc import Mapping

import keras

from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.reading import reader as reading
from kinetics_prep.reading.clips import Clip, Clips
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.records import parquet
from kinetics_prep.records.features import FEATURES


class Batches(keras.utils.PyDataset):
    """The batches of some steps, read ahead of time by threads of its own.

    Keras needs no workers for it. Its `fit` shuffles batches unless it is told `shuffle=False`.
    """

    def __init__(
        self,
        clips: Clips,
        sampler: Sampler,
        order: Order | Once,
        first_step: int,
        steps: int,
        streams: tuple[str, ...],
        threads: int | None = None,
        skipped: reading.Skipped | None = None,
    ):
        """See `tf_input.batches`; this one raises `CorruptShard` itself.

        Raises:
          BadOption: if the data cannot be sampled so.
        """
        super().__init__()
        if clips.format != "parquet":
            raise BadOption(f"{clips.folder} is read as {clips.format}; this reader takes Parquet")
        reading.expect_run(first_step, steps, threads)
        reader = reading.Reader(clips, sampler, order, streams, fetch, skipped)
        self._ahead = reading.Ahead(reader, first_step, steps, threads)

    def __len__(self):
        return len(self._ahead)

    def __getitem__(self, number: int) -> reading.Batch:
        """The batch of step `first_step + number`.

        Raises:
          CorruptShard: if a clip cannot be read and is not to be skipped.
        """
        return self._ahead.batch(number)

    def close(self) -> None:
        """Stops what was begun."""
        self._ahead.close()


def fetch(clip: Clip, wanted: Mapping[str, list[int]], verify: bool = True) -> reading.Part:
    """Reads some images of a clip from a Parquet file: all of the columns that hold them, and nothing of others.

    Raises:
      CorruptShard: if the row cannot be read.
    """
    columns = {FEATURES[name].column: name for name in reading.CONTEXT}
    lists = {FEATURES[f"{reading.PREFIX[stream]}image/encoded"].column: stream for stream in wanted}
    table = parquet.read_row(clip.path, clip.place, [*columns, *lists], verify)
    context = {name: table[column][0].as_py() for column, name in columns.items()}
    encoded, frames = {}, {}
    for column, stream in lists.items():
        values = table[column][0].values
        if values is None or values.null_count:
            raise CorruptShard(f"its column {column} lacks images")
        frames[stream] = len(values)
        encoded[stream] = {k: memoryview(values[k].as_buffer()).cast("B") for k in wanted[stream] if k < len(values)}
    return reading.Part({name: value for name, value in context.items() if value is not None}, encoded, frames)
