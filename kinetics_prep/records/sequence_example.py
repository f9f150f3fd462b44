"""`tf.train.SequenceExample` without TensorFlow: the same messages, field for field, by protobuf.

Source: tensorflow/core/example/{example,feature}.proto. The descriptors are built here, in a pool
of their own, because generated modules are tied to one release of protobuf, and because a second
definition of TensorFlow's names in the default pool would clash with TensorFlow's.
"""

from collections.abc import Iterable, Iterator, Mapping

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from kinetics_prep.errors import CorruptShard

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "kinetics_prep"


def _add(parent, name: str, *fields: tuple[str, int, bool]):
    """A message whose fields are (name, type or message name, repeated), numbered from 1."""
    made = parent.add(name=name)
    for number, (field_name, kind, repeated) in enumerate(fields, 1):
        label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        field = made.field.add(name=field_name, number=number, label=label)
        if isinstance(kind, str):
            field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
        else:
            field.type = kind
    return made


def _map(parent, field_name: str, value: str) -> None:
    entry_name = field_name.title().replace("_", "") + "Entry"
    entry = _add(parent.nested_type, entry_name, ("key", _Field.TYPE_STRING, False), ("value", value, False))
    entry.options.map_entry = True
    field = parent.field.add(name=field_name, number=1, label=_Field.LABEL_REPEATED, type=_Field.TYPE_MESSAGE)
    field.type_name = f".{_PACKAGE}.{parent.name}.{entry_name}"


def _message_class():
    file = descriptor_pb2.FileDescriptorProto(name="sequence_example.proto", package=_PACKAGE, syntax="proto3")
    messages = file.message_type
    _add(messages, "BytesList", ("value", _Field.TYPE_BYTES, True))
    _add(messages, "FloatList", ("value", _Field.TYPE_FLOAT, True))
    _add(messages, "Int64List", ("value", _Field.TYPE_INT64, True))
    kinds = (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List"))
    feature = _add(messages, "Feature", *((name, kind, False) for name, kind in kinds))
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    _map(_add(messages, "Features"), "feature", "Feature")
    _add(messages, "FeatureList", ("feature", "Feature", True))
    _map(_add(messages, "FeatureLists"), "feature_list", "FeatureList")
    _add(messages, "SequenceExample", ("context", "Features", False), ("feature_lists", "FeatureLists", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.SequenceExample"))


SequenceExample = _message_class()

_KINDS = {"bytes": "bytes_list", "float": "float_list", "int64": "int64_list"}


def serialize(context: Mapping, feature_lists: Mapping) -> bytes:
    """Bytes of a SequenceExample; the same input gives the same bytes.

    Args:
      context: name -> (kind, value), kind one of "bytes", "float", "int64".
      feature_lists: name -> (kind, values), one feature of one value for each.
    """
    example = SequenceExample()
    for name, (kind, value) in context.items():
        getattr(example.context.feature[name], _KINDS[kind]).value.append(value)
    for name, (kind, values) in feature_lists.items():
        features = example.feature_lists.feature_list[name].feature
        for value in values:
            getattr(features.add(), _KINDS[kind]).value.append(value)
    # Maps have no order of their own; "deterministic" sorts them by key.
    return example.SerializeToString(deterministic=True)


def parse(data: bytes) -> tuple[dict[str, list], dict[str, list]]:
    """The inverse of `serialize`: (context, feature lists), each name -> list of values.

    Raises:
      CorruptShard: if these bytes are no SequenceExample.
    """
    example = SequenceExample()
    try:
        example.ParseFromString(data)
    except message.DecodeError as error:
        raise CorruptShard(f"record is not a SequenceExample: {error}") from None
    context = {name: _values(feature) for name, feature in example.context.feature.items()}
    lists = {
        name: [value for feature in features.feature for value in _values(feature)]
        for name, features in example.feature_lists.feature_list.items()
    }
    return context, lists


def _values(feature) -> list:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []


# Reading a part ---------------------------------------------------------------------------------

_CONTEXT, _FEATURE_LISTS, _ENTRY_KEY, _ENTRY_VALUE, _FEATURE, _BYTES_LIST = 0x0A, 0x12, 0x0A, 0x12, 0x0A, 0x0A
"""Tags of the wire format: field number << 3 | 2, for a field of some length."""


def pick(data: memoryview, wanted: Mapping[str, Iterable[int]]) -> tuple[dict[str, list], dict[str, dict], dict]:
    """The context, and of some feature lists of bytes some values, without looking at the rest.

    A record of 10 s is megabytes of images, of which a reader wants a quarter: `parse` would copy all of them.

    Args:
      data: the record.
      wanted: name of a feature list -> places in it.

    Returns:
      The context as `parse` gives it; name -> {place: bytes}, which are parts of `data` and no copies; name -> length
      of the list. A list that the record lacks is empty, and a place that it lacks is left out.

    Raises:
      CorruptShard: if these bytes are no SequenceExample, or a wanted value is not one string of bytes.
    """
    context, values, lengths = {}, {name: {} for name in wanted}, dict.fromkeys(wanted, 0)
    for tag, at, end in _fields(data, 0, len(data)):
        if tag == _CONTEXT:
            context |= parse(b"\x0a" + _varint(end - at) + bytes(data[at:end]))[0]
        elif tag == _FEATURE_LISTS:
            for _, entry, entry_end in _fields(data, at, end):
                fields = {tag: (at, end) for tag, at, end in _fields(data, entry, entry_end)}
                key = fields.get(_ENTRY_KEY, (0, 0))
                name = bytes(data[key[0] : key[1]]).decode("utf-8", "replace")
                if name in wanted:
                    if values[name] or lengths[name]:
                        raise CorruptShard(f"record holds {name} twice")
                    places = [place for _, *place in _fields(data, *fields.get(_ENTRY_VALUE, (0, 0)))]
                    lengths[name] = len(places)
                    chosen = (place for place in wanted[name] if place < len(places))
                    values[name] = {place: _one_value(data, *places[place], name) for place in chosen}
    return context, values, lengths


def _one_value(data: memoryview, at: int, end: int, name: str) -> memoryview:
    lists = list(_fields(data, at, end))
    values = list(_fields(data, *lists[0][1:])) if len(lists) == 1 and lists[0][0] == _BYTES_LIST else []
    if len(values) != 1:
        raise CorruptShard(f"{name} holds something else than one string of bytes for each frame")
    return data[values[0][1] : values[0][2]]


def _fields(data: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(tag, begin, end) of each field of a message whose fields all have a length."""
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
        yield tag, at, at + length
        at += length


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(digits + bytes([number]))
