import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.flow import TVL1
from kinetics_prep.media.clip import Clip, QuantizedFlow, TwoStreamClip
from kinetics_prep.records import SHARD_FORMATS, encode, read_shard
from kinetics_prep.records.features import FEATURES
from kinetics_prep.records.record import Record
from kinetics_prep.report import inspect
from kinetics_prep.report.sheet import contact_sheet

HEIGHT, WIDTH = 24, 40


def made(media_id="-3B32lodo2M", label="air drumming", frames=5):
    """A record whose frames and flows differ from each other."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rgb = np.stack([np.stack([x + 40 * k, 4 * y, x + y], -1) for k in range(frames)]).astype(np.uint8)
    levels = np.stack([np.full((HEIGHT, WIDTH, 2), 128 + 10 * k, np.uint8) for k in range(frames)])
    return encode.encode_clip(
        TwoStreamClip(
            Clip(rgb, Fraction(25), start_seconds=0.0, ends_early=False),
            QuantizedFlow(levels, "symmetric", 20.0, saturated_share=0.25, last="repeated"),
        ),
        Annotation(media_id, 1.5, 11.5, "train", label),
        label_index=None if label is None else 7,
        seconds=10.0,
        origin=encode.Origin("video.mp4", "0123456789abcdef", "tvl1: 3", dataclasses.asdict(TVL1())),
        flow_encoding="png",
    )


def changed(made_record, **features):
    return Record(made_record.features | {name.replace("__", "/"): value for name, value in features.items()})


@pytest.fixture(params=SHARD_FORMATS)
def shard(request, tmp_path):
    """A shard of three records, in each format."""
    module = SHARD_FORMATS[request.param]
    path = tmp_path / f"train-00000-of-00001.{module.SUFFIX}"
    module.write_shard(path, [made("first"), made("second", frames=3), made("third", label=None)])
    return path


def test_records_come_in_their_order_whatever_the_format(shard):
    assert [(len(each), each["example/id"].split("_")[0]) for each in read_shard(shard)] == [
        (5, "first"),
        (3, "second"),
        (5, "third"),
    ]


def test_a_record_is_found_by_number_and_by_id(shard):
    ids = [each["example/id"] for each in read_shard(shard)]
    assert [inspect.find(shard, str(number))["example/id"] for number in range(3)] == ids
    assert [inspect.find(shard, clip_id)["example/id"] for clip_id in ids] == ids


@pytest.mark.parametrize("wanted", ["3", "-1", "00", "first", ""])
def test_a_record_that_the_shard_lacks_is_an_error_that_says_how_many_there_are(shard, wanted):
    with pytest.raises(BadOption, match=rf"holds 3 records, and none is '{wanted}'"):
        inspect.find(shard, wanted)


def test_a_file_of_no_known_format_is_an_error_that_names_the_formats(tmp_path):
    (tmp_path / "shard.mp4").write_bytes(b"")
    with pytest.raises(BadOption, match=r"ends in \.tfrecord or \.parquet"):
        read_shard(tmp_path / "shard.mp4")
    with pytest.raises(BadOption, match="missing.tfrecord is not a file"):
        read_shard(tmp_path / "missing.tfrecord")
    with pytest.raises(BadOption, match="is not a file"):
        read_shard(tmp_path)


def test_a_description_has_a_line_for_each_feature_in_the_schema_s_order():
    record_made = made()
    lines = [line.split("  ", 1) for line in inspect.describe(record_made).splitlines()]
    assert [name for name, _ in lines] == list(FEATURES)
    values = {name: value.strip() for name, value in lines}
    assert values["example/id"] == record_made["example/id"]
    assert values["image/frame_rate"] == "25"
    assert values["kinetics_prep/saturated_share"] == "0.25"
    assert values["image/timestamp"] == "5 values, 1500000 to 1660000"
    sizes = [len(image) for image in record_made["image/encoded"]]
    assert values["image/encoded"] == (f"5 images, {sum(sizes) / 1e3:.1f} kB, {min(sizes)} to {max(sizes)} bytes each")


def test_features_that_a_record_lacks_have_no_line():
    assert "label" not in inspect.describe(made(label=None))


def test_a_hostile_label_cannot_move_the_cursor():
    words = inspect.describe(changed(made(), clip__label__text="a\x1b[2J\nb"))
    assert "\x1b" not in words and "a\ufffd[2J\ufffdb" in words


@pytest.mark.parametrize("cells, chosen", [(12, [0, 1, 2, 3, 4]), (3, [0, 2, 4]), (2, [0, 4]), (1, [0])])
def test_a_sheet_shows_frames_at_even_distances_each_with_its_own_flow_and_time(cells, chosen):
    record_made = made()
    title = (
        f"air drumming · {record_made['example/id']}\n"
        "40x24, 5 frames at 25 fps, from 1.5 s of video.mp4\n"
        "flow: tvl1: 3, symmetric, 25.00% beyond 20 px"
    )
    expected = contact_sheet(
        np.stack([record_made.frame(k) for k in chosen]),
        np.stack([record_made.flow(k) for k in chosen]),
        [f"t = {1.5 + k / 25:.2f} s" for k in chosen],
        title,
    )
    assert inspect.sheet(record_made, cells).tobytes() == expected.tobytes()


def test_a_record_that_claims_huge_frames_is_not_drawn():
    with pytest.raises(CorruptShard, match=r"claims frames of 10000000000 pixels"):
        inspect.sheet(changed(made(), image__height=100_000, image__width=100_000))
