"""A run from the outside: opened, resumed, reopened, finished; on a folder whose objects are written by hand."""

import json
from pathlib import Path

import pytest
import small_dataset
from small_dataset import RECIPE

from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset import ledger, manifest, objects, plan
from kinetics_prep.dataset.part import rows_of
from kinetics_prep.dataset.shards import assemble
from kinetics_prep.errors import BadOption, IncompleteShard, OtherRecipe
from kinetics_prep.flow import Hardware
from kinetics_prep.runs import prepare
from kinetics_prep.runs.job import Job
from kinetics_prep.runs.prepare import finish, open_run, reopen_refused, resume_run, summarize
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


def carry_through(run, refused: dict[str, str]) -> None:
    """Writes an object for each row that lacks one, by hand, and assembles the shards."""
    for part, shard in list(run.pending()):
        dataset = small_dataset.SmallDataset(part, [])
        for row in objects.missing_rows(part, rows_of(part, shard)):
            dataset.write(row, refused.get(row.media_id))
        assemble(part, shard)


def test_a_new_folder_is_planned_with_its_settings(job, videos):
    with open_run(job) as run:
        assert [(part.split, part.rows, part.shards, part.refresh) for part in run.parts] == [
            ("train", 4, 2, 0),
            ("val", 1, 1, 0),
        ]
        assert (run.rows, run.labels.labels) == (5, ("running", "walking"))
        assert [(part.split, shard) for part, shard in run.pending()] == [("train", 0), ("train", 1), ("val", 0)]
        assert run.annotations == ("rows.csv: kinetics-csv, 5 rows",)
        assert len(list(plan.read(run.layout.plan("train")))) == 4
        assert json.loads(run.layout.sources.read_text())["videos"] == [str(videos)]
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
    content = manifest.read(run.layout)
    sizes = [path.stat().st_size for folder in ("tfrecord", "parquet") for path in (job.output / folder).iterdir()]
    assert summary.bytes == sum(sizes)
    assert {split: entry["rows"] for split, entry in content["splits"].items()} == {"train": 4, "val": 1}
    assert not run.layout.work.exists()


def test_a_run_with_a_shard_missing_is_not_finished(job):
    with open_run(job) as run:
        with pytest.raises(IncompleteShard, match="2 of 2 shards are missing, such as train-00000-of-00002"):
            finish(run)
        assert not run.layout.manifest.exists()


def test_work_of_a_split_that_is_under_way_survives_the_end_of_another(job):
    import dataclasses

    train = dataclasses.replace(job, selection=dataclasses.replace(job.selection, splits=("train",)))
    val = dataclasses.replace(job, selection=dataclasses.replace(job.selection, splits=("val",)))
    with open_run(train) as run:
        part = run.parts[0]
        small_dataset.SmallDataset(part, []).write(objects.missing_rows(part, rows_of(part, 0))[0])
    with open_run(val) as run:
        carry_through(run, {})
        summary = finish(run)
        assert (summary.rows, summary.written) == (1, 1)
    assert objects.count_objects(run.layout, "train", 0) == {"written": 1, "refused": 0}
    with open_run(train) as run:
        assert run.count_rows() == {"written": 1, "refused": 0}


def test_an_interrupted_run_goes_on_with_what_is_missing(job):
    with open_run(job) as run:
        part = run.parts[0]
        first = objects.missing_rows(part, rows_of(part, 0))[0]
        small_dataset.SmallDataset(part, []).write(first)
    with open_run(job) as run:
        assert first not in objects.missing_rows(run.parts[0], rows_of(run.parts[0], 0))
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
    import dataclasses

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
    import dataclasses

    with open_run(job):
        pass
    other = dataclasses.replace(job, recipe=dataclasses.replace(RECIPE, fps=6, clips_per_shard=2))
    with open_run(other) as run:
        assert run.parts[0].shards == 2
        assert json.loads(run.layout.recipe.read_text())["recipe"]["fps"] == "6"


def test_a_mistake_in_the_places_is_found_before_anything_is_written(job):
    import dataclasses

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
    with resume_run(job.output, Fetching(()), ask_again=("network",)) as resumed:
        assert resumed.parts == run.parts
        assert resumed.context.recipe == RECIPE
        assert resumed.context.fetching.videos == (str(videos),)
        assert resumed.context.fetching.ask_again == ("network",)
        assert resumed.context.fetching.short_side == RECIPE.short_side
        assert resumed.labels == run.labels
        assert list(resumed.pending()) == []
        assert resumed.count_rows() == {"written": 4, "refused": 1}


def test_what_was_never_begun_cannot_be_resumed(tmp_path):
    with (
        pytest.raises(BadOption, match="nothing was begun here by kinetics-prep flow"),
        resume_run(tmp_path, Fetching(())),
    ):
        pass


def test_gpus_are_chosen_only_where_the_engine_has_some(job):
    with open_run(job):
        pass
    with pytest.raises(BadOption, match="does not run on a GPU"), resume_run(job.output, Fetching(()), Hardware((0,))):
        pass


def test_reopening_forgets_refusals_and_hides_the_manifest_until_the_run_is_through(job):
    with open_run(job) as run:
        carry_through(run, {"video1": "network", "video4": "private"})
        finish(run)
    with resume_run(job.output, Fetching(())) as run:
        reopen_refused(run, ())
        assert run.layout.manifest.exists() and list(run.pending()) == []
        reopen_refused(run, ("network",))
        assert not run.layout.manifest.exists()
        (pending,) = run.pending()
        assert [row.media_id for row in objects.missing_rows(pending[0], rows_of(*pending))] == ["video1"]
        carry_through(run, {})
        assert finish(run).refused == {"private": 1}


def test_a_refresh_that_was_cut_short_is_completed_first(job):
    """Its clips stand in shards of their own, and still in the ledger of the first plan."""
    import dataclasses

    with open_run(job) as run:
        carry_through(run, {"video1": "network"})
        part = run.parts[0]
        missing = next(row for row in plan.read(part.plan) if row.media_id == "video1")
        found = dataclasses.replace(missing, shard=0, index=0)
        plan.write(run.layout.plan("train-refresh1"), [found], 1)
        sha256 = plan.digest_of(run.layout.plan("train-refresh1")).sha256()
        later = dataclasses.replace(part, refresh=1, rows=1, plan_sha256=sha256)
        small_dataset.SmallDataset(later, [found]).complete()
    with open_run(job) as run:
        assert [part.name for part in run.parts] == ["train", "val", "train-refresh1"]
        assert run.rows == 5
        summary = finish(run)
    assert (summary.rows, summary.written, summary.refused) == (5, 5, {})
    rows = [row for path in sorted((job.output / "ledger").iterdir()) for row in ledger.read(path)]
    assert sorted(row.clip_id for row in rows) == sorted({row.clip_id for row in rows})


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
