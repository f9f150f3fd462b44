"""`repair`: after any damage nothing is wrong, clips have the bytes they had, and only lost ones were made again."""

import collections
import contextlib
import dataclasses
import shutil
import uuid
from pathlib import Path

import prepared
import pytest
import small_dataset
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kinetics_prep import sample
from kinetics_prep.cli import CANNOT_GO_ON, INVALID, OK, main
from kinetics_prep.dataset import documents, door, layout, ledger, manifest, plan, purged, recipe_file, state, validate
from kinetics_prep.dataset.part import list_parts
from kinetics_prep.dataset.shards import assemble
from kinetics_prep.errors import BadOption, CorruptShard, NewerFormat, RunError
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.runs import clip, repair
from kinetics_prep.runs.job import Resumption
from kinetics_prep.runs.prepare import finish, open_run
from kinetics_prep.runs.repair import Outcome
from kinetics_prep.sources import Fetching
from kinetics_prep.storage.folder_store import FolderStore

TRAIN = "train-00000-of-00003"
TFRECORD, PARQUET = f"tfrecord/{TRAIN}.tfrecord", f"parquet/{TRAIN}.parquet"
SECOND_MARKER = "markers/train-00001-of-00003.json"
LEDGER, MARKER = f"ledger/{TRAIN}.parquet", f"markers/{TRAIN}.json"


@pytest.fixture(scope="module")
def complete() -> Path:
    return prepared.folder()


@pytest.fixture
def folder(complete, tmp_path) -> Path:
    """A complete folder that may be damaged."""
    return shutil.copytree(complete, tmp_path / "out")


@pytest.fixture
def made(monkeypatch) -> collections.Counter:
    """Counts the clips that are prepared."""
    return counting(monkeypatch)


def counting(monkeypatch) -> collections.Counter:
    counts, prepare = collections.Counter(), clip._prepare

    def counted(row, *arguments):
        counts[row.clip_id] += 1
        return prepare(row, *arguments)

    monkeypatch.setattr(clip, "_prepare", counted)
    return counts


def mend(folder: Path, videos: tuple[str, ...] = ()) -> Outcome:
    """Does what `kinetics-prep repair` does, in this thread."""
    with repair.open_repair(Resumption(folder, (), Fetching(videos))) as opened:
        if opened.run is not None:
            prepared.prepare_clips(opened.run)
        return repair.finish(opened)


def flow(folder: Path) -> None:
    prepared.make(folder, (str(sample.ANNOTATIONS),), prepared.RECIPE)


def problems(folder: Path) -> list[str]:
    return list(map(str, validate.problems(validate.open_folder(folder))))


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of each file."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def records(folder: Path) -> dict[tuple[str, str], bytes]:
    """The bytes of each clip, by format and id."""
    return {
        (form, record.text("example/id")): record.to_bytes()
        for form, module in SHARD_FORMATS.items()
        for path in sorted((folder / module.SUFFIX).iterdir())
        for record in module.read_shard(path)
    }


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def damage(path: Path, kind: str, share: float) -> None:
    """Flips a byte of a file, cuts it, or deletes it."""
    size = path.stat().st_size
    if kind == "flip":
        flip(path, int(share * (size - 1)))
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[: int(share * size)])
    else:
        path.unlink()


NAMES = sorted(str(path.relative_to(prepared.folder())) for path in prepared.folder().rglob("*.*") if path.is_file())


def test_a_sound_folder_is_left_as_it_is(folder, capsys):
    before = tree(folder)
    assert main(["repair", str(folder)]) == OK
    assert tree(folder) == before
    assert capsys.readouterr().out == f"{folder}: nothing to repair\n"


