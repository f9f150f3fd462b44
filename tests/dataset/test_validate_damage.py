"""`validate` names the file of every flipped byte, and every cut, deleted, emptied or swapped file, in one go."""

import dataclasses
import itertools
import shutil

import pytest
import small_dataset

from kinetics_prep.cli import INVALID, OK, main
from kinetics_prep.dataset import documents, layout, manifest, purged, state, validate
from kinetics_prep.dataset.sources_file import write_sources
from kinetics_prep.errors import CorruptShard
from kinetics_prep.sources import Fetching

STEP = 47
"""Of the bytes of documents every such one is flipped here; `STEP` 1 was tried by hand."""


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A complete folder of five rows, with every kind of file."""
    dataset = small_dataset.make(tmp_path_factory.mktemp("damage") / "out").complete({1: "network"})
    write_sources(dataset.store, Fetching(("/videos",)))
    purged.write(dataset.store, purged.Purged({"gone": "on request"}))
    current = state.read(dataset.store)
    manifest.write(dataset.store, manifest.build(dataset.store, current))
    state.write(dataset.store, dataclasses.replace(current, is_complete=True))
    shutil.rmtree(dataset.folder / layout.WORK)
    return dataset.folder


@pytest.fixture
def folder(complete, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(complete, tmp_path / "out")


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def problems(folder) -> list[str]:
    try:
        return [str(problem) for problem in validate.problems(validate.open_folder(folder))]
    except CorruptShard as error:
        return [str(error)]


def is_named(folder, path) -> bool:
    name = str(path.relative_to(folder))
    return any(name in problem for problem in problems(folder))


def test_nothing_is_wrong_with_the_folder(complete):
    assert problems(complete) == []
    assert {path.parent.name for path in files(complete)} == {
        "out",
        *["tfrecord", "parquet", "ledger", "markers", "plan"],
    }


def flip(path, place: int, bits: int) -> bytes:
    """Flips bits of a byte; returns the file's content before."""
    before = path.read_bytes()
    path.write_bytes(before[:place] + bytes([before[place] ^ bits]) + before[place + 1 :])
    return before


def test_every_flipped_byte_of_a_document_is_named(folder, monkeypatch):
    monkeypatch.setattr(validate, "_file_problems", lambda *_: ())  # of records, which stay as they are
    documents_ = [path for path in files(folder) if path.suffix in (".json", ".txt")]
    assert len(documents_) == 8
    for number, path in enumerate(documents_):
        for place in range(number % STEP, path.stat().st_size, STEP):
            before = flip(path, place, 1 << place % 8)
            assert is_named(folder, path), (path, place)
            path.write_bytes(before)


def test_every_version_that_a_flip_can_make_is_named(folder, monkeypatch):
    monkeypatch.setattr(validate, "_file_problems", lambda *_: ())
    for path in (path for path in files(folder) if path.suffix == ".json"):
        place = path.read_bytes().index(b'"version": ') + len(b'"version": ')
        for digit in b"13456789":
            before = flip(path, place, ord("2") ^ digit)
            assert is_named(folder, path), (path, digit)
            path.write_bytes(before)


