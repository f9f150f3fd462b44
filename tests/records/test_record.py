import dataclasses
import io
import json
import random
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from kinetics_prep import schemas
from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.errors import CorruptShard
from kinetics_prep.flow import TVL1
from kinetics_prep.media import quantize
from kinetics_prep.media.clip import Clip, QuantizedFlow, TwoStreamClip
from kinetics_prep.records import sequence_example
from kinetics_prep.records.encode import Origin, encode_clip
from kinetics_prep.records.features import FEATURES
from kinetics_prep.records.record import Record

FRAMES, HEIGHT, WIDTH = 3, 24, 40

LABEL_FEATURES = {"clip/label/index", "clip/label/string", "clip/label/text"}


def smooth(frames=FRAMES):
    """uint8 [frames, H, W, 3]: pictures that JPEG does well."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([np.stack([x + 10 * k, y * 4, x + y], -1) for k in range(frames)]).astype(np.uint8)


def noise(*shape):
    return np.random.default_rng(0).integers(1, 256, shape, np.uint8)


def make(label="air drumming", end_seconds=11.5, encoding="png", levels=None, frames=FRAMES, fps=25, ends_early=False):
    clip = Clip(smooth(frames), Fraction(fps), start_seconds=0.0, ends_early=ends_early)
    levels = noise(frames, HEIGHT, WIDTH, 2) if levels is None else levels
    return encode_clip(
        TwoStreamClip(clip, QuantizedFlow(levels, "symmetric", 20.0, saturated_share=0.25, last="repeated")),
        Annotation("-3B32lodo2M", 1.5, end_seconds, "train", label),
        label_index=None if label is None else 7,
        seconds=min(end_seconds - 1.5, 10.0),
        origin=Origin("-3B32lodo2M_000001.mp4", "0123456789abcdef", "opencv-cpu: 5.0", dataclasses.asdict(TVL1())),
        flow_encoding=encoding,
    )


# Features of a record --------------------------------------------------------------------------


def test_features_are_those_of_the_schema():
    assert make().features.keys() == {item["name"] for item in schemas.load("record")["features"]}


def test_an_unlabelled_record_lacks_the_label_and_nothing_else():
    assert make(label=None).features.keys() == FEATURES.keys() - LABEL_FEATURES
    assert {name for name, feature in FEATURES.items() if not feature.required} == LABEL_FEATURES


def test_every_feature_has_its_value():
    values = {name: value for name, value in make().features.items() if not name.endswith("image/encoded")}
    times = [1_500_000, 1_540_000, 1_580_000]
    assert values == {
        "example/id": "-3B32lodo2M_000001.5_000011.5",
        "clip/media_id": "-3B32lodo2M",
        "clip/data_path": "-3B32lodo2M_000001.mp4",
        "clip/label/index": 7,
        "clip/label/string": "air drumming",
        "clip/label/text": "air drumming",
        "clip/start/timestamp": 1_500_000,
        "clip/end/timestamp": 11_500_000,
        "image/format": "JPEG",
        "image/height": HEIGHT,
        "image/width": WIDTH,
        "image/channels": 3,
        "image/frame_rate": 25.0,
        "image/timestamp": times,
        "FORWARD_FLOW/image/format": "PNG",
        "FORWARD_FLOW/image/height": HEIGHT,
        "FORWARD_FLOW/image/width": WIDTH,
        "FORWARD_FLOW/image/channels": 3,
        "FORWARD_FLOW/image/frame_rate": 25.0,
        "FORWARD_FLOW/image/timestamp": times,
        "kinetics_prep/split": "train",
        "kinetics_prep/recipe": "0123456789abcdef",
        "kinetics_prep/engine": "opencv-cpu: 5.0",
        "kinetics_prep/tvl1": json.dumps(dataclasses.asdict(TVL1()), sort_keys=True),
        "kinetics_prep/quantizer": "symmetric",
        "kinetics_prep/bound_px": 20.0,
        "kinetics_prep/saturated_share": 0.25,
        "kinetics_prep/last_flow": "repeated",
        "kinetics_prep/ends_early": 0,
    }


def test_a_clip_longer_than_the_recipes_ends_with_the_recipe():
    assert make(end_seconds=100)["clip/end/timestamp"] == 11_500_000


def test_timestamps_do_not_drift_at_uneven_rates():
    times = make(frames=301, fps="30000/1001")["image/timestamp"]
    assert times[1] == 1_500_000 + 33_367
    assert times[300] == 1_500_000 + 10_010_000


def test_a_record_of_a_video_that_ended_early_is_marked():
    assert make(ends_early=True)["kinetics_prep/ends_early"] == 1


def test_frames_read_back_as_the_pictures_they_were():
    made = make()
    assert len(made) == FRAMES
    for k, frame in enumerate(smooth()):
        error = made.frame(k).astype(int) - frame
        assert np.abs(error).mean() < 3


def test_flow_as_png_is_exact():
    made, levels = make(encoding="png"), noise(FRAMES, HEIGHT, WIDTH, 2)
    for k in range(FRAMES):
        assert np.array_equal(made.levels(k), levels[k])
        assert np.array_equal(made.flow(k), quantize.dequantize(levels[k]))
    assert Image.open(io.BytesIO(made["FORWARD_FLOW/image/encoded"][0])).format == "PNG"


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
@pytest.mark.parametrize("still", [0, 1], ids=["dx still", "dy still"])
def test_the_planes_of_flow_do_not_mix(encoding, still):
    levels = np.full((1, HEIGHT, WIDTH, 2), 128, np.uint8)
    levels[..., 1 - still] = noise(1, HEIGHT, WIDTH)
    made = make(encoding=encoding, levels=levels, frames=1)
    assert np.unique(made.levels(0)[..., still]).tolist() == [128]
    assert not np.asarray(Image.open(io.BytesIO(made["FORWARD_FLOW/image/encoded"][0])))[..., 2].any()


def test_flow_as_jpeg_is_right_to_a_fraction_of_a_pixel():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    levels = np.stack([128 + x, 200 - 2 * y], -1).astype(np.uint8)[None]
    made = make(encoding="jpeg", levels=levels, frames=1)
    error = made.flow(0) - quantize.dequantize(levels[0])
    assert np.abs(error).mean() < 0.1
    assert Image.open(io.BytesIO(made["FORWARD_FLOW/image/encoded"][0])).format == "JPEG"


# Bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["air drumming", "jeté (ballet)", None])
@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_a_record_reads_back_as_written(label, encoding):
    made = make(label, encoding=encoding)
    read = Record.from_bytes(made.to_bytes())
    assert read == made
    assert read.to_bytes() == made.to_bytes()


def test_floats_read_back_in_single_precision():
    made = make(fps="30000/1001")
    assert Record.from_bytes(made.to_bytes())["image/frame_rate"] == np.float32(30000 / 1001)


def test_the_bytes_do_not_depend_on_the_order_of_features():
    made = make()
    backwards = Record(dict(reversed(made.features.items())))
    assert backwards.to_bytes() == made.to_bytes()


def test_the_same_clip_has_the_same_bytes():
    assert make(encoding="jpeg").to_bytes() == make(encoding="jpeg").to_bytes()


# Damage ----------------------------------------------------------------------------------------


def serialized(**changed) -> bytes:
    """A record's bytes with features replaced: name=(where, kind, value), or None to leave it out."""
    features = {
        name: (feature.where, feature.kind, make()[name].encode() if feature.type == "text" else make()[name])
        for name, feature in FEATURES.items()
    }
    features = {name: value for name, value in (features | changed).items() if value}
    context = {name: value for name, (where, *value) in features.items() if where == "context"}
    lists = {name: value for name, (where, *value) in features.items() if where == "feature_list"}
    return sequence_example.serialize(context, lists)


