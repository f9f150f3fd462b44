"""A run from the outside: opened, resumed, finished; on a folder whose objects are written by hand."""

import dataclasses
import json
from pathlib import Path

import pytest
import small_dataset
from small_dataset import RECIPE

from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset import manifest, objects, plan
from kinetics_prep.dataset.layout import Layout, plan_key
from kinetics_prep.dataset.part import Part, rows_of
from kinetics_prep.dataset.shards import assemble
from kinetics_prep.errors import BadOption, FolderInUse, ForeignFolder, IncompleteShard, OtherRecipe, RunError
from kinetics_prep.flow import Hardware
from kinetics_prep.runs import prepare
from kinetics_prep.runs.job import Job, Resumption
from kinetics_prep.runs.prepare import PrepareRun, finish, open_run, resume_run, summarize
from kinetics_prep.sources import Fetching

ROWS = [f"{label},video{k},{k},{k + 1},{split}" for k, (label, split) in enumerate(
    [("running", "train"), ("walking", "train"), ("running", "train"), ("walking", "train"), ("running", "val")]
)]  # fmt: skip


@pytest.fixture
def videos(tmp_path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "video0.mp4").touch()
    return folder


@pytest.fixture
def job(tmp_path, videos) -> Job:
    (tmp_path / "rows.csv").write_text("label,youtube_id,time_start,time_end,split\n" + "\n".join(ROWS))
    selection, fetching = Selection((str(tmp_path / "rows.csv"),)), Fetching((str(videos),))
    return Job(selection, fetching, tmp_path / "out", RECIPE)


def carry_through(run: PrepareRun, refused: dict[str, str]) -> None:
    """Writes an object for each row that lacks one, by hand, and assembles the shards."""
    for part, shard, _ in list(run.pending()):
        dataset = small_dataset.SmallDataset(part, [])
        for row in missing_rows(part, shard):
            dataset.write(row, refused.get(row.media_id))
        assemble(part, shard)


def missing_rows(part: Part, shard: int) -> list[PlanRow]:
    """Rows of a shard without an object."""
    there = objects.existing_objects(part, shard)
    return [row for row in rows_of(part, shard) if part.object_key(row) not in there]


def resumption(job: Job, *reasons: str, **changes) -> Resumption:
    """`kinetics-prep retry`, or `refresh`, without a place of videos."""
    return Resumption(job.output, reasons, Fetching(()), **changes)


def test_a_new_folder_is_planned_with_its_settings(job, videos):
    with open_run(job) as run:
        assert [(part.split, part.rows, part.shards, part.refresh) for part in run.parts] == [
            ("train", 4, 2, 0),
            ("val", 1, 1, 0),
        ]
        assert (run.rows, run.labels.labels) == (5, ("running", "walking"))
        assert [(part.split, shard, keys) for part, shard, keys in run.pending()] == [
            ("train", 0, ()),
            ("train", 1, ()),
            ("val", 0, ()),
        ]
        assert run.annotations == ("rows.csv: kinetics-csv, 5 rows",)
        assert len(list(plan.read(run.store, plan_key("train")))) == 4
        assert json.loads((job.output / "sources.json").read_text())["videos"] == [str(videos)]
        assert run.context.digest == run.parts[0].recipe == small_dataset.digest()
        assert json.loads(run.context.versions).keys() >= {"kinetics-prep", "ffmpeg", "engine"}
        assert run.count_rows() == {"written": 0, "refused": 0}


def test_a_run_is_finished_when_every_row_is_accounted_for(job):
    with open_run(job) as run:
        carry_through(run, {"video1": "network", "video4": "private"})
        summary = finish(run)
    assert (summary.rows, summary.written, summary.refused) == (5, 3, {"network": 1, "private": 1})
    assert summary.refused_rows == 2
    assert str(summary) == "5 rows, 3 written, 2 refused (1 network, 1 private)"
    content = manifest.read(Layout(job.output).store)
    sizes = [path.stat().st_size for folder in ("tfrecord", "parquet") for path in (job.output / folder).iterdir()]
    assert summary.bytes == sum(sizes)
    assert {split: entry["rows"] for split, entry in content["splits"].items()} == {"train": 4, "val": 1}
    assert not (job.output / ".work").exists()
    assert not run.folder.state.search and run.folder.state.is_complete


