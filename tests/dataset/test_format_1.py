"""Folders that an older kinetics-prep wrote: read as they are, and adopted by the first command that writes."""

import dataclasses
import hashlib
import json
import shutil
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import QUICK_TVL1
from prepared import prepare_clips

from kinetics_prep.annotations.selection import Selection
from kinetics_prep.cli import OK, main
from kinetics_prep.dataset import ledger, recipe_file, status, validate
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.prepared import open_dataset
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import OF_FETCHING, OtherTools
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.runs.job import Job, Resumption
from kinetics_prep.runs.prepare import Summary, finish, open_run, resume_run
from kinetics_prep.sources import Fetching
from kinetics_prep.storage.folder_store import FolderStore

FIXTURES = Path(__file__).parents[1] / "fixtures"
VIDEOS = FIXTURES / "v1_videos"
RECIPE = Recipe(
    "tvl1",
    fps=Fraction(5),
    short_side=32,
    clip_seconds=1.0,
    min_seconds=0.4,
    tvl1=QUICK_TVL1,
    formats=("tfrecord", "parquet"),
    clips_per_shard=2,
)


@pytest.fixture(params=["v1_complete", "v1_refreshed"])
def folder(request, tmp_path) -> Path:
    return copy(request.param, tmp_path)


def copy(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / name, tmp_path / name))


def tree(folder: Path) -> dict[str, str]:
    store = FolderStore(folder)
    return {entry.key: hashlib.sha256(store.read(entry.key)).hexdigest() for entry in store.list()}


def data(folder: Path) -> dict[str, str]:
    return {key: sha256 for key, sha256 in tree(folder).items() if key.startswith(("tfrecord/", "parquet/"))}


def features(folder: Path) -> dict[str, dict]:
    """The features of each record by its split and id, without the digest of the recipe."""
    dataset = open_dataset(folder)
    return {
        f"{split} {record['example/id']}": {**record.features, "kinetics_prep/recipe": ""}
        for split in dataset.splits
        for record in dataset.records(split, "tfrecord")
    }


def problems(folder: Path) -> list[str]:
    return list(map(str, validate.problems(validate.open_folder(folder))))


def flow(folder: Path, **changes) -> Summary:
    job = Job(Selection((str(VIDEOS / "rows.csv"),)), Fetching((str(VIDEOS),)), folder, RECIPE, accept_tools=True)
    with open_run(dataclasses.replace(job, **changes)) as run:
        prepare_clips(run)
        return finish(run)


def refresh(folder: Path) -> Summary:
    with resume_run(Resumption(folder, OF_FETCHING, Fetching((str(VIDEOS),)), accept_tools=True), True) as run:
        prepare_clips(run)
        return finish(run)


def test_it_is_read_as_it_is(folder, capsys):
    before = tree(folder)
    assert problems(folder) == []
    for command in (["status", str(folder)], ["validate", str(folder)]):
        assert main(command) == OK
    said = capsys.readouterr().out
    found = folder.name == "v1_refreshed"
    assert f"train: 6 rows, {4 if found else 3} written" in said
    assert f"{folder}: {5 if found else 4} clips read back, nothing wrong" in said
    for each in status.read_status(folder):
        assert (each.to_go, each.rows) == (0, {"train": 6, "val": 2}[each.split])
    assert tree(folder) == before


def test_its_rows_and_records_have_their_values(folder):
    dataset = open_dataset(folder)
    assert (dataset.splits, dataset.formats, dataset.labels) == (
        ("train", "val"),
        ("tfrecord", "parquet"),
        ("running", "waving"),
    )
    rows = [row for split in dataset.splits for row in dataset.ledger(split)]
    assert {row.fingerprint for row in rows} == {None}  # a column that there was not yet
    reasons = sorted(row.reason for row in rows if row.reason)
    gone = [] if folder.name == "v1_refreshed" else ["not_found"]
    assert reasons == ["duplicate_row", "malformed_row", *gone, "unreadable"]
    for split in dataset.splits:
        expected = [row.clip_id for row in dataset.ledger(split) if row.status == ledger.WRITTEN]
        for form in dataset.formats:
            records = list(dataset.records(split, form))
            assert [record["example/id"] for record in records] == expected
            assert {record.frame(0).shape for record in records} == {(32, 43, 3)}
            assert {len(record) for record in records} == {5}
            index = ClipIndex.open(folder, split, form)
            assert list(index.ids) == expected
            assert [index.record(number) for number in range(len(index))] == records


