"""The index of a prepared split."""

import copy as copying
import functools
import itertools
import math
import shutil
from fractions import Fraction

import numpy as np
import pytest
from prepared import LABELS, RECIPE, copy, folder, make
from sample_cases import damage, read_manifest, rewrite, write_manifest

from kinetics_prep import cli, sample
from kinetics_prep.dataset import ledger
from kinetics_prep.errors import BadOption, CorruptShard, IncompleteShard, RunError
from kinetics_prep.reading.clips import UNLABELLED, ClipIndex
from kinetics_prep.records import SHARD_FORMATS, parquet, tfrecord
from kinetics_prep.records.partial_reader import pick
from kinetics_prep.records.record import Record
from kinetics_prep.storage import tables


@pytest.fixture(params=SHARD_FORMATS)
def format(request) -> str:
    return request.param


def records_in_order(format: str) -> list[Record]:
    """The training records of the shared folder, read shard by shard."""
    paths = sorted((folder() / format).glob("train-*"))
    return [record for path in paths for record in SHARD_FORMATS[format].read_shard(path)]


def test_the_index_says_where_each_clip_is_stored_and_its_class(format):
    clips = ClipIndex.open(folder(), "train", format)
    records = records_in_order(format)
    assert len(clips) == len(records) == 5
    assert clips.labels == LABELS
    assert (clips.fps, clips.short_side, clips.quantizer, clips.bound_px) == (Fraction(8), 32, "symmetric", 20.0)
    assert clips.class_ids.tolist() == [record["clip/label/index"] for record in records]
    for clip, record in zip(clips, records):
        assert clip.clip_id == record["example/id"]
        assert (clip.frames, clip.height, clip.width) == (len(record), record["image/height"], record["image/width"])
        if format == "tfrecord":
            data = tfrecord.read_at(clip.path, clip.offset_or_row, np.empty(clip.record_bytes, np.uint8))
            assert pick(data, {})[0]["example/id"] == [clip.clip_id.encode()]
        else:
            row = parquet.read_row(clip.path, clip.offset_or_row, ["example_id"])
            assert row["example_id"].to_pylist() == [clip.clip_id]


def test_of_two_formats_tfrecord_is_read_unless_the_other_is_requested():
    assert ClipIndex.open(folder(), "val").format == "tfrecord"
    assert ClipIndex.open(folder(), "val", "parquet").format == "parquet"


def test_the_format_that_is_there_is_read():
    alone = folder(formats=("parquet",))
    assert ClipIndex.open(alone, "train").format == "parquet"
    with pytest.raises(BadOption, match="was prepared as parquet, not as tfrecord"):
        ClipIndex.open(alone, "train", "tfrecord")


def test_a_split_that_is_not_there_is_refused():
    with pytest.raises(BadOption, match="holds no split 'test', only train, val"):
        ClipIndex.open(folder(), "test")


def test_a_split_that_is_not_finished_is_refused(tmp_path):
    begun = copy(tmp_path)
    content = read_manifest(begun)
    del content["splits"]["val"]
    write_manifest(begun, content)
    assert len(ClipIndex.open(begun, "train")) == 5
    with pytest.raises(IncompleteShard, match="split val of .* is not finished; give its `kinetics-prep flow`"):
        ClipIndex.open(begun, "val")


@pytest.mark.parametrize("where", [".", "nowhere"])
def test_a_folder_without_a_manifest_is_refused(tmp_path, where):
    with pytest.raises(CorruptShard, match="holds no dataset.json"):
        ClipIndex.open(tmp_path / where, "train")


def test_a_missing_shard_is_noticed_before_training_begins(tmp_path):
    damaged = copy(tmp_path)
    (damaged / "tfrecord" / "train-00001-of-00003.tfrecord").unlink()
    with pytest.raises(IncompleteShard, match="train-00001-of-00003.tfrecord cannot be read: No such file"):
        ClipIndex.open(damaged, "train")
    assert len(ClipIndex.open(damaged, "train", "parquet")) == 5


