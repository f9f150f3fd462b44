"""Reads single clips from Parquet shards."""

import contextlib
from collections.abc import Iterator, Mapping

from kinetics_prep.errors import CorruptShard
from kinetics_prep.reading.record_part import CONTEXT, IMAGES, RecordPart
from kinetics_prep.reading.stored_clip import StoredClip
from kinetics_prep.records import parquet
from kinetics_prep.records.features import FEATURES
from kinetics_prep.records.record import Record

_CONTEXT_COLUMNS = {name: FEATURES[name].column for name in CONTEXT}
_IMAGE_COLUMNS = {stream: FEATURES[name].column for stream, name in IMAGES.items()}


def read_part(clip: StoredClip, wanted: Mapping[str, list[int]], verify: bool = True) -> RecordPart:
    """Reads some images of a clip: the whole columns of the wanted streams, and no image column of another stream.

    Args:
      wanted: stream -> indices of frames, in ascending order.
      verify: whether to check the checksums of the pages.

    Raises:
      CorruptShard: if the row cannot be read.
    """
    columns = [*_CONTEXT_COLUMNS.values(), *(_IMAGE_COLUMNS[stream] for stream in wanted)]
    table = parquet.read_row(clip.path, clip.offset_or_row, columns, verify)
    with _text_errors_as_corrupt():
        context = {name: table[column][0].as_py() for name, column in _CONTEXT_COLUMNS.items()}
    encoded, frames = {}, {}
    for stream, indices in wanted.items():
        images = table[_IMAGE_COLUMNS[stream]][0].values
        if images is None or images.null_count:
            raise CorruptShard(f"its column {_IMAGE_COLUMNS[stream]} lacks images")
        frames[stream] = len(images)
        encoded[stream] = {k: memoryview(images[k].as_buffer()).cast("B") for k in indices if k < len(images)}
    return RecordPart({name: value for name, value in context.items() if value is not None}, encoded, frames)


def read_record(clip: StoredClip) -> Record:
    """Reads a whole clip and checks its checksums.

    Raises:
      CorruptShard: if the row cannot be read.
    """
    names = {feature.column: name for name, feature in FEATURES.items()}
    table = parquet.read_row(clip.path, clip.offset_or_row, list(names))
    with _text_errors_as_corrupt():
        (row,) = table.to_pylist()
    return Record({names[column]: value for column, value in row.items() if value is not None})


@contextlib.contextmanager
def _text_errors_as_corrupt() -> Iterator[None]:
    """pyarrow checks that text is UTF-8 only when it becomes a str."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise CorruptShard(f"text is not UTF-8: {error}") from None
