"""What other people's readers need from a shard, asserted on its bytes without TensorFlow and those readers.

The bytes are read here from nothing but the formats' definitions, so that our own reader cannot hide
what our own writer does. `test_other_readers_tensorflow.py` reads the same shard with TensorFlow.
"""

import dataclasses
import io
import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import plan_row, write_video
from PIL import Image

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.records import tfrecord
from kinetics_prep.records.features import FEATURES
from kinetics_prep.records.record import Record
from kinetics_prep.runs.clip import prepare_row
from kinetics_prep.runs.context import RunContext
from kinetics_prep.sources import Fetching

LABELS = LabelMap(("abseiling", "making tea", "zumba"))


@dataclasses.dataclass(frozen=True)
class Reader:
    """The keys that a reader reads, and the kind of list that it expects under each."""

    context: dict[str, str]
    feature_lists: dict[str, str]


READERS = {
    # tensorflow/models, official/vision/dataloaders/video_input.py at 00d83f37: Decoder takes an int64 of any
    # number from the context, which Parser adds up as one-hot vectors, so one is what it must be; and one string a
    # frame. Its input pipeline reads uncompressed TFRecord.
    "model-garden": Reader(
        context={"clip/label/index": "int64"},
        feature_lists={"image/encoded": "bytes"},
    ),
    # The same Decoder and Parser, given another image_key.
    "model-garden-flow": Reader(
        context={"clip/label/index": "int64"},
        feature_lists={"FORWARD_FLOW/image/encoded": "bytes"},
    ),
    # google-deepmind/dmvr, dmvr/modalities.py at d920b046: add_image asks for one string a frame, under whatever
    # key it is given for flow; add_label for index and text, and sets their shape to (1,).
    "dmvr": Reader(
        context={"clip/label/index": "int64", "clip/label/text": "bytes"},
        feature_lists={"image/encoded": "bytes", "FORWARD_FLOW/image/encoded": "bytes"},
    ),
    # google-ai-edge/mediapipe, mediapipe/examples/desktop/media_sequence/kinetics_dataset.py at 252a5713:
    # Kinetics.as_dataset asks for a FixedLenFeature(()) of each, and here the label is called string.
    "mediapipe-kinetics": Reader(
        context={"example/id": "bytes", "clip/label/index": "int64", "clip/label/string": "bytes"},
        feature_lists={"image/encoded": "bytes", "FORWARD_FLOW/image/encoded": "bytes"},
    ),
    # The accessors of google-ai-edge/mediapipe, mediapipe/util/sequence/media_sequence.py at 137867d0, which
    # take value[0] of what they name.
    "media-sequence": Reader(
        context={
            "example/id": "bytes",
            "clip/media_id": "bytes",
            "clip/data_path": "bytes",
            "clip/start/timestamp": "int64",
            "clip/end/timestamp": "int64",
            "clip/label/index": "int64",
            "clip/label/string": "bytes",
            "image/format": "bytes",
            "image/channels": "int64",
            "image/height": "int64",
            "image/width": "int64",
            "image/frame_rate": "float",
            "FORWARD_FLOW/image/format": "bytes",
            "FORWARD_FLOW/image/channels": "int64",
            "FORWARD_FLOW/image/height": "int64",
            "FORWARD_FLOW/image/width": "int64",
            "FORWARD_FLOW/image/frame_rate": "float",
        },
        feature_lists={
            "image/encoded": "bytes",
            "image/timestamp": "int64",
            "FORWARD_FLOW/image/encoded": "bytes",
            "FORWARD_FLOW/image/timestamp": "int64",
        },
    ),
}


def prepare_shard(folder: Path, recipe: Recipe, label: str | None = "making tea") -> Path:
    """One clip of coloured blocks that move right by 2 px a frame, from its annotation to its shard."""
    blocks = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    write_video(folder / "blocks.mp4", np.stack([np.roll(blocks, 2 * k, axis=1) for k in range(60)]))
    row = plan_row("blocks", start=1.0, end=2.0, label=label)
    row = dataclasses.replace(row, label_index=None if label is None else LABELS.index(label))
    context = RunContext(recipe=recipe, digest="digest", fetching=Fetching((str(folder),)), scratch=str(folder))
    ledger_row, data = prepare_row(row, context)
    assert data is not None, ledger_row
    shard = folder / "train-00000-of-00001.tfrecord"
    tfrecord.write_shard(shard, [Record.from_bytes(data)])
    return shard