def test_a_shard_of_another_length_is_noticed_before_training_begins(tmp_path):
    damaged = copy(tmp_path)
    path = damaged / "parquet" / "train-00000-of-00003.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptShard, match="bytes long, expected .*copy it once more"):
        ClipIndex.open(damaged, "train", "parquet")


def test_labels_that_are_not_those_of_the_shards_are_noticed(tmp_path):
    damaged = copy(tmp_path)
    (damaged / "labels.txt").write_text("".join(f"{label}\n" for label in reversed(LABELS)))
    with pytest.raises(CorruptShard, match="labels.txt is not the file that dataset.json was made with"):
        ClipIndex.open(damaged, "train")


def test_a_ledger_that_does_not_fit_is_noticed(tmp_path):
    damaged = copy(tmp_path)
    shutil.copy(damaged / "ledger/train-00002-of-00003.parquet", damaged / "ledger/train-00000-of-00003.parquet")
    with pytest.raises(CorruptShard, match="has 1 rows written, dataset.json says 2"):
        ClipIndex.open(damaged, "train")


def test_a_ledger_with_a_label_that_is_not_in_labels_txt_is_noticed(tmp_path):
    damaged = copy(tmp_path)
    path = damaged / "ledger/train-00000-of-00003.parquet"
    rows = [row | {"label": "juggling"} for row in tables.read(path, "ledger")]
    tables.write(path, "ledger", [rows])
    with pytest.raises(CorruptShard, match="'juggling' is not among the 4 labels"):
        ClipIndex.open(damaged, "train")


