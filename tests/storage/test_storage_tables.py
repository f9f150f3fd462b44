"""Tables by schema: types, nulls, row groups; what is damaged or of another kind is refused; footers are cached."""

import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinetics_prep import schemas
from kinetics_prep.errors import CorruptShard, NewerFormat
from kinetics_prep.storage import tables

NAMES = ("plan", "ledger", "download", "predictions")

TYPES = {
    "string": "string",
    "int64": "int64",
    "float64": "double",
    "bool": "bool",
    "list<string>": "list<item: string>",
    "list<float32>": "list<item: float>",
}

VALUES = {
    "string": "été, \0 日本",
    "int64": -(1 << 62),
    "float64": 0.1,
    "bool": True,
    "list<string>": ["a", ""],
    "list<float32>": [0.5, -2.0],
}


def full_row(name: str) -> dict:
    """A row with a value in every column."""
    return {field["name"]: VALUES[field["type"]] for field in schemas.load(name)["fields"]}


def plan_rows(shards) -> list[dict]:
    return [full_row("plan") | {"shard": shard, "index": index} for index, shard in enumerate(shards)]


def column(path, name: str, **options) -> list:
    return [row[name] for row in tables.read(path, "plan", **options)]


# Schemas


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_has_the_columns_types_nulls_and_meanings_of_its_file(name):
    fields = schemas.load(name)["fields"]
    schema = tables.arrow_schema(name)
    assert [(f.name, str(f.type), f.nullable) for f in schema] == [
        (field["name"], TYPES[field["type"]], field["nullable"]) for field in fields
    ]
    assert [f.metadata for f in schema] == [{b"meaning": field["meaning"].encode()} for field in fields]