@given(
    damages=st.dictionaries(
        st.sampled_from(NAMES),
        st.tuples(st.sampled_from(("flip", "cut", "delete")), st.floats(0, 1, exclude_max=True)),
        min_size=1,
        max_size=3,
    )
)
@example(damages={TFRECORD: ("flip", 0.1), PARQUET: ("flip", 0.1)})
@example(damages={TFRECORD: ("cut", 0.7), PARQUET: ("delete", 0.0), LEDGER: ("flip", 0.5)})
@example(damages={"dataset.json": ("delete", 0.0), MARKER: ("delete", 0.0), TFRECORD: ("flip", 0.5)})
@example(damages={"state.json": ("delete", 0.0), "plan/train.parquet": ("delete", 0.0), "recipe.json": ("cut", 0.0)})
@example(damages={"dataset.json": ("delete", 0.0), "labels.txt": ("delete", 0.0)})
@example(damages={"dataset.json": ("delete", 0.0), "recipe.json": ("delete", 0.0)})
@example(damages={"plan/train.parquet": ("delete", 0.0), LEDGER: ("delete", 0.0)})
@example(damages={"plan/train.parquet": ("delete", 0.0), LEDGER: ("cut", 0.5), SECOND_MARKER: ("delete", 0.0)})
@example(damages={"plan/train.parquet": ("delete", 0.0), LEDGER: ("cut", 0.5), MARKER: ("delete", 0.0)})
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_after_any_damage_nothing_is_wrong_and_only_lost_clips_were_made_again(damages, tmp_path_factory, complete):
    folder = shutil.copytree(complete, tmp_path_factory.mktemp("repair") / "out")
    for name, (kind, share) in damages.items():
        damage(folder / name, kind, share)
    with pytest.MonkeyPatch.context() as patch:
        made = counting(patch)
        lost, has_given_flow = mend_with_flow_if_told(folder, "sources.json" in damages)
    assert problems(folder) == []
    assert records(folder) == records(complete)
    assert set(made.values()) <= {1}
    # Where `flow` was needed first, it has prepared the rows of shards that had lost plan, ledger and marker.
    assert set(made) - lost <= (of_lost_shards(complete, damages) if has_given_flow else set())
    assert lost <= set(made)
    assert not list((folder).glob(".work/**/*.*"))
    shutil.rmtree(folder.parent)


def mend_with_flow_if_told(folder: Path, lacks_sources: bool) -> tuple[set[str], bool]:
    """Repairs; what can only be made from the annotations is made by `flow`, as the message says, and repaired then.

    Returns:
      (the clips that were lost, whether `flow` was given).
    """
    videos = (str(sample.VIDEOS),) if lacks_sources else ()
    outcomes = [mend(folder, videos)]
    if outcomes[0].report.left:
        assert any("give the same `kinetics-prep flow` command" in str(left) for left in outcomes[0].report.left)
        with contextlib.suppress(CorruptShard):  # what else is damaged
            flow(folder)
        outcomes.append(mend(folder, videos))
    assert outcomes[-1].report.left == []
    return {clip_id for outcome in outcomes for _, clip_id, _ in outcome.report.lost}, len(outcomes) > 1


def of_lost_shards(complete: Path, damages) -> set[str]:
    """The clips of shards whose ledger and marker are both damaged."""
    keys = [name for name in damages if name.startswith("ledger/")]
    keys = [key for key in keys if key.replace("ledger/", "markers/").replace(".parquet", ".json") in damages]
    store = FolderStore(complete)
    return {row["clip_id"] for key in keys for row in ledger.read_columns(store, key, "clip_id")}


def test_one_format_is_made_from_the_other_and_nothing_else_is_written(folder, made):
    for name in (TFRECORD, PARQUET):
        before = tree(folder)
        flip(folder / name, 700)
        outcome = mend(folder)
        after = tree(folder)
        assert after[name][0] == before[name][0]
        assert {key for key in after if after[key] != before[key]} == {name}
        assert outcome.report.done == [f"{name}: written anew from {'parquet' if name == TFRECORD else 'tfrecord'}"]
    assert not made


def test_data_of_which_no_checksum_is_left_are_read_and_not_written_again(folder, made, complete):
    (folder / MARKER).unlink()
    (folder / "dataset.json").unlink()
    before = tree(folder)
    mend(folder)
    after = tree(folder)
    assert {key for key in before if after[key] != before[key]} == set()
    assert after[MARKER][0] == (complete / MARKER).read_bytes()
    assert problems(folder) == [] and not made


