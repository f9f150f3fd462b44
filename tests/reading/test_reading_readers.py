"""The two readers: the same samples from both, the right ones, in the right order; and what becomes of bad data."""

import gc
import io
import itertools
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prepared import RECIPE, copy, folder, make

pytest.importorskip("keras")

from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.media import quantize
from kinetics_prep.reading import parquet_input, tf_input
from kinetics_prep.reading.clips import Clips
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.reader import Skipped
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.records import SHARD_FORMATS, parquet, tfrecord
from kinetics_prep.records.image_codec import ENCODINGS
from kinetics_prep.records.record import Record

SIZE = 28
OFFSETS = {"rgb": np.arange(1, 6, 2), "flow": np.arange(6)}
SAMPLER = Sampler(OFFSETS, SIZE, train=True, flip=True, seed=7)
CENTRE = Sampler({"rgb": np.arange(12), "flow": np.arange(12)}, SIZE, train=False)
BOTH = ("rgb", "flow")


def read(clips: Clips, sampler=SAMPLER, order=None, first_step=0, steps=3, streams=BOTH, threads=2, skipped=None):
    """The batches of a reader, whichever is the one for these clips, as arrays."""
    order = order or Order(len(clips), 4, seed=5)
    settings = (clips, sampler, order, first_step, steps, streams, threads, skipped)
    if clips.format == "parquet":
        batches = parquet_input.Batches(*settings)
        return [batches[number] for number in range(len(batches))]
    pytest.importorskip("tensorflow")
    dataset = tf_input.batches(*settings)
    with tf_input.faults_of(dataset):
        return [({name: part.numpy() for name, part in images.items()}, ids.numpy()) for images, ids in dataset]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for (images, ids), (other_images, other_ids) in zip(found, expected):
        np.testing.assert_array_equal(ids, other_ids)
        assert images.keys() == other_images.keys()
        for name in images:
            assert images[name].dtype == np.uint8
            np.testing.assert_array_equal(images[name], other_images[name])


@pytest.fixture(params=SHARD_FORMATS)
def name(request) -> str:
    return request.param


def records_of(clips: Clips) -> dict[str, Record]:
    read_shard = SHARD_FORMATS[clips.format].read_shard
    return {record["example/id"]: record for path in clips.paths for record in read_shard(path)}


def by_record(clips: Clips, records, sampler, epoch: int, number: int) -> tuple[dict, int]:
    """A sample made with nothing but `Record`, and NumPy."""
    record = records[clips.ids[number]]
    height, width = record.frame(0).shape[:2]
    draw = sampler.draw(clips.ids[number], epoch, len(record), height, width)
    rows, columns = slice(draw.top, draw.top + SIZE), slice(draw.left, draw.left + SIZE)
    step = -1 if draw.flip else 1
    frames = np.stack([record.frame(k)[rows, columns][:, ::step] for k in draw.indices["rgb"]])
    levels = np.stack([record.levels(k)[rows, columns][:, ::step] for k in draw.indices["flow"]])
    if draw.flip:
        turned = 256 if record["kinetics_prep/quantizer"] == "symmetric" else 255
        levels[..., 0] = np.minimum(turned - levels[..., 0].astype(int), 255)
    return {"rgb": frames, "flow": levels}, record["clip/label/index"]


# The samples ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flow_encoding, quantizer", itertools.zip_longest(ENCODINGS, quantize.QUANTIZERS, fillvalue=ENCODINGS[0])
)
def test_both_readers_give_what_stands_in_the_records(name, flow_encoding, quantizer):
    clips = Clips.open(folder(flow_encoding=flow_encoding, quantizer=quantizer), "train", name)
    order, records = Order(len(clips), 4, seed=5), records_of(clips)
    for step, (images, ids) in enumerate(read(clips, order=order)):
        for k, (epoch, number) in enumerate(order.batch_at(step)):
            expected, class_id = by_record(clips, records, SAMPLER, epoch, number)
            assert ids[k] == class_id
            for stream in BOTH:
                np.testing.assert_array_equal(images[stream][k], expected[stream])


def test_both_readers_give_the_same_samples():
    found, others = (read(Clips.open(folder(), "train", name), steps=6) for name in SHARD_FORMATS)
    assert_same(found, others)
    assert {name: part.shape for name, part in found[0][0].items()} == {
        "rgb": (4, 3, 28, 28, 3),
        "flow": (4, 6, 28, 28, 2),
    }
    assert found[0][1].dtype == np.int32


