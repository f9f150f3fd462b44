"""Clips that are taken out: nothing is left of them, the others keep their bytes, and no command brings them back."""

import dataclasses
import itertools
import json
import shutil

import changed_folders as folders
import prepared
import pytest
import small_dataset
from changed_folders import complete, each_kill, expect_sound, look, outcomes, rows_of, tree
from killing import Killed, killed_at

from kinetics_prep import sample
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset import layout, ledger, plan, purge, recipe_file, shards, state, status, validate
from kinetics_prep.dataset import purged as purged_file
from kinetics_prep.dataset.convert import Shape, open_conversion
from kinetics_prep.dataset.door import open_for_writing
from kinetics_prep.dataset.part import list_parts
from kinetics_prep.dataset.purge import Request, open_purge
from kinetics_prep.errors import RETRYABLE, BadOption, CorruptShard, NoRoom
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import Record
from kinetics_prep.runs.clip import prepare_row
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


def take_out(folder, *lines, because="asked by its owner", workers=1):
    with open_purge(folder, Request(lines, because)) as opened:
        return opened.carry_out(workers)


def records(folder):
    """Bytes of each record, by format and shard."""
    return {
        path.relative_to(folder).as_posix(): [record.to_bytes() for record in SHARD_FORMATS[form].read_shard(path)]
        for form in SHARD_FORMATS
        for path in sorted((folder / form).glob("*"))
    }


def record_of(number):
    return small_dataset.record_of(folders.ROWS[number])


def expect_nothing_of(folder, record: Record, source: str):
    """Checks that no file holds an image of a record, or where its video came from."""
    images = record.images("image/encoded") + record.images("FORWARD_FLOW/image/encoded")
    for key, content in tree(folder).items():
        assert not any(image in content for image in images), key
        assert source.encode() not in content, key


# A complete folder -----------------------------------------------------------------------------


def test_a_clip_leaves_every_format_and_the_others_keep_their_bytes(folder):
    complete(folder, folders.REFUSED)
    before = records(folder)
    summary = take_out(folder, "video2", workers=2)
    assert summary == purge.Summary(clips=1, shards=1, refused=0, ids=1, unknown=0, is_new=True)
    gone = record_of(2).to_bytes()
    assert any(gone in each for each in before.values())
    assert records(folder) == {key: [each for each in there if each != gone] for key, there in before.items()}
    expect_nothing_of(folder, record_of(2), "video2.mp4")
    expect_sound(folder)


def test_a_row_keeps_what_the_annotations_say_and_nothing_of_its_file(folder):
    dataset = small_dataset.make(folder, rows=list(folders.ROWS))
    facts = {"source": "secret/video0.mp4", "source_kind": "folder", "source_sha256": "a" * 64, "source_bytes": 5}
    more = {"notes": "from secret", "attempts": 2, "saturated_share": 0.5, "record_bytes": 9, "seconds_fetch": 3.0}
    dataset.write(folders.ROWS[0], **facts, **more, taken_as_trimmed=True, ends_early=True, fingerprint="f" * 64)
    for row in folders.ROWS[1:]:
        dataset.write(row)
    for shard in range(3):
        shards.assemble(dataset.part, shard)
    folders.finish(folder)
    take_out(folder, folders.ROWS[0].clip_id)
    (row,) = [row for row in rows_of(folder) if row.reason == "purged"]
    expected = small_dataset.ledger_row(folders.ROWS[0], "purged", fingerprint="f" * 64)
    assert row == dataclasses.replace(expected, message="asked by its owner")
    expect_nothing_of(folder, record_of(0), "secret")