def test_of_a_shard_that_lost_a_clip_the_others_are_kept(folder, made, complete):
    first, second = [row["clip_id"] for row in ledger.read_columns(FolderStore(folder), LEDGER, "clip_id")]
    flip(folder / TFRECORD, 300)
    (folder / PARQUET).unlink()
    outcome = mend(folder)
    assert made == {first: 1}
    assert [row.clip_id for row in outcome.again] == [first]
    assert f"{TRAIN}: 1 of its 2 rows were kept ({TFRECORD}, {PARQUET})" in outcome.report.done
    assert tree(folder)[TFRECORD][0] == tree(complete)[TFRECORD][0]
    rows = {row.clip_id: row for row in ledger.read(FolderStore(folder), LEDGER)}
    before = {row.clip_id: row for row in ledger.read(FolderStore(complete), LEDGER)}
    assert rows[second] == before[second] and rows[first].source_sha256 == before[first].source_sha256


def test_clips_that_two_damaged_formats_have_together_are_not_made_again(folder, made):
    size = (folder / PARQUET).stat().st_size
    flip(folder / TFRECORD, 300)  # in the first clip
    flip(folder / PARQUET, size - 15_000)  # in the second
    outcome = mend(folder)
    assert not made and not outcome.again
    assert f"{TRAIN}: 2 of its 2 rows were kept ({TFRECORD}, {PARQUET})" in outcome.report.done
    assert problems(folder) == []


def test_a_lost_clip_whose_video_is_gone_is_refused_and_that_is_said(folder, tmp_path, capsys):
    videos = Path(shutil.copytree(sample.VIDEOS, tmp_path / "videos"))
    row = next(plan.read(FolderStore(folder), "plan/train.parquet", 0))
    for path in videos.glob(f"{row.media_id}*"):
        path.unlink()
    flip(folder / TFRECORD, 300)
    (folder / PARQUET).unlink()
    assert main(["repair", str(folder), "--videos", str(videos)]) == OK
    said = capsys.readouterr().out
    assert "1 rows were lost and prepared again: 1 refused" in said
    assert f"{row.clip_id}: refused now (not_found): " in said
    assert problems(folder) == []


def test_without_a_place_of_videos_a_lost_clip_waits_and_the_same_command_goes_on(folder, made):
    for name in (TFRECORD, "sources.json"):
        flip(folder / name, 20)
    (folder / PARQUET).unlink()
    with pytest.raises(BadOption, match="does not say where its videos are: give --videos or --cache"):
        mend(folder)
    assert any("repair is under way" in problem for problem in problems(folder))
    mend(folder, (str(sample.VIDEOS),))
    assert problems(folder) == [] and sum(made.values()) == 1


def test_a_damaged_ledger_is_made_from_the_records_and_says_so(folder, made, complete):
    flip(folder / LEDGER, 5000)
    before = tree(folder)
    mend(folder)
    rows = list(ledger.read(FolderStore(folder), LEDGER))
    known = list(ledger.read(FolderStore(complete), LEDGER))
    names = "clip_id", "media_id", "label", "split", "annotation_line", "shard", "status", "recipe", "frames"
    names = *names, "width", "height", "record_bytes", "ends_early", "engine"
    for row, there in zip(rows, known, strict=True):
        assert [getattr(row, name) for name in names] == [getattr(there, name) for name in names]
        assert row.notes == "this row was rebuilt from the record"
        assert (row.source, row.source_sha256, row.fingerprint) == (None, None, None)
    assert not made
    assert tree(folder)[TFRECORD] == before[TFRECORD]


# Refused rows, with a small data set ----------------------------------------------------------


def small(folder: Path, refused: dict[int, str], rows=None) -> small_dataset.SmallDataset:
    """A complete folder of five rows of which some were refused."""
    dataset = small_dataset.make(folder, rows=rows).complete(refused)
    complete_small(dataset.store)
    return dataset


def complete_small(store: FolderStore) -> None:
    current = state.read(store)
    manifest.write(store, manifest.build(store, current))
    state.write(store, dataclasses.replace(current, is_complete=True))


SMALL = "train-00000-of-00002"


def test_refused_rows_of_a_sound_ledger_stay_as_they_are(tmp_path):
    dataset = small(tmp_path / "out", {1: "network"})
    before = list(ledger.read(dataset.store, f"ledger/{SMALL}.parquet"))
    for form in ("tfrecord", "parquet"):
        path = dataset.path(f"{form}/{SMALL}.{form}")
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 4])
    report = open_only(dataset.folder)
    assert [clip_id for _, clip_id, _ in report.lost] == [dataset.rows[0].clip_id, dataset.rows[2].clip_id]
    (kept,) = objects_of(dataset)
    assert kept == before[1]


