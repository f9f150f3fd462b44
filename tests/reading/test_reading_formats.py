"""Single clips read from a shard of each format: only their own bytes, and damage is an error."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared import copy, folder
from sample_cases import records_of

from kinetics_prep.errors import CorruptShard
from kinetics_prep.reading import CLIP_READERS, parquet_clip, tfrecord_clip
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.record_part import CONTEXT, IMAGES
from kinetics_prep.records import SHARD_FORMATS, parquet, tfrecord


@pytest.fixture(params=SHARD_FORMATS)
def format(request) -> str:
    return request.param


def test_a_part_holds_the_requested_images_and_the_context(format):
    clips = ClipIndex.open(folder(), "train", format)
    records, clip = records_of(clips), clips[2]
    record = records[clip.clip_id]
    part = CLIP_READERS[format].read_part(clip, {"rgb": [0, 3, 7], "flow": [7]})
    assert part.context == {name: record[name] for name in CONTEXT}
    assert part.frames == {"rgb": 8, "flow": 8}
    assert {stream: list(images) for stream, images in part.encoded.items()} == {"rgb": [0, 3, 7], "flow": [7]}
    for stream, images in part.encoded.items():
        for index, data in images.items():
            assert bytes(data) == record[IMAGES[stream]][index]


def test_images_beyond_the_end_of_a_record_are_missing(format):
    clip = ClipIndex.open(folder(), "train", format)[0]
    part = CLIP_READERS[format].read_part(clip, {"rgb": [7, 8, 100]})
    assert list(part.encoded["rgb"]) == [7]
    assert part.encoded.keys() == part.frames.keys() == {"rgb"}


def test_without_verification_a_flipped_bit_is_not_noticed(format, tmp_path):
    """So a test that sees the error sees the checksum, and not something else."""
    clips = ClipIndex.open(copy(tmp_path), "train", format)
    clip = clips[0]
    part = CLIP_READERS[format].read_part(clip, {"rgb": [4]})
    data = bytearray(clip.path.read_bytes())
    image = bytes(part.encoded["rgb"][4])
    data[data.index(image) + len(image) // 2] ^= 16
    clip.path.write_bytes(bytes(data))
    damaged = CLIP_READERS[format].read_part(clip, {"rgb": [4]}, verify=False).encoded["rgb"][4]
    assert sum(a != b for a, b in zip(image, damaged, strict=True)) == 1
    with pytest.raises(CorruptShard, match="checksum"):
        CLIP_READERS[format].read_part(clip, {"rgb": [4]})
    with pytest.raises(CorruptShard, match="checksum"):
        CLIP_READERS[format].read_record(clip)


def test_a_tfrecord_is_read_where_it_begins_and_nowhere_else(tmp_path):
    clip = ClipIndex.open(folder(), "train", "tfrecord")[1]
    whole, begin, size = clip.path.read_bytes(), clip.offset_or_row, clip.record_bytes
    buffer = np.empty(size, np.uint8)
    assert bytes(tfrecord.read_at(clip.path, begin, buffer)) == whole[begin + 12 : begin + size - 4]
    for offset, length in [(begin + 1, size), (begin, size - 1), (0, 8), (len(whole), 20), (0, 0)]:
        with pytest.raises(CorruptShard):
            tfrecord.read_at(clip.path, offset, np.empty(length, np.uint8))
    chance, path = np.random.default_rng(0), tmp_path / "damaged"
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[begin + chance.integers(size)] ^= 1 << chance.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(CorruptShard):
            tfrecord.read_at(path, begin, buffer)


def test_parts_of_two_clips_of_one_thread_share_memory_but_whole_records_do_not():
    clips = ClipIndex.open(folder(), "train", "tfrecord")
    large, small = sorted(clips, key=lambda clip: -clip.record_bytes)[:2]
    first = tfrecord_clip.read_record(large)
    part = tfrecord_clip.read_part(large, {"rgb": [0]}).encoded["rgb"][0]
    before = bytes(part)
    tfrecord_clip.read_part(small, {"rgb": [0]})
    assert bytes(part) != before
    tfrecord_clip.read_record(small)
    assert first == records_of(clips)[large.clip_id]


def test_a_parquet_row_is_read_from_row_groups_of_any_size(tmp_path):
    clips = ClipIndex.open(folder(clips_per_shard=5), "train", "parquet")
    table, path = pq.read_table(clips.paths[0]), tmp_path / "regrouped.parquet"
    pq.write_table(table.cast(parquet.SCHEMA), path, row_group_size=2, write_page_checksum=True)
    for row in range(5):
        assert parquet.read_row(path, row, ["example_id"]).to_pydict() == {"example_id": [clips.ids[row]]}
    with pytest.raises(CorruptShard, match="has fewer rows"):
        parquet.read_row(path, 5, ["example_id"])
    pq.write_table(pa.table({"example_id": ["a"]}), path)
    with pytest.raises(CorruptShard, match="has no column"):
        parquet.read_row(path, 0, ["example_id"])


def test_a_flipped_bit_anywhere_in_a_parquet_shard_is_corruption_or_without_effect(tmp_path):
    clips = ClipIndex.open(copy(tmp_path, clips_per_shard=5), "train", "parquet")
    path, chance, refused = clips.paths[0], np.random.default_rng(1), 0
    whole, wanted = path.read_bytes(), {"rgb": [0, 3], "flow": [7]}
    expected = [images_of(parquet_clip.read_part(clip, wanted)) for clip in clips]
    for k in range(120):
        damaged = bytearray(whole)
        first = 0 if k % 2 else len(whole) * 9 // 10  # half of them in the footer, which says where everything is
        damaged[chance.integers(first, len(whole))] ^= 1 << chance.integers(8)
        path.write_bytes(damaged)
        for clip, images in zip(clips, expected):
            try:
                part = parquet_clip.read_part(clip, wanted)
            except CorruptShard:
                refused += 1
            else:
                assert first or images_of(part) == images
    assert refused > 60


def images_of(part) -> dict[str, dict[int, bytes]]:
    return {stream: {k: bytes(data) for k, data in images.items()} for stream, images in part.encoded.items()}


def test_a_parquet_shard_that_breaks_off_is_corrupt(tmp_path):
    clips = ClipIndex.open(copy(tmp_path), "train", "parquet")
    whole = clips.paths[0].read_bytes()
    for length in range(0, len(whole), 997):
        clips.paths[0].write_bytes(whole[:length])
        with pytest.raises(CorruptShard):
            parquet_clip.read_part(clips[0], {"rgb": [0, 3]})


def rewritten(tmp_path, column: str, values: pa.Array) -> ClipIndex:
    """A copy whose first Parquet shard holds other values in a column, with checksums that are right."""
    clips = ClipIndex.open(copy(tmp_path), "train", "parquet")
    table = pq.read_table(clips.paths[0]).cast(parquet.SCHEMA)
    field = parquet.SCHEMA.get_field_index(column)
    table = table.set_column(field, parquet.SCHEMA.field(column).with_nullable(True), values)
    pq.write_table(table, clips.paths[0], row_group_size=1, write_page_checksum=True)
    return clips


def test_text_that_is_not_utf_8_is_corruption(tmp_path):
    values = pa.array([b"\xff\xfe", b"\xff\xfe"], pa.binary())
    text = pa.StringArray.from_buffers(2, *values.buffers()[1:])
    clips = rewritten(tmp_path, "example_id", text)
    for read in (lambda clip: parquet_clip.read_part(clip, {"rgb": [0]}), parquet_clip.read_record):
        with pytest.raises(CorruptShard, match="text is not UTF-8"):
            read(clips[0])


@pytest.mark.parametrize("images", [None, [None] * 8])
def test_missing_images_are_corruption(tmp_path, images):
    clips = rewritten(tmp_path, "image_encoded", pa.array([images] * 2, pa.list_(pa.binary())))
    with pytest.raises(CorruptShard, match="its column image_encoded lacks images"):
        parquet_clip.read_part(clips[0], {"rgb": [0]})