def test_flipped_bytes_of_data_plans_and_ledgers_are_named(folder):
    for path in (path for path in files(folder) if path.suffix in (".tfrecord", ".parquet")):
        size = path.stat().st_size
        for place in {0, 3, size // 3, size // 2, size - 200, size - 5, size - 1}:
            before = flip(path, place, 1 << place % 8)
            assert is_named(folder, path), (path, place)
            path.write_bytes(before)


CHANGES = {
    "emptied": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "a byte short": lambda data: data[:-1],
    "a byte long": lambda data: data + b"\n",
    "zeroed": lambda data: bytes(len(data)),
    "another document": lambda data: documents.encode({"a": 1}),
    "deeply nested": lambda data: b"[" * 100_000,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_changed_file_is_named(change, folder):
    for path in files(folder):
        before = path.read_bytes()
        path.write_bytes(CHANGES[change](before))
        assert is_named(folder, path), path
        path.write_bytes(before)


def test_every_deleted_file_is_named_but_sources_json_which_may_be_missing(folder):
    unnamed = []
    for path in files(folder):
        before = path.read_bytes()
        path.unlink()
        unnamed += [] if is_named(folder, path) else [path.name]
        path.write_bytes(before)
    assert unnamed == ["sources.json"]


def test_two_swapped_files_are_both_named(folder):
    for one, other in itertools.combinations(files(folder), 2):
        before = one.read_bytes(), other.read_bytes()
        one.write_bytes(before[1]), other.write_bytes(before[0])
        named = problems(folder)
        for path in (one, other):
            assert any(str(path.relative_to(folder)) in problem for problem in named), (one, other, named)
        one.write_bytes(before[0]), other.write_bytes(before[1])


def test_a_marker_of_another_shard_is_named(folder):
    shutil.copy(folder / "markers/train-00001-of-00002.json", folder / "markers/train-00000-of-00002.json")
    assert "markers/train-00000-of-00002.json: says shard 1, expected 0" in problems(folder)


@pytest.mark.parametrize("name", ["tfrecord/notes.txt", "ledger/train-00009-of-00010.parquet", "markers/x.json"])
def test_a_file_too_many_is_named(name, folder):
    (folder / name).write_text("mine")
    (named,) = problems(folder)
    assert named.startswith(f"{name}: is not a file of this data set")


def test_files_of_the_user_beside_the_data_set_are_left_out(folder):
    (folder / "notes.md").write_text("mine")
    assert problems(folder) == []


def test_documents_that_are_lost_do_not_hide_other_damage(folder):
    for name in ("state.json", "recipe.json", "dataset.json"):
        (folder / name).unlink()
    flip(folder / "tfrecord/train-00000-of-00002.tfrecord", 300, 1)
    named = {problem.split(":")[0].partition(",")[0] for problem in problems(folder)}
    assert named == {"dataset.json", "recipe.json", "state.json", "tfrecord/train-00000-of-00002.tfrecord"}


def test_the_command_names_the_file_and_exits_with_4_without_a_traceback(folder, capsys):
    assert main(["validate", str(folder)]) == OK
    flip(folder / "state.json", 100, 1)
    (folder / "recipe.json").write_bytes(b"\xff")
    assert main(["validate", str(folder)]) == INVALID
    said = capsys.readouterr()
    assert "state.json: " in said.out and "recipe.json: is not JSON" in said.out
    assert f"kinetics-prep repair {folder}" in said.err


def test_an_unfinished_folder_says_what_is_under_way_and_is_checked(tmp_path):
    dataset = small_dataset.make(tmp_path / "out")
    for planned in dataset.rows_in(0):
        dataset.write(planned)
    small_dataset.assemble(dataset.part, 0)
    dataset.write(dataset.rows[3])
    advice = "state.json: is not finished (preparing): give its `kinetics-prep flow` command once more"
    assert problems(dataset.folder) == [advice]
    flip(dataset.path("parquet/train-00000-of-00002.parquet"), 500, 1)
    key = dataset.part.object_key(dataset.rows[3])
    flip(dataset.path(key), 20, 1)
    named = problems(dataset.folder)
    assert advice in named
    assert "parquet/train-00000-of-00002.parquet: its checksum is not the recorded one" in named
    assert any(problem.startswith(f"{key}: ") and "will be made again" in problem for problem in named)


def test_a_search_that_is_under_way_says_which_command_goes_on(tmp_path):
    dataset = small_dataset.make(tmp_path / "out").complete({1: "network"})
    from kinetics_prep.dataset import search

    current = state.read(dataset.store)
    state.write(dataset.store, search.begin(dataset.store, current, [dataset.part], ("network",)))
    (problem,) = problems(dataset.folder)
    assert f"kinetics-prep retry {dataset.folder} --reason network" in problem


def test_a_document_of_absurd_size_is_named_and_not_read(folder):
    path = folder / "state.json"
    with open(path, "r+b") as file:
        file.truncate(documents.LARGEST_BYTES + 1)  # a hole, which takes no room
    (named,) = [problem for problem in problems(folder) if problem.startswith("state.json")]
    assert f"has {documents.LARGEST_BYTES + 1} bytes, expected {documents.LARGEST_BYTES} at most" in named