def test_refused_rows_of_a_damaged_ledger_are_tried_again_and_written_ones_are_kept(tmp_path):
    dataset = small(tmp_path / "out", {1: "network"})
    flip(dataset.path(f"ledger/{SMALL}.parquet"), 5000)
    report = open_only(dataset.folder)
    assert report.lost == [("train", dataset.rows[1].clip_id, SMALL)]
    assert [row.clip_id for row in objects_of(dataset)] == [dataset.rows[0].clip_id, dataset.rows[2].clip_id]


def test_rows_that_the_plan_refuses_are_not_tried(tmp_path):
    rows = [small_dataset.row(0), small_dataset.duplicate(small_dataset.row(0), 1), small_dataset.row(2)]
    dataset = small(tmp_path / "out", {}, rows)
    before = {key: content for key, (content, _) in tree(dataset.folder).items()}
    name = "train-00000-of-00001"
    (dataset.path(f"ledger/{name}.parquet")).unlink()
    assert mend(dataset.folder).report.lost == []
    assert [row.reason for row in ledger.read(dataset.store, f"ledger/{name}.parquet")] == [None, "duplicate_row", None]
    assert tree(dataset.folder)[f"tfrecord/{name}.tfrecord"][0] == before[f"tfrecord/{name}.tfrecord"]
    dataset.path("plan/train.parquet").unlink()
    mend(dataset.folder)
    assert tree(dataset.folder)["plan/train.parquet"][0] == before["plan/train.parquet"]
    assert problems(dataset.folder) == []


