"""Samples by position: the right pixels and class of the right clip, in both formats; clips that cannot be read."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image
from prepared import RECIPE, copy, folder, make
from sample_cases import (
    BOTH,
    CENTRE,
    OFFSETS,
    SAMPLER,
    SIZE,
    assert_same,
    damage,
    image_column,
    read,
    records_of,
    rewrite,
    sample_of,
)

from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.media import quantize
from kinetics_prep.reading import CLIP_READERS
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.reader import Reader
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.image_codec import ENCODINGS


@pytest.fixture(params=SHARD_FORMATS)
def format(request) -> str:
    return request.param


def test_every_shard_format_can_be_read():
    assert CLIP_READERS.keys() == SHARD_FORMATS.keys()


# The samples ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flow_encoding, quantizer", itertools.zip_longest(ENCODINGS, quantize.QUANTIZERS, fillvalue=ENCODINGS[0])
)
def test_samples_are_what_the_records_hold(format, flow_encoding, quantizer):
    clips = ClipIndex.open(folder(flow_encoding=flow_encoding, quantizer=quantizer), "train", format)
    order, records = Order(len(clips), 4, seed=5), records_of(clips)
    for step, (images, class_ids) in enumerate(read(clips, order=order)):
        for k, (epoch, number) in enumerate(order.batch_at(step)):
            expected, class_id = sample_of(records[clips.ids[number]], SAMPLER, epoch)
            assert class_ids[k] == class_id
            for stream in BOTH:
                np.testing.assert_array_equal(images[stream][k], expected[stream])


def test_the_samples_of_these_tests_are_of_every_kind():
    clips = ClipIndex.open(folder(), "train")
    order = Order(len(clips), 4, seed=5)
    draws = []
    for epoch, number in (sample for step in range(3) for sample in order.batch_at(step)):
        clip = clips[number]
        draws.append((clip, SAMPLER.draw(clip.clip_id, epoch, clip.frames, clip.height, clip.width)))
    assert {draw.flip for _, draw in draws} == {False, True}
    assert any(clip.height != clip.width and draw.top != draw.left for clip, draw in draws)
    assert len({int(draw.indices["flow"][0]) for _, draw in draws}) > 1


def test_both_formats_give_the_same_samples():
    batches, others = (read(ClipIndex.open(folder(), "train", format), steps=6) for format in SHARD_FORMATS)
    assert_same(batches, others)
    assert {stream: images.shape for stream, images in batches[0][0].items()} == {
        "rgb": (4, 3, 28, 28, 3),
        "flow": (4, 6, 28, 28, 2),
    }


def test_another_seed_gives_other_windows_and_crops_of_the_same_clips(format):
    clips = ClipIndex.open(folder(), "train", format)
    other = Sampler(OFFSETS, SIZE, train=True, flip=True, seed=8)
    ((images, class_ids),), ((other_images, other_ids),) = read(clips, steps=1), read(clips, other, steps=1)
    np.testing.assert_array_equal(class_ids, other_ids)
    assert (images["flow"] != other_images["flow"]).any(axis=(1, 2, 3, 4)).sum() >= 3  # of four


def test_one_stream_alone_is_the_same_as_in_both(format):
    clips = ClipIndex.open(folder(), "train", format)
    both = read(clips)
    for stream in BOTH:
        alone = read(clips, streams=(stream,))
        assert_same(alone, [({stream: images[stream]}, class_ids) for images, class_ids in both])


def test_short_clips_are_looped(format):
    clips = ClipIndex.open(folder(), "val", format)
    ((images, _),) = read(clips, CENTRE, Once(len(clips), 4), steps=1)
    for pixels in images.values():
        np.testing.assert_array_equal(pixels[:, 8:], pixels[:, :4])
        assert (pixels[:, 8] != pixels[:, 7]).any()  # a clamped window would repeat the last frame


def test_each_wanted_image_of_a_looped_clip_is_requested_once(format, monkeypatch):
    clips, requests = ClipIndex.open(folder(), "val", format), []
    read_part = CLIP_READERS[format].read_part

    def noted(clip, wanted, verify=True):
        requests.append((clip.frames, wanted))
        return read_part(clip, wanted, verify)

    monkeypatch.setattr(CLIP_READERS[format], "read_part", noted)
    read(clips, CENTRE, Once(len(clips), 4), steps=1)
    assert len(requests) == 4
    for frames, wanted in requests:
        assert wanted == {"rgb": list(range(frames)), "flow": list(range(frames))}


def test_frames_that_are_much_too_large_are_shrunk(format):
    clips = ClipIndex.open(folder(), "train", format)
    sampler = Sampler({"rgb": np.arange(4)}, 12, train=False)
    ((images, _),) = read(clips, sampler, Once(len(clips), 8), steps=1, streams=("rgb",))
    records = records_of(clips)
    for number, pixels in enumerate(images["rgb"]):
        image = Image.open(io.BytesIO(records[clips.ids[number]]["image/encoded"][4]))
        image.draft("RGB", (image.width // 2, 16))
        left = (image.width - 12) // 2
        np.testing.assert_array_equal(pixels[2], np.asarray(image)[2:14, left : left + 12])


def test_an_epoch_reads_each_clip_once(format, monkeypatch):
    clips, clip_ids = ClipIndex.open(folder(), "train", format), []
    read_part = CLIP_READERS[format].read_part

    def noted(clip, wanted, verify=True):
        clip_ids.append(clip.clip_id)
        return read_part(clip, wanted, verify)

    monkeypatch.setattr(CLIP_READERS[format], "read_part", noted)
    read(clips, order=Order(5, 5, seed=5), steps=3, threads=1)
    epochs = [clip_ids[first : first + 5] for first in (0, 5, 10)]
    assert len(clip_ids) == 15
    assert all(sorted(epoch) == sorted(clips.ids) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3


def test_an_unlabelled_split_is_read_too(format, tmp_path):
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\npan_left_1,0,1,test\n")
    make(tmp_path / "out", (str(tmp_path / "test.csv"),), RECIPE)
    clips = ClipIndex.open(tmp_path / "out", "test", format)
    assert read(clips, CENTRE, Once(1, 2), steps=1)[0][1].tolist() == [-1]


def test_settings_that_do_not_fit_together_are_refused(format):
    clips = ClipIndex.open(folder(), "train", format)
    with pytest.raises(BadOption, match="the order is for 6 clips, and the split has 5"):
        Reader(clips, SAMPLER, Order(6, 4), BOTH)
    with pytest.raises(BadOption, match="expected some of"):
        Reader(clips, Sampler({"rgb": np.arange(2)}, SIZE, True), Order(5, 4), BOTH)
    with pytest.raises(BadOption, match="expected some of"):
        Reader(clips, SAMPLER, Order(5, 4), ())
    with pytest.raises(BadOption, match="too small for crops of 64"):
        Reader(clips, Sampler(OFFSETS, 64, True), Order(5, 4), BOTH)
    with pytest.raises(BadOption, match="flow cannot be shrunk"):
        Reader(clips, Sampler({"flow": np.arange(4)}, 12, train=False), Order(5, 4), ("flow",))


# Clips that cannot be read ----------------------------------------------------------------------


def test_a_corrupt_record_stops_the_run_and_is_named(format, tmp_path):
    clips = ClipIndex.open(copy(tmp_path), "train", format)
    damage(clips, 2)
    with pytest.raises(CorruptShard) as caught:
        read(clips)
    message = str(caught.value)
    assert message.startswith(f"{clips[2].path}, {clips.ids[2]}: ")
    assert f"`kinetics-prep validate {clips.folder}`" in message
    assert "once more, or skip" in message


def test_checksums_are_checked_only_at_the_first_reading_of_each_clip(format, tmp_path, monkeypatch):
    clips = ClipIndex.open(copy(tmp_path), "train", format)
    readings = []
    read_part = CLIP_READERS[format].read_part

    def noted(clip, wanted, verify=True):
        readings.append((clip.clip_id, verify))
        return read_part(clip, wanted, verify)

    monkeypatch.setattr(CLIP_READERS[format], "read_part", noted)
    for verify in (True, False):
        readings.clear()
        read(clips, order=Order(len(clips), len(clips)), steps=1)
        assert sorted(readings) == sorted((clip_id, verify) for clip_id in clips.ids)


def test_a_clip_is_verified_only_after_it_was_read_without_an_error(tmp_path):
    clips = ClipIndex.open(copy(tmp_path), "train", "tfrecord")
    damage(clips, 1)
    read(clips, CENTRE, Once(5, 5), steps=1, skipped=Skipped())
    assert clips.verified == {(clip_id, BOTH) for k, clip_id in enumerate(clips.ids) if k != 1}


def test_one_verified_stream_does_not_vouch_for_the_other(tmp_path):
    clips = ClipIndex.open(copy(tmp_path), "train", "parquet")
    read(clips, CENTRE, Once(5, 5), steps=1, streams=("rgb",))
    damage(clips, 1, "flow")
    with pytest.raises(CorruptShard, match="CRC checksum"):
        read(clips, CENTRE, Once(5, 5), steps=1, streams=("flow",))


def test_the_next_clip_of_the_order_stands_in_for_a_corrupt_one(format, tmp_path):
    clips, skipped = ClipIndex.open(copy(tmp_path), "train", format), Skipped()
    order = Order(len(clips), 4, seed=5)
    whole = read(clips, order=order, steps=5)
    damage(clips, 3)
    clips = ClipIndex.open(clips.folder, "train", format)  # like a new process, which has verified no clip
    batches = read(clips, order=order, steps=5, skipped=skipped)
    samples = [(images, class_ids, k) for images, class_ids in whole for k in range(4)]
    compared = 0
    for step, (images, class_ids) in enumerate(batches):
        for k, position in enumerate(order.positions(step)):
            while order.at(position)[1] == 3:
                position += 1
            if position < len(samples):
                expected, expected_ids, place = samples[position]
                assert class_ids[k] == expected_ids[place]
                for stream in BOTH:
                    np.testing.assert_array_equal(images[stream][k], expected[stream][place])
                compared += 1
    assert compared >= 19
    ((path, clip_id, message),) = skipped.clips
    assert (path, clip_id) == (clips[3].path, clips.ids[3])
    assert "checksum" in message
    assert skipped.times >= 4  # once in each epoch
    assert len(skipped) == 1


def test_stand_ins_do_not_depend_on_threads_or_processes(format, tmp_path):
    clips = ClipIndex.open(copy(tmp_path), "train", format)
    damage(clips, 1)
    damage(clips, 4)
    batches = read(clips, threads=1, skipped=Skipped())
    assert_same(read(clips, threads=6, skipped=Skipped()), batches)
    shares = [read(clips, order=Order(5, 4, 5, process=k, processes=2), skipped=Skipped()) for k in range(2)]
    for (images, _), (first, _), (second, _) in zip(batches, *shares):
        np.testing.assert_array_equal(np.concatenate([first["rgb"], second["rgb"]]), images["rgb"])


def test_once_through_a_corrupt_clip_is_left_out(format, tmp_path):
    clips, skipped = ClipIndex.open(copy(tmp_path), "train", format), Skipped()
    whole = read(clips, CENTRE, Once(len(clips), 2), steps=3)
    damage(clips, 2)
    damage(clips, 4)
    clips = ClipIndex.open(clips.folder, "train", format)
    batches = read(clips, CENTRE, Once(len(clips), 2), steps=3, skipped=skipped)
    assert [class_ids.tolist() for _, class_ids in batches] == [clips.class_ids[k].tolist() for k in ([0, 1], [3], [])]
    np.testing.assert_array_equal(batches[1][0]["rgb"], whole[1][0]["rgb"][1:])
    assert {clip_id for _, clip_id, _ in skipped.clips} == {clips.ids[2], clips.ids[4]}


def test_skipping_ends_where_no_clip_can_be_read(format, tmp_path):
    clips, skipped = ClipIndex.open(copy(tmp_path), "train", format), Skipped()
    for number in range(len(clips)):
        damage(clips, number)
    with pytest.raises(CorruptShard, match="none of the 5 clips of .* can be read"):
        read(clips, skipped=skipped)
    assert len(skipped) == 5


def test_a_split_whose_only_clip_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "rows.csv").write_text("label,youtube_id,time_start,time_end,split\nwaving,pan_left_1,0,1,train\n")
    make(tmp_path / "out", (str(tmp_path / "rows.csv"),), RECIPE)
    clips = ClipIndex.open(tmp_path / "out", "train")
    damage(clips, 0)
    for order in (Order(1, 1), Once(1, 1)):
        with pytest.raises(CorruptShard, match="none of the 1 clips"):
            read(clips, order=order, steps=1, skipped=Skipped())


def test_a_shard_that_disappears_after_the_start_counts_as_corrupt(format, tmp_path):
    clips, skipped = ClipIndex.open(copy(tmp_path), "train", format), Skipped()
    clips[4].path.unlink()
    with pytest.raises(CorruptShard, match="No such file"):
        read(clips)
    read(clips, skipped=skipped)
    assert {path for path, _, _ in skipped.clips} == {clips[4].path}


FRAMES = [b"\xff\xd8\xff\xd9"] * 8


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"clip/label/index": 3}, "its clip/label/index is 3, the data set says"),
        ({"example/id": "other"}, "its example/id is 'other', the data set says"),
        ({"kinetics_prep/quantizer": "mediapipe"}, "quantizer is 'mediapipe', the data set says 'symmetric'"),
        ({"kinetics_prep/bound_px": 10.0}, "bound_px is 10.0, the data set says 20.0"),
        ({"kinetics_prep/recipe": "0" * 16}, "recipe is '0000000000000000'"),
        ({"image/encoded": FRAMES}, r"rgb image \d is not a colour image of"),
        ({"FORWARD_FLOW/image/encoded": FRAMES}, r"flow image \d is not a colour image of"),
        ({"image/encoded": [b""] * 8}, "rgb image . is neither a JPEG nor a PNG"),
    ],
)
def test_a_record_that_contradicts_the_index_is_refused(format, tmp_path, changes, message):
    clips = rewrite(ClipIndex.open(copy(tmp_path), "train", format), **changes)
    with pytest.raises(CorruptShard, match=message):
        read(clips, steps=2)


def test_a_record_of_another_length_than_in_the_ledger_is_refused(format, tmp_path):
    clips = ClipIndex.open(copy(tmp_path), "train", format)
    record = next(SHARD_FORMATS[format].read_shard(clips[0].path))
    lists = {key: value[:-1] for key, value in record.features.items() if isinstance(value, list)}
    with pytest.raises(CorruptShard, match="it holds 7 (rgb|flow) images, the ledger says 8"):
        read(rewrite(clips, **lists), steps=2)


# Reading no more than needed --------------------------------------------------------------------


def test_no_more_of_a_shard_is_read_than_the_clip(format, tmp_path):
    """All other clips of the shard are damaged."""
    clips = ClipIndex.open(copy(tmp_path, clips_per_shard=5), "train", format)
    assert len(clips.paths) == 1
    expected = read(clips, CENTRE, Once(5, 1), first_step=2, steps=1)
    for number in (0, 1, 3, 4):
        damage(clips, number)
    clips = ClipIndex.open(clips.folder, "train", format)
    reader = Reader(clips, CENTRE, Once(5, 1), BOTH)
    images = {stream: np.zeros(shape, np.uint8) for stream, shape in reader.shapes().items()}
    assert reader.fill(2, images) == expected[0][1][0]
    for stream in BOTH:
        np.testing.assert_array_equal(images[stream], expected[0][0][stream][0])


def test_only_the_wanted_streams_of_a_parquet_row_are_read(tmp_path):
    clips = ClipIndex.open(copy(tmp_path), "train", "parquet")
    expected = read(clips, streams=("flow",))
    for clip in clips:
        column = image_column(clip.path, clip.offset_or_row)
        data = bytearray(clip.path.read_bytes())
        first, end = column.data_page_offset + 100, column.data_page_offset + column.total_compressed_size - 100
        data[first:end] = bytes(end - first)
        clip.path.write_bytes(bytes(data))
    clips = ClipIndex.open(clips.folder, "train", "parquet")
    assert_same(read(clips, streams=("flow",)), expected)
    with pytest.raises(CorruptShard):
        read(clips, streams=("rgb",))