OTHER_VALUES = {"bytes": b"x", "int64": 1, "float": 1.5}


def test_the_record_that_damage_tests_change_is_good():
    assert Record.from_bytes(serialized()) == make()


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_of_another_kind_is_corrupt(name):
    feature = FEATURES[name]
    for kind, other in OTHER_VALUES.items():
        if kind == feature.kind:
            continue
        value = other if feature.where == "context" else [other] * FRAMES
        with pytest.raises(CorruptShard):
            Record.from_bytes(serialized(**{name: (feature.where, kind, value)}))


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_in_the_other_place_is_corrupt(name):
    feature, value = FEATURES[name], OTHER_VALUES[FEATURES[name].kind]
    changed = ("context", feature.kind, value)
    if feature.where == "context":
        changed = ("feature_list", feature.kind, [value])
    with pytest.raises(CorruptShard):
        Record.from_bytes(serialized(**{name: changed}))


@pytest.mark.parametrize("name", [name for name, feature in FEATURES.items() if feature.required])
def test_a_record_without_a_required_feature_is_corrupt(name):
    with pytest.raises(CorruptShard, match=f"record lacks .*'{name}'"):
        Record.from_bytes(serialized(**{name: None}))


def test_an_unknown_feature_is_passed_over_and_not_written():
    read = Record.from_bytes(serialized(**{"image/depth": ("context", "int64", 1)}))
    assert read == Record.from_bytes(serialized())
    with pytest.raises(CorruptShard, match=r"holds unknown \['image/depth'\]"):
        Record({**read.features, "image/depth": 1})


