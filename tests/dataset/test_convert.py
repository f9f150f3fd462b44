"""Other formats and shard sizes: the bytes of a clean run, whatever was searched, purged or killed before."""

import dataclasses
import itertools
import shutil
from unittest import mock

import changed_folders as folders
import prepared
import pytest
import small_dataset
from changed_folders import complete, each_kill, expect_sound, look, of_data, outcomes, refresh, rows_of, tree
from killing import Killed, killed_at

from kinetics_prep import sample
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset import convert, recipe_file, rewriting, state
from kinetics_prep.dataset.convert import Shape, is_done, open_conversion
from kinetics_prep.dataset.purge import Request, open_purge
from kinetics_prep.errors import BadOption, CorruptShard, NoRoom
from kinetics_prep.runs.job import Job, Resumption
from kinetics_prep.runs.prepare import finish, open_run, resume_run
from kinetics_prep.sources import Fetching
from kinetics_prep.storage.folder_store import FolderStore


@pytest.fixture(autouse=True)
def unflushed(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


def to(folder, *formats, shards_of=None, workers=1):
    with open_conversion(folder, Shape(formats or None, shards_of)) as conversion:
        return conversion.carry_out(workers)


def settings(folder):
    recipe = recipe_file.read(FolderStore(folder))
    return recipe.formats, recipe.clips_per_shard


# Formats ---------------------------------------------------------------------------------------


def test_formats_that_go_and_come_back_have_the_bytes_that_they_had(folder):
    complete(folder, folders.REFUSED)
    before = tree(folder)
    summary = to(folder, "tfrecord")
    assert (summary.clips, summary.shards, summary.formats) == (4, 3, ("tfrecord",))
    assert summary.bytes == sum(len(content) for key, content in before.items() if key.startswith("tfrecord/"))
    assert settings(folder) == (("tfrecord",), 3)
    assert not (folder / "parquet").exists()
    expect_sound(folder)
    to(folder, "parquet")
    assert {key.split("/")[0] for key in of_data(tree(folder))} == {"parquet", "plan"}
    expect_sound(folder)
    to(folder, "tfrecord", "parquet", workers=3)
    expect_sound(folder)
    assert tree(folder) == before


def test_files_and_ledgers_that_stay_are_not_touched(folder):
    complete(folder, folders.REFUSED)
    to(folder, "tfrecord")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix in (".tfrecord", ".parquet")}
    to(folder, "parquet", "tfrecord")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_order_of_formats_is_the_one_that_is_asked_for(folder):
    complete(folder)
    before = of_data(tree(folder))
    to(folder, "parquet", "tfrecord")
    assert settings(folder)[0] == ("parquet", "tfrecord")
    assert of_data(tree(folder)) == before
    expect_sound(folder)


def test_the_finds_of_searches_get_other_formats_too(folder):
    complete(folder, folders.REFUSED)
    refresh(folder, (1,))
    before = tree(folder)
    to(folder, "parquet")
    assert sorted(path.name for path in (folder / "parquet").iterdir())[-1] == "train-refresh1-00000-of-00001.parquet"
    to(folder, "tfrecord", "parquet")
    assert tree(folder) == before


def test_the_same_settings_write_nothing(folder):
    complete(folder)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    for shape in (Shape(("tfrecord", "parquet")), Shape(None, 3), Shape(("tfrecord", "parquet"), 3)):
        assert is_done(folder, shape)
    assert not is_done(folder, Shape(("tfrecord",)))
    assert not is_done(folder, Shape(None, 2))
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    assert after == before


def test_a_manifest_that_lags_behind_is_brought_up_to_the_folder(folder):
    """A run that is killed after it has packed what a search found leaves it so."""
    complete(folder, folders.REFUSED)
    old = (folder / "dataset.json").read_bytes()
    refresh(folder, (1,))
    new = (folder / "dataset.json").read_bytes()
    (folder / "dataset.json").write_bytes(old)
    assert not is_done(folder, Shape(("tfrecord", "parquet")))
    to(folder, "tfrecord", "parquet")
    assert (folder / "dataset.json").read_bytes() == new


