"""Shards -> samples, without Keras: which clip, when, and which part of it.

A shard format is one module here and one row in `CLIP_READERS`.
"""

from kinetics_prep.reading import parquet_clip, tfrecord_clip
from kinetics_prep.reading.record_part import ClipReader

CLIP_READERS: dict[str, ClipReader] = {
    "tfrecord": tfrecord_clip,
    "parquet": parquet_clip,
}
"""Name of a shard format, as in `records.SHARD_FORMATS` -> the module that reads single clips from it."""