def test_samples_do_not_depend_on_the_number_of_threads(name):
    clips = Clips.open(folder(), "train", name)
    assert_same(read(clips, threads=1), read(clips, threads=7))


def test_one_stream_alone_is_that_of_both(name):
    clips = Clips.open(folder(), "train", name)
    both = read(clips)
    for stream in BOTH:
        for (images, ids), (part, part_ids) in zip(both, read(clips, streams=(stream,))):
            assert part.keys() == {stream}
            np.testing.assert_array_equal(part[stream], images[stream])
            np.testing.assert_array_equal(part_ids, ids)


def test_short_clips_are_looped(name):
    clips = Clips.open(folder(), "val", name)
    ((images, _),) = read(clips, CENTRE, Once(len(clips), 4), steps=1)
    for part in images.values():
        np.testing.assert_array_equal(part[:, 8:], part[:, :4])


def test_frames_that_are_much_too_large_are_shrunk(name):
    clips = Clips.open(folder(), "train", name)
    sampler = Sampler({"rgb": np.arange(4)}, 12, train=False)
    found = read(clips, sampler, Once(len(clips), 8), steps=1, streams=("rgb",))[0][0]["rgb"]
    records = records_of(clips)
    for number, pixels in enumerate(found):
        image = Image.open(io.BytesIO(records[clips.ids[number]]["image/encoded"][4]))
        image.draft("RGB", (image.width // 2, 16))
        left = (image.width - 12) // 2
        np.testing.assert_array_equal(pixels[2], np.asarray(image)[2:14, left : left + 12])
    with pytest.raises(BadOption, match="flow cannot be shrunk"):
        read(clips, Sampler({"flow": np.arange(4)}, 12, train=False), streams=("flow",))


# The order --------------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_was_interrupted(name):
    clips = Clips.open(folder(), "train", name)
    assert_same(read(clips, first_step=3, steps=4), read(clips, steps=7)[3:])


def test_processes_share_what_one_would_read(name):
    clips = Clips.open(folder(), "train", name)
    whole = read(clips)
    shares = [read(clips, order=Order(len(clips), 4, 5, process=process, processes=2)) for process in range(2)]
    joined = [
        ({stream: np.concatenate([first[stream], second[stream]]) for stream in BOTH}, np.concatenate([ids, other_ids]))
        for (first, ids), (second, other_ids) in zip(*shares)
    ]
    assert_same(joined, whole)


def test_once_through_reads_each_clip_and_ends_with_a_short_batch(name):
    clips = Clips.open(folder(), "train", name)
    found = read(clips, CENTRE, Once(len(clips), 2), steps=3)
    assert [len(ids) for _, ids in found] == [2, 2, 1]
    assert np.concatenate([ids for _, ids in found]).tolist() == clips.class_ids.tolist()


def test_an_unlabelled_split_is_read_too(name, tmp_path):
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\npan_left_1,0,1,test\n")
    make(tmp_path / "out", (str(tmp_path / "test.csv"),), RECIPE)
    clips = Clips.open(tmp_path / "out", "test", name)
    assert read(clips, CENTRE, Once(1, 2), steps=1)[0][1].tolist() == [-1]


def test_a_dataset_may_be_gone_through_again_and_says_how_long_it_is():
    pytest.importorskip("tensorflow")
    clips = Clips.open(folder(), "train", "tfrecord")
    dataset = tf_input.batches(clips, SAMPLER, Order(len(clips), 4, 5), 0, 3, BOTH)
    assert len(dataset) == 3
    first, second = ([ids.numpy().tolist() for _, ids in dataset] for _ in range(2))
    assert first == second
    assert dataset.element_spec[0]["flow"].shape == (4, 6, SIZE, SIZE, 2)


def test_batches_can_be_asked_for_in_any_order_and_by_many_threads():
    clips = Clips.open(folder(), "train", "parquet")
    expected = read(clips, steps=8)
    batches = parquet_input.Batches(clips, SAMPLER, Order(len(clips), 4, 5), 0, 8, BOTH, threads=3)
    assert_same([batches[number] for number in (6, 1, 1, 7, 0)], [expected[number] for number in (6, 1, 1, 7, 0)])
    found = {}
    askers = [threading.Thread(target=lambda k=k: found.setdefault(k, batches[k])) for k in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert_same([found[k] for k in range(8)], expected)


def test_keras_goes_through_the_batches_of_both():
    keras = pytest.importorskip("keras")
    images = keras.Input((3, SIZE, SIZE, 3), dtype="uint8", name="rgb")
    model = keras.Model({"rgb": images}, keras.ops.cast(keras.ops.sum(images, (1, 2, 3, 4)), "float32"))
    results = []
    for name in SHARD_FORMATS:
        clips = Clips.open(folder(), "train", name)
        if name == "tfrecord":
            pytest.importorskip("tensorflow")
        make_batches = tf_input.batches if name == "tfrecord" else parquet_input.Batches
        batches = make_batches(clips, SAMPLER, Order(len(clips), 4, 5), 0, 3, ("rgb",))
        results.append(model.predict(batches, verbose=0))
    np.testing.assert_array_equal(*results)
    assert results[0].shape == (12,)


# Memory -----------------------------------------------------------------------------------------


def test_a_batch_that_is_held_is_not_written_over(name):
    clips = Clips.open(folder(), "train", name)
    kept = read(clips, steps=12)
    assert_same(kept, read(clips, steps=12))
    part = read(clips, steps=1)[0][0]["rgb"][2, 1]
    was = part.copy()
    gc.collect()
    read(clips, first_step=1, steps=6)
    np.testing.assert_array_equal(part, was)


def test_the_memory_of_a_batch_that_is_gone_is_taken_again():
    clips = Clips.open(folder(), "train", "parquet")
    batches = parquet_input.Batches(clips, SAMPLER, Order(len(clips), 4, 5), 0, 40, BOTH, threads=2)
    places = {batches[number][0]["flow"].ctypes.data for number in range(40)}
    assert len(places) <= 3  # the one at hand, and one that is being filled


def test_no_thread_is_left_behind(name):
    before = set(threading.enumerate())
    for _ in range(3):
        read(Clips.open(folder(), "train", name), threads=5)
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("clips"):
            thread.join(10)
            assert not thread.is_alive()


# Bad data ---------------------------------------------------------------------------------------


def damage(clips: Clips, number: int) -> None:
    """Flips a bit in the middle of a clip's images."""
    clip = clips[number]
    data = bytearray(clip.path.read_bytes())
    if clips.format == "tfrecord":
        place = clip.place + clip.bytes // 2
    else:
        column = pq.read_metadata(clip.path).row_group(clip.place)
        found = next(
            column.column(k) for k in range(column.num_columns) if "image_encoded" in column.column(k).path_in_schema
        )
        place = found.data_page_offset + found.total_compressed_size // 2
    data[place] ^= 16
    clip.path.write_bytes(bytes(data))


def test_a_corrupt_record_stops_the_run_and_is_named(name, tmp_path):
    clips = Clips.open(copy(tmp_path), "train", name)
    damage(clips, 2)
    with pytest.raises(CorruptShard) as caught:
        read(clips)
    message = str(caught.value)
    assert str(clips[2].path) in message
    assert clips.ids[2] in message
    assert f"kinetics-prep validate {clips.folder}" in message
    assert "once more, or skip" in message


def test_tensorflow_wraps_errors_unless_told(tmp_path):
    tf = pytest.importorskip("tensorflow")
    clips = Clips.open(copy(tmp_path), "train", "tfrecord")
    damage(clips, 0)
    dataset = tf_input.batches(clips, SAMPLER, Order(len(clips), 5, 5), 0, 1, BOTH)
    with pytest.raises(tf.errors.OpError, match="checksum is wrong"):
        list(dataset)
    with pytest.raises(CorruptShard, match="checksum is wrong"), tf_input.faults_of(dataset):
        list(dataset)
    with (
        pytest.raises(ZeroDivisionError),
        tf_input.faults_of(tf_input.batches(clips, SAMPLER, Order(5, 5), 0, 1, BOTH)),
    ):
        1 / 0  # noqa: B018


def test_the_next_clip_of_the_order_stands_in_for_a_corrupt_one(name, tmp_path):
    clips, skipped = Clips.open(copy(tmp_path), "train", name), Skipped()
    order = Order(len(clips), 4, seed=5)
    whole = read(clips, order=order, steps=5)
    damage(clips, 3)
    clips = Clips.open(clips.folder, "train", name)  # as another process would, which has checked none
    found = read(clips, order=order, steps=5, skipped=skipped)
    samples = [(images, ids, k) for images, ids in whole for k in range(4)]
    for step, (images, ids) in enumerate(found):
        for k, position in enumerate(order.positions(step)):
            while order.at(position)[1] == 3:
                position += 1
            if position < len(samples):
                expected, expected_ids, place = samples[position]
                assert ids[k] == expected_ids[place]
                for stream in BOTH:
                    np.testing.assert_array_equal(images[stream][k], expected[stream][place])
    assert [(path, clip_id) for path, clip_id, _ in skipped.clips] == [(clips[3].path, clips.ids[3])]
    assert skipped.times >= 4  # once in each epoch
    assert len(skipped) == 1


def test_what_stands_in_does_not_depend_on_threads_or_processes(name, tmp_path):
    clips = Clips.open(copy(tmp_path), "train", name)
    damage(clips, 1)
    damage(clips, 4)
    found = read(clips, threads=1, skipped=Skipped())
    assert_same(read(clips, threads=6, skipped=Skipped()), found)
    shares = [read(clips, order=Order(5, 4, 5, process=k, processes=2), skipped=Skipped()) for k in range(2)]
    for (images, _), (first, _), (second, _) in zip(found, *shares):
        np.testing.assert_array_equal(np.concatenate([first["rgb"], second["rgb"]]), images["rgb"])


def test_once_through_a_corrupt_clip_is_left_out(name, tmp_path):
    clips, skipped = Clips.open(copy(tmp_path), "train", name), Skipped()
    whole = read(clips, CENTRE, Once(len(clips), 2), steps=3)
    damage(clips, 2)
    damage(clips, 4)
    clips = Clips.open(clips.folder, "train", name)
    found = read(clips, CENTRE, Once(len(clips), 2), steps=3, skipped=skipped)
    ids = np.concatenate([ids for _, ids in found])
    assert ids.tolist() == clips.class_ids[[0, 1, 3]].tolist()
    np.testing.assert_array_equal(found[1][0]["rgb"][0], whole[1][0]["rgb"][1])
    assert {clip_id for _, clip_id, _ in skipped.clips} == {clips.ids[2], clips.ids[4]}


def test_where_no_clip_can_be_read_skipping_has_an_end(name, tmp_path):
    clips, skipped = Clips.open(copy(tmp_path), "train", name), Skipped()
    for number in range(len(clips)):
        damage(clips, number)
    with pytest.raises(CorruptShard, match="none of the 5 clips of .* can be read"):
        read(clips, skipped=skipped)
    assert len(skipped) == 5


def test_a_shard_that_is_gone_after_the_start_is_a_corrupt_one(name, tmp_path):
    clips, skipped = Clips.open(copy(tmp_path), "train", name), Skipped()
    clips[4].path.unlink()
    with pytest.raises(CorruptShard, match="No such file"):
        read(clips)
    read(clips, skipped=skipped)
    assert {path for path, _, _ in skipped.clips} == {clips[4].path}


def rewrite(clips: Clips, **changes) -> Clips:
    """Writes the first shard anew, with other features in its records; the index stays as it was."""
    path, module = clips[0].path, SHARD_FORMATS[clips.format]
    records = [Record(record.features | changes) for record in module.read_shard(path)]
    offsets = module.write_shard(path, records)
    manifest = json.loads((clips.folder / "dataset.json").read_text())
    described = manifest["splits"]["train"]["shards"][0]["files"][clips.format]
    described |= {"bytes": path.stat().st_size, "offsets": offsets}
    (clips.folder / "dataset.json").write_text(json.dumps(manifest))
    return Clips.open(clips.folder, "train", clips.format)


FRAMES = [b"\xff\xd8\xff\xd9"] * 8


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"clip/label/index": 3}, "its clip/label/index is 3, the data set says"),
        ({"example/id": "other"}, "its example/id is 'other', the data set says"),
        ({"kinetics_prep/quantizer": "mediapipe"}, "quantizer is 'mediapipe', the data set says 'symmetric'"),
        ({"kinetics_prep/bound_px": 10.0}, "bound_px is 10.0, the data set says 20.0"),
        ({"kinetics_prep/recipe": "0" * 16}, "recipe is '0000000000000000'"),
        ({"image/encoded": FRAMES}, r"rgb image \d is no colour image of"),
        ({"FORWARD_FLOW/image/encoded": FRAMES}, r"flow image \d is no colour image of"),
        ({"image/encoded": [b""] * 8}, "rgb image . is neither a JPEG nor a PNG"),
    ],
)
def test_a_record_that_is_not_what_the_index_says_is_refused(name, tmp_path, changes, message):
    clips = rewrite(Clips.open(copy(tmp_path), "train", name), **changes)
    with pytest.raises(CorruptShard, match=message):
        read(clips, steps=2)