# Shards of another size ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4, 7, 100])
def test_another_shard_size_and_back_gives_the_same_folder(folder, size):
    complete(folder, folders.REFUSED)
    before = tree(folder)
    summary = to(folder, shards_of=size, workers=2)
    assert summary.shards == -(-7 // size)
    assert settings(folder) == (("tfrecord", "parquet"), size)
    assert outcomes(folder) == {
        0: "written",
        1: "network",
        2: "written",
        3: "written",
        4: "not_found",
        5: "written",
    } | {6: "duplicate_row"}
    expect_sound(folder)
    to(folder, shards_of=3)
    after = tree(folder)
    assert {**after, "state.json": b""} == {**before, "state.json": b""}
    assert state.read(FolderStore(folder)).epoch == 3  # what late writers of the old shards still write does not count


def test_what_searches_found_takes_its_place(folder, tmp_path):
    complete(tmp_path / "clean")
    complete(folder, folders.REFUSED)
    refresh(folder, (4,))
    refresh(folder, (1,))
    assert len(list((folder / "plan").iterdir())) == 3
    to(folder, shards_of=3)
    assert of_data(tree(folder)) == of_data(tree(tmp_path / "clean"))
    found = {1: "video1.mp4", 4: "video4.mp4"}
    assert [dataclasses.replace(row, source=None) for row in rows_of(folder)] == rows_of(tmp_path / "clean")
    assert {row.annotation_line - 2: row.source for row in rows_of(folder) if row.source} == found
    expect_sound(folder)
    assert is_done(folder, Shape(None, 3))


def test_finds_that_are_not_in_the_order_of_the_plan_take_their_places_too(folder, tmp_path):
    """A find that was lost and found again is planned after rows that stand behind it in the first plan."""
    complete(tmp_path / "clean")
    complete(folder, {1: "network", 2: "network", 4: "network"})
    refresh(folder, (1,))
    store = small_dataset.store_of(folder)
    recipe = recipe_file.read(store)
    current = state.read(store)
    (_, part) = convert.list_parts(store, current, recipe)
    (row,) = convert.plan.read(store, part.plan)
    lost = small_dataset.ledger_row(row, "network")
    for key in ("tfrecord/{}.tfrecord", "parquet/{}.parquet"):
        store.delete(key.format(part.shard_name(0)))
    marker = convert.describe(part, 0, [lost], {}) | convert.ledger.write(
        store, f"ledger/{part.shard_name(0)}.parquet", [lost]
    )
    convert.markers.replace_marker(store, part.shard_name(0), marker)
    folders.finish(folder)
    refresh(folder, (1, 2, 4))
    found = [row.annotation_line - 2 for row in convert.plan.read(store, "plan/train-refresh2.parquet")]
    assert found == [2, 4, 1]
    to(folder, shards_of=3)
    assert of_data(tree(folder)) == of_data(tree(tmp_path / "clean"))
    expect_sound(folder)


def test_a_search_that_was_under_way_is_closed_first(folder):
    complete(folder, folders.REFUSED)
    folders.begin_search(folder, found=(4,), refused=(1,))
    with open_conversion(folder, Shape(None, 2)) as conversion:
        assert str(conversion.folder.finished).startswith("looked for 2 rows again: 1 found")
        conversion.carry_out()
    assert outcomes(folder)[4] == "written"
    assert outcomes(folder)[1] == "private"
    expect_sound(folder)


def test_purged_rows_stay_purged_in_other_shards_and_formats(folder):
    complete(folder, folders.REFUSED)
    with open_purge(folder, Request(("video2", "video4"), "asked")) as opened:
        opened.carry_out()
    to(folder, "tfrecord", shards_of=4)
    to(folder, "parquet", "tfrecord", shards_of=2)
    assert {number for number, what in outcomes(folder).items() if what == "purged"} == {2, 4}
    assert (folder / "purged.json").exists()
    expect_sound(folder)


def test_selections_are_forgotten_if_shards_change_and_else_kept(folder):
    complete(folder)
    store = small_dataset.store_of(folder)
    planned = {"digest": state.Planned(("train",), ("rows.csv",))}
    state.write(store, dataclasses.replace(state.read(store), selections=planned))
    to(folder, "tfrecord")
    assert state.read(store).selections == planned
    to(folder, shards_of=5)
    assert state.read(store).selections == {}


def test_partly_prepared_refreshed_and_converted_is_what_a_clean_run_writes(tmp_path):
    clean = prepared.folder(clips_per_shard=3)
    videos, output = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    names = sorted(path.name for path in sample.VIDEOS.iterdir())
    for name in names[::2]:
        shutil.copy(sample.VIDEOS / name, videos)
    recipe = dataclasses.replace(prepared.RECIPE, formats=("tfrecord",))
    prepared.make(output, (str(sample.ANNOTATIONS),), recipe, videos)
    assert "not_found" in {row.reason for row in rows_of_both(output)}
    for name in names[1::4], names[3::4]:
        for each in name:
            shutil.copy(sample.VIDEOS / each, videos)
        with resume_run(Resumption(output, ("not_found",), Fetching((str(videos),))), needs_complete=True) as run:
            prepared.prepare_clips(run)
            finish(run)
    assert "train-refresh2" in state.read(FolderStore(output)).plans
    to(output, "tfrecord", "parquet", shards_of=3)
    assert of_data(tree(output)) == of_data(tree(clean))
    assert [facts(row) for row in rows_of_both(output)] == [facts(row) for row in rows_of_both(clean)]
    recipes = [recipe_file.read(FolderStore(each)) for each in (output, clean)]
    assert recipes[0].settings == recipes[1].settings and recipes[0].digest == recipes[1].digest
    assert recipes[0].tools[0].versions == recipes[1].tools[0].versions


def rows_of_both(folder):
    store = FolderStore(folder)
    return [row for entry in store.list("ledger/") for row in convert.ledger.read(store, entry.key)]


def facts(row):
    """A ledger row without times, and without what only says which libraries were at hand when it was made."""
    values = {name: value for name, value in vars(row).items() if not name.startswith("seconds")}
    return values | {"versions": None, "fingerprint": None}


def test_flow_goes_on_with_a_converted_folder(tmp_path):
    output = prepared.copy(tmp_path)
    to(output, shards_of=4)
    before = tree(output)
    recipe = dataclasses.replace(prepared.RECIPE, clips_per_shard=4)
    job = Job(Selection((str(sample.ANNOTATIONS),)), Fetching((str(sample.VIDEOS),)), output, recipe)
    with open_run(job) as run:
        assert list(run.pending()) == []
        finish(run)
    assert of_data(tree(output)) == of_data(before)


# What is refused -------------------------------------------------------------------------------


def test_a_shape_must_ask_for_something_that_there_is():
    with pytest.raises(BadOption, match="give --format, --clips-per-shard, or both"):
        Shape()
    with pytest.raises(BadOption, match="formats is csv, expected one or more of tfrecord, parquet"):
        Shape(("csv",))
    with pytest.raises(BadOption, match="each format once"):
        Shape(("parquet", "parquet"))
    with pytest.raises(BadOption, match="formats is , expected one or more"):
        Shape(())
    with pytest.raises(BadOption, match="clips_per_shard is 0, expected 1 to 100000"):
        Shape(None, 0)


def test_a_folder_that_is_not_finished_is_refused_and_left_alone(folder):
    dataset = small_dataset.make(folder, rows=list(folders.ROWS))
    for row in dataset.rows[:4]:
        dataset.write(row)
    before = tree(folder)
    with pytest.raises(BadOption, match="is not finished: 3 of 3 shards are missing, such as train-00000-of-00003"):
        is_done(folder, Shape(("parquet",)))
    with (
        pytest.raises(BadOption, match="give its `kinetics-prep flow` command once more first"),
        open_conversion(folder, Shape(("parquet",))),
    ):
        pass
    assert {key: content for key, content in tree(folder).items() if not key.startswith(".work/tmp/")} == before


def test_where_nothing_was_begun_nothing_is_converted(tmp_path):
    for each in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CorruptShard, match="nothing was begun here"):
            is_done(each, Shape(("parquet",)))
    assert list(tmp_path.iterdir()) == []