@pytest.mark.parametrize("name", NAMES)
def test_every_value_comes_back_with_its_type(tmp_path, name):
    row = full_row(name)
    tables.write(tmp_path / "table", name, [[row]])
    (read,) = tables.read(tmp_path / "table", name)
    assert read == row
    assert {key: type(value) for key, value in read.items()} == {key: type(value) for key, value in row.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_null_or_a_missing_column_is_null_where_the_schema_allows_it(tmp_path, name):
    nullable = [field["name"] for field in schemas.load(name)["fields"] if field["nullable"]]
    row = full_row(name)
    with_nulls = row | dict.fromkeys(nullable)
    missing = {key: value for key, value in row.items() if key not in nullable}
    tables.write(tmp_path / "table", name, [[with_nulls, missing]])
    assert list(tables.read(tmp_path / "table", name)) == [with_nulls] * 2


@pytest.mark.parametrize("name", NAMES)
def test_a_null_where_the_schema_forbids_it_is_not_written(tmp_path, name):
    required = next(field["name"] for field in schemas.load(name)["fields"] if not field["nullable"])
    with pytest.raises(pa.ArrowException, match=required):
        tables.write(tmp_path / "table", name, [[full_row(name) | {required: None}]])


@pytest.mark.parametrize("changed", [{"shard": "one"}, {"label": 5}, {"start_seconds": "x"}])
def test_a_value_of_another_type_is_not_written(tmp_path, changed):
    with pytest.raises(pa.ArrowException):
        tables.write(tmp_path / "table", "plan", [[full_row("plan") | changed]])


def test_other_readers_see_the_types_and_the_metadata(tmp_path):
    tables.write(tmp_path / "table", "plan", [plan_rows([0])], {"digest": "a1"})
    schema = pq.read_schema(tmp_path / "table")
    assert schema.names == tables.arrow_schema("plan").names and schema.types == tables.arrow_schema("plan").types
    assert schema.metadata == {b"digest": b"a1", b"kinetics_prep/version": b"1"}
    assert [field.nullable for field in schema] == [field["nullable"] for field in schemas.load("plan")["fields"]]


# Row groups


def test_each_list_is_a_row_group_and_can_be_read_alone(tmp_path):
    path = tmp_path / "table"
    tables.write(path, "plan", (plan_rows(shards) for shards in ([0, 0, 1], [2], [3, 4])))
    assert pq.ParquetFile(path).num_row_groups == 3
    assert column(path, "shard") == [0, 0, 1, 2, 3, 4]
    assert [column(path, "shard", row_group=group) for group in range(3)] == [[0, 0, 1], [2], [3, 4]]


def test_a_table_without_rows_is_read_as_none(tmp_path):
    for number, groups in enumerate(([], [[]])):
        tables.write(tmp_path / str(number), "plan", groups)
        assert list(tables.read(tmp_path / str(number), "plan")) == []


def test_only_the_columns_asked_for_are_read(tmp_path):
    tables.write(tmp_path / "table", "plan", [plan_rows([4, 5])])
    rows = tables.read(tmp_path / "table", "plan", columns=("shard", "index"))
    assert list(rows) == [{"shard": 4, "index": 0}, {"shard": 5, "index": 1}]


def test_groups_are_written_as_they_come_and_not_gathered_first(tmp_path):
    sizes = []

    def groups():
        for shard in range(4):
            sizes.append((tmp_path / "table").stat().st_size)
            yield plan_rows([shard] * 100)

    tables.write(tmp_path / "table", "plan", groups())
    assert sizes == sorted(set(sizes))  # the file has grown before the next group is asked for


# The highest value of a column


def test_the_highest_value_is_that_of_the_row_group(tmp_path):
    path = tmp_path / "table"
    tables.write(path, "plan", [plan_rows([3, 9, 1]), plan_rows([2, 2])])
    assert [tables.highest(path, "shard", group) for group in (0, 1)] == [9, 2]
    assert [tables.highest(path, "index", group) for group in (0, 1)] == [2, 1]
    assert tables.highest(path, "start_seconds", 0) == 0.1


@pytest.mark.parametrize("name, group", [("shard", 1), ("shard", 7), ("no_such_column", 0)])
def test_a_row_group_or_column_that_is_missing_is_corruption(tmp_path, name, group):
    tables.write(tmp_path / "table", "plan", [plan_rows([0])])
    with pytest.raises(CorruptShard, match=f"has no row group {group} with a column {name}"):
        tables.highest(tmp_path / "table", name, group)


def test_a_footer_without_statistics_is_corruption(tmp_path):
    table = pa.Table.from_pylist(plan_rows([0]), schema=tables.arrow_schema("plan"))
    pq.write_table(table, tmp_path / "table", write_statistics=False)
    with pytest.raises(CorruptShard, match="does not say the highest value of its column shard"):
        tables.highest(tmp_path / "table", "shard", 0)


def test_statistics_without_values_are_corruption(tmp_path):
    tables.write(tmp_path / "table", "ledger", [[full_row("ledger") | {"reason": None}]])
    with pytest.raises(CorruptShard, match="does not say the highest value of its column reason"):
        tables.highest(tmp_path / "table", "reason", 0)


# Footers are cached, and only as long as the file is the same


def same_size(path, *shards: int) -> int:
    tables.write(path, "plan", [plan_rows(shards)])
    return path.stat().st_size


def test_a_file_that_replaced_another_is_read_by_its_own_footer(tmp_path):
    path = tmp_path / "table"
    same_size(path, 1, 2)
    assert tables.highest(path, "shard", 0) == 2
    same_size(tmp_path / "new", 1, 2, 3)
    os.replace(tmp_path / "new", path)
    assert tables.highest(path, "shard", 0) == 3
    assert column(path, "shard") == [1, 2, 3]


@pytest.mark.parametrize("how", ["inode", "time", "size"])
def test_each_sign_of_another_file_counts_by_itself(tmp_path, how):
    path, other = tmp_path / "table", tmp_path / "other"
    size_bytes = same_size(path, 1, 5)
    assert tables.highest(path, "shard", 0) == 5
    before = path.stat()
    if how == "size":
        assert same_size(other, *range(1, 60)) != size_bytes
        path.write_bytes(other.read_bytes())  # the same inode
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert tables.highest(path, "shard", 0) == 59
        return
    assert same_size(other, 1, 6) == size_bytes
    if how == "inode":
        os.replace(other, path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_ino != before.st_ino
    else:
        path.write_bytes(other.read_bytes())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        assert path.stat().st_ino == before.st_ino
    assert tables.highest(path, "shard", 0) == 6


def test_an_unchanged_file_has_its_footer_read_once(tmp_path, monkeypatch):
    path = tmp_path / "table"
    tables.write(path, "plan", [plan_rows([0]), plan_rows([1])])
    footers = []
    read_metadata = pq.read_metadata
    monkeypatch.setattr(pq, "read_metadata", lambda path: footers.append(path) or read_metadata(path))
    for _ in range(3):
        assert tables.highest(path, "shard", 1) == 1
        assert column(path, "shard", row_group=1) == [1]
    assert footers == [path]


# Damage


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not Parquet, but longer than a footer", b"PAR1" + bytes(50)])
def test_what_is_not_parquet_is_corruption(tmp_path, content):
    path = tmp_path / "table"
    path.write_bytes(content)
    for action in (lambda: list(tables.read(path, "plan")), lambda: tables.highest(path, "shard", 0)):
        with pytest.raises(CorruptShard, match=f"{path} is not a Parquet file"):
            action()


def test_a_missing_file_and_a_folder_are_corruption(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(CorruptShard, match="is not a Parquet file"):
            list(tables.read(path, "plan"))


def test_a_file_cut_short_is_corruption_wherever_it_is_cut(tmp_path):
    path = tmp_path / "table"
    tables.write(path, "plan", [plan_rows(range(50))])
    data = path.read_bytes()
    for length in range(0, len(data), max(1, len(data) // 40)):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptShard):
            list(tables.read(path, "plan"))


def test_a_changed_bit_never_gives_other_values(tmp_path):
    """Random numbers do not shrink: without checksums of pages, a changed bit would be a changed number."""
    path, draw = tmp_path / "table", random.Random(0)
    rows = [row | {"start_seconds": draw.random()} for row in plan_rows(range(300))]
    tables.write(path, "plan", [rows])
    good = path.read_bytes()
    chunk = next(
        chunk
        for chunk in (pq.read_metadata(path).row_group(0).column(k) for k in range(len(rows[0])))
        if chunk.path_in_schema == "start_seconds"
    )
    first, refusals = chunk.dictionary_page_offset, 0
    for offset in range(first, first + chunk.total_compressed_size, 29):
        data = bytearray(good)
        data[offset] ^= 1
        path.write_bytes(data)
        try:
            assert list(tables.read(path, "plan")) == rows
        except CorruptShard:
            refusals += 1
    assert refusals > 50


def test_text_that_is_not_utf8_is_corruption(tmp_path):
    schema = tables.arrow_schema("plan")
    table = pa.Table.from_pylist(plan_rows([0]), schema=schema)
    bad = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    table = table.set_column(schema.get_field_index("label"), schema.field("label"), bad)
    pq.write_table(table, tmp_path / "table")
    with pytest.raises(CorruptShard):
        list(tables.read(tmp_path / "table", "plan"))


# Tables of another schema


def changed_schema(how: str) -> pa.Schema:
    schema = tables.arrow_schema("plan")
    if how == "a column more":
        return schema.append(pa.field("more", pa.int64()))
    if how == "a column less":
        return schema.remove(len(schema) - 1)
    if how == "another type":
        return schema.set(schema.get_field_index("shard"), pa.field("shard", pa.int32()))
    if how == "another name":
        return schema.set(schema.get_field_index("shard"), pa.field("shards", pa.int64()))
    if how == "twice":
        return schema.append(schema.field("shard"))
    return pa.schema(list(schema)[::-1])


@pytest.mark.parametrize(
    "how, match",
    [
        ("another type", "its column shard is of type int32, expected int64"),
        ("another name", "has no column shard"),
        ("twice", "its column shard is of type int64, int64, expected int64"),
    ],
)
def test_a_required_column_that_is_not_as_it_should_be_is_named(tmp_path, how, match):
    pq.write_table(pa.Table.from_pylist([], schema=changed_schema(how)), tmp_path / "table")
    with pytest.raises(CorruptShard, match=match):
        list(tables.read(tmp_path / "table", "plan"))


@pytest.mark.parametrize("how", ["a column more", "a column less", "another order"])
def test_columns_are_read_by_name(tmp_path, how):
    row = {field.name: 7 if field.type == pa.int64() else "a" for field in tables.arrow_schema("plan")}
    row |= {"start_seconds": 0.5, "end_seconds": None, "refusal_message": None}
    pq.write_table(pa.Table.from_pylist([row], schema=changed_schema(how)), tmp_path / "table")
    assert list(tables.read(tmp_path / "table", "plan")) == [row]
    assert list(tables.read(tmp_path / "table", "plan", columns=("refusal_message",))) == [{"refusal_message": None}]


@pytest.mark.parametrize(
    "text, error", [("2", NewerFormat), ("0", CorruptShard), ("-1", CorruptShard), ("x", CorruptShard)]
)
def test_the_number_of_the_format_is_read(tmp_path, text, error):
    schema = tables.arrow_schema("plan").with_metadata({tables.VERSION_KEY: text})
    pq.write_table(pa.Table.from_pylist([], schema=schema), tmp_path / "table")
    with pytest.raises(error, match=f"table has format '?{text}"):
        list(tables.read(tmp_path / "table", "plan"))


def test_an_error_of_arrow_while_a_table_is_open_is_corruption_and_others_pass(tmp_path):
    tables.write(tmp_path / "table", "plan", [plan_rows([0])])
    with pytest.raises(CorruptShard), tables.opened(tmp_path / "table", "plan"):
        raise pa.ArrowInvalid("a page does not match its checksum")
    with pytest.raises(ZeroDivisionError), tables.opened(tmp_path / "table", "plan"):
        raise ZeroDivisionError
    with tables.opened(tmp_path / "table", "plan") as file:
        assert file.metadata.num_rows == 1


def nested() -> pa.Array:
    return pa.array([{"shard": 99}])


@pytest.mark.parametrize("name", NAMES)
def test_unknown_columns_are_passed_over_whatever_they_are_called(tmp_path, name):
    row, path = full_row(name), tmp_path / "table"
    tables.write(path, name, [[row]])
    first = next(iter(row))
    table = pq.read_table(path).append_column(f"{first}.more", pa.array(["x"])).add_column(0, "more", nested())
    pq.write_table(table, path)
    assert list(tables.read(path, name)) == [row]
    assert list(tables.read(path, name, columns=(first,))) == [{first: row[first]}]


def test_a_nested_column_is_not_taken_for_one_of_its_name(tmp_path):
    path = tmp_path / "table"
    tables.write(path, "plan", [plan_rows([3])])
    pq.write_table(pq.read_table(path).add_column(0, "more", nested()), path)
    assert tables.highest(path, "shard", 0) == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_required_column_without_a_value_is_corruption(tmp_path, name):
    path = tmp_path / "table"
    required = next(field for field in tables.arrow_schema(name) if not field.nullable)
    tables.write(path, name, [[full_row(name)]])
    table = pq.read_table(path)
    place = table.schema.get_field_index(required.name)
    pq.write_table(table.set_column(place, required.name, pa.nulls(1, required.type)), path)
    with pytest.raises(CorruptShard, match=f"column {required.name} lacks 1 values, expected {required.type}"):
        list(tables.read(path, name))
