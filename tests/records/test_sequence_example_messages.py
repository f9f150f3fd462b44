"""The messages that we build are those of tensorflow/core/example/{example,feature}.proto, field for field."""

import pytest

from kinetics_prep.records import sequence_example

# Message -> (field name, number, type, is repeated), as in the .proto files. A map is repeated keys and values.
MESSAGES = {
    "BytesList": [("value", 1, "bytes", True)],
    "FloatList": [("value", 1, "float", True)],
    "Int64List": [("value", 1, "int64", True)],
    "Feature": [
        ("bytes_list", 1, "BytesList", False),
        ("float_list", 2, "FloatList", False),
        ("int64_list", 3, "Int64List", False),
    ],
    "Features": [("feature", 1, "Features.FeatureEntry", True)],
    "Features.FeatureEntry": [("key", 1, "string", False), ("value", 2, "Feature", False)],
    "FeatureList": [("feature", 1, "Feature", True)],
    "FeatureLists": [("feature_list", 1, "FeatureLists.FeatureListEntry", True)],
    "FeatureLists.FeatureListEntry": [("key", 1, "string", False), ("value", 2, "FeatureList", False)],
    "SequenceExample": [("context", 1, "Features", False), ("feature_lists", 2, "FeatureLists", False)],
}

TYPES = {2: "float", 3: "int64", 9: "string", 12: "bytes"}
"""The numbers of google.protobuf.FieldDescriptorProto.Type."""


def fields(descriptor) -> list[tuple[str, int, str, bool]]:
    found = []
    for field in descriptor.fields:
        kind = field.message_type.full_name.split(".", 1)[1] if field.message_type else TYPES[field.type]
        found.append((field.name, field.number, kind, field.is_repeated))
    return found


def descriptors(message_class) -> dict:
    """Every message of the file, those within others too, by name."""
    found = {}
    for descriptor in message_class.DESCRIPTOR.file.message_types_by_name.values():
        for each in (descriptor, *descriptor.nested_types):
            found[each.full_name.split(".", 1)[1]] = each
    return found


@pytest.fixture(scope="module")
def built():
    return descriptors(sequence_example._message_class())


def test_there_are_these_messages_and_no_other(built):
    assert built.keys() == MESSAGES.keys()


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_the_fields_of_tensorflows(name, built):
    assert fields(built[name]) == MESSAGES[name]


def test_a_feature_is_one_kind_of_list(built):
    (choice,) = built["Feature"].oneofs
    assert choice.name == "kind"
    assert [field.name for field in choice.fields] == ["bytes_list", "float_list", "int64_list"]


@pytest.mark.parametrize("name", ["Features.FeatureEntry", "FeatureLists.FeatureListEntry"])
def test_entries_are_those_of_a_map(name, built):
    assert built[name].GetOptions().map_entry


def test_numbers_are_packed_as_proto3_does(built):
    message = sequence_example._message_class()()
    message.context.feature["a"].int64_list.value.extend([1, 2, 300])
    # Field 1 (context), length; field 1 (entry); key "a"; value: field 3 (int64_list), field 1 packed: 01 02 ac 02.
    assert message.SerializeToString() == bytes.fromhex("0a0f0a0d0a016112081a060a0401 02ac02")


def test_tensorflow_reads_what_we_write():
    tf = pytest.importorskip("tensorflow", reason="the extra `train` is not installed")
    data = sequence_example.serialize(
        {"a": ("int64", 300), "b": ("float", 0.5), "c": ("bytes", b"x")}, {"d": ("bytes", [b"y", b""])}
    )
    theirs = tf.train.SequenceExample.FromString(data)
    assert theirs.context.feature["a"].int64_list.value == [300]
    assert theirs.context.feature["b"].float_list.value == [0.5]
    assert theirs.context.feature["c"].bytes_list.value == [b"x"]
    assert [each.bytes_list.value[0] for each in theirs.feature_lists.feature_list["d"].feature] == [b"y", b""]
    assert theirs.SerializeToString(deterministic=True) == data
