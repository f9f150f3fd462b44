"""A file that only a newer kinetics-prep reads is no damage: commands say so, exit with 2, and leave it as it is."""

import re
import shutil
from pathlib import Path

import prepared
import pytest

from kinetics_prep import sample, schemas
from kinetics_prep.cli import CANNOT_GO_ON, INVALID, OK, main
from kinetics_prep.dataset import documents
from kinetics_prep.errors import NewerFormat
from kinetics_prep.reading import CLIP_READERS
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.records import parquet
from kinetics_prep.storage.folder_store import FolderStore
from kinetics_prep.storage.tables import VERSION_KEY

SAYS = "has format {newer}, this kinetics-prep reads formats 1 to {present}: upgrade kinetics-prep"
MARKER = "markers/train-00000-of-00003.json"
COMMANDS = ("status", "validate", "retry", "refresh", "repair")

TABLES = {
    "plan": "plan/train.parquet",
    "ledger": "ledger/train-00000-of-00003.parquet",
    "record": "parquet/train-00000-of-00003.parquet",
}


@pytest.fixture(scope="module", params=TABLES)
def newer_table(request, tmp_path_factory) -> tuple[Path, str]:
    """(a folder, as a version prepared it whose tables of one kind have the next format, the first of them)."""
    output = tmp_path_factory.mktemp(request.param) / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(schemas.load(request.param), "version", 2)
        if request.param == "record":
            patch.setattr(parquet, "SCHEMA", parquet.SCHEMA.with_metadata({VERSION_KEY: "2"}))
        prepared.make(output, (str(sample.ANNOTATIONS),), prepared.RECIPE)
    return output, TABLES[request.param]


def contents(folder: Path) -> dict[str, bytes]:
    store = FolderStore(folder)
    return {entry.key: store.read(entry.key) for entry in store.list() if not entry.key.startswith(".work/")}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_newer_table_is_named_and_kept(newer_table, command, tmp_path, capsys):
    original, key = newer_table
    folder = Path(shutil.copytree(original, tmp_path / "out"))
    code = main([command, str(folder)])
    said = "".join(capsys.readouterr())
    assert code == CANNOT_GO_ON or (code == OK and command != "validate")  # not each command reads each table
    if code == CANNOT_GO_ON:
        assert f"out/{Path(key).parent}/" in said and SAYS.format(newer=2, present=1) in said
    assert "can be mended" not in said and "Traceback" not in said
    assert contents(folder) == contents(original)


def raise_version(folder: Path, key: str) -> bytes:
    content = documents.decode((folder / key).read_bytes(), key)
    data = documents.encode({**content, "version": documents.VERSION + 1})
    (folder / key).write_bytes(data)
    return data


@pytest.mark.parametrize("key", ["dataset.json", "state.json", "recipe.json", "sources.json", MARKER])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_newer_document_is_named_and_kept(key, command, tmp_path, capsys):
    folder = prepared.copy(tmp_path)
    data = raise_version(folder, key)
    code = main([command, str(folder)])
    said = "".join(capsys.readouterr())
    assert code == CANNOT_GO_ON or (code == OK and command == "status")
    if code == CANNOT_GO_ON:
        assert f"{key} {SAYS.format(newer=3, present=2)}" in said
    assert "can be mended" not in said and "Traceback" not in said
    assert (folder / key).read_bytes() == data


@pytest.mark.parametrize("key", ["dataset.json", MARKER])
def test_a_version_that_is_only_damaged_is_damage(key, tmp_path, capsys):
    folder = prepared.copy(tmp_path)
    whole = (folder / key).read_bytes()
    (folder / key).write_bytes(whole.replace(b'"version": 2', b'"version": 3', 1))
    assert main(["validate", str(folder)]) == INVALID
    assert f"{key}: is damaged: it says format 3, its checksum is that of format 2" in capsys.readouterr().out
    assert main(["repair", str(folder)]) == OK
    assert (folder / key).read_bytes() == whole


def test_the_number_of_a_table_that_is_only_damaged_is_damage(newer_table, tmp_path, capsys):
    original, key = newer_table
    folder = prepared.copy(tmp_path)
    shutil.copy(original / key, folder / key)  # not the file of which the checksum is recorded
    assert main(["validate", str(folder)]) == INVALID
    assert f"{key}: " in capsys.readouterr().out


def test_a_newer_record_stops_reading_and_is_not_skipped(newer_table):
    folder, key = newer_table
    if not key.startswith("parquet/"):
        return
    index = ClipIndex.open(folder, "train", "parquet")
    for read in (lambda: index.record(0), lambda: CLIP_READERS["parquet"].read_part(index[0], {"rgb": [0]})):
        with pytest.raises(NewerFormat, match=re.escape(SAYS.format(newer=2, present=1))):
            read()
