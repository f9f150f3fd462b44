"""Reading some images of a record: the same values as a full parse, and nothing else for damaged bytes."""

import random

import pytest
from example_records import record

from kinetics_prep.errors import CorruptShard
from kinetics_prep.records import sequence_example
from kinetics_prep.records.partial_reader import pick

FRAMES = 7
IMAGES = ("image/encoded", "FORWARD_FLOW/image/encoded")


@pytest.fixture(scope="module")
def data() -> memoryview:
    return memoryview(record(3, frames=FRAMES).to_bytes())


def message(**lists) -> memoryview:
    """A SequenceExample of feature lists: name=(kind, values)."""
    return memoryview(sequence_example.serialize({"a": ("int64", 1)}, lists))


def serialized_features(name: str, features: list[dict]) -> memoryview:
    """A SequenceExample with one list, whose features are given field by field."""
    example = sequence_example.SequenceExample()
    for fields in features:
        feature = example.feature_lists.feature_list[name].feature.add()
        for kind, values in fields.items():
            getattr(feature, kind).value.extend(values)
    return memoryview(example.SerializeToString())


# Values


@pytest.mark.parametrize("places", [[0], [FRAMES - 1], [2, 5], [5, 2], [3, 3], list(range(FRAMES)), []])
def test_each_place_gives_its_own_image(data, places):
    truth = record(3, frames=FRAMES)
    picked = pick(data, {IMAGES[0]: places})
    assert list(picked.values) == [IMAGES[0]]
    assert picked.values[IMAGES[0]] == {place: truth[IMAGES[0]][place] for place in places}
    assert picked.lengths == {IMAGES[0]: FRAMES}


def test_two_streams_give_each_its_own_images(data):
    truth = record(3, frames=FRAMES)
    picked = pick(data, {IMAGES[0]: [1], IMAGES[1]: [4]})
    assert picked.values == {IMAGES[0]: {1: truth[IMAGES[0]][1]}, IMAGES[1]: {4: truth[IMAGES[1]][4]}}


def test_images_are_views_of_the_record_and_no_copies():
    data = bytearray(record(3).to_bytes())
    image = pick(memoryview(data), {IMAGES[0]: [1]}).values[IMAGES[0]][1]
    begin = data.index(bytes(image))
    data[begin] ^= 0xFF
    assert image[0] == data[begin]


def test_the_context_is_that_of_a_full_parse(data):
    context, _ = sequence_example.parse(bytes(data))
    assert pick(data, {}) == (context, {}, {})


def test_what_the_record_lacks_is_empty_or_left_out(data):
    picked = pick(data, {"image/depth": [0], IMAGES[0]: [0, FRAMES, FRAMES + 50]})
    assert picked.lengths == {"image/depth": 0, IMAGES[0]: FRAMES}
    assert picked.values["image/depth"] == {} and list(picked.values[IMAGES[0]]) == [0]


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 16_383, 16_384, 300_000])
def test_lengths_of_any_number_of_digits_are_read(size):
    """A varint has 7 bits a byte: 127 and 16,383 are the last of their size."""
    chance = random.Random(size)
    values = [chance.randbytes(size), b"second"]
    data = message(**{"a" * (size % 200): ("bytes", values)})
    assert pick(data, {"a" * (size % 200): [0, 1]}).values == {"a" * (size % 200): dict(enumerate(values))}


@pytest.mark.parametrize("size", [*range(95, 105), *range(16_345, 16_370), 20_000])
def test_a_context_of_any_size_is_parsed(size):
    """Its own length, which is written anew for the parser, takes one, two or three bytes."""
    data = memoryview(sequence_example.serialize({"text": ("bytes", b"x" * size), "n": ("int64", 5)}, {}))
    assert pick(data, {}).context == {"text": [b"x" * size], "n": [5]}


# Damage


@pytest.mark.parametrize(
    "features",
    [
        [{"int64_list": [1]}],
        [{"float_list": [1.5]}],
        [{"bytes_list": []}],
        [{"bytes_list": [b"x", b"y"]}],
        [{}],
    ],
)
def test_a_frame_that_is_not_one_string_of_bytes_is_corrupt(features):
    data = serialized_features("images", [{"bytes_list": [b"good"]}, *features])
    assert pick(data, {"images": [0]}).values == {"images": {0: b"good"}}  # others are not looked at
    with pytest.raises(CorruptShard, match="images holds something else than one string of bytes for each frame"):
        pick(data, {"images": [0, 1]})


def test_a_list_that_is_there_twice_is_corrupt():
    """Protobuf takes the last of two entries of a map; a reader that took the first would see other images."""
    twice = bytes(message(images=("bytes", [b"one"]))) + bytes(message(images=("bytes", [b"two"])))
    for places in ([0], [1], []):
        with pytest.raises(CorruptShard, match="record holds images twice"):
            pick(memoryview(twice), {"images": places})
    assert pick(memoryview(twice), {}).lengths == {}


@pytest.mark.parametrize(
    "bad, complaint",
    [
        (b"\x08\x01", "tag 8 at byte 0"),  # a number, which no message around lists has
        (b"\x8a\x01\x00", "tag 138 at byte 0"),  # a field number of two bytes
        (b"\x0a", "ends within a field's length"),
        (b"\x0a\x80", "ends within a field's length"),
        (b"\x0a\x80\x80\x80\x80\x80\x01", "ends within a field's length"),  # a length of over 32 bits
        (b"\x0a\x05abcd", "a field of 5 bytes where 4 are left"),
        (b"\x0a\xff\xff\xff\xff\x0f", "a field of 4294967295 bytes where 0 are left"),
        (b"\x12\x06\x0a\x05abcd", "a field of 5 bytes where 4 are left"),
    ],
)
def test_bytes_that_are_not_a_sequence_example_are_corrupt(bad, complaint):
    with pytest.raises(CorruptShard, match=f"record is not a SequenceExample: .*{complaint}"):
        pick(memoryview(bad), {})


def test_a_context_that_does_not_parse_is_corrupt():
    with pytest.raises(CorruptShard, match="record is not a SequenceExample"):
        pick(memoryview(b"\x0a\x02\x0a\x05"), {})


def test_a_truncated_record_is_corrupt_or_lacks_whole_fields(data):
    truth = record(3, frames=FRAMES)
    for length in [*range(0, len(data), 37), len(data) - 1]:
        try:
            picked = pick(data[:length], {IMAGES[0]: range(FRAMES)})
        except CorruptShard:
            continue
        assert picked.values[IMAGES[0]] in ({}, dict(enumerate(truth[IMAGES[0]])))


def test_flipped_bits_give_corruption_or_values_and_nothing_else(data):
    chance, corrupt = random.Random(0), 0
    for _ in range(2000):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 4))):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        try:
            picked = pick(memoryview(changed), dict.fromkeys(IMAGES, range(FRAMES)))
        except CorruptShard:
            corrupt += 1
            continue
        try:
            context, lists = sequence_example.parse(bytes(changed))
        except CorruptShard:  # in what the partial reader did not look at
            continue
        assert repr(picked.context) == repr(context)  # by repr, for floats that are not numbers
        for name in IMAGES:
            assert list(picked.values[name].values()) == lists.get(name, [])
    assert 20 < corrupt < 1000
