"""The door: folders of others stay untouched, and what a killed run began is finished before anything else."""

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from pathlib import Path

import pytest
import small_dataset
from killing import Killed, each_kill, killed_at
from small_dataset import row

from kinetics_prep.dataset import layout, ledger, markers, plan, recipe_file, replace, tools
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.door import open_for_reading, open_for_writing
from kinetics_prep.dataset.part import list_parts
from kinetics_prep.dataset.state import CHANGING, COMPLETE, PREPARING, Search, State
from kinetics_prep.errors import BadOption, CorruptShard, FolderInUse, ForeignFolder, NewerFormat
from kinetics_prep.storage.folder_store import FolderStore

pytestmark = pytest.mark.usefixtures("unflushed")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def tree(folder: Path) -> dict[str, tuple[int, bytes | None]]:
    """Every file and folder, with its time and its bytes."""
    paths = [folder, *folder.rglob("*")]
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in paths
    }


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# Whose folder it is -----------------------------------------------------------------------------


def test_a_new_folder_bears_our_mark_from_then_on(output):
    with open_for_writing(output / "deep", creates=True) as folder:
        assert folder.state == State() and folder.finished is None
        assert folder.store.root == output / "deep"
        folder.store.put("labels.txt", b"running\n")
    assert names(output / "deep") == ["labels.txt", "state.json"]
    with open_for_writing(output / "deep") as folder:
        assert folder.state == State()


def test_a_relative_folder_is_the_same_wherever_a_worker_runs(output, monkeypatch):
    output.mkdir()
    monkeypatch.chdir(output.parent)
    with open_for_writing(Path("out"), creates=True) as folder:
        assert folder.store.root == output
    small_dataset.make(output)
    assert open_for_reading(Path("out"))[0].root == output


@pytest.mark.parametrize("name", ["lost+found", ".DS_Store", "Thumbs.db", "desktop.ini"])
def test_what_systems_put_into_empty_folders_does_not_make_them_foreign(name, output):
    output.mkdir()
    (output / name).mkdir() if name == "lost+found" else (output / name).write_bytes(b"x")
    with open_for_writing(output, creates=True) as folder:
        assert folder.state == State()
    assert names(output) == sorted([name, "state.json"])


def test_a_folder_in_which_a_run_was_killed_before_its_first_word_is_as_good_as_empty(output):
    with contextlib.suppress(Killed), killed_at(0), open_for_writing(output, creates=True):
        pass
    (output / ".work" / "tmp" / "left").mkdir(parents=True)
    (output / ".work" / "lease").mkdir()
    with open_for_writing(output, creates=True) as folder:
        assert folder.state == State()
    assert names(output) == ["state.json"]


FOREIGN = {
    "labels": {"labels.txt": b"cat\ndog\n"},
    "a recipe": {"recipe.json": b'{"flour": 500}'},
    "a recipe with a version": {"recipe.json": b'{"version": 1, "flour": 500}'},
    "a recipe of format 7": {"recipe.json": b'{"version": 7, "flour": 500}'},
    "a recipe of format 1 that is not one": {
        "recipe.json": b'{"version": 1, "digest": "a", "recipe": {}, "versions": {}}'
    },
    "notes among plans": {"plan/notes.md": b"to do"},
    "all of these": {"labels.txt": b"a\n", "recipe.json": b"{}", "plan/notes.md": b"", "plan/train.parquet": b"PAR1"},
    "videos": {"videos/a.mp4": b"x", ".DS_Store": b"x"},
    "a work folder": {".work/objects/notes.md": b"mine"},
    "an empty file": {"notes": b""},
    "a hidden file": {".gitignore": b"*"},
}