def flip(path, place=100):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["data", "ledger", "marker", "plan", "missing data", "missing marker"])
def test_damage_stops_a_conversion_and_names_the_commands_that_help(folder, damage):
    complete(folder)
    to(folder, "tfrecord")
    paths = {
        "data": folder / "tfrecord/train-00001-of-00003.tfrecord",
        "ledger": folder / "ledger/train-00001-of-00003.parquet",
        "marker": folder / "markers/train-00001-of-00003.json",
        "plan": folder / "plan/train.parquet",
    }
    kind = damage.removeprefix("missing ")
    paths[kind].unlink() if damage.startswith("missing") else flip(paths[kind])
    before = of_data(tree(folder))
    with pytest.raises(CorruptShard, match="kinetics-prep validate .*kinetics-prep repair"):
        to(folder, "parquet", shards_of=2)
    assert of_data({key: each for key, each in tree(folder).items() if not key.startswith(".work")}) == before


def test_a_format_is_not_deleted_if_what_stays_is_damaged(folder):
    complete(folder)
    flip(folder / "parquet/train-00001-of-00003.parquet")
    with pytest.raises(CorruptShard, match="parquet/train-00001-of-00003.parquet is damaged"):
        to(folder, "parquet")
    assert len(list((folder / "tfrecord").iterdir())) == 2


