"""The table of features is the schema's."""

import pyarrow as pa

from kinetics_prep import schemas
from kinetics_prep.records import parquet
from kinetics_prep.records.features import FEATURES


def test_the_table_is_the_schema_file_in_its_order():
    items = schemas.load("record")["features"]
    assert list(FEATURES) == [item["name"] for item in items]
    for item in items:
        feature = FEATURES[item["name"]]
        assert {name: getattr(feature, name) for name in item} == item
        assert feature.is_list == (item["where"] == "feature_list")
        assert feature.kind == {"text": "bytes"}.get(item["type"], item["type"])


def test_names_and_columns_are_unique():
    assert len({feature.column for feature in FEATURES.values()}) == len(FEATURES)


def test_bytes_stand_in_lists_only():
    """A context feature is a number or a text: `FeatureValue` and readers rely on it."""
    assert {feature.type for feature in FEATURES.values() if not feature.is_list} == {"text", "int64", "float"}
    assert {feature.type for feature in FEATURES.values() if feature.is_list} == {"bytes", "int64"}


def test_the_parquet_schema_has_a_column_for_each_feature():
    for field, feature in zip(parquet.SCHEMA, FEATURES.values(), strict=True):
        assert (field.name, field.nullable) == (feature.column, not feature.required)
        assert pa.types.is_list(field.type) == feature.is_list
