"""Reads some images of a SequenceExample without copying or parsing the others.

A record of 10 s is megabytes of images, and a training sample uses a quarter of them; `sequence_example.parse` would
copy all of them. So the protobuf wire format is read here: a message is a row of fields, and each field that a
SequenceExample has outside its lists of numbers is a tag byte, a length and as many bytes.
Source: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from kinetics_prep.errors import CorruptShard
from kinetics_prep.records.sequence_example import Value, parse

# Tags: field number << 3 | 2, for a field that has a length.
_CONTEXT, _FEATURE_LISTS = 0x0A, 0x12  # of SequenceExample
_ENTRY = 0x0A  # of FeatureLists, whose only field is a map
_ENTRY_KEY, _ENTRY_VALUE = 0x0A, 0x12  # of an entry of a map
_FEATURE = 0x0A  # of FeatureList
_BYTES_LIST = 0x0A  # of Feature
_VALUE = 0x0A  # of BytesList


class _Field(NamedTuple):
    """A field of a message: its content is the record's bytes from `begin` to `end`."""

    tag: int
    begin: int
    end: int


class Picked(NamedTuple):
    """Parts of a SequenceExample."""

    context: dict[str, list[Value]]
    """As `sequence_example.parse` returns it."""
    values: dict[str, dict[int, memoryview]]
    """Name of a feature list -> {place: bytes}. The bytes are views of the record and not copies."""
    lengths: dict[str, int]
    """Name of a feature list -> its length."""


def pick(data: memoryview, wanted: Mapping[str, Iterable[int]]) -> Picked:
    """Reads the context and some values of some feature lists of bytes.

    Args:
      data: the record.
      wanted: name of a feature list -> places in it.

    Returns:
      The parts. A list that the record lacks is empty, and a place that it lacks is left out.

    Raises:
      CorruptShard: if these bytes are not a SequenceExample, or a wanted value is not one string of bytes.
    """
    picked = Picked({}, {name: {} for name in wanted}, dict.fromkeys(wanted, 0))
    for tag, begin, end in _fields(data, 0, len(data)):
        if tag == _CONTEXT:
            field = bytes([tag]) + _varint(end - begin) + bytes(data[begin:end])
            picked.context.update(parse(field)[0])
        elif tag == _FEATURE_LISTS:
            for entry in _fields(data, begin, end):
                if entry.tag == _ENTRY:
                    _pick_from_entry(data, entry, wanted, picked)
    return picked


def _pick_from_entry(data: memoryview, entry: _Field, wanted: Mapping[str, Iterable[int]], picked: Picked) -> None:
    """Adds what is wanted from an entry of the map of feature lists."""
    fields = {field.tag: field for field in _fields(data, entry.begin, entry.end)}
    absent = _Field(0, 0, 0)
    key, value = fields.get(_ENTRY_KEY, absent), fields.get(_ENTRY_VALUE, absent)
    name = bytes(data[key.begin : key.end]).decode("utf-8", "replace")
    if name not in wanted:
        return
    if picked.values[name] or picked.lengths[name]:
        raise CorruptShard(f"record holds {name} twice")
    features = [field for field in _fields(data, value.begin, value.end) if field.tag == _FEATURE]
    picked.lengths[name] = len(features)
    for place in wanted[name]:
        if place < len(features):
            picked.values[name][place] = _bytes_of(data, features[place], name)


def _bytes_of(data: memoryview, feature: _Field, name: str) -> memoryview:
    """The bytes of a feature that holds one string of bytes."""
    lists = list(_fields(data, feature.begin, feature.end))
    holds_bytes = len(lists) == 1 and lists[0].tag == _BYTES_LIST
    values = list(_fields(data, lists[0].begin, lists[0].end)) if holds_bytes else []
    if len(values) != 1 or values[0].tag != _VALUE:
        raise CorruptShard(f"{name} holds something else than one string of bytes for each frame")
    return data[values[0].begin : values[0].end]


def _fields(data: memoryview, begin: int, end: int) -> Iterator[_Field]:
    """The fields of a message that all have a length."""
    at = begin
    while at < end:
        tag, length, shift = data[at], 0, 0
        if tag & 7 != 2 or tag & 0x80:
            raise CorruptShard(f"record is not a SequenceExample: tag {tag} at byte {at}")
        while True:
            at += 1
            if at >= end or shift > 28:
                raise CorruptShard("record is not a SequenceExample: it ends within a field's length")
            byte = data[at]
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        at += 1
        if length > end - at:
            raise CorruptShard(f"record is not a SequenceExample: a field of {length} bytes where {end - at} are left")
        yield _Field(tag, at, at + length)
        at += length


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(digits + bytes([number]))