def test_a_new_file_that_does_not_read_back_stops_it(folder, monkeypatch):
    complete(folder)
    before = tree(folder)
    write = rewriting.write_data

    def write_others(new, name, form, records):
        return write(new, name, form, list(records)[::-1])

    monkeypatch.setattr(rewriting, "write_data", write_others)
    with pytest.raises(CorruptShard, match="does not read back as it was written"):
        to(folder, shards_of=2)
    assert of_data({key: each for key, each in tree(folder).items() if not key.startswith(".work")}) == of_data(before)


def test_a_record_of_another_clip_stops_it(folder):
    complete(folder)
    store = small_dataset.store_of(folder)
    name = "train-00000-of-00003"
    marker = convert.markers.read_marker(store, name)
    for form in marker["files"]:
        marker["files"][form]["offsets"] = marker["files"][form]["offsets"][::-1]
    convert.markers.replace_marker(store, name, marker)
    with pytest.raises(CorruptShard, match="where its ledger says"):
        to(folder, shards_of=2)


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files["tfrecord"].update(path="../../secret"),
        lambda files: files.update(zip=files["tfrecord"]),
        lambda files: files["parquet"].update(path="labels.txt"),
        lambda files: files["tfrecord"].update(offsets=[0]),
    ],
)
def test_a_forged_marker_leads_no_command_astray(folder, change):
    complete(folder)
    store, name = small_dataset.store_of(folder), "train-00000-of-00003"
    marker = convert.markers.read_marker(store, name)
    change(marker["files"])
    convert.markers.replace_marker(store, name, marker)
    secret = folder.parent.parent / "secret"
    secret.write_text("of others")
    for shape in (Shape(("parquet",)), Shape(None, 2)):
        with pytest.raises(CorruptShard, match="does not say where .* holds its clips"):
            change_shape(folder, shape)
    with pytest.raises(CorruptShard, match="does not say where .* holds its clips"):
        purge_all_of_the_first_shard(folder)
    assert secret.exists() and (folder / "labels.txt").exists()
    assert state.read(store).name == state.COMPLETE


def purge_all_of_the_first_shard(folder):
    with open_purge(folder, Request(("video0", "video1", "video2"), "asked")) as opened:
        opened.carry_out()


# Room ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [Shape(("tfrecord", "parquet")), Shape(None, 1), Shape(("parquet",), 5)])
def test_what_a_conversion_needs_is_known_before_it_begins(folder, shape):
    complete(folder)
    to(folder, "tfrecord")
    with open_conversion(folder, shape) as conversion:
        needed = conversion.needed
        with mock.patch.object(convert.replace, "commit", stop), pytest.raises(Killed):
            conversion.carry_out()
        built = sum(entry.bytes for entry in conversion.store.list(".work/new/"))
    assert 0 < built <= needed
    with open_conversion(folder, shape) as again:
        assert again.needed == max(0, needed - built)


def stop(*given):
    raise Killed