def test_counts_follow_in_marker_manifest_and_status(folder):
    complete(folder, folders.REFUSED)
    take_out(folder, "video0", "video2", "video5")
    content = json.loads((folder / "dataset.json").read_text())
    entry = content["splits"]["train"]
    assert (entry["rows"], entry["written"], content["purged"]) == (7, 1, 3)
    assert entry["refused"] == {"network": 1, "not_found": 1, "purged": 4}  # with the duplicate of video5
    assert [shard["written"] for shard in entry["shards"]] == [0, 1, 0]
    assert entry["shards"][0]["files"] == {}
    assert not (folder / "tfrecord/train-00000-of-00003.tfrecord").exists()
    (split,) = status.read_status(folder)
    assert (split.written, split.refused, split.reasons["purged"]) == (1, 6, 4)
    expect_sound(folder)


def test_rows_that_were_refused_become_purged_too(folder):
    complete(folder, folders.REFUSED)
    summary = take_out(folder, "video1", "video5")
    assert (summary.clips, summary.refused) == (1, 2)
    assert outcomes(folder) == {0: "written", 1: "purged", 2: "written", 3: "written", 4: "not_found"} | {
        5: "purged",
        6: "purged",
    }
    expect_sound(folder)


def test_trainers_read_what_is_left(folder):
    complete(folder)
    take_out(folder, "video0", "video4")
    for form in SHARD_FORMATS:
        clips = ClipIndex.open(folder, "train", form)
        assert [clips[number].clip_id for number in range(len(clips))] == [
            folders.ROWS[number].clip_id for number in (1, 2, 3, 5)
        ]
        assert [clips.record(number).to_bytes() for number in range(4)] == [
            record_of(number).to_bytes() for number in (1, 2, 3, 5)
        ]


def test_finds_of_a_search_are_taken_out_of_their_shards(folder):
    complete(folder, folders.REFUSED)
    folders.refresh(folder, (1, 4))
    take_out(folder, "video4")
    assert outcomes(folder)[1] == "written" and outcomes(folder)[4] == "purged"
    expect_nothing_of(folder, record_of(4), "video4.mp4")
    expect_sound(folder)
    take_out(folder, "video1")
    assert not list((folder / "tfrecord").glob("train-refresh1-*"))
    expect_sound(folder)


def test_a_second_purge_adds_and_the_same_again_changes_nothing(folder):
    complete(folder)
    take_out(folder, "video0", because="first")
    take_out(folder, "video1", because="second")
    before = tree(folder)
    again = take_out(folder, "video0", "video1", because="third")
    assert not again.is_new and again.clips == 0
    assert tree(folder) == before
    assert purged_file.read(FolderStore(folder)).because == {"video0": "first", "video1": "second"}
    assert {row.message for row in rows_of(folder) if row.reason == "purged"} == {"first", "second"}
    expect_sound(folder)


def test_a_clip_and_then_its_video_have_the_reason_that_purged_json_gives_them(folder):
    complete(folder)
    take_out(folder, folders.ROWS[0].clip_id, because="the clip")
    data = records(folder)
    take_out(folder, "video0", because="the video")
    (row,) = [row for row in rows_of(folder) if row.reason == "purged"]
    assert row.message == purged_file.read(FolderStore(folder)).reason_for(folders.ROWS[0]) == "the video"
    assert records(folder) == data
    expect_sound(folder)


def test_ids_that_are_in_no_row_are_kept(folder):
    complete(folder)
    summary = take_out(folder, "video0", "not_here", "nor_here  with words behind it", "nor_here")
    assert (summary.ids, summary.unknown, summary.clips) == (3, 2, 1)
    assert set(purged_file.read(FolderStore(folder)).because) == {"video0", "not_here", "nor_here"}
    assert json.loads((folder / "dataset.json").read_text())["purged"] == 3
    expect_sound(folder)


def test_words_behind_an_id_are_not_read_unless_they_belong_to_it(folder):
    rows = [
        dataclasses.replace(folders.ROWS[0], media_id="video", clip_id="video_000000_000001"),
        dataclasses.replace(folders.ROWS[1], media_id="video of mine", clip_id="video of mine_000001_000002"),
        dataclasses.replace(folders.ROWS[2], media_id="other", clip_id="other_000002_000003"),
    ]
    small_dataset.make(folder, rows=rows).complete()
    take_out(folder, "video of mine", "other # by mail")
    assert outcomes(folder) == {0: "written", 1: "purged", 2: "purged"}
    assert set(purged_file.read(FolderStore(folder)).because) == {"video of mine", "other"}


