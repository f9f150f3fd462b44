"""`tf.train.SequenceExample` without TensorFlow: the same messages, field for field, built with protobuf.

Source: tensorflow/core/example/{example,feature}.proto. The descriptors are built here, in a pool
of their own, because generated modules are tied to one release of protobuf, and because a second
definition of TensorFlow's names in the default pool would clash with TensorFlow's.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from kinetics_prep.errors import CorruptShard

Value: TypeAlias = bytes | int | float
Message: TypeAlias = Any
"""A protobuf message. Its fields, and those of its descriptor, exist only at run time."""

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "kinetics_prep"


def _add(messages: Message, name: str, *fields: tuple[str, int | str, bool]) -> Message:
    """Adds a message whose fields are (name, type or message name, repeated), numbered from 1; returns it."""
    descriptor = messages.add(name=name)
    for number, (field_name, kind, repeated) in enumerate(fields, 1):
        label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        field = descriptor.field.add(name=field_name, number=number, label=label)
        if isinstance(kind, str):
            field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
        else:
            field.type = kind
    return descriptor


def _add_map(parent: Message, field_name: str, value: str) -> None:
    """Adds a field map<string, value> to a message."""
    entry_name = field_name.title().replace("_", "") + "Entry"
    entry = _add(parent.nested_type, entry_name, ("key", _Field.TYPE_STRING, False), ("value", value, False))
    entry.options.map_entry = True
    field = parent.field.add(name=field_name, number=1, label=_Field.LABEL_REPEATED, type=_Field.TYPE_MESSAGE)
    field.type_name = f".{_PACKAGE}.{parent.name}.{entry_name}"


def _message_class() -> type[Message]:
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
    _add_map(_add(messages, "Features"), "feature", "Feature")
    _add(messages, "FeatureList", ("feature", "Feature", True))
    _add_map(_add(messages, "FeatureLists"), "feature_list", "FeatureList")
    _add(messages, "SequenceExample", ("context", "Features", False), ("feature_lists", "FeatureLists", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.SequenceExample"))


SequenceExample = _message_class()

_KINDS = {"bytes": "bytes_list", "float": "float_list", "int64": "int64_list"}


def serialize(
    context: Mapping[str, tuple[str, Value]], feature_lists: Mapping[str, tuple[str, Sequence[Value]]]
) -> bytes:
    """Returns the bytes of a SequenceExample; the same input gives the same bytes.

    Args:
      context: name -> (kind, value). The kind is "bytes", "float" or "int64".
      feature_lists: name -> (kind, values). Each value becomes a feature of one value.
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


def parse(data: bytes) -> tuple[dict[str, list[Value]], dict[str, list[Value]]]:
    """Reads what `serialize` wrote.

    Returns:
      (context, feature lists), each name -> list of values.

    Raises:
      CorruptShard: if these bytes are not a SequenceExample.
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


def _values(feature: Message) -> list[Value]:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []
