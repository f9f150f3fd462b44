"""What the tests of reading share: samples made a second way, from whole records with NumPy and Pillow, and damage."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from kinetics_prep.dataset import documents
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.prefetch import Batch, Prefetcher
from kinetics_prep.reading.reader import Reader
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record

SIZE = 28
OFFSETS = {"rgb": np.arange(1, 6, 2), "flow": np.arange(6)}
SAMPLER = Sampler(OFFSETS, SIZE, train=True, flip=True, seed=7)
CENTRE = Sampler({"rgb": np.arange(12), "flow": np.arange(12)}, SIZE, train=False)
BOTH = ("rgb", "flow")


def read(
    clips: ClipIndex,
    sampler: Sampler = SAMPLER,
    order: Order | Once | None = None,
    first_step: int = 0,
    steps: int = 3,
    streams: tuple[str, ...] = BOTH,
    threads: int = 2,
    skipped: Skipped | None = None,
) -> list[Batch]:
    """The batches of some steps; by default of a shuffled order in batches of 4."""
    reader = Reader(clips, sampler, order or Order(len(clips), 4, seed=5), streams, skipped)
    prefetcher = Prefetcher(reader, first_step, steps, threads)
    try:
        return list(prefetcher)
    finally:
        prefetcher.close()


def assert_same(batches: list[Batch], expected: list[Batch]) -> None:
    assert len(batches) == len(expected)
    for (images, class_ids), (expected_images, expected_ids) in zip(batches, expected):
        assert class_ids.dtype == np.int32
        np.testing.assert_array_equal(class_ids, expected_ids)
        assert images.keys() == expected_images.keys()
        for stream in images:
            assert images[stream].dtype == np.uint8
            np.testing.assert_array_equal(images[stream], expected_images[stream])


def records_of(clips: ClipIndex) -> dict[str, Record]:
    """The records of all clips by clip id, read shard by shard."""
    read_shard = SHARD_FORMATS[clips.format].read_shard
    return {record["example/id"]: record for path in clips.paths for record in read_shard(path)}


def sample_of(record: Record, sampler: Sampler, epoch: int, size: int = SIZE) -> tuple[dict[str, np.ndarray], int]:
    """A sample and its class id, made from nothing but a `Record`, by NumPy."""
    height, width = record.frame(0).shape[:2]
    draw = sampler.draw(record["example/id"], epoch, len(record), height, width)
    rows, columns = slice(draw.top, draw.top + size), slice(draw.left, draw.left + size)
    step = -1 if draw.flip else 1
    frames = np.stack([record.frame(k)[rows, columns][:, ::step] for k in draw.indices["rgb"]])
    levels = np.stack([record.levels(k)[rows, columns][:, ::step] for k in draw.indices["flow"]])
    if draw.flip:
        turned = 256 if record["kinetics_prep/quantizer"] == "symmetric" else 255
        levels[..., 0] = np.minimum(turned - levels[..., 0].astype(int), 255)
    return {"rgb": frames, "flow": levels}, record["clip/label/index"]


def damage(clips: ClipIndex, number: int, stream: str = "rgb") -> None:
    """Flips one bit in the middle of a clip's images; a decoder would not notice it."""
    clip = clips[number]
    data = bytearray(clip.path.read_bytes())
    if clips.format == "tfrecord":
        place = clip.offset_or_row + clip.record_bytes // 2
    else:
        column = image_column(clip.path, clip.offset_or_row, stream)
        place = column.data_page_offset + column.total_compressed_size // 2
    data[place] ^= 16
    clip.path.write_bytes(bytes(data))


def image_column(path, row: int, stream: str = "rgb") -> pq.ColumnChunkMetaData:
    """Where the images of one clip are in a Parquet file, which has one clip in a row group."""
    group = pq.read_metadata(path).row_group(row)
    prefix = {"rgb": "image_encoded", "flow": "forward_flow_image_encoded"}[stream]
    columns = (group.column(k) for k in range(group.num_columns))
    return next(column for column in columns if column.path_in_schema.startswith(prefix))


def rewrite(clips: ClipIndex, **changes) -> ClipIndex:
    """Writes the first shard again, with other features in its records; the index stays as it was."""
    path, module = clips[0].path, SHARD_FORMATS[clips.format]
    records = [Record(record.features | changes) for record in module.read_shard(path)]
    offsets = module.write_shard(path, records)
    manifest = read_manifest(clips.folder)
    described = manifest["splits"]["train"]["shards"][0]["files"][clips.format]
    described |= {"bytes": path.stat().st_size, "offsets": offsets}
    write_manifest(clips.folder, manifest)
    return ClipIndex.open(clips.folder, "train", clips.format)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of dataset.json."""
    return documents.decode((folder / "dataset.json").read_bytes(), "dataset.json")


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Writes other content to dataset.json, under a checksum that fits: it was not damaged, but forged."""
    (folder / "dataset.json").write_bytes(documents.encode(content))