# Unfinished folders ----------------------------------------------------------------------------


def begun(folder):
    """A folder whose first shard is committed, whose second has objects, and whose third has not begun."""
    dataset = small_dataset.make(folder, rows=list(folders.ROWS))
    for number in range(5):
        dataset.write(folders.ROWS[number], folders.REFUSED.get(number), source=f"video{number}.mp4")
    shards.assemble(dataset.part, 0)
    return dataset


def complete_the_rest(folder, purged):
    """What `flow` does: rows without an object are prepared, or refused because they are purged."""
    with open_for_writing(folder) as opened:
        (part,) = list_parts(opened.store, opened.state, recipe_file.read(opened.store))
        dataset = small_dataset.SmallDataset(part, list(folders.ROWS))
        for number, row in enumerate(folders.ROWS):
            if row.shard and purged_file.read(opened.store).reason_for(row) is not None:
                dataset.write(row, "purged")
            elif row.shard and part.object_key(row) not in {entry.key for entry in opened.store.list(".work/objects/")}:
                dataset.write(row, folders.REFUSED.get(number))
        for shard in range(3):
            shards.assemble(part, shard)
        folders.save_complete(opened)
        opened.store.delete(".work/objects")


def test_an_unfinished_folder_loses_objects_and_clips_of_committed_shards(folder):
    dataset = begun(folder)
    summary = take_out(folder, "video0", "video3", "video4")
    assert (summary.clips, summary.shards) == (1, 1)
    assert state.read(FolderStore(folder)).name == state.PREPARING
    assert not (folder / "dataset.json").exists()
    assert not any(dataset.store.list(".work/objects/"))
    for number in (0, 3):
        expect_nothing_of(folder, record_of(number), f"video{number}.mp4")
    complete_the_rest(folder, {"video0", "video3", "video4"})
    assert outcomes(folder) == {0: "purged", 1: "network", 2: "written", 3: "purged", 4: "purged"} | {
        5: "written",
        6: "duplicate_row",
    }
    expect_sound(folder)


def test_files_of_a_shard_that_was_not_committed_go_too(folder):
    dataset = begun(folder)
    dataset.write(folders.ROWS[5], source="video5.mp4")
    with killed_at(3), pytest.raises(Killed):
        shards.assemble(dataset.part, 1)  # data and ledger are there, the marker is not
    assert (folder / "ledger/train-00001-of-00003.parquet").exists()
    take_out(folder, "video3")
    assert not list(folder.glob("*/train-00001-of-00003.*"))
    expect_nothing_of(folder, record_of(3), "video3.mp4")
    assert len(list(dataset.store.list(".work/objects/"))) == 2
    complete_the_rest(folder, {"video3"})
    expect_sound(folder)


def test_a_search_is_closed_first_and_its_finds_go_too(folder):
    complete(folder, folders.REFUSED)
    folders.begin_search(folder, found=(1, 4))
    with open_purge(folder, Request(("video1",), "asked")) as opened:
        assert opened.folder.finished.found == 2
        opened.carry_out()
    assert outcomes(folder)[4] == "written" and outcomes(folder)[1] == "purged"
    expect_nothing_of(folder, record_of(1), "video1.mp4")
    expect_sound(folder)


def test_downloads_of_killed_runs_go(folder):
    complete(folder)
    left = folder / ".work/videos-0123/video0 \n.mp4"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"a video")
    take_out(folder, "video1")
    assert not left.exists()


def test_another_split_in_the_making_does_not_hide_the_finished_one(folder):
    complete(folder)
    small_dataset.make(folder, 3, split="val")
    store = small_dataset.store_of(folder)
    state.write(store, dataclasses.replace(state.read(store), is_complete=False))
    take_out(folder, "video0")
    assert len(ClipIndex.open(folder, "train")) == 5
    assert list(json.loads((folder / "dataset.json").read_text())["splits"]) == ["train"]