def test_a_disk_without_room_is_refused_before_anything_is_built(folder, monkeypatch):
    complete(folder)
    to(folder, "tfrecord")
    before = of_data(tree(folder))
    monkeypatch.setattr(convert, "free_bytes", lambda store: 1000)
    with pytest.raises(NoRoom, match=r"may need [\d,]+ bytes beside those that are there, and 1,000 are free"):
        to(folder, "parquet")
    assert of_data(tree(folder)) == before


# Killed ----------------------------------------------------------------------------------------

SHAPES = {
    "more formats": (("tfrecord",), Shape(("parquet", "tfrecord"))),
    "another format": (("tfrecord",), Shape(("parquet",))),
    "larger shards": (("tfrecord",), Shape(None, 4)),
    "shards of the same names": (("parquet",), Shape(("tfrecord", "parquet"), 3)),
}


@pytest.fixture(scope="module", params=SHAPES)
def template(request, tmp_path_factory):
    """A folder with the finds of a search, a shape, and what comes of it undisturbed."""
    before, shape = SHAPES[request.param]
    folder = tmp_path_factory.mktemp("convert") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        complete(folder, folders.REFUSED)
        refresh(folder, (1,))
        to(folder, *before)
        after = shutil.copytree(folder, folder.with_name("after"))
        change_shape(after, shape)
    return folder, shape, tree(after)


def change_shape(folder, shape):
    with open_conversion(folder, shape) as conversion:
        conversion.carry_out()


def test_killed_at_any_write_the_same_command_gives_the_same_folder(template, tmp_path):
    folder, shape, expected = template
    there = tmp_path / "out"
    for where in each_kill(folder, there, lambda killed: change_shape(killed, shape)):
        look(there)
        if is_done(there, shape):  # only its last bits of work are left, which the next run clears away
            folders.finish(there)
        else:
            change_shape(there, shape)
        assert tree(there) == expected, where


def test_killed_at_any_write_any_other_command_may_follow(template, tmp_path):
    folder, shape, _ = template
    there, commands = tmp_path / "out", itertools.cycle((folders.finish, to_pairs, purge_the_first))
    for where in each_kill(folder, there, lambda killed: change_shape(killed, shape), step=3):
        command = next(commands)
        command(there)
        written = {0, 1, 2, 3, 5} - ({0} if command is purge_the_first else set())
        assert {number for number, what in outcomes(there).items() if what == "written"} == written, where
        expect_sound(there)


def to_pairs(folder):
    change_shape(folder, Shape(("tfrecord", "parquet"), 2))


def purge_the_first(folder):
    with open_purge(folder, Request(("video0",), "asked")) as opened:
        opened.carry_out()


def test_shards_that_a_killed_run_has_built_are_not_built_again(folder, monkeypatch):
    complete(folder)
    with killed_at(17), pytest.raises(Killed):
        change_shape(folder, Shape(None, 1))
    built = {path.stem for path in (folder / ".work/new/markers").iterdir()}
    assert 2 <= len(built) < 7
    written, write = [], rewriting.write_data
    monkeypatch.setattr(
        rewriting, "write_data", lambda new, name, *rest: written.append(name) or write(new, name, *rest)
    )
    change_shape(folder, Shape(None, 1))
    assert {f"train-{number:05d}-of-00007" for number in range(6)} == built | set(written)
    assert not built & set(written)
    expect_sound(folder)


def test_a_built_shard_with_a_damaged_marker_or_a_missing_file_is_built_again(folder, monkeypatch):
    complete(folder)
    shape, undisturbed = Shape(None, 1), shutil.copytree(folder, folder.with_name("undisturbed"))
    change_shape(undisturbed, shape)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(convert.replace, "commit", stop)
        change_shape(folder, shape)
    new = folder / ".work/new"
    flip(new / "markers/train-00000-of-00007.json")
    (new / "tfrecord/train-00001-of-00007.tfrecord").unlink()
    (new / "ledger/train-00002-of-00007.parquet").write_bytes(b"PAR1")
    (new / "markers/train-00003-of-00007.json").unlink()
    change_shape(folder, shape)
    assert tree(folder) == tree(undisturbed)
    expect_sound(folder)