def test_a_run_with_a_shard_missing_is_not_finished(job):
    with open_run(job) as run:
        with pytest.raises(IncompleteShard, match="2 of 2 shards are missing, such as .*train-00000-of-00002"):
            finish(run)
        assert not (job.output / "dataset.json").exists()


def test_work_of_a_split_that_is_under_way_survives_the_end_of_another(job):
    train = dataclasses.replace(job, selection=dataclasses.replace(job.selection, splits=("train",)))
    val = dataclasses.replace(job, selection=dataclasses.replace(job.selection, splits=("val",)))
    with open_run(train) as run:
        part = run.parts[0]
        small_dataset.SmallDataset(part, []).write(missing_rows(part, 0)[0])
    with open_run(val) as run:
        carry_through(run, {})
        summary = finish(run)
        assert (summary.rows, summary.written) == (1, 1)
        assert not run.folder.state.is_complete
    assert len(list((job.output / ".work/objects/000001/train/00000").iterdir())) == 1
    with open_run(train) as run:
        assert run.count_rows() == {"written": 1, "refused": 0}


def test_an_interrupted_run_goes_on_with_what_is_missing(job):
    with open_run(job) as run:
        part = run.parts[0]
        first = missing_rows(part, 0)[0]
        small_dataset.SmallDataset(part, []).write(first)
    with open_run(job) as run:
        assert first not in missing_rows(run.parts[0], 0)
        carry_through(run, {})
        assert finish(run).written == 5
    with open_run(job) as run:
        assert list(run.pending()) == []