def test_a_folder_without_a_plan_keeps_the_ids(folder):
    store = small_dataset.store_of(folder)
    state.write(store, state.State())
    assert take_out(folder, "video0").unknown == 1
    assert purged_file.read(store).because == {"video0": "asked by its owner"}


# No command brings them back -------------------------------------------------------------------


@pytest.fixture
def videos(tmp_path):
    return shutil.copytree(sample.VIDEOS, tmp_path / "videos")


def flow(output, videos, splits=("train", "val"), **settings):
    job = Job(
        Selection((str(sample.ANNOTATIONS),), splits=splits),
        Fetching((str(videos),)),
        output,
        dataclasses.replace(prepared.RECIPE, **settings),
        retry=RETRYABLE,
    )
    with open_run(job) as run:
        prepared.prepare_clips(run)
        return finish(run)


def reasons(output):
    store = FolderStore(output)
    rows = [row for entry in store.list("ledger/") for row in ledger.read(store, entry.key)]
    return {row.media_id: row.reason for row in rows}


def test_flow_retry_refresh_and_convert_never_bring_a_clip_back(tmp_path, videos):
    output = prepared.copy(tmp_path)
    (record,) = [
        record
        for path in sorted((output / "tfrecord").glob("*"))
        for record in SHARD_FORMATS["tfrecord"].read_shard(path)
        if record.text("clip/media_id") == "zoom_in_1"
    ]
    take_out(output, "zoom_in_1")
    expect_nothing_of(output, record, "zoom_in_1.mp4")
    assert flow(output, videos).refused == {"purged": 1}
    for needs_complete in (False, True):
        with resume_run(Resumption(output, RETRYABLE, Fetching((str(videos),))), needs_complete) as run:
            assert run.searches == ()
            prepared.prepare_clips(run)
            finish(run)
    with open_conversion(output, Shape(("parquet",), 3)) as conversion:
        conversion.carry_out()
    assert flow(output, videos, formats=("parquet",), clips_per_shard=3).refused == {"purged": 1}
    assert reasons(output)["zoom_in_1"] == "purged"
    expect_nothing_of(output, record, "zoom_in_1.mp4")
    assert list(validate.problems(validate.open_folder(output))) == []


def test_a_split_that_is_planned_later_leaves_them_out(tmp_path, videos):
    output = tmp_path / "out"
    flow(output, videos, ("train",))
    planned = [{row.media_id for row in rows} for rows in map(planned_rows, ("val", "train"))]
    later = min(planned[0] - planned[1])
    assert take_out(output, later).unknown == 1
    summary = flow(output, videos, ("val",))
    assert summary.refused["purged"] >= 1 and reasons(output)[later] == "purged"
    assert next(row.message for row in rows_of_split(output, "val") if row.media_id == later) == "asked by its owner"


def planned_rows(split):
    return plan.read(FolderStore(prepared.folder()), layout.plan_key(split))


def rows_of_split(output, split):
    store = FolderStore(output)
    return [row for entry in store.list("ledger/") for row in ledger.read(store, entry.key) if row.split == split]


def test_an_interrupted_flow_goes_on_without_them(tmp_path, videos):
    output = tmp_path / "out"
    job = Job(Selection((str(sample.ANNOTATIONS),)), Fetching((str(videos),)), output, prepared.RECIPE)
    with killed_at(25), pytest.raises(Killed), open_run(job) as run:
        prepared.prepare_clips(run)
    take_out(output, "zoom_in_1", "pan_right_1")
    summary = flow(output, videos)
    assert summary.refused["purged"] == 2 and summary.rows == 9
    assert list(validate.problems(validate.open_folder(output))) == []
    assert b"zoom_in_1.mp4" not in b"".join(tree(output).values())


