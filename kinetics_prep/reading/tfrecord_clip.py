"""Reads single clips from TFRecord shards, without TensorFlow."""

import threading
from collections.abc import Mapping

import numpy as np

from kinetics_prep.reading.record_part import CONTEXT, IMAGES, RecordPart
from kinetics_prep.reading.stored_clip import StoredClip
from kinetics_prep.records import partial_reader, tfrecord
from kinetics_prep.records.record import Record


class _ThreadBuffer(threading.local):
    """Memory of one thread, used again for each record: fresh memory costs time as well."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def of_size(self, size: int) -> np.ndarray:
        """uint8 [size], uninitialised; overwritten by the next call in this thread."""
        if len(self._memory) < size:
            self._memory = np.empty(size, np.uint8)
        return self._memory[:size]


_buffer = _ThreadBuffer()


def read_part(clip: StoredClip, wanted: Mapping[str, list[int]], verify: bool = True) -> RecordPart:
    """Reads some images of a clip. The whole record is read from disk, because its checksum covers all of it.

    Args:
      wanted: stream -> indices of frames, in ascending order.
      verify: whether to check the checksum of the data; that of the length is always checked.

    Raises:
      CorruptShard: if the record cannot be read.
    """
    record = tfrecord.read_at(clip.path, clip.offset_or_row, _buffer.of_size(clip.record_bytes), verify)
    context, images, lengths = partial_reader.pick(record, {IMAGES[stream]: wanted[stream] for stream in wanted})
    return RecordPart(
        {name: _context_value(context[name]) for name in CONTEXT if name in context},
        {stream: images[IMAGES[stream]] for stream in wanted},
        {stream: lengths[IMAGES[stream]] for stream in wanted},
    )


def _context_value(values: list) -> object:
    value = values[0] if len(values) == 1 else values
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def read_record(clip: StoredClip) -> Record:
    """Reads a whole clip and checks its checksums.

    Raises:
      CorruptShard: if the record cannot be read.
    """
    buffer = np.empty(clip.record_bytes, np.uint8)
    return Record.from_bytes(bytes(tfrecord.read_at(clip.path, clip.offset_or_row, buffer)))
