"""Parquet tables by schema: what is written is read back, and what is something else is refused."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinetics_prep import schemas
from kinetics_prep.errors import CorruptShard
from kinetics_prep.storage import tables

NAMES = ("plan", "ledger", "download", "predictions")
VALUES = {
    "string": "é a",
    "int64": 2**40,
    "float64": 0.1,
    "bool": True,
    "list<string>": ["a", ""],
    "list<float32>": [0.5, -1.0],
}


def fields(name: str) -> list[dict]:
    return schemas.load(name)["fields"]


def row(name: str, **changes) -> dict:
    return {field["name"]: VALUES[field["type"]] for field in fields(name)} | changes


def plan_rows(count: int) -> list[dict]:
    return [row("plan", shard=k // 2, index=k % 2, clip_id=f"clip{k}") for k in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_read_back_as_they_were_written(name, tmp_path):
    rows = [row(name), row(name, **{field["name"]: None for field in fields(name) if field["nullable"]})]
    tables.write(tmp_path / "t.parquet", name, [rows])
    assert list(tables.read(tmp_path / "t.parquet", name)) == rows


@pytest.mark.parametrize("name", NAMES)
def test_a_column_that_must_be_there_is_never_null(name, tmp_path):
    """But for lists, which Arrow does not check."""
    for field in (field for field in fields(name) if not field["nullable"] and "list" not in field["type"]):
        with pytest.raises((pa.ArrowInvalid, ValueError)):
            tables.write(tmp_path / "t.parquet", name, [[row(name, **{field["name"]: None})]])


def test_every_type_of_a_schema_has_its_arrow_type():
    assert {field["type"] for name in NAMES for field in fields(name)} <= set(tables._ARROW_TYPES)
    schema = tables.arrow_schema("plan")
    assert (schema.field("shard").type, schema.field("clip_id").type) == (pa.int64(), pa.string())
    assert (schema.field("shard").nullable, schema.field("label").nullable) == (False, True)


def test_row_groups_are_those_that_were_given_and_are_read_alone(tmp_path):
    path = tmp_path / "plan.parquet"
    groups = [plan_rows(4)[:2], plan_rows(5)[2:], plan_rows(1)]
    tables.write(path, "plan", groups)
    assert pq.ParquetFile(path).num_row_groups == 3
    for number, group in enumerate(groups):
        assert list(tables.read(path, "plan", number)) == group
    assert list(tables.read(path, "plan")) == [row for group in groups for row in group]


def test_some_columns_are_read_alone(tmp_path):
    tables.write(tmp_path / "t.parquet", "plan", [plan_rows(3)])
    assert list(tables.read(tmp_path / "t.parquet", "plan", columns=("clip_id", "shard"))) == [
        {"shard": k // 2, "clip_id": f"clip{k}"} for k in range(3)
    ]


def test_the_highest_value_of_a_row_group_is_known_from_the_footer(tmp_path):
    path = tmp_path / "plan.parquet"
    tables.write(path, "plan", [plan_rows(4), [row("plan", shard=9, index=0, clip_id="x")]])
    assert [tables.highest(path, "shard", group) for group in (0, 1)] == [1, 9]
    with pytest.raises(CorruptShard, match="has no row group 2 with a column shard"):
        tables.highest(path, "shard", 2)
    with pytest.raises(CorruptShard, match="has no row group 0 with a column shape"):
        tables.highest(path, "shape", 0)


def test_a_footer_without_statistics_is_refused(tmp_path):
    path = tmp_path / "plan.parquet"
    pq.write_table(pa.Table.from_pylist(plan_rows(2), schema=tables.arrow_schema("plan")), path, write_statistics=False)
    with pytest.raises(CorruptShard, match="does not say what is highest in its column shard"):
        tables.highest(path, "shard", 0)


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    path = tmp_path / "plan.parquet"
    tables.write(path, "plan", [plan_rows(2)])
    assert tables.highest(path, "shard", 0) == 0
    tables.write(tmp_path / "other.parquet", "plan", [plan_rows(8)])
    stat = path.stat()
    os.replace(tmp_path / "other.parquet", path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert tables.highest(path, "shard", 0) == 3
    assert len(list(tables.read(path, "plan"))) == 8


def test_metadata_of_the_file_are_kept_and_each_column_has_its_meaning(tmp_path):
    about = {"model": "i3d", "labels": json.dumps(["a"])}
    tables.write(tmp_path / "t.parquet", "predictions", [[row("predictions")]], about)
    with tables.opened(tmp_path / "t.parquet", "predictions") as file:
        metadata = file.schema_arrow.metadata
        assert (metadata[b"model"], metadata[b"labels"]) == (b"i3d", b'["a"]')
        for field in fields("predictions"):
            assert file.schema_arrow.field(field["name"]).metadata[b"meaning"].decode() == field["meaning"]


def flipped(data: bytes) -> bytes:
    return data[:60] + bytes([data[60] ^ 1]) + data[61:]


DAMAGE = {
    "empty": lambda data: b"",
    "cut short": lambda data: data[: len(data) // 2],
    "no Parquet": lambda data: b"PK" + data[2:-4] + b"no!!",
    "a flipped bit": flipped,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_table_is_refused_in_words(damage, tmp_path):
    path = tmp_path / "plan.parquet"
    tables.write(path, "plan", [plan_rows(50)])
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(CorruptShard, match=r"plan\.parquet"):
        list(tables.read(path, "plan"))


@pytest.mark.parametrize("change", ["a column less", "a column more", "another order", "another type", "another table"])
def test_a_table_with_other_columns_is_refused(change, tmp_path):
    table = pa.Table.from_pylist(plan_rows(2), schema=tables.arrow_schema("plan"))
    changed = {
        "a column less": lambda: table.drop_columns(["label"]),
        "a column more": lambda: table.append_column("shell", pa.array(["rm", "rm"])),
        "another order": lambda: table.select(table.column_names[::-1]),
        "another type": lambda: table.set_column(0, "shard", pa.array([0.0, 1.0])),
        "another table": lambda: pa.table({"a": [1]}),
    }[change]()
    pq.write_table(changed, tmp_path / "t.parquet")
    with pytest.raises(CorruptShard, match=r"t\.parquet has other columns than schemas/plan\.json"):
        list(tables.read(tmp_path / "t.parquet", "plan"))


def test_a_missing_table_is_no_damage(tmp_path):
    with pytest.raises((FileNotFoundError, CorruptShard)):
        list(tables.read(tmp_path / "t.parquet", "plan"))