def test_a_row_that_its_annotations_refuse_is_purged_too_whenever_it_is_prepared(tmp_path, videos):
    output = tmp_path / "out"
    job = Job(Selection((str(sample.ANNOTATIONS),)), Fetching((str(videos),)), output, prepared.RECIPE)
    with open_run(job) as run:
        context = dataclasses.replace(run.context, purged=purged_file.Purged({"video5": "asked"}))
    for row in folders.ROWS[5:]:
        ledger_row, data = prepare_row(row, context)
        assert (ledger_row.reason, ledger_row.message, ledger_row.attempts, data) == ("purged", "asked", 0, None)


# What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("because", ["", "  ", "two\nlines", "\x1b[31m", "\udcff", "x" * 1001])
def test_a_reason_is_one_line_of_words(because):
    with pytest.raises(BadOption, match="--because is .*expected why the clips go"):
        Request(("video0",), because)


def test_the_reason_is_kept_without_space_around_it():
    assert Request(("video0",), "  asked \n").because == "asked"


def test_where_nothing_was_begun_nothing_is_purged(tmp_path):
    with pytest.raises(BadOption, match="nothing was begun here"):
        take_out(tmp_path, "video0")
    assert list(tmp_path.iterdir()) == []


def test_damage_stops_a_purge_and_names_the_commands_that_help(folder):
    complete(folder)
    path = folder / "parquet/train-00000-of-00003.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptShard, match="train-00000-of-00003.parquet is damaged.*kinetics-prep repair"):
        take_out(folder, "video0")
    assert take_out(folder, "video3").clips == 1  # the damage is not in its way


def test_a_disk_without_room_is_refused_before_anything_is_built(folder, monkeypatch):
    complete(folder)
    before = tree(folder)
    monkeypatch.setattr(purge, "free_bytes", lambda store: 1000)
    with pytest.raises(NoRoom, match="1,000 are free"):
        take_out(folder, "video0")
    assert {**tree(folder), "state.json": b""} == {**before, "state.json": b""}


# Killed ----------------------------------------------------------------------------------------


def searching(folder):
    complete(folder, folders.REFUSED)
    folders.begin_search(folder, found=(1, 4))


def refreshed(folder):
    complete(folder, folders.REFUSED)
    folders.refresh(folder, (1, 4))


STATES = {"preparing": begun, "searching": searching, "complete": refreshed}
IDS = ("video0", "video3", "video4", "not_here")


@pytest.fixture(scope="module", params=STATES)
def template(request, tmp_path_factory):
    """A folder in a state, and what an undisturbed purge makes of it."""
    folder = tmp_path_factory.mktemp("purge") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        STATES[request.param](folder)
        shutil.rmtree(folder / ".work/tmp", ignore_errors=True)
        after = shutil.copytree(folder, folder.with_name("after"))
        take_out(after, *IDS)
    return request.param, folder, tree(after)


def test_killed_at_any_write_the_same_command_gives_the_same_folder(template, tmp_path):
    name, folder, expected = template
    there, kills = tmp_path / "out", 0
    for where in each_kill(folder, there, lambda killed: take_out(killed, *IDS)):
        kills += 1
        if name != "preparing":
            look(there)
        take_out(there, *IDS)
        assert tree(there) == expected, where
    assert kills > 15


def test_killed_at_any_write_any_other_command_may_follow(template, tmp_path):
    name, folder, _ = template
    there = tmp_path / "out"
    others = itertools.cycle((lambda: None, lambda: take_out(there, "video2"), lambda: to_pairs(there)))
    for where in each_kill(folder, there, lambda killed: take_out(killed, *IDS), step=3):
        if name == "preparing":
            complete_the_rest(there, IDS)
        else:
            folders.finish(there)
        next(others)()
        take_out(there, *IDS)
        ends = outcomes(there)
        assert {number for number, what in ends.items() if what == "purged"} - {2} == {0, 3, 4}, where
        assert ends[5] == "written" and ends[6] == "duplicate_row", where
        expect_sound(there)


def to_pairs(folder):
    with open_conversion(folder, Shape(("parquet",), 2)) as conversion:
        conversion.carry_out()