@pytest.mark.parametrize("creates", [True, False])
@pytest.mark.parametrize("content", FOREIGN)
def test_a_folder_of_others_is_refused_in_words_and_not_touched(content, creates, output):
    for name, data in FOREIGN[content].items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_bytes(data)
    before = tree(output)
    with (
        pytest.raises(
            ForeignFolder, match=r".*out holds files that kinetics-prep did not write, such as .*; nothing in"
        ),
        open_for_writing(output, creates=creates),
    ):
        pass
    assert tree(output) == before


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"mine": 1}', b'{"version": 2}', b'{"version": 3}'])
def test_a_state_that_is_not_ours_or_damaged_or_newer_is_refused_and_nothing_is_touched(data, output):
    small_dataset.make(output).complete()
    (output / ".work" / "tmp" / "small").rmdir()
    (output / "state.json").write_bytes(data)
    before = tree(output)
    for creates in (True, False):
        with (
            pytest.raises((CorruptShard, NewerFormat), match=r"out/state\.json"),
            open_for_writing(output, creates=creates),
        ):
            pass
    with pytest.raises((CorruptShard, NewerFormat), match=r"out/state\.json"):
        open_for_reading(output)
    assert tree(output) == before


def test_where_nothing_was_begun_there_is_nothing_to_go_on_with(output):
    with pytest.raises(BadOption, match=r"out holds no state\.json: nothing was begun here"), open_for_writing(output):
        pass
    assert not output.exists()
    output.mkdir()
    with pytest.raises(BadOption, match="nothing was begun here"), open_for_writing(output):
        pass
    assert names(output) == []