CHANGES = {
    "another rate": ({"recipe": {"fps": 6}}, "fps is 5 there and 6 here"),
    "other rows": ({"selection": {"limit": 2}}, "plans other rows: 4 there, 2 here; the first to differ is video"),
    "other labels": (
        {"labels": "walking\nrunning\n"},
        "has other labels, or another order",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_in_use_takes_no_other_settings(change, job, tmp_path):
    with open_run(job) as run:
        carry_through(run, {})
    changes, message = CHANGES[change]
    other = job
    if "labels" in changes:
        (tmp_path / "labels.txt").write_text(changes["labels"])
        chosen = dataclasses.replace(job.selection, labels=tmp_path / "labels.txt")
        other = dataclasses.replace(job, selection=chosen)
    for name in changes.keys() & {"recipe", "selection"}:
        other = dataclasses.replace(other, **{name: dataclasses.replace(getattr(job, name), **changes[name])})
    with pytest.raises(OtherRecipe, match=message), open_run(other):
        pass


def test_a_folder_in_which_nothing_was_prepared_takes_other_settings(job):
    with open_run(job):
        pass
    other = dataclasses.replace(job, recipe=dataclasses.replace(RECIPE, fps=6, clips_per_shard=2))
    with open_run(other) as run:
        assert run.parts[0].shards == 2
        assert json.loads((job.output / "recipe.json").read_text())["recipe"]["fps"] == "6"


@pytest.mark.parametrize("number", [0, 4])
def test_a_folder_in_which_one_clip_was_prepared_takes_no_other_settings(number, job):
    with open_run(job) as run:
        part, shard, _ = list(run.pending())[number // 2]
        small_dataset.SmallDataset(part, []).write(missing_rows(part, shard)[0])
    before = (job.output / "recipe.json").read_bytes()
    other = dataclasses.replace(job, recipe=dataclasses.replace(RECIPE, fps=6))
    with pytest.raises(OtherRecipe, match="fps is 5 there and 6 here"), open_run(other):
        pass
    assert (job.output / "recipe.json").read_bytes() == before
    with open_run(job) as run:
        assert run.count_rows() == {"written": 1, "refused": 0}


def test_a_mistake_in_the_places_is_found_before_anything_is_written(job):
    other = dataclasses.replace(job, fetching=Fetching(("/no/such/folder",)))
    with pytest.raises(BadOption, match="/no/such/folder"), open_run(other):
        pass
    assert not job.output.exists()


# Resumed ----------------------------------------------------------------------------------------


def test_a_folder_is_resumed_from_what_is_in_it(job, videos, tmp_path):
    with open_run(job) as run:
        carry_through(run, {"video1": "network"})
        finish(run)
    (tmp_path / "rows.csv").unlink()
    with resume_run(resumption(job)) as resumed:
        assert [(part.name, part.rows, part.plan_sha256) for part in resumed.parts] == [
            (part.name, part.rows, part.plan_sha256) for part in run.parts
        ]
        assert resumed.context.recipe == RECIPE
        assert resumed.context.fetching.videos == (str(videos),)
        assert resumed.context.fetching.short_side == RECIPE.short_side
        assert resumed.labels == run.labels
        assert list(resumed.pending()) == []
        assert resumed.count_rows() == {"written": 4, "refused": 1}


def test_what_was_never_begun_cannot_be_resumed(tmp_path):
    with (
        pytest.raises(BadOption, match="nothing was begun here by kinetics-prep flow"),
        resume_run(Resumption(tmp_path, (), Fetching(()))),
    ):
        pass


def test_gpus_are_chosen_only_where_the_engine_has_some(job):
    with open_run(job):
        pass
    with pytest.raises(BadOption, match="does not run on a GPU"), resume_run(resumption(job, hardware=Hardware((0,)))):
        pass


def test_rows_are_tried_again_for_the_reasons_asked_for(job):
    with open_run(job) as run:
        carry_through(run, {"video1": "network", "video4": "private"})
        finish(run)
    with resume_run(resumption(job, "network"), needs_complete=True) as run:
        assert run.context.fetching.ask_again == ("network",)
        assert [(part.name, part.rows) for part in run.searches] == [("search1-train", 1)]
        ((part, shard, keys),) = run.pending()
        assert [row.media_id for row in rows_of(part, shard)] == ["video1"] and keys == ()
        assert run.rows == 6
        assert run.count_rows() == {"written": 3, "refused": 2}
        carry_through(run, {})
        assert run.count_rows() == {"written": 4, "refused": 2}
        assert (job.output / "dataset.json").exists()  # of what is complete, until the finds are packed
        summary = finish(run)
    assert (summary.written, summary.refused) == (4, {"private": 1})
    with resume_run(resumption(job, "network")) as run:
        assert run.searches == ()
        assert [part.name for part in run.parts] == ["train", "train-refresh1", "val"]
        assert run.rows == 5


def test_what_a_search_did_not_try_is_no_end(job):
    with open_run(job) as run:
        carry_through(run, {"video1": "network", "video4": "private"})
        finish(run)
    with (
        resume_run(resumption(job, "network")) as run,
        pytest.raises(IncompleteShard, match="1 rows have not been tried again"),
    ):
        finish(run)


def test_an_unfinished_folder_is_resumed_unless_it_must_be_finished(job):
    with open_run(job) as run:
        dataset = small_dataset.SmallDataset(run.parts[0], [])
        dataset.write(missing_rows(run.parts[0], 0)[0])
    with resume_run(resumption(job)) as run:
        assert run.count_rows() == {"written": 1, "refused": 0}
    with (
        pytest.raises(BadOption, match="is not finished: 3 shards are missing, such as train-00000-of-00002"),
        resume_run(resumption(job), needs_complete=True),
    ):
        pass


def test_a_run_that_only_looks_at_what_was_done_reads_each_object_once(job, monkeypatch):
    with open_run(job) as run:
        for row in missing_rows(run.parts[0], 0):
            small_dataset.SmallDataset(run.parts[0], []).write(row)
        assert run.count_rows() == {"written": 3, "refused": 0}
        monkeypatch.setattr(objects, "read_ledger_row", lambda *arguments: pytest.fail("it was read once more"))
        assert run.count_rows() == {"written": 3, "refused": 0}


def test_annotations_are_read_once_for_a_folder(job, monkeypatch):
    """Of 650,000 rows it would take a minute, and a run that goes on needs the plan alone."""
    with open_run(job) as run:
        carry_through(run, {})
        finish(run)
    monkeypatch.setattr(prepare, "select_rows", lambda *arguments: pytest.fail("they were read once more"))
    with open_run(job) as run:
        assert run.annotations == ("rows.csv: kinetics-csv, 5 rows",)
        assert [part.rows for part in run.parts] == [4, 1]
    others = dataclasses.replace(job, selection=dataclasses.replace(job.selection, splits=("val",)))
    monkeypatch.undo()
    with open_run(others) as run:
        assert [part.name for part in run.parts] == ["val"]


def test_a_mistake_in_the_annotations_leaves_no_folder_behind(job, tmp_path):
    (tmp_path / "rows.csv").write_text("")
    with pytest.raises(RunError), open_run(job):
        pass
    assert not job.output.exists()


def test_a_folder_of_others_is_not_touched(job):
    job.output.mkdir()
    (job.output / "labels.txt").write_text("mine\n")
    message = "holds files that kinetics-prep did not write, such as labels.txt"
    with pytest.raises(ForeignFolder, match=message), open_run(job):
        pass
    assert [path.name for path in job.output.iterdir()] == ["labels.txt"]
    assert (job.output / "labels.txt").read_text() == "mine\n"


def test_two_runs_do_not_write_to_one_folder(job):
    with open_run(job):
        with pytest.raises(FolderInUse, match="another run .process .* is writing to"), open_run(job):
            pass
        with pytest.raises(FolderInUse, match="another run .process .* is writing to"), resume_run(resumption(job)):
            pass
    with open_run(job) as run:
        carry_through(run, {})
        finish(run)


def test_formats_and_clips_a_shard_are_no_part_of_a_records_digest(job):
    with open_run(job) as run:
        carry_through(run, {})
        digest = run.context.digest
    for change in ({"formats": ("parquet",)}, {"clips_per_shard": 2}):
        other = dataclasses.replace(job, recipe=dataclasses.replace(RECIPE, **change))
        (name,) = change
        message = f"{name} is .* there and .* here. .*kinetics-prep convert .* changes it"
        with pytest.raises(OtherRecipe, match=message), open_run(other):
            pass
        with open_run(dataclasses.replace(other, output=job.output.with_name(name))) as run:
            assert run.context.digest == digest


def test_a_summary_is_of_the_splits_that_were_asked_for():
    files = {"tfrecord": {"bytes": 10}, "parquet": {"bytes": 5}}
    content = {
        "splits": {
            "train": {"rows": 5, "written": 2, "refused": {"geo": 1, "network": 2}, "shards": [{"files": files}] * 2},
            "val": {"rows": 2, "written": 0, "refused": {"geo": 2}, "shards": [{"files": {}}]},
        }
    }
    train, both = summarize(content, ["train"]), summarize(content, ["train", "val"])
    assert (train.rows, train.written, train.refused, train.bytes) == (5, 2, {"network": 2, "geo": 1}, 30)
    assert (both.rows, both.written, both.refused, both.bytes) == (7, 2, {"geo": 3, "network": 2}, 30)
    assert list(both.refused) == ["geo", "network"]  # the most frequent first
    assert str(prepare.Summary(1, 1, {}, 0)) == "1 rows, 1 written, 0 refused"