def test_a_record_of_other_length_than_the_ledger_says_is_refused(name, tmp_path):
    clips = Clips.open(copy(tmp_path), "train", name)
    record = next(SHARD_FORMATS[name].read_shard(clips[0].path))
    lists = {key: value[:-1] for key, value in record.features.items() if isinstance(value, list)}
    with pytest.raises(CorruptShard, match="it holds 7 (rgb|flow) images, the ledger says 8"):
        read(rewrite(clips, **lists), steps=2)


def test_a_reader_refuses_the_others_shards():
    clips = {name: Clips.open(folder(), "train", name) for name in SHARD_FORMATS}
    with pytest.raises(BadOption, match="read as tfrecord; this reader takes Parquet"):
        parquet_input.Batches(clips["tfrecord"], SAMPLER, Order(5, 4), 0, 1, BOTH)
    pytest.importorskip("tensorflow")
    with pytest.raises(BadOption, match="read as parquet; this reader takes TFRecord"):
        tf_input.batches(clips["parquet"], SAMPLER, Order(5, 4), 0, 1, BOTH)


def test_what_does_not_fit_together_is_refused(name):
    clips = Clips.open(folder(), "train", name)
    with pytest.raises(BadOption, match="an order of 6 clips is not one of 5"):
        read(clips, order=Order(6, 4))
    with pytest.raises(BadOption, match="expected some of"):
        read(clips, Sampler({"rgb": np.arange(2)}, SIZE, True))
    with pytest.raises(BadOption, match="too small for crops of 64"):
        read(clips, Sampler(OFFSETS, 64, True))
    with pytest.raises(BadOption, match="-1 steps"):
        read(clips, steps=-1)