def test_refused_rows_are_left_out_and_shards_without_clips_too(tmp_path):
    lines = sample.ANNOTATIONS.read_text().splitlines()
    lines += [f'"moving left",gone_{number},0,1,train,1' for number in range(4)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    make(tmp_path / "out", (str(tmp_path / "rows.csv"),), RECIPE)
    clips = ClipIndex.open(tmp_path / "out", "train")
    assert set(clips.ids) == set(ClipIndex.open(folder(), "train").ids)
    rows = [row for path in (tmp_path / "out/ledger").glob("train-*") for row in tables.read(path, "ledger")]
    assert sum(row["status"] == ledger.REFUSED for row in rows) == 4


def test_a_split_of_which_every_row_was_refused_holds_no_clip(tmp_path):
    (tmp_path / "rows.csv").write_text("label,youtube_id,time_start,time_end,split\nwaving,gone,0,1,train\n")
    make(tmp_path / "out", (str(tmp_path / "rows.csv"),), RECIPE)
    with pytest.raises(BadOption, match="split train of .* holds no clip"):
        ClipIndex.open(tmp_path / "out", "train")


def test_clips_that_a_refresh_found_belong_to_the_split(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for path in sample.VIDEOS.glob("*.mp4"):
        if path.stem != "pan_left_1":
            shutil.copy(path, videos)
    make(tmp_path / "out", (str(sample.ANNOTATIONS),), RECIPE, videos)
    assert len(ClipIndex.open(tmp_path / "out", "train")) == 4
    shutil.copy(sample.VIDEOS / "pan_left_1.mp4", videos)
    assert cli.main(["refresh", str(tmp_path / "out")]) == cli.OK
    clips = ClipIndex.open(tmp_path / "out", "train")
    assert set(clips.ids) == set(ClipIndex.open(folder(), "train").ids)
    (added,) = (clip for clip in clips if clip.clip_id.startswith("pan_left_1"))
    assert added.path.name == "train-refresh1-00000-of-00001.tfrecord"
    assert added.class_id == LABELS.index("moving left")


def test_an_unlabelled_test_set_has_no_classes(tmp_path):
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\npan_left_1,0,1,test\n")
    make(tmp_path / "out", (str(tmp_path / "test.csv"),), RECIPE)
    clips = ClipIndex.open(tmp_path / "out", "test")
    assert clips.labels == ()
    assert clips.class_ids.tolist() == [UNLABELLED]


@pytest.mark.parametrize("damage", range(60))
def test_a_damaged_manifest_is_an_error_in_words(tmp_path, damage):
    damaged = copy(tmp_path)
    path = damaged / "dataset.json"
    chance = np.random.default_rng(damage)
    text = bytearray(path.read_bytes())
    text[chance.integers(len(text))] ^= 1 << chance.integers(7)
    path.write_bytes(bytes(text))
    with pytest.raises(RunError, match="dataset.json"):
        ClipIndex.open(damaged, "train")


WRONG_VALUES = (KeyError, None, -1, "x", [], 10**30)
"""Put in the place of a value; KeyError removes the value."""


def places_in(node, path=()):
    """The path of every value in parsed JSON."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places_in(value, (*path, key))


def test_a_manifest_with_another_value_at_any_place_is_an_error_in_words(tmp_path):
    damaged = copy(tmp_path)
    whole = read_manifest(damaged)
    places = [("recipe", name) for name in ("fps", "short_side", "quantizer", "bound_px", "formats")]
    places += list(places_in(whole["splits"]["train"]["shards"][0], ("splits", "train", "shards", 0)))
    assert len(places) > 15
    for place, value in itertools.product(places, WRONG_VALUES):
        content = copying.deepcopy(whole)
        *parents, last = place
        node = functools.reduce(lambda node, key: node[key], parents, content)
        if value is KeyError:
            del node[last]
        else:
            node[last] = value
        write_manifest(damaged, content)
        for name in SHARD_FORMATS:
            try:
                clips = ClipIndex.open(damaged, "train", name)
            except RunError:
                continue
            assert len(list(clips)) == 5


@pytest.mark.parametrize(
    "change, message",
    [
        ({"fps": "0"}, "holds an impossible recipe"),
        ({"fps": "1/0"}, "does not hold the recipe: ZeroDivisionError"),
        ({"short_side": 0}, "holds an impossible recipe"),
        ({"bound_px": math.inf}, "holds an impossible recipe"),
        ({"bound_px": math.nan}, "holds an impossible recipe"),
        ({"bound_px": -20}, "holds an impossible recipe"),
        ({"quantizer": "other"}, "holds an impossible recipe"),
        ({"quantizer": None}, "holds an impossible recipe"),
        ({"formats": None}, "does not hold the recipe"),
    ],
)
def test_an_impossible_recipe_is_refused(tmp_path, change, message):
    damaged = copy(tmp_path)
    content = read_manifest(damaged)
    content["recipe"] |= change
    write_manifest(damaged, content)
    with pytest.raises(CorruptShard, match=message):
        ClipIndex.open(damaged, "train")


def test_settings_that_readers_do_not_need_are_ignored(tmp_path):
    changed = copy(tmp_path)
    content = read_manifest(changed)
    content["recipe"] |= {"engine": "tvl9", "later": [1, 2]}
    content["recipe"]["formats"].append("arrow")
    write_manifest(changed, content)
    assert len(ClipIndex.open(changed, "train")) == 5


@pytest.mark.parametrize("offset", [-1, 10**9, 10**30])
def test_an_offset_outside_the_file_is_refused(tmp_path, offset):
    damaged = copy(tmp_path)
    content = read_manifest(damaged)
    content["splits"]["train"]["shards"][0]["files"]["tfrecord"]["offsets"][1] = offset
    write_manifest(damaged, content)
    with pytest.raises(CorruptShard, match="or dataset.json where it is stored|is not a manifest"):
        ClipIndex.open(damaged, "train")


def test_the_table_has_a_named_column_for_each_number():
    clips = ClipIndex.open(folder(), "train", "tfrecord")
    assert clips.table.dtype.names == (
        "shard",
        "offset_or_row",
        "record_bytes",
        "class_id",
        "frames",
        "height",
        "width",
    )
    assert clips.table["shard"].tolist() == [0, 0, 1, 1, 2]
    assert clips.table["offset_or_row"][[0, 2, 4]].tolist() == [0, 0, 0]
    for k, clip in enumerate(clips):
        assert {name: int(clips.table[name][k]) for name in ("class_id", "frames", "height", "width")} == {
            "class_id": clip.class_id,
            "frames": clip.frames,
            "height": clip.height,
            "width": clip.width,
        }
    sizes = {path: sum(clip.record_bytes for clip in clips if clip.path == path) for path in clips.paths}
    assert sizes == {path: path.stat().st_size for path in clips.paths}


def test_a_row_of_parquet_has_no_size_and_counts_from_0_in_each_shard():
    clips = ClipIndex.open(folder(), "train", "parquet")
    assert clips.table["offset_or_row"].tolist() == [0, 1, 0, 1, 0]
    assert clips.table["record_bytes"].tolist() == [0] * 5


def test_an_index_is_a_sequence_of_clips():
    clips = ClipIndex.open(folder(), "train")
    assert [clip.clip_id for clip in clips] == list(clips.ids)
    assert clips[-1] == clips[4]
    with pytest.raises(IndexError):
        clips[5]
    assert repr(clips).endswith("'train', 'tfrecord': 5 clips, 4 labels)")


# Whole records ----------------------------------------------------------------------------------


def test_a_whole_record_can_be_read_by_its_number(format):
    clips = ClipIndex.open(folder(), "train", format)
    expected = records_in_order(format)
    for number in (3, 0, 4, 1, 2):
        assert clips.record(number) == expected[number]
    assert clips.record(-1) == expected[4]
    with pytest.raises(IndexError):
        clips.record(5)


def test_the_record_of_an_unlabelled_clip_can_be_read(format, tmp_path):
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\npan_left_1,0,1,test\n")
    make(tmp_path / "out", (str(tmp_path / "test.csv"),), RECIPE)
    record = ClipIndex.open(tmp_path / "out", "test", format).record(0)
    assert record["clip/media_id"] == "pan_left_1"
    assert record.get("clip/label/index") is None


def test_a_damaged_record_is_refused_every_time_and_the_others_are_not(format, tmp_path):
    clips = ClipIndex.open(copy(tmp_path), "train", format)
    expected = clips.record(2)
    damage(clips, 3)
    for _ in range(2):
        with pytest.raises(CorruptShard, match=f"{clips[3].path}, {clips.ids[3]}: "):
            clips.record(3)
    assert clips.record(2) == expected


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"clip/label/index": 3}, "its clip/label/index is 3, the data set says"),
        ({"example/id": "other"}, "its example/id is 'other', the data set says"),
        ({"kinetics_prep/recipe": "0" * 16}, "recipe is '0000000000000000'"),
        ({"kinetics_prep/bound_px": 10.0}, "bound_px is 10.0, the data set says 20.0"),
    ],
)
def test_a_record_that_contradicts_the_index_cannot_be_read(format, tmp_path, changes, message):
    clips = rewrite(ClipIndex.open(copy(tmp_path), "train", format), **changes)
    with pytest.raises(CorruptShard, match=message):
        clips.record(0)
    assert len(clips.record(2)) == 8  # of the next shard


def test_a_record_shorter_than_the_ledger_says_cannot_be_read(format, tmp_path):
    clips = ClipIndex.open(copy(tmp_path), "train", format)
    lists = {key: value[:-1] for key, value in clips.record(0).features.items() if isinstance(value, list)}
    with pytest.raises(CorruptShard, match="it holds 7 rgb images, the ledger says 8"):
        rewrite(clips, **lists).record(0)


def test_a_bound_that_is_not_a_float32_is_compared_as_the_record_holds_it(tmp_path):
    output = folder(bound_px=12.3)
    for format in SHARD_FORMATS:
        clips = ClipIndex.open(output, "train", format)
        assert clips.bound_px == 12.3
        assert clips.record(0)["kinetics_prep/bound_px"] == float(np.float32(12.3))
