import dataclasses
import json
import types
import typing

import jsonschema
import pyarrow as pa
import pytest

from kinetics_prep import schemas
from kinetics_prep.annotations.planned import PlannedRow, RefusedRow
from kinetics_prep.dataset import documents
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.errors import REASONS
from kinetics_prep.records.features import FEATURES
from kinetics_prep.runs.download_ledger import DownloadRow
from kinetics_prep.storage import tables

FILES = sorted(path.stem for path in schemas.FOLDER.glob("*.json"))

TABLES = {"plan": RefusedRow, "ledger": LedgerRow, "download": DownloadRow}

ARROW_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def described(name: str) -> list[dict]:
    """The fields or features of a schema that lists them; nothing for a JSON Schema."""
    content = schemas.load(name)
    return content.get("fields", content.get("features", []))


def test_the_schemas_are_those_the_package_names():
    assert FILES == ["dataset", "download", "ledger", "marker", "plan", "predictions", "record"]
    for name in FILES:
        assert f'"{name}"' in schemas.load.__doc__


@pytest.mark.parametrize("name", FILES)
def test_a_schema_says_what_it_describes(name):
    content = schemas.load(name)
    assert content["title"].strip()
    assert content["description"].strip()


@pytest.mark.parametrize("name", FILES)
def test_a_schema_has_a_version(name):
    content = schemas.load(name)
    assert content["version"] == (documents.VERSION if "properties" in content else 1)


@pytest.mark.parametrize("name", ["record", "predictions", *TABLES])
def test_every_field_has_a_meaning_and_a_name_of_its_own(name):
    fields = described(name)
    assert len(fields) > 8
    assert [field["name"] for field in fields if not field["meaning"].strip().endswith(".")] == []
    for key in ("name", "column"):
        values = [field[key] for field in fields if key in field]
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("name", ["dataset", "marker"])
def test_a_json_schema_is_one_and_admits_what_a_newer_version_adds(name):
    content = schemas.load(name)
    jsonschema.Draft202012Validator.check_schema(content)
    assert set(content["required"]) < set(content["properties"])
    assert "additionalProperties" not in content


def test_features_are_of_types_and_places_that_the_description_names():
    assert {feature.where for feature in FEATURES.values()} == {"context", "feature_list"}
    assert {feature.type for feature in FEATURES.values()} == {"bytes", "text", "int64", "float"}
    for feature in FEATURES.values():
        assert feature.column == feature.name.replace("/", "_").lower()


def python_type(annotation) -> tuple[type, bool]:
    """(type, whether None is allowed) of a dataclass field."""
    kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    (kind,) = set(kinds) - {types.NoneType}
    return kind, types.NoneType in kinds


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_the_fields_of_the_dataclass(name):
    hints = typing.get_type_hints(TABLES[name])
    if name == "plan":  # the table holds both kinds of rows: those to be prepared have no reason
        hints |= {"refusal_reason": str | None, "refusal_message": str | None}
    fields = {field.name: python_type(hints[field.name]) for field in dataclasses.fields(TABLES[name])}
    schema = tables.arrow_schema(name)
    assert {column.name: (column.type, column.nullable) for column in schema} == {
        field: (ARROW_TYPES[kind], optional) for field, (kind, optional) in fields.items()
    }


def test_columns_of_the_plan_stand_in_the_order_of_the_dataclass():
    names = [field.name for field in dataclasses.fields(RefusedRow)]
    assert tables.arrow_schema("plan").names == names
    assert names[:-2] == [field.name for field in dataclasses.fields(PlannedRow)]


def test_rows_of_the_ledger_are_told_in_the_order_of_the_columns():
    required = {
        field.name: "refused" for field in dataclasses.fields(LedgerRow) if field.default is dataclasses.MISSING
    }
    row = LedgerRow(**required, reason=REASONS[0])
    assert list(row.as_dict()) == tables.arrow_schema("ledger").names


def test_rows_of_a_ledger_of_downloads_are_told_in_the_order_of_the_columns():
    row = DownloadRow("a_0_1", "a", "waving", "train", 0.0, 1.0, "rows.csv", 2, status="at_hand")
    assert list(row.as_dict()) == tables.arrow_schema("download").names


@pytest.mark.parametrize("name", ["predictions", *TABLES])
def test_a_column_bears_its_meaning(name):
    meanings = {field["name"]: field["meaning"] for field in described(name)}
    for column in tables.arrow_schema(name):
        assert column.metadata[b"meaning"].decode() == meanings[column.name]


def test_the_files_read_well_in_an_editor():
    for name in FILES:
        text = (schemas.FOLDER / f"{name}.json").read_text("utf-8")
        assert json.loads(text)
        assert text.endswith("\n")


def test_a_value_that_does_not_match_is_refused_by_the_most_telling_mismatch():
    with pytest.raises(jsonschema.ValidationError, match="'rows' is a required property"):
        schemas.validate({key: 0 for key in schemas.load("marker")["properties"] if key != "rows"}, "marker")


def test_a_schema_is_checked_once_and_kept():
    assert schemas._validator("marker") is schemas._validator("marker")
    assert schemas._validator("marker").schema is schemas.load("marker")


def test_schemas_are_found_without_touching_the_path_of_the_package():
    import kinetics_prep

    assert len(kinetics_prep.__path__) == 1