# One clip of many -------------------------------------------------------------------------------


def test_of_a_shard_no_more_is_read_than_a_clip(name, tmp_path):
    """Everything before and behind it is damaged."""
    clips = Clips.open(copy(tmp_path, clips_per_shard=5), "train", name)
    assert len(clips.paths) == 1
    expected = read(clips, CENTRE, Once(5, 1), first_step=2, steps=1)
    for number in (0, 1, 3, 4):
        damage(clips, number)
    assert_same(read(clips, CENTRE, Once(5, 1), first_step=2, steps=1), expected)


def test_of_a_parquet_row_only_the_wanted_streams_are_read(tmp_path):
    clips = Clips.open(copy(tmp_path), "train", "parquet")
    expected = read(clips, streams=("flow",))
    for number in range(len(clips)):
        clip = clips[number]
        group = pq.read_metadata(clip.path).row_group(clip.place)
        column = next(
            c for c in map(group.column, range(group.num_columns)) if c.path_in_schema.startswith("image_encoded")
        )
        data = bytearray(clip.path.read_bytes())
        data[column.data_page_offset + 100 : column.data_page_offset + column.total_compressed_size - 100] = bytes(
            column.total_compressed_size - 200
        )
        clip.path.write_bytes(bytes(data))
    assert_same(read(clips, streams=("flow",)), expected)
    with pytest.raises(CorruptShard):
        read(clips, streams=("rgb",))