@pytest.mark.parametrize("name", [name for name, feature in FEATURES.items() if feature.where == "feature_list"])
@pytest.mark.parametrize("length", [0, FRAMES - 1, FRAMES + 1])
def test_feature_lists_of_different_lengths_are_corrupt(name, length):
    feature = FEATURES[name]
    with pytest.raises(CorruptShard):
        Record.from_bytes(serialized(**{name: ("feature_list", feature.kind, [OTHER_VALUES[feature.kind]] * length)}))


def test_a_record_without_frames_is_corrupt():
    empty = {
        name: ("feature_list", feature.kind, []) for name, feature in FEATURES.items() if feature.where != "context"
    }
    with pytest.raises(CorruptShard, match="not empty"):
        Record.from_bytes(serialized(**empty))


@pytest.mark.parametrize("count", [0, 2])
def test_a_context_feature_holds_exactly_one_value(count):
    example = sequence_example.SequenceExample.FromString(serialized())
    del example.context.feature["image/height"].int64_list.value[:]
    example.context.feature["image/height"].int64_list.value.extend([HEIGHT] * count)
    with pytest.raises(CorruptShard, match=f"image/height holds {count} values, expected 1"):
        Record.from_bytes(example.SerializeToString())


@pytest.mark.parametrize("data", [b"", b"\xff", b"label,youtube_id\n", bytes(1000)])
def test_bytes_that_are_no_sequence_example_are_corrupt(data):
    with pytest.raises(CorruptShard):
        Record.from_bytes(data)


def decode_all(read: Record) -> None:
    for k in range(len(read)):
        read.frame(k)
        read.flow(k)


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_a_truncated_record_is_corrupt(encoding):
    data = make(encoding=encoding).to_bytes()
    for length in [*range(64), *range(64, len(data), 61), len(data) - 1]:
        with pytest.raises(CorruptShard):
            Record.from_bytes(data[:length])


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_a_record_with_flipped_bits_is_corrupt_or_readable_and_nothing_else(encoding):
    whole, chance, corrupt = make(encoding=encoding, frames=2).to_bytes(), random.Random(0), 0
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 1, 4))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            decode_all(Record.from_bytes(bytes(data)))
        except CorruptShard:
            corrupt += 1
    assert 100 < corrupt < 1500


