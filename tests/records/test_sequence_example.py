"""SequenceExample: bytes written out by hand from TensorFlow's .proto files."""

import pytest

from kinetics_prep.errors import CorruptShard
from kinetics_prep.records.sequence_example import parse, serialize


def field(number: int, content: bytes) -> bytes:
    """A field of less than 128 bytes of protobuf's wire format."""
    return bytes([number << 3 | 2, len(content)]) + content


def entry(name: bytes, value: bytes) -> bytes:
    """An entry of a map from names to messages."""
    return field(1, field(1, name) + field(2, value))


def values_by_kind(kind: str, content: bytes) -> bytes:
    """A Feature; each kind of list has a number in its oneof, and its values are field 1."""
    return field({"bytes": 1, "float": 2, "int64": 3}[kind], field(1, content))


CONTEXT = {"b": ("bytes", b"xyz"), "f": ("float", 0.5), "i": ("int64", 300)}
LISTS = {"images": ("bytes", [b"one", b"two"]), "times": ("int64", [1, 2])}
BY_HAND = field(
    1,
    entry(b"b", values_by_kind("bytes", b"xyz"))
    + entry(b"f", values_by_kind("float", b"\x00\x00\x00\x3f"))
    + entry(b"i", values_by_kind("int64", b"\xac\x02")),
) + field(
    2,
    entry(b"images", field(1, values_by_kind("bytes", b"one")) + field(1, values_by_kind("bytes", b"two")))
    + entry(b"times", field(1, values_by_kind("int64", b"\x01")) + field(1, values_by_kind("int64", b"\x02"))),
)


def test_the_bytes_are_those_of_the_definition():
    assert serialize(CONTEXT, LISTS) == BY_HAND


def test_names_are_sorted_whatever_the_order_of_the_input():
    backwards = serialize(dict(reversed(CONTEXT.items())), dict(reversed(LISTS.items())))
    assert backwards == BY_HAND


def test_parsing_gives_the_values_as_lists():
    context, lists = parse(BY_HAND)
    assert context == {"b": [b"xyz"], "f": [0.5], "i": [300]}
    assert lists == {"images": [b"one", b"two"], "times": [1, 2]}


def test_a_feature_without_values_is_an_empty_list():
    assert parse(field(1, entry(b"a", b"")))[0] == {"a": []}
    assert parse(field(2, entry(b"a", b""))) == ({}, {"a": []})


def test_no_bytes_are_an_example_without_features():
    assert parse(b"") == ({}, {})


@pytest.mark.parametrize("data", [BY_HAND[:-1], b"\xff", b"\x0a\x05abc", field(1, entry(b"\xff", b""))])
def test_other_bytes_are_corrupt(data):
    with pytest.raises(CorruptShard, match="record is not a SequenceExample"):
        parse(data)


def test_negative_and_large_numbers_come_back():
    numbers = [0, -1, 2**63 - 1, -(2**63)]
    assert parse(serialize({}, {"n": ("int64", numbers)}))[1]["n"] == numbers