def test_a_record_is_read_where_it_begins_and_nowhere_else(tmp_path):
    clip = Clips.open(folder(), "train", "tfrecord")[1]
    whole = clip.path.read_bytes()
    buffer = np.empty(clip.bytes, np.uint8)
    assert (
        bytes(tfrecord.read_at(clip.path, clip.place, buffer)) == whole[clip.place + 12 : clip.place + clip.bytes - 4]
    )
    for offset, size in [(clip.place + 1, clip.bytes), (clip.place, clip.bytes - 1), (0, 8), (len(whole), 20), (0, 0)]:
        with pytest.raises(CorruptShard):
            tfrecord.read_at(clip.path, offset, np.empty(size, np.uint8))
    chance = np.random.default_rng(0)
    path = tmp_path / "damaged"
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[clip.place + chance.integers(clip.bytes)] ^= 1 << chance.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(CorruptShard):
            tfrecord.read_at(path, clip.place, buffer)


def test_a_parquet_row_is_read_whatever_the_row_groups(tmp_path):
    clips = Clips.open(folder(clips_per_shard=5), "train", "parquet")
    table = pq.read_table(clips.paths[0])
    path = tmp_path / "regrouped.parquet"
    pq.write_table(table.cast(parquet.SCHEMA), path, row_group_size=2, write_page_checksum=True)
    for row in range(5):
        assert parquet.read_row(path, row, ["example_id"]).to_pydict() == {"example_id": [clips.ids[row]]}
    with pytest.raises(CorruptShard, match="has fewer rows"):
        parquet.read_row(path, 5, ["example_id"])
    pq.write_table(pa.table({"example_id": ["a"]}), path)
    with pytest.raises(CorruptShard, match="other columns"):
        parquet.read_row(path, 0, ["example_id"])