def open_only(folder: Path):
    """Repairs up to what must be prepared again; the place of videos is missing, so that stops."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repair, "Report", lambda: seen.append(repair_report()) or seen[-1])
        with pytest.raises(BadOption, match="does not say where its videos are"):
            mend(folder)
    return seen[0]


def repair_report():
    from kinetics_prep.dataset.repair import Report

    return Report()


def objects_of(dataset) -> list:
    from kinetics_prep.dataset import objects

    return [objects.read_ledger_row(dataset.store, key) for key in sorted(objects.existing_objects(dataset.part, 0))]


def test_purged_json_is_made_from_the_ledgers(tmp_path):
    dataset = small_dataset.make(tmp_path / "out")
    for number, planned in enumerate(dataset.rows):
        dataset.write(planned, "purged" if number == 1 else None, **({"message": "on request"} if number == 1 else {}))
    for shard in range(dataset.part.shards):
        assemble(dataset.part, shard)
    purged.write(dataset.store, purged.Purged({"video1": "on request", "elsewhere": "on request"}))
    complete_small(dataset.store)
    for content in (None, b"", b"{"):
        path = dataset.path("purged.json")
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        report = mend(dataset.folder).report
        assert purged.read(dataset.store) == purged.Purged({"video1": "on request"})
        assert "with 1 ids; ids of no row are lost" in "".join(report.done)
        assert problems(dataset.folder) == []


def test_rows_that_were_purged_do_not_come_back_where_nothing_names_them(tmp_path):
    dataset = small_dataset.make(tmp_path / "out")
    for number, planned in enumerate(dataset.rows):
        dataset.write(planned, "purged" if number == 1 else None, **({"message": "on request"} if number == 1 else {}))
    for shard in range(dataset.part.shards):
        assemble(dataset.part, shard)
    purged.write(dataset.store, purged.Purged({"video1": "on request"}))
    complete_small(dataset.store)
    dataset.path("purged.json").unlink()
    flip(dataset.path(f"ledger/{SMALL}.parquet"), 5000)
    for _ in range(2):
        (left,) = mend(dataset.folder).report.left
        assert left.where == f"ledger/{SMALL}.parquet" and "Give their ids to `kinetics-prep purge" in left.what
    purged.write(small_dataset.store_of(dataset.folder), purged.Purged({"video1": "on request"}))
    mend(dataset.folder)
    assert problems(dataset.folder) == []
    assert [row.reason for row in ledger.read(dataset.store, left.where)] == [None, "purged", None]


# Rows in two ledgers ----------------------------------------------------------------------------


def add_refresh(dataset, numbers: tuple[int, ...]) -> None:
    """Adds a part of clips that a search found, although the first part may have written them."""
    store, current = dataset.store, state.read(dataset.store)
    rows = [dataclasses.replace(dataset.rows[number], shard=at // 3, index=at % 3) for at, number in enumerate(numbers)]
    entry = plan.write(store, "plan/train-refresh1.parquet", rows)
    current = dataclasses.replace(current, plans={**current.plans, "train-refresh1": entry})
    state.write(store, current)
    (_, part) = list_parts(store, current, recipe_file.read(store))
    for row in rows:
        small_dataset.SmallDataset(part, rows).write(row)
    assemble(part, 0)
    complete_small(store)


def test_a_later_part_loses_the_rows_that_the_first_has_written(tmp_path):
    dataset = small(tmp_path / "out", {})
    first = {key: content for key, content in tree(dataset.folder).items() if key != "dataset.json"}
    add_refresh(dataset, (1, 3))
    assert any("rows are not the" in problem for problem in problems(dataset.folder))
    outcome = mend(dataset.folder)
    assert (
        outcome.report.done[0] == "plan/train-refresh1.parquet: 2 rows of it were written before; they left its shards"
    )
    assert problems(dataset.folder) == []
    after = tree(dataset.folder)
    assert after.keys() == {*first, "dataset.json"}
    assert {key for key in first if after[key] != first[key]} == {"state.json"}


def test_what_a_later_part_alone_has_is_kept(tmp_path):
    dataset = small(tmp_path / "out", {1: "network"})
    add_refresh(dataset, (1, 3))
    found = small_dataset.record_of(dataset.rows[1]).to_bytes()
    outcome = mend(dataset.folder)
    assert outcome.report.left == [] and problems(dataset.folder) == []
    assert records(dataset.folder)["tfrecord", dataset.rows[1].clip_id] == found
    assert manifest.read(dataset.store)["splits"]["train"]["written"] == 5
    ledgers = [
        row.clip_id
        for key in dataset.path("ledger").iterdir()
        for row in ledger.read(dataset.store, f"ledger/{key.name}")
    ]
    assert sorted(ledgers) == sorted(row.clip_id for row in dataset.rows)


def test_a_row_that_was_found_later_leaves_its_old_ledger(tmp_path):
    dataset = small(tmp_path / "out", {1: "network"})
    add_refresh(dataset, (1,))
    (problem,) = [each for each in problems(dataset.folder) if each.startswith("ledger/")]
    assert problem == f"ledger/{SMALL}.parquet: 1 rows of it were found later, and are in two ledgers"
    mend(dataset.folder)
    assert problems(dataset.folder) == []


# What is not touched ----------------------------------------------------------------------------


def test_files_too_many_are_named_and_left_alone(folder, capsys):
    (folder / "tfrecord/mine.txt").write_text("mine")
    before = tree(folder)
    assert main(["repair", str(folder)]) == OK
    assert "tfrecord/mine.txt: is not a file of this data set, and was left alone" in capsys.readouterr().err
    assert tree(folder) == before


def test_a_folder_that_is_not_ours_is_not_touched(tmp_path, capsys):
    (tmp_path / "recipe.json").write_text("{}")
    before = tree(tmp_path)
    assert main(["repair", str(tmp_path)]) == CANNOT_GO_ON
    assert main(["repair", str(tmp_path / "none")]) == CANNOT_GO_ON
    assert tree(tmp_path) == before
    assert capsys.readouterr().err.count("nothing was begun here") == 2


@pytest.mark.parametrize("name", ["state.json", "recipe.json", "dataset.json"])
def test_a_document_of_a_newer_version_is_left_alone(name, folder, monkeypatch):
    content = documents.read(FolderStore(folder), name)
    monkeypatch.setattr(documents, "VERSION", 3)
    (folder / name).write_bytes(documents.encode(content | {"version": 3}))
    monkeypatch.undo()
    before = tree(folder)
    with pytest.raises(NewerFormat, match="upgrade kinetics-prep"):
        mend(folder)
    assert tree(folder) == before


def test_a_flipped_version_is_damage(folder, complete):
    path = folder / "recipe.json"
    path.write_bytes(path.read_bytes().replace(b'"version": 2', b'"version": 3'))
    mend(folder)
    assert path.read_bytes() == (complete / "recipe.json").read_bytes()


def test_a_ledger_that_is_as_it_was_written_is_never_replaced(folder, monkeypatch):
    path = folder / LEDGER
    before = tree(folder)
    read = ledger.read

    def read_but_one(store, key):
        if key == LEDGER:
            raise CorruptShard(f"{store.place}/{key} has other columns than schemas/ledger.json")
        return read(store, key)

    monkeypatch.setattr(ledger, "read", read_but_one)
    outcome = mend(folder)
    assert [(left.where, "left alone" in left.what) for left in outcome.report.left] == [(LEDGER, True)]
    assert tree(folder) == before and path.is_file()


# Other commands ---------------------------------------------------------------------------------


def test_flow_says_that_repair_mends_a_shard_of_another_size(folder):
    for name in (TFRECORD, LEDGER):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-1])
        with pytest.raises(CorruptShard, match=rf"{name} is \d+ bytes long, its marker says .*kinetics-prep repair"):
            flow(folder)
        (folder / name).unlink()
        with pytest.raises(CorruptShard, match=rf"{name} is missing, its marker says"):
            flow(folder)
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("content", [None, b"{"])
def test_other_commands_say_that_repair_makes_state_json_anew(content, folder):
    (folder / "state.json").unlink()
    if content is not None:
        (folder / "state.json").write_bytes(content)
    before = tree(folder)
    with pytest.raises(RunError, match="`kinetics-prep repair .*` makes it anew"):
        flow(folder)
    assert tree(folder) == before


def test_flow_with_other_settings_is_refused_where_the_recipe_was_lost(folder):
    (folder / "recipe.json").unlink()
    (folder / "dataset.json").unlink()
    with pytest.raises(RunError, match=r"lost its recipe\.json, and its shards were made with other settings"):
        prepared.make(folder, (str(sample.ANNOTATIONS),), dataclasses.replace(prepared.RECIPE, short_side=48))
    flow(folder)
    assert problems(folder) == []


def test_a_lost_plan_comes_back_with_the_same_rows_or_not_at_all(folder, tmp_path, complete):
    (folder / "plan/train.parquet").unlink()
    other = tmp_path / "annotations.csv"
    lines = sample.ANNOTATIONS.read_text().splitlines()
    other.write_text("\n".join(line for line in lines if "pan_left_1" not in line) + "\n")
    with pytest.raises(RunError, match=r"plan/train\.parquet is damaged or missing, and planned other rows"):
        prepared.make(folder, (str(other),), prepared.RECIPE)
    flow(folder)
    assert (folder / "plan/train.parquet").read_bytes() == (complete / "plan/train.parquet").read_bytes()


def test_an_unfinished_folder_is_mended_and_stays_unfinished(tmp_path, complete):
    folder = shutil.copytree(complete, tmp_path / "out")
    store = FolderStore(folder)
    unfinished(folder)
    (folder / TFRECORD).unlink()
    outcome = mend(folder)
    assert not outcome.is_finished and outcome.report.lost == []
    assert (folder / TFRECORD).read_bytes() == (complete / TFRECORD).read_bytes()
    assert state.read(store).name == state.PREPARING
    flow(folder)
    assert problems(folder) == []


def unfinished(folder: Path) -> None:
    """Brings a folder back to where its last shard of val was not written yet."""
    store, name = FolderStore(folder), "val-00001-of-00002"
    for key in ("dataset.json", f"markers/{name}.json", f"ledger/{name}.parquet"):
        (folder / key).unlink()
    for form in SHARD_FORMATS:
        (folder / layout.data_key(name, form)).unlink()
    scratch = folder / ".work/tmp/test"
    scratch.mkdir(parents=True)
    state.write(FolderStore(folder, scratch), dataclasses.replace(state.read(store), is_complete=False))
    shutil.rmtree(folder / ".work")


def test_what_cannot_be_mended_exits_with_4_and_says_which_command_helps(folder, capsys):
    (folder / "plan/train.parquet").unlink()
    (folder / LEDGER).unlink()
    assert main(["repair", str(folder)]) == INVALID
    said = capsys.readouterr().out
    assert "plan/train.parquet: cannot be made from the ledgers: " in said
    assert f"give the same `kinetics-prep flow` command for {folder} once more, then repair" in said


# Killed at every write ---------------------------------------------------------------------------


class Killed(BaseException):
    """What a kill is to this test: nothing catches it."""


class FaultyStore(FolderStore):
    """Dies at its n-th write, before or after it; every further call dies too."""

    left: int | None = None
    writes = 0
    after = False

    def _write(self, call):
        cls = FaultyStore
        if cls.left is not None and cls.left <= 0:
            raise Killed
        cls.writes += 1
        if cls.left is not None:
            cls.left -= 1
            if cls.left == 0 and not cls.after:
                raise Killed
        result = call()
        if cls.left == 0:
            raise Killed
        return result

    def create(self, key, content):
        return self._write(lambda: super(FaultyStore, self).create(key, content))

    def put(self, key, content):
        return self._write(lambda: super(FaultyStore, self).put(key, content))

    def delete(self, key):
        return self._write(lambda: super(FaultyStore, self).delete(key))


@contextlib.contextmanager
def without_lease(root, work):
    scratch = root / work / "tmp" / uuid.uuid4().hex
    scratch.mkdir(parents=True)
    yield FaultyStore(root, scratch)
    shutil.rmtree(scratch)
    for path in (scratch.parent, scratch.parent.parent):
        with contextlib.suppress(OSError):
            path.rmdir()


SCENES = {
    "documents": ("state.json", "recipe.json", "labels.txt", "plan/train.parquet", "sources.json"),
    "shards": (TFRECORD, PARQUET, MARKER, "ledger/train-00001-of-00003.parquet", "dataset.json"),
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_write_it_goes_on_with_the_same_command(scene, after, tmp_path, complete, monkeypatch):
    monkeypatch.setattr(door, "hold_lease", without_lease)
    monkeypatch.setattr(FaultyStore, "after", after)
    expected = records(complete)
    number, was_killed = 0, True
    while was_killed:
        number += 1
        folder = shutil.copytree(complete, tmp_path / f"{number}")
        for name in SCENES[scene]:
            flip(folder / name, 300) if name.endswith("tfrecord") else (folder / name).write_bytes(b"{")
        monkeypatch.setattr(FaultyStore, "left", number)
        try:
            mend(folder, (str(sample.VIDEOS),))
            was_killed = False
        except Killed:
            pass
        monkeypatch.setattr(FaultyStore, "left", None)
        mend(folder, (str(sample.VIDEOS),))
        assert problems(folder) == [], number
        assert records(folder) == expected
        shutil.rmtree(folder)
    assert number > 6


def test_killed_while_rows_in_two_ledgers_are_parted_it_goes_on(tmp_path, monkeypatch):
    dataset = small(tmp_path / "before", {1: "network"})
    add_refresh(dataset, (1, 3))
    shutil.rmtree(dataset.folder / layout.WORK)
    monkeypatch.setattr(door, "hold_lease", without_lease)
    number, was_killed = 0, True
    while was_killed:
        number += 1
        folder = shutil.copytree(dataset.folder, tmp_path / f"{number}")
        monkeypatch.setattr(FaultyStore, "left", number)
        try:
            mend(folder)
            was_killed = False
        except Killed:
            pass
        monkeypatch.setattr(FaultyStore, "left", None)
        mend(folder)
        assert problems(folder) == [], number
        assert manifest.read(FolderStore(folder))["splits"]["train"]["written"] == 5
    assert number > 8


def test_killed_and_followed_by_flow_it_loses_nothing(tmp_path, complete, monkeypatch):
    monkeypatch.setattr(door, "hold_lease", without_lease)
    for number in range(1, 30, 3):
        folder = shutil.copytree(complete, tmp_path / f"{number}")
        flip(folder / TFRECORD, 300)
        (folder / PARQUET).unlink()
        monkeypatch.setattr(FaultyStore, "left", number)
        with contextlib.suppress(Killed):
            mend(folder)
        monkeypatch.setattr(FaultyStore, "left", None)
        with contextlib.suppress(CorruptShard), open_run(prepared_job(folder)) as run:
            prepared.prepare_clips(run)
            finish(run)
        mend(folder)
        assert problems(folder) == [] and records(folder) == records(complete)


def prepared_job(folder: Path):
    from kinetics_prep.annotations.selection import Selection
    from kinetics_prep.runs.job import Job

    return Job(Selection((str(sample.ANNOTATIONS),)), Fetching((str(sample.VIDEOS),)), folder, prepared.RECIPE)