# Protocol buffers, as far as a SequenceExample needs them ------------------------------------------


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next field begins."""
    number = 0
    for shift in itertools.count(0, 7):
        byte, at = data[at], at + 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at


def fields(message: bytes):
    """(field number, number or bytes) of each field of a message."""
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        number, wire_type = divmod(tag, 8)
        if wire_type == 0:
            value, at = read_varint(message, at)
        else:
            length, at = {1: (8, at), 5: (4, at)}[wire_type] if wire_type != 2 else read_varint(message, at)
            value, at = message[at : at + length], at + length
        yield number, value


def packed_varints(data: bytes):
    at = 0
    while at < len(data):
        number, at = read_varint(data, at)
        yield number


def feature(message: bytes) -> tuple[str, list]:
    """(kind, values) of a Feature. Its three kinds of list are a oneof, numbered in this order."""
    ((number, value_list),) = fields(message)
    kind, values = ("bytes", "float", "int64")[number - 1], []
    for _, value in fields(value_list):
        if kind == "bytes":
            values.append(value)
        elif kind == "float":
            values.extend(struct.unpack(f"<{len(value) // 4}f", value))
        else:
            values.extend(packed_varints(value) if isinstance(value, bytes) else [value])
    return kind, values


def mapping(message: bytes) -> dict[str, bytes]:
    """A map<string, message>, which is a list of entries of two fields."""
    entries = [dict(fields(entry)) for _, entry in fields(message)]
    return {entry[1].decode(): entry[2] for entry in entries}


def read_example(data: bytes) -> tuple[dict, dict]:
    """(context, feature lists): key -> (kind, values), and key -> [(kind, values), one a frame]."""
    example = dict(fields(data))
    context = {key: feature(value) for key, value in mapping(example[1]).items()}
    lists = {key: [feature(item) for _, item in fields(value)] for key, value in mapping(example[2]).items()}
    return context, lists


def only_record(shard: Path) -> bytes:
    """The record of an uncompressed TFRecord of one: length, checksum, data, checksum."""
    data = shard.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    assert len(data) == 8 + 4 + length + 4
    return data[12:-4]


@pytest.fixture
def example(tmp_path, quick_recipe) -> tuple[dict, dict]:
    return read_example(only_record(prepare_shard(tmp_path, quick_recipe)))


# The rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
def test_a_reader_finds_one_value_of_its_kind_under_each_key(name, example):
    reader, (context, lists) = READERS[name], example
    values = {key: (context[key][0], len(context[key][1])) for key in reader.context if key in context}
    assert values == {key: (kind, 1) for key, kind in reader.context.items()}
    kinds = {key: {(kind, len(values)) for kind, values in lists[key]} for key in reader.feature_lists if key in lists}
    assert kinds == {key: {(kind, 1)} for key, kind in reader.feature_lists.items()}


def test_the_bytes_hold_what_the_schema_says_and_nothing_else(example):
    context, lists = example
    kinds = {key: ("context", kind) for key, (kind, _) in context.items()}
    kinds |= {key: ("feature_list", kind) for key, ((kind, _), *_) in lists.items()}
    assert kinds == {name: (feature.where, feature.kind) for name, feature in FEATURES.items()}


def test_readers_that_differ_in_the_labels_key_get_the_same_label(example):
    context, _ = example
    assert context["clip/label/index"] == ("int64", [LABELS.index("making tea")])
    assert context["clip/label/text"] == context["clip/label/string"] == ("bytes", [b"making tea"])


def test_an_unlabelled_clip_has_no_label_keys(tmp_path, quick_recipe):
    # Model Garden and DMVR then read an empty label, and MediaPipe's parser has parse_labels=False for it.
    context, _ = read_example(only_record(prepare_shard(tmp_path, quick_recipe, label=None)))
    assert [key for key in context if "label" in key] == []


def test_flow_pairs_with_frames_by_index_and_by_time(example):
    # DMVR samples both streams at the same share of their length, so a stream shorter by one would slip.
    _, lists = example
    times = [values[0] for _, values in lists["image/timestamp"]]
    assert times == [1_000_000, 1_200_000, 1_400_000, 1_600_000, 1_800_000]
    assert lists["FORWARD_FLOW/image/timestamp"] == lists["image/timestamp"]
    assert len(lists["FORWARD_FLOW/image/encoded"]) == len(lists["image/encoded"]) == len(times)


def test_images_are_of_the_format_and_size_that_the_context_says(example):
    context, lists = example
    for stream in ("", "FORWARD_FLOW/"):
        facts = {name: context[f"{stream}image/{name}"][1][0] for name in ("format", "width", "height", "channels")}
        assert facts == {"format": b"JPEG", "width": 43, "height": 32, "channels": 3}
        for _, (data,) in lists[f"{stream}image/encoded"]:
            image = Image.open(io.BytesIO(data))
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (43, 32))


def test_flow_jpegs_tell_every_decoder_that_their_planes_are_rgb(example):
    # libjpeg takes a JFIF marker to mean YCbCr, and would mix dx and dy; Adobe's marker with transform 0 means RGB.
    _, lists = example
    for _, (data,) in lists["FORWARD_FLOW/image/encoded"]:
        info = Image.open(io.BytesIO(data)).info
        assert "jfif" not in info
        assert info["adobe_transform"] == 0


def test_the_third_plane_of_flow_is_zero(example):
    # DMVR and MediaPipe decode three channels and drop the last.
    _, lists = example
    for _, (data,) in lists["FORWARD_FLOW/image/encoded"]:
        assert not np.asarray(Image.open(io.BytesIO(data)))[..., 2].any()


def test_flow_as_png_is_labelled_png_and_is_png(tmp_path, quick_recipe):
    recipe = dataclasses.replace(quick_recipe, flow_encoding="png")
    context, lists = read_example(only_record(prepare_shard(tmp_path, recipe)))
    assert context["FORWARD_FLOW/image/format"] == ("bytes", [b"PNG"])
    assert {Image.open(io.BytesIO(data)).format for _, (data,) in lists["FORWARD_FLOW/image/encoded"]} == {"PNG"}
