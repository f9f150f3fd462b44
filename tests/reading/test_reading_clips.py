"""The index of a prepared split."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
from prepared import LABELS, RECIPE, copy, folder, make

from kinetics_prep import cli, sample
from kinetics_prep.dataset import ledger
from kinetics_prep.errors import BadOption, CorruptShard, IncompleteShard, RunError
from kinetics_prep.reading.clips import UNLABELLED, Clips
from kinetics_prep.records import SHARD_FORMATS, parquet, tfrecord
from kinetics_prep.records.partial_reader import pick
from kinetics_prep.storage import tables


@pytest.fixture(params=SHARD_FORMATS)
def name(request) -> str:
    return request.param


def test_the_index_says_where_each_clip_stands_and_of_which_class_it_is(name):
    clips = Clips.open(folder(), "train", name)
    records = [
        record for path in sorted((folder() / name).glob("train-*")) for record in SHARD_FORMATS[name].read_shard(path)
    ]
    assert len(clips) == len(records) == 5
    assert clips.labels == LABELS
    assert (clips.fps, clips.short_side, clips.quantizer, clips.bound_px) == (Fraction(8), 32, "symmetric", 20.0)
    assert clips.class_ids.tolist() == [record["clip/label/index"] for record in records]
    for clip, record in zip(clips, records):
        assert clip.clip_id == record["example/id"]
        assert (clip.frames, clip.height, clip.width) == (len(record), record["image/height"], record["image/width"])
        if name == "tfrecord":
            found = tfrecord.read_at(clip.path, clip.place, np.empty(clip.bytes, np.uint8))
            assert pick(found, {})[0]["example/id"] == [clip.clip_id.encode()]
        else:
            row = parquet.read_row(clip.path, clip.place, ["example_id"])
            assert row["example_id"].to_pylist() == [clip.clip_id]


def test_of_two_formats_tfrecord_is_read_unless_the_other_is_asked_for():
    assert Clips.open(folder(), "val").format == "tfrecord"
    assert Clips.open(folder(), "val", "parquet").format == "parquet"


def test_the_format_that_is_there_is_read():
    alone = folder(formats=("parquet",))
    assert Clips.open(alone, "train").format == "parquet"
    with pytest.raises(BadOption, match="was prepared as parquet, not as tfrecord"):
        Clips.open(alone, "train", "tfrecord")


def test_a_split_that_is_not_there_is_refused():
    with pytest.raises(BadOption, match="holds no split 'test', only train, val"):
        Clips.open(folder(), "test")


def test_a_split_that_is_not_finished_is_refused(tmp_path):
    begun = copy(tmp_path)
    content = json.loads((begun / "dataset.json").read_text())
    del content["splits"]["val"]
    (begun / "dataset.json").write_text(json.dumps(content))
    assert len(Clips.open(begun, "train")) == 5
    with pytest.raises(IncompleteShard, match="split val of .* is not finished; give its `kinetics-prep flow`"):
        Clips.open(begun, "val")


@pytest.mark.parametrize("where", [".", "nowhere"])
def test_a_folder_that_is_none_of_ours_is_refused(tmp_path, where):
    with pytest.raises(CorruptShard, match="holds no dataset.json"):
        Clips.open(tmp_path / where, "train")


def test_a_missing_shard_is_noticed_before_training_begins(tmp_path):
    damaged = copy(tmp_path)
    (damaged / "tfrecord" / "train-00001-of-00003.tfrecord").unlink()
    with pytest.raises(IncompleteShard, match="train-00001-of-00003.tfrecord cannot be read: No such file"):
        Clips.open(damaged, "train")
    assert len(Clips.open(damaged, "train", "parquet")) == 5


def test_a_shard_of_another_length_is_noticed_before_training_begins(tmp_path):
    damaged = copy(tmp_path)
    path = damaged / "parquet" / "train-00000-of-00003.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptShard, match="bytes long, expected .*copy it once more"):
        Clips.open(damaged, "train", "parquet")


def test_labels_that_are_not_those_of_the_shards_are_noticed(tmp_path):
    damaged = copy(tmp_path)
    (damaged / "labels.txt").write_text("".join(f"{label}\n" for label in reversed(LABELS)))
    with pytest.raises(CorruptShard, match="labels.txt is not the file that dataset.json knows"):
        Clips.open(damaged, "train")


def test_a_ledger_that_does_not_fit_is_noticed(tmp_path):
    damaged = copy(tmp_path)
    shutil.copy(damaged / "ledger/train-00002-of-00003.parquet", damaged / "ledger/train-00000-of-00003.parquet")
    with pytest.raises(CorruptShard, match="has 1 rows written, dataset.json says 2"):
        Clips.open(damaged, "train")


def test_a_ledger_with_a_label_that_is_not_in_labels_txt_is_noticed(tmp_path):
    damaged = copy(tmp_path)
    path = damaged / "ledger/train-00000-of-00003.parquet"
    rows = [row | {"label": "juggling"} for row in tables.read(path, "ledger")]
    tables.write(path, "ledger", [rows])
    with pytest.raises(CorruptShard, match="'juggling' is not among the 4 labels"):
        Clips.open(damaged, "train")


def test_refused_rows_are_left_out_and_shards_without_clips_too(tmp_path):
    lines = sample.ANNOTATIONS.read_text().splitlines()
    lines += [f'"moving left",gone_{number},0,1,train,1' for number in range(4)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    make(tmp_path / "out", (str(tmp_path / "rows.csv"),), RECIPE)
    clips = Clips.open(tmp_path / "out", "train")
    assert set(clips.ids) == set(Clips.open(folder(), "train").ids)
    rows = [row for path in (tmp_path / "out/ledger").glob("train-*") for row in tables.read(path, "ledger")]
    assert sum(row["status"] == ledger.REFUSED for row in rows) == 4


def test_a_split_of_which_every_row_was_refused_holds_no_clip(tmp_path):
    (tmp_path / "rows.csv").write_text("label,youtube_id,time_start,time_end,split\nwaving,gone,0,1,train\n")
    make(tmp_path / "out", (str(tmp_path / "rows.csv"),), RECIPE)
    with pytest.raises(BadOption, match="split train of .* holds no clip"):
        Clips.open(tmp_path / "out", "train")


def test_clips_that_a_refresh_found_belong_to_the_split(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for path in sample.VIDEOS.glob("*.mp4"):
        if path.stem != "pan_left_1":
            shutil.copy(path, videos)
    make(tmp_path / "out", (str(sample.ANNOTATIONS),), RECIPE, videos)
    assert len(Clips.open(tmp_path / "out", "train")) == 4
    shutil.copy(sample.VIDEOS / "pan_left_1.mp4", videos)
    assert cli.main(["refresh", str(tmp_path / "out")]) == cli.OK
    clips = Clips.open(tmp_path / "out", "train")
    assert set(clips.ids) == set(Clips.open(folder(), "train").ids)
    (found,) = (clip for clip in clips if clip.clip_id.startswith("pan_left_1"))
    assert found.path.name == "train-refresh1-00000-of-00001.tfrecord"
    assert found.class_id == LABELS.index("moving left")


def test_an_unlabelled_test_set_has_no_classes(tmp_path):
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\npan_left_1,0,1,test\n")
    make(tmp_path / "out", (str(tmp_path / "test.csv"),), RECIPE)
    clips = Clips.open(tmp_path / "out", "test")
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
    try:
        clips = Clips.open(damaged, "train")
    except RunError:
        return
    assert len(clips) == 5