def test_a_flipped_bit_anywhere_in_a_parquet_shard_is_corruption_and_nothing_else(tmp_path):
    clips, skipped = Clips.open(copy(tmp_path, clips_per_shard=5), "train", "parquet"), Skipped()
    path, chance = clips.paths[0], np.random.default_rng(1)
    whole = path.read_bytes()
    for k in range(120):
        damaged = bytearray(whole)
        first = 0 if k % 2 else len(whole) * 9 // 10  # half of them where Parquet says what stands before
        damaged[chance.integers(first, len(whole))] ^= 1 << chance.integers(8)
        path.write_bytes(damaged)
        for clip in clips:
            try:
                parquet_input.fetch(clip, {"rgb": [0, 3], "flow": [7]})
            except CorruptShard as error:
                skipped.add(path, str(k), str(error))
    assert len(skipped) > 60


def test_a_parquet_shard_that_breaks_off_is_corrupt(tmp_path):
    clips = Clips.open(copy(tmp_path), "train", "parquet")
    whole = clips.paths[0].read_bytes()
    for length in range(0, len(whole), 997):
        clips.paths[0].write_bytes(whole[:length])
        with pytest.raises(CorruptShard):
            parquet_input.fetch(clips[0], {"rgb": [0, 3]})


def test_parquet_is_read_without_tensorflow_by_another_backend():
    pytest.importorskip("jax")
    code = f"""
import sys
sys.modules["tensorflow"] = None  # to import it is an error
import keras, numpy as np
from kinetics_prep.errors import MissingTool
from kinetics_prep.training import parquet_input, tf_input
from kinetics_prep.training.clips import Clips
from kinetics_prep.training.order import Order
from kinetics_prep.training.sampling import Sampler
sampler = Sampler({{"rgb": np.arange(4)}}, 28, train=True)
clips = Clips.open({str(folder())!r}, "train", "parquet")
batches = parquet_input.Batches(clips, sampler, Order(5, 4), 0, 3, ("rgb",))
images = keras.Input((4, 28, 28, 3), dtype="uint8", name="rgb")
model = keras.Model({{"rgb": images}}, keras.layers.Dense(4)(keras.ops.mean(images, (1, 2, 3))))
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(batches, shuffle=False, verbose=0)
try:
    tf_input.batches(Clips.open({str(folder())!r}, "train", "tfrecord"), sampler, Order(5, 4), 0, 3, ("rgb",))
except MissingTool as error:
    print(keras.backend.backend(), error)
"""
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "jax TFRecord is read through tf.data, and TensorFlow is not there" in ended.stdout


def test_sums_are_checked_at_the_first_reading_alone(name, tmp_path, monkeypatch):
    clips = Clips.open(copy(tmp_path), "train", name)
    asked, module = [], {"tfrecord": tf_input, "parquet": parquet_input}[name]

    def noted(clip, wanted, verify=True, fetch=module.fetch):
        asked.append((clip.clip_id, verify))
        return fetch(clip, wanted, verify)

    monkeypatch.setattr(module, "fetch", noted)
    for verify in (True, False):
        asked.clear()
        read(clips, order=Order(len(clips), len(clips)), steps=1)
        assert sorted(asked) == sorted((clip_id, verify) for clip_id in clips.ids)