@pytest.mark.parametrize("image", [b"", b"GIF89a" + bytes(50), b"\xff\xd8\xff"])
def test_an_image_that_does_not_decode_is_corrupt_and_named(image):
    read = Record(make().features | {"image/encoded": [image] * FRAMES, "FORWARD_FLOW/image/encoded": [image] * FRAMES})
    with pytest.raises(CorruptShard, match="frame 1 of -3B32lodo2M_000001.5_000011.5 does not decode"):
        read.frame(1)
    with pytest.raises(CorruptShard, match="flow 2 of -3B32lodo2M_000001.5_000011.5 does not decode"):
        read.levels(2)


def test_flow_by_an_unknown_quantizer_is_corrupt():
    read = Record(make().features | {"kinetics_prep/quantizer": "symmetsic"})
    with pytest.raises(CorruptShard, match="symmetsic"):
        read.flow(0)


# Values by type --------------------------------------------------------------------------------


def test_accessors_give_values_of_their_type():
    made = make()
    assert made.text("example/id") == "-3B32lodo2M_000001.5_000011.5"
    assert made.integer("image/height") == HEIGHT
    assert made.real("kinetics_prep/bound_px") == 20.0
    assert made.integers("image/timestamp") == [1_500_000, 1_540_000, 1_580_000]
    assert made.images("image/encoded") == made["image/encoded"]
    assert all(isinstance(image, bytes) for image in made.images("FORWARD_FLOW/image/encoded"))


def test_a_real_may_be_stored_as_an_integer():
    value = Record(make().features | {"kinetics_prep/bound_px": 15}).real("kinetics_prep/bound_px")
    assert value == 15.0 and isinstance(value, float)


@pytest.mark.parametrize(
    "accessor, name",
    [
        ("text", "image/height"),
        ("text", "image/encoded"),
        ("integer", "example/id"),
        ("integer", "image/frame_rate"),
        ("real", "example/id"),
        ("images", "image/timestamp"),
        ("images", "example/id"),
        ("integers", "image/encoded"),
        ("integers", "image/height"),
    ],
)
def test_an_accessor_refuses_a_value_of_another_type(accessor, name):
    with pytest.raises(CorruptShard, match=f"{name} holds a value of type"):
        getattr(make(), accessor)(name)


def test_an_image_that_is_null_is_corrupt():
    """Parquet that others wrote can hold nulls within a list."""
    read = Record(make().features | {"image/encoded": [None] * FRAMES})
    with pytest.raises(CorruptShard, match="image/encoded holds a value of type NoneType"):
        read.frame(0)


def test_absent_features_have_a_default():
    made = make(label=None)
    assert made.get("clip/label/text") is None and made.get("clip/label/text", "none") == "none"
    assert make().get("clip/label/text", "none") == "air drumming"


def test_the_repr_of_a_record_names_its_id_and_length():
    assert repr(make()) == "Record('-3B32lodo2M_000001.5_000011.5', 3 frames)"


def test_flow_is_read_with_the_bound_and_the_quantizer_of_the_record():
    levels = noise(FRAMES, HEIGHT, WIDTH, 2)
    for name in quantize.QUANTIZERS:
        read = Record(make().features | {"kinetics_prep/quantizer": name, "kinetics_prep/bound_px": 5.0})
        assert np.array_equal(read.flow(1), quantize.dequantize(levels[1], name, 5.0))


def test_a_feature_that_is_both_context_and_list_is_corrupt():
    example = sequence_example.SequenceExample.FromString(serialized())
    example.context.feature["image/encoded"].bytes_list.value.append(b"x")
    with pytest.raises(CorruptShard, match="image/encoded"):
        Record.from_bytes(example.SerializeToString())
    unknown = sequence_example.SequenceExample.FromString(serialized())
    unknown.context.feature["other"].int64_list.value.append(1)
    unknown.feature_lists.feature_list["other"].feature.add().int64_list.value.append(1)
    with pytest.raises(CorruptShard, match=r"record holds \['other'\] twice"):
        Record.from_bytes(unknown.SerializeToString())