# Places that cannot be written to ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["file", "file/below", "file/below/deeper"])
@pytest.mark.parametrize("creates", [True, False])
def test_a_file_in_the_place_of_the_folder_is_named_and_stays(creates, name, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    expected = r"--output .* cannot be written to: .*file|nothing was begun here"
    with pytest.raises(BadOption, match=expected), open_for_writing(tmp_path / name, creates=creates):
        pass
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.parametrize("name", [".work", ".work/tmp", ".work/lease"])
def test_a_file_in_the_place_of_a_work_folder_is_named_and_stays(name, output):
    (output / name).parent.mkdir(parents=True)
    (output / name).write_bytes(b"x")
    with (
        pytest.raises(BadOption, match=rf"--output .*out cannot be written to: .*{name}"),
        open_for_writing(output, creates=True),
    ):
        pass
    assert (output / name).read_bytes() == b"x"


@contextlib.contextmanager
def without_rights():
    """As a user who is not root and owns nothing."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only():
    """A prepared folder that may be read and not written to."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "out"
        small_dataset.make(output).complete()
        (output / ".work" / "tmp" / "small").rmdir()
        for path in (Path(place), output, *output.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield output
        for path in (Path(place), *Path(place).rglob("*")):
            path.chmod(0o755)


def test_a_folder_that_may_only_be_read_is_read_and_not_written_to(read_only):
    before = tree(read_only)
    with without_rights():
        store, state = open_for_reading(read_only)
        assert state.splits == ("train",) and len(markers.committed_shards(store)) == 2
        with (
            pytest.raises(BadOption, match="out cannot be written to: .*: Permission denied"),
            open_for_writing(read_only),
        ):
            pass
        with (
            pytest.raises(BadOption, match="cannot be written to: .*: Permission denied"),
            open_for_writing(read_only / "below", creates=True),
        ):
            pass
    assert tree(read_only) == before


def test_a_file_system_that_may_only_be_read_is_named(output, monkeypatch):
    small_dataset.make(output)
    before = tree(output)

    def mkdir(path, *_, **__):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with (
        pytest.raises(BadOption, match=r"--output .*out cannot be written to: .*\.work.*: Read-only file system"),
        open_for_writing(output),
    ):
        pass
    assert tree(output) == before


def test_another_error_is_not_taken_for_one_of_these(output):
    with pytest.raises(OSError, match="Input/output error"), open_for_writing(output, creates=True):
        raise OSError(5, "Input/output error")


# One at a time ----------------------------------------------------------------------------------


def test_another_run_is_kept_out_until_the_first_is_over(output):
    small_dataset.make(output)
    with open_for_writing(output) as folder:
        folder.store.put(".work/search/a", b"of the first")
        with pytest.raises(FolderInUse), open_for_writing(output):
            pass
        assert folder.store.read(".work/search/a") == b"of the first"
        assert open_for_reading(output)[1] == folder.state
    with open_for_writing(output):
        pass


def test_an_error_in_the_run_lets_others_in(output):
    with pytest.raises(ZeroDivisionError), open_for_writing(output, creates=True):
        raise ZeroDivisionError
    with open_for_writing(output):
        pass


def test_a_state_is_written_when_it_has_changed(output):
    with open_for_writing(output, creates=True) as folder:
        inode = (output / "state.json").stat().st_ino
        folder.save(State())
        assert (output / "state.json").stat().st_ino == inode
        folder.save(State(epoch=2))
        assert folder.state == states.read(folder.store) == State(epoch=2)


# What a killed run has left ---------------------------------------------------------------------


def test_work_that_counts_stays_and_other_work_goes(output):
    dataset = small_dataset.make(output)
    entry = states.read(dataset.store).plans["train"]
    search = Search(1, 3, ("network",), {"train": entry})
    states.write(dataset.store, State(epoch=2, plans={"train": entry}, searches=3, search=search))
    stays = [
        ".work/objects/000002/search3-train/00000/00000",
        ".work/objects/000002/train/00000/00001",
        ".work/search/train.parquet",
    ]
    goes = [
        ".work/new/labels.txt",
        ".work/new.json",
        ".work/objects/000001/train/00000/00001",
        ".work/objects/000002/search2-train/00000/00001",
        ".work/objects/000003/train/00000/00001",
        ".work/objects/notes.md",
    ]
    for key in stays + goes:
        dataset.store.put(key, b"x")
    dataset.path(".work/objects/000002/train/00000/00002").touch()  # a name that was only reserved
    dataset.path("markers").mkdir()
    dataset.path("markers/train-00000-of-00002.json").touch()
    with open_for_writing(output) as folder:
        found = [entry.key for entry in folder.store.list(".work/")]
        assert [key for key in found if not key.startswith((".work/lease/", ".work/tmp/"))] == stays
    assert not dataset.path("markers").exists()
    with open_for_writing(output) as folder:
        folder.save(State(epoch=2, plans={"train": entry}, searches=3))
    with open_for_writing(output):
        pass
    assert names(output / ".work") == [
        "objects",
        "objects/000002",
        "objects/000002/train",
        "objects/000002/train/00000",
        "objects/000002/train/00000/00001",
    ]


def test_new_files_of_the_same_change_stay_and_those_of_another_go(output):
    small_dataset.make(output)
    change = {"kind": "convert", "formats": ["parquet"]}
    with open_for_writing(output, change=change) as folder:
        folder.store.put(replace.staged("a"), b"new")
        assert folder.state.change == change
    with open_for_writing(output, change=dict(change)) as folder:
        assert folder.store.read(replace.staged("a")) == b"new"
    with open_for_writing(output, change=change | {"formats": ["tfrecord"]}) as folder:
        assert list(folder.store.list(".work/new/")) == []
        folder.store.put(replace.staged("a"), b"new")
    with open_for_writing(output) as folder:
        assert list(folder.store.list(".work/new/")) == []
        assert folder.state.change is None


@pytest.mark.parametrize("same", [True, False])
def test_at_whatever_write_a_change_is_killed_the_next_command_finds_it_whole_or_not_begun(same, tmp_path):
    change = {"kind": "convert"}
    folders = (tmp_path / str(number) for number in range(100))
    current: list[Path] = []

    def begin():
        current.append(next(folders))
        small_dataset.make(current[-1])
        (current[-1] / ".work" / "tmp" / "small").rmdir()
        return lambda: convert(current[-1])

    def convert(output: Path) -> None:
        with open_for_writing(output, change=change) as folder:
            folder.store.put(replace.staged("labels.txt"), b"new\n")
            folder.store.put(replace.staged("dataset.json"), b"new")
            new_state = dataclasses.replace(folder.state, change=None, is_complete=True)
            replace.commit(folder.store, folder.state, new_state, ["labels.txt", "dataset.json"], ["recipe.json"])
            folder.state = replace.finish(folder.store)

    def look(output: Path) -> tuple:
        with open_for_writing(output, change=change if same else None) as folder:
            assert folder.state.name in (PREPARING, COMPLETE)
            is_new = folder.state.is_complete
        found = {name for name in names(output) if not name.startswith(".work")}
        assert (("dataset.json" in found), ("recipe.json" not in found)) == (is_new, is_new)
        assert ((output / "labels.txt").read_bytes() == b"new\n") == is_new
        return is_new

    seen = [look(current[-1]) for _ in each_kill(begin)]
    assert seen == sorted(seen) and set(seen) == {False, True}


def test_a_change_that_is_moving_is_finished_by_any_command(output):
    dataset = small_dataset.make(output)
    before = states.read(dataset.store)
    dataset.store.put(replace.staged("labels.txt"), b"new\n")
    moving = replace.commit(dataset.store, before, dataclasses.replace(before, epoch=9), ["labels.txt"], [])
    assert states.read(dataset.store) == moving and moving.name == CHANGING
    store, state = open_for_reading(output)  # already as it will be
    assert (store.read("labels.txt"), state.epoch) == (b"new\n", 9)
    with open_for_writing(output) as folder:
        assert folder.state == dataclasses.replace(before, epoch=9)
        assert folder.store.read("labels.txt") == b"new\n"


# Reading ----------------------------------------------------------------------------------------


def test_opening_for_reading_changes_nothing(output):
    small_dataset.make(output).complete()
    before = tree(output)
    store, state = open_for_reading(output)
    assert state == states.read(store)
    assert store.scratch is None
    assert tree(output) == before


@pytest.mark.parametrize("content", FOREIGN)
def test_in_a_folder_of_others_there_is_nothing_to_read(content, output):
    for name, data in FOREIGN[content].items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_bytes(data)
    with pytest.raises(CorruptShard, match="out holds no plan: nothing was begun here"):
        open_for_reading(output)


def test_where_there_is_no_folder_there_is_nothing_to_read(tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "nowhere", tmp_path / "file", tmp_path):
        with pytest.raises(CorruptShard, match="holds no plan: nothing was begun here"):
            open_for_reading(output)


# Folders of format 1 ----------------------------------------------------------------------------


def make_format_1(output: Path, refused: dict[int, str] | None = None) -> None:
    """A complete folder as kinetics-prep wrote it before it had a state."""
    dataset = small_dataset.make(output).complete(refused)
    versions = tools.versions(small_dataset.RECIPE)
    settings = json.loads(json.dumps(small_dataset.RECIPE.settings()))
    digest = hashlib.sha256(json.dumps([settings, versions], sort_keys=True).encode()).hexdigest()[:16]
    recipe = {"version": 1, "digest": digest, "recipe": settings, "versions": versions}
    (output / "recipe.json").write_text(json.dumps(recipe, indent=1))
    for name in markers.committed_shards(dataset.store):
        marker = markers.read_marker(dataset.store, name) | {"version": 1, "recipe": digest}
        del marker["ledger_bytes"]
        (output / "markers" / f"{name}.json").write_text(json.dumps(marker, indent=1))
    (output / "state.json").unlink()
    (output / ".work" / "tmp" / "small").rmdir()
    (output / ".work" / "tmp").rmdir()
    (output / ".work").rmdir()


def add_refresh_of_format_1(output: Path, numbers: tuple[int, ...], is_whole: bool) -> None:
    """Has a refresh of format 1 have found some rows; it is killed before its last shard, or before it amends."""
    store = FolderStore(output)
    scratch = output.with_name("scratch")
    scratch.mkdir()
    writer = FolderStore(output, scratch)
    rows = [dataclasses.replace(row(number), shard=place // 3, index=place % 3) for place, number in enumerate(numbers)]
    plan.write(writer, "plan/train-refresh1.parquet", rows, -(-len(rows) // 3))
    file = recipe_file.read(store)
    (part,) = [part for part in list_parts(writer, open_for_reading(output)[1], file) if part.refresh]
    found = small_dataset.SmallDataset(part, rows)
    if is_whole:
        found.complete()
    else:
        for planned in rows[:3]:
            found.write(planned)
        small_dataset.assemble(part, 0)


def test_a_folder_of_format_1_is_read_as_it_is(output):
    make_format_1(output, {1: "network"})
    before = tree(output)
    store, state = open_for_reading(output)
    assert state.plans == {"train": plan.entry_of(store, "plan/train.parquet")}
    assert state.name == COMPLETE
    assert recipe_file.read(store).fingerprints == {""}
    assert tree(output) == before


@pytest.mark.parametrize("lacks", ["markers/train-00001-of-00002.json", None])
def test_an_unfinished_folder_of_format_1_says_so(lacks, output):
    make_format_1(output)
    if lacks:
        (output / lacks).unlink()
    else:
        (output / ".work" / "look-train").mkdir(parents=True)
        (output / ".work" / "look-train" / "00000").write_bytes(b"x")
    assert open_for_reading(output)[1].name == PREPARING


def test_a_folder_of_format_1_is_adopted_and_its_shards_stay_as_they_are(output):
    make_format_1(output, {1: "network"})
    (output / ".work" / "train" / "00000").mkdir(parents=True)
    (output / ".work" / "train" / "00000" / "00001.written").write_bytes(b"of the old kind")
    before = {key: data for key, (_, data) in tree(output).items() if data is not None and not key.startswith(".work")}
    with open_for_writing(output) as folder:
        assert folder.state.plans == open_for_reading(output)[1].plans
        assert list(folder.store.list(".work/train/")) == []
    after = {key: data for key, (_, data) in tree(output).items() if data is not None}
    assert after.pop("state.json")
    assert after == before
    with open_for_writing(output) as folder:
        assert folder.state.splits == ("train",)


def found_everywhere(output: Path) -> list[str]:
    """The clips of all ledgers of committed shards, each as often as it is in one."""
    store = FolderStore(output)
    rows = [each for name in markers.committed_shards(store) for each in ledger.read(store, layout.ledger_key(name))]
    return sorted(f"{each.clip_id} {each.status}" for each in rows)


def test_rows_that_a_refresh_of_format_1_found_leave_the_older_ledgers(output):
    make_format_1(output, {1: "network", 4: "geo"})
    add_refresh_of_format_1(output, (1,), is_whole=True)
    with open_for_writing(output) as folder:
        assert folder.state.plans.keys() == {"train", "train-refresh1"}
    statuses = ["written", "written", "written", "written", "refused"]
    assert found_everywhere(output) == [f"{row(k).clip_id} {status}" for k, status in enumerate(statuses)]


def test_shards_of_a_refresh_of_format_1_that_was_killed_are_dropped(output):
    refused = dict.fromkeys((0, 1, 3, 4), "network")
    make_format_1(output, refused)
    before = {key: data for key, (_, data) in tree(output).items() if data is not None}
    add_refresh_of_format_1(output, (0, 1, 3, 4), is_whole=False)
    with open_for_writing(output) as folder:
        assert list(folder.state.plans) == ["train"]
    after = {key: data for key, (_, data) in tree(output).items() if data is not None}
    del after["state.json"]
    assert after == before


def test_at_whatever_write_an_adoption_is_killed_the_next_one_gives_the_same(tmp_path):
    folders, current = (tmp_path / str(number) / "out" for number in range(100)), []

    def begin():
        current.append(next(folders))
        make_format_1(current[-1], dict.fromkeys((0, 1, 3, 4), "network"))
        add_refresh_of_format_1(current[-1], (1,), is_whole=True)
        return lambda: adopt(current[-1])

    def adopt(output: Path) -> dict:
        with open_for_writing(output):
            pass
        return {key: data for key, (_, data) in tree(output).items() if data is not None}

    results = [adopt(current[-1]) for _ in each_kill(begin)]
    expected = adopt(current[-1])
    assert len(results) >= 3
    assert all(result == expected for result in results)


def test_a_folder_of_format_1_that_lacks_the_first_plan_of_a_split_is_refused_in_words(output):
    make_format_1(output, {1: "network"})
    add_refresh_of_format_1(output, (1,), is_whole=True)
    (output / "plan" / "train.parquet").unlink()
    before = tree(output)
    with pytest.raises(CorruptShard, match=r"out/plan/train\.parquet is missing"):
        open_for_reading(output)
    with pytest.raises(CorruptShard, match=r"out/plan/train\.parquet is missing"), open_for_writing(output):
        pass
    assert tree(output) == before