def test_a_shard_is_inspected(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for the contact sheet
    for path in (folder / "tfrecord" / "train-00000-of-00003.tfrecord", *sorted((folder / "parquet").glob("val*"))):
        assert main(["inspect", str(path)]) == OK
    assert capsys.readouterr().out.count("example/id") == 2


def test_it_goes_on_under_the_digest_that_its_records_bear(tmp_path):
    folder = copy("v1_complete", tmp_path)
    digest, before = recipe_file.read(FolderStore(folder)).digest, data(folder)
    summary = flow(folder, retry=("not_found",))
    assert str(summary.outcome) == "looked for 1 rows again: 1 found, in 1 new shard"
    assert (summary.rows, summary.written) == (8, 5)
    assert data(folder).items() > before.items()
    after = recipe_file.read(FolderStore(folder))
    assert (after.digest, after.tools[0].fingerprint) == (digest, "")
    assert {record["kinetics_prep/recipe"] for record in open_dataset(folder).records("train")} == {digest}
    assert states.read(FolderStore(folder)).is_complete
    assert problems(folder) == []
    # The clip that the older version found has the same bytes.
    twin = FIXTURES / "v1_refreshed" / "tfrecord" / "train-refresh1-00000-of-00001.tfrecord"
    assert (folder / "tfrecord" / twin.name).read_bytes() == twin.read_bytes()


def test_a_refresh_adds_to_one_that_was_refreshed(tmp_path):
    folder = copy("v1_refreshed", tmp_path)
    before = data(folder)
    assert refresh(folder).outcome is None  # nothing to look for: the damaged video is no matter of fetching
    assert data(folder) == before
    assert problems(folder) == []


def test_a_stopped_run_goes_on(tmp_path):
    folder = copy("v1_complete", tmp_path)
    before = data(folder)
    name = "train-00002-of-00003"
    for path in (folder / "dataset.json", folder / "markers" / f"{name}.json", folder / "ledger" / f"{name}.parquet"):
        path.unlink()
    objects = folder / ".work" / "train" / "00002"
    objects.mkdir(parents=True)
    (objects / "00000.written").write_bytes(b"an object as it was then")
    assert flow(folder).written == 4
    after = data(folder)
    # Parquet files say the number of their format since.
    changed = {key for key in before if before[key] != after[key]}
    assert (after.keys(), changed) == (before.keys(), {f"parquet/{name}.parquet"})
    assert problems(folder) == []
    assert not (folder / ".work").exists()


def test_a_run_that_was_killed_is_told_of_as_it_is_and_goes_on(tmp_path):
    folder = copy("v1_stopped", tmp_path)
    before, committed = tree(folder), data(folder)
    digest = recipe_file.read(FolderStore(folder)).digest
    assert [(each.split, each.rows, each.written) for each in status.read_status(folder)] == [
        ("train", 6, 2),
        ("val", 2, 0),
    ]
    assert tree(folder) == before
    recipe = dataclasses.replace(RECIPE, formats=("tfrecord",))
    summary = flow(folder, recipe=recipe)
    assert (summary.rows, summary.written) == (8, 5)  # video3 is there now
    assert data(folder).items() > committed.items()
    # As in the folder of which the run was not killed; it has two formats, and so another digest.
    assert features(folder).items() > features(FIXTURES / "v1_complete").items()
    assert {each["kinetics_prep/recipe"] for each in open_dataset(folder).records("train")} == {digest}
    assert problems(folder) == []
    assert not (folder / ".work").exists()


def test_a_refresh_that_was_killed_before_it_amended_ledgers_is_put_right(tmp_path):
    folder = copy("v1_refreshed", tmp_path)
    old = FIXTURES / "v1_complete"
    for path in [*old.glob("ledger/train-0*"), *old.glob("markers/train-0*")]:
        shutil.copy(path, folder / path.relative_to(old))
    (folder / "dataset.json").unlink()
    assert [each.to_go for each in status.read_status(folder)] == [0, 0]
    summary = flow(folder)
    assert (summary.rows, summary.written) == (8, 5)
    assert problems(folder) == []


def test_other_tools_need_a_word(tmp_path):
    folder = copy("v1_complete", tmp_path)
    content = json.loads((folder / "recipe.json").read_text())
    content["versions"]["pillow"] = "11.0.0"
    content["digest"] = recipe_file._digest([content["recipe"], content["versions"]])
    (folder / "recipe.json").write_text(json.dumps(content))
    before = tree(folder)
    with pytest.raises(OtherTools, match=r"pillow is 11\.0\.0 there.*--accept-tools"):
        flow(folder, accept_tools=False)
    assert {key: before[key] for key in before if key != "recipe.json"}.items() <= tree(folder).items()
    assert flow(folder).rows == 8
