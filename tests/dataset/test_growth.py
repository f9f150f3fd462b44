"""The format can grow: what a newer version added is passed over, and what an older one lacks is null."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import prepared
import pyarrow.parquet as pq
import pytest

from kinetics_prep import schemas
from kinetics_prep.cli import CANNOT_GO_ON, OK, main
from kinetics_prep.dataset import documents, layout, status, validate
from kinetics_prep.dataset.prepared import open_dataset
from kinetics_prep.errors import NewerFormat
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.storage import tables
from kinetics_prep.storage.folder_store import FolderStore

TESTS = Path(__file__).parents[1]


def grow(folder: Path, required: bool = False) -> Path:
    """A copy of the schemas that describes more: optional columns and features, or a required column."""
    shutil.copytree(schemas.FOLDER, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name in ("ledger", "plan"):
        column = {"name": "mood", "type": "string", "nullable": not required, "meaning": "Of the clip."}
        edit(folder / f"{name}.json", lambda content, column=column: content["fields"].append(column))
    known = {"required": False, "meaning": "Of the clip."}
    text = {"name": "kinetics_prep/mood", "where": "context", "type": "text", "column": "kinetics_prep_mood"}
    numbers = {"name": "image/mood", "where": "feature_list", "type": "int64", "column": "image_mood"}
    edit(folder / "record.json", lambda content: content["features"].extend([text | known, numbers | known]))
    return folder


def edit(path: Path, change: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def newer(schemas_folder: Path, *command: str) -> subprocess.CompletedProcess:
    """Runs a command of the newer version."""
    program = [sys.executable, str(TESTS / "grown.py"), str(schemas_folder), *command]
    return subprocess.run(program, capture_output=True, text=True)


@pytest.fixture(scope="module")
def grown_schemas(tmp_path_factory) -> Path:
    return grow(tmp_path_factory.mktemp("grown") / "schemas")


@pytest.fixture(scope="module")
def grown(grown_schemas, tmp_path_factory) -> Path:
    """A folder that the newer version prepared."""
    output = tmp_path_factory.mktemp("newer") / "out"
    done = newer(grown_schemas, "prepare", str(output))
    assert done.returncode == 0, done.stderr
    return output


def test_the_newer_version_did_write_more(grown):
    assert json.loads((grown / "dataset.json").read_text())["mood"] == "glad"
    (path, *_) = sorted((grown / "ledger").iterdir())
    assert pq.read_table(path)["mood"].to_pylist()[0] == "glad"
    (path, *_) = sorted((grown / "parquet").iterdir())
    assert {"kinetics_prep_mood", "image_mood"} <= set(pq.read_schema(path).names)
    (path, *_) = sorted((grown / "tfrecord").iterdir())
    assert b"image/mood" in path.read_bytes()


def test_what_a_newer_version_added_is_passed_over(grown, capsys):
    assert list(map(str, validate.problems(validate.open_folder(grown)))) == []
    assert [(each.rows, each.to_go) for each in status.read_status(grown)] == [(5, 0), (4, 0)]
    for command in (["status", str(grown)], ["validate", str(grown)]):
        assert main(command) == OK
    assert "9 clips read back, nothing wrong" in capsys.readouterr().out
    mine = open_dataset(prepared.folder())
    for split in ("train", "val"):
        rows = [row.clip_id for row in open_dataset(grown).ledger(split)]
        for form in ("tfrecord", "parquet"):
            records = list(open_dataset(grown).records(split, form))
            assert records == list(mine.records(split, form))
            index = ClipIndex.open(grown, split, form)
            assert list(index.ids) == rows
            assert [index.record(number) for number in range(len(index))] == records


def test_a_newer_version_reads_what_this_one_wrote(grown_schemas):
    fixtures = (TESTS / "fixtures" / name for name in ("v1_complete", "v1_refreshed"))
    for folder in (prepared.folder(), *fixtures):
        done = newer(grown_schemas, "validate", str(folder))
        assert (done.returncode, "nothing wrong" in done.stdout) == (0, True), done.stdout + done.stderr
        assert newer(grown_schemas, "status", str(folder)).returncode == 0


def test_a_required_column_that_is_missing_is_named(tmp_path):
    done = newer(grow(tmp_path / "schemas", required=True), "status", str(prepared.folder()))
    assert done.returncode == 2
    assert re.search(r"plan/train\.parquet has no column mood", done.stderr), done.stderr


DOCUMENTS = ("dataset.json", "state.json", "recipe.json", "sources.json", "markers/train-00000-of-00003.json")
TABLES = ("plan/train.parquet", "ledger/train-00000-of-00003.parquet", "parquet/train-00000-of-00003.parquet")


def raise_version(folder: Path, key: str) -> None:
    path = folder / key
    if key.endswith(".json"):
        content = documents.decode(path.read_bytes(), key)
        path.write_bytes(documents.encode({**content, "version": documents.VERSION + 1}))
    else:
        table = pq.read_table(path)
        metadata = {**(table.schema.metadata or {}), tables.VERSION_KEY.encode(): b"7"}
        pq.write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize("key", [*DOCUMENTS, *TABLES])
def test_a_newer_format_is_refused_in_words(tmp_path, key, capsys):
    folder = prepared.copy(tmp_path)
    raise_version(folder, key)
    before = {entry.key: FolderStore(folder).read(entry.key) for entry in FolderStore(folder).list()}
    reading = {layout.STATE: ["status"], layout.RECIPE: ["status", "retry"], layout.MANIFEST: []}.get(key, [])
    for command in reading:
        assert main([command, str(folder)]) == CANNOT_GO_ON
        error = capsys.readouterr().err
        assert f"{key} has format 3, this kinetics-prep reads formats 1 to 2: upgrade kinetics-prep" in error
    main(["validate", str(folder)])
    said = "".join(capsys.readouterr())
    assert Path(key).name in said and re.search("format [37].*upgrade kinetics-prep", said), said
    assert "--output" not in said
    after = {entry.key: FolderStore(folder).read(entry.key) for entry in FolderStore(folder).list()}
    assert after == before


def test_a_reader_refuses_a_newer_format(tmp_path):
    folder = prepared.copy(tmp_path)
    raise_version(folder, "parquet/train-00000-of-00003.parquet")
    with pytest.raises(NewerFormat, match="has format 7"):
        list(open_dataset(folder).records("train", "parquet"))
    raise_version(folder, "dataset.json")
    for read in (open_dataset, lambda folder: ClipIndex.open(folder, "train")):
        with pytest.raises(NewerFormat, match=r"dataset\.json has format 3"):
            read(folder)
