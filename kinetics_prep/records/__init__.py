"""Shard formats. A format is one file here and one row in `SHARD_FORMATS`; the tests find it by its row.

Each is a module with `SUFFIX`, `write_shard(path, records) -> offsets` and `read_shard(path)`,
both of `Record`s, one at a time: a shard never stands in memory whole.
"""

from kinetics_prep.records import parquet, tfrecord

SHARD_FORMATS = {
    "tfrecord": tfrecord,
    "parquet": parquet,
}
