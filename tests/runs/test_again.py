"""`retry`, `refresh` and `flow --retry`: what was refused for some reasons is tried again, and nothing else touched."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small_run
from faulty_store import Died, Fault, faulty_folder
from small_run import NOT_FOUND, Stopped, data, expect_as_clean, expect_sound, outcomes, reasons

from kinetics_prep.dataset import manifest, objects, recipe_file, state
from kinetics_prep.dataset.layout import Layout
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.search import Outcome
from kinetics_prep.dataset.status import describe, read_status
from kinetics_prep.errors import BadOption, OtherTools
from kinetics_prep.records import tfrecord
from kinetics_prep.runs import clip as clips_module
from kinetics_prep.runs import context, prepare

BEGUN = {None: 3, "not_found": 4, "unreadable": 1, "duplicate_row": 1}
DONE = {None: 6, "not_found": 1, "unreadable": 1, "duplicate_row": 1}

AGAIN = {"retry": small_run.retry, "refresh": small_run.refresh, "flow --retry": small_run.flow_retry}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    small_run.begun(folder / "begun")
    small_run.finished(folder / "finished")
    return folder


@pytest.fixture
def begun(bases, tmp_path) -> Path:
    """A folder whose first run was stopped; most videos were missing."""
    return Path(shutil.copytree(bases / "begun", tmp_path / "begun"))


@pytest.fixture
def output(bases, tmp_path) -> Path:
    """A finished folder; three of five videos were missing, one was none, one never was."""
    return Path(shutil.copytree(bases / "finished", tmp_path / "out"))


@contextlib.contextmanager
def watching() -> Iterator[list[str]]:
    """The videos that are asked for within the block."""
    asked: list[str] = []
    real = small_run._remembered

    def watched(row, context):
        asked.append(row.media_id)
        return real(row, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_run, "_remembered", watched)
        yield asked


def stop(command, output: Path, after: int, **settings: Any) -> None:
    with pytest.raises(Stopped):
        command(output, stop_after=after, **settings)


def state_of(output: Path) -> state.State:
    current = state.read(Layout(output).store)
    assert current is not None
    return current


def files(output: Path, *folders: str) -> dict[str, tuple[bytes, int]]:
    """Content and time of the last change of every file of data."""
    paths = [path for folder in folders or ("tfrecord", "parquet") for path in (output / folder).iterdir()]
    return {str(path.relative_to(output)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def shares(output: Path) -> list[str]:
    """What `status` says first of each split."""
    return [line for line in describe(read_status(output), ()) if "to go" in line]


# One command after another ----------------------------------------------------------------------


@pytest.mark.parametrize("between", ["retry", "flow --retry"])
def test_a_stopped_refresh_a_retry_and_a_refresh_account_for_each_row_once(between, output):
    """Reported of an earlier version: "5 rows are planned and 8 are settled", 160% and -3 to go."""
    assert reasons(output) == BEGUN
    stop(small_run.refresh, output, after=1)
    assert shares(output)[0].startswith("train: 7 rows, 2 written (28.6%), 5 refused, 0 to go")
    AGAIN[between](output)
    assert shares(output) == [
        "train: 7 rows, 5 written (71.4%), 2 refused, 0 to go",
        "val: 2 rows, 1 written (50.0%), 1 refused, 0 to go",
    ]
    expect_as_clean(output)
    before = data(output)
    assert str(small_run.refresh(output).outcome) == "looked for 1 rows again: 0 found; still refused: 1 not_found"
    assert data(output) == before
    expect_as_clean(output)


@pytest.mark.parametrize("first", AGAIN)
@pytest.mark.parametrize("second", AGAIN)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_what_one_command_has_found_the_next_one_packs(first, second, after, output):
    stop(AGAIN[first], output, after)
    outcome = AGAIN[second](output).outcome
    assert outcome == Outcome(4, 3, {"not_found": 1}, 2)
    assert reasons(output) == DONE
    expect_as_clean(output)


def test_a_search_for_one_reason_is_closed_by_one_for_another(output):
    stop(small_run.refresh, output, after=1)
    with watching() as asked:
        summary = small_run.refresh(output, reasons=("unreadable",))
    assert asked == ["nothing"]
    assert summary.outcome == Outcome(1, 0, {"unreadable": 1}, 0)
    assert reasons(output) == BEGUN | {None: 4, "not_found": 3}  # what the first has found stays found
    expect_sound(output)
    with watching() as asked:
        assert small_run.refresh(output).outcome == Outcome(3, 2, {"not_found": 1}, 1)
    assert len(asked) == 3
    expect_as_clean(output)


def test_a_flow_without_a_retry_packs_what_a_search_has_found(output):
    stop(small_run.refresh, output, after=2)
    with watching() as asked:
        summary = small_run.flow(output)
    assert asked == []
    assert summary.outcome == Outcome(2, 2, {}, 1)
    assert (summary.written, summary.refused_rows) == (5, 4)
    expect_sound(output)


def test_a_flow_of_one_split_leaves_a_search_in_others_no_work(output):
    stop(small_run.refresh, output, after=2)
    chosen = dataclasses.replace(small_run.job(output).selection, splits=("val",))
    small_run.flow(output, selection=chosen)
    expect_sound(output)
    small_run.refresh(output)
    expect_as_clean(output)


def test_a_flow_after_a_refresh_finds_all_done(output):
    small_run.refresh(output)
    small_run.flow(output)  # writes where videos are now
    before = small_run.tree(output), files(output)
    summary = small_run.flow(output)
    assert (small_run.tree(output), files(output)) == before
    assert summary.outcome is None
    assert (summary.rows, summary.written) == (9, 6)


@pytest.mark.parametrize("command", AGAIN)
def test_what_was_begun_is_finished_on_the_way(command, begun):
    if command == "refresh":
        with pytest.raises(BadOption, match="is not finished: 2 shards are missing, such as train-00002-of-00004"):
            small_run.refresh(begun)
        small_run.flow(begun)
    AGAIN[command](begun)
    expect_as_clean(begun)


@pytest.mark.parametrize("command", ["retry", "flow --retry"])
def test_refused_rows_of_an_unfinished_shard_take_their_own_places(command, begun):
    """They were never in a ledger, so they need no shard of their own; what else was done there is not done again."""
    waiting = {row.media_id: row.reason for row in waiting_rows(begun)}
    assert waiting == {"video1": None, "gone": "not_found"}
    with watching() as asked:
        AGAIN[command](begun)
    assert sorted(asked) == ["gone", "video0", "video1", "video2", "video3", "video4"]
    assert [row.media_id for row in waiting_rows(begun)] == []
    assert state_of(begun).epoch == 2  # what a late writer of the first attempt writes does not count
    expect_as_clean(begun)


def waiting_rows(output: Path) -> list[LedgerRow]:
    """Of shards that are not committed."""
    store = Layout(output).store
    return [objects.read_ledger_row(store, entry.key) for entry in store.list(".work/objects/")]


# What is found ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", AGAIN)
def test_what_came_back_goes_into_shards_of_its_own_and_the_others_stay_as_they_are(command, output):
    before = files(output)
    summary = AGAIN[command](output)
    after = files(output)
    assert {name: after[name] for name in before} == before
    assert sorted(set(after) - set(before)) == [
        "parquet/train-refresh1-00000-of-00002.parquet",
        "parquet/train-refresh1-00001-of-00002.parquet",
        "tfrecord/train-refresh1-00000-of-00002.tfrecord",
        "tfrecord/train-refresh1-00001-of-00002.tfrecord",
    ]
    assert str(summary.outcome) == "looked for 4 rows again: 3 found, in 2 new shards; still refused: 1 not_found"
    assert str(summary) == "9 rows, 6 written, 3 refused (1 duplicate_row, 1 unreadable, 1 not_found)"
    expect_as_clean(output)


def test_a_search_costs_no_more_disk_than_what_it_finds(output):
    """Looked at before each write of a retry: nothing that was written before is there twice."""
    written = {clip_id for (_, clip_id, _), reason in outcomes(output).items() if reason is None}
    before = {path: path.stat().st_size for path in output.rglob("*") if path.is_file()}
    shutil.copytree(output, output.with_name("start"))
    small_run.retry(output)
    found = [row["record_bytes"] for row in small_run.ledger_rows(output) if row["record_bytes"]]
    largest = 3 * max(found)
    for nth in range(1, 100):
        shutil.rmtree(output)
        shutil.copytree(output.with_name("start"), output)
        fault = Fault("dies before", nth)
        with faulty_folder(fault), contextlib.suppress(Died):
            small_run.retry(output)
        if not fault.has_struck:
            break
        store = Layout(output).store
        kept = [entry for entry in store.list(".work/objects/")]
        rows = [objects.read_ledger_row(store, entry.key) for entry in kept]
        assert not {row.clip_id for row in rows} & written
        assert sum(entry.bytes for entry in kept) < 1.5 * largest + 2_000 * len(kept)
        assert all(path.exists() for path in before)
    assert nth > 20


def test_a_search_that_finds_nothing_writes_no_data(output):
    before = small_run.tree(output)
    for command in AGAIN.values():
        assert str(command(output, "some").outcome) == "looked for 4 rows again: 0 found; still refused: 4 not_found"
        assert {name for name, sha256 in small_run.tree(output).items() if before.get(name) != sha256} == set()
        expect_sound(output)


def test_a_second_search_has_shards_of_its_own(output):
    small_run.refresh(output, reasons=("unreadable",))  # finds nothing, so takes no number
    stop(small_run.refresh, output, after=2)
    small_run.flow(output)
    before = data(output)
    small_run.retry(output)
    after = data(output)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[1][:14] for name in set(after) - set(before)} == {"train-refresh2"}
    assert (state_of(output).searches, list(state_of(output).plans)) == (
        3,
        ["train", "val", "train-refresh1", "train-refresh2"],
    )
    expect_as_clean(output)


def test_a_new_reason_takes_the_place_of_the_old_one(output, monkeypatch):
    real = small_run._remembered

    def broken(row, context):
        ledger_row, record = real(row, context)
        if row.media_id != "video2":
            return ledger_row, record
        return dataclasses.replace(ledger_row, status="refused", reason="unreadable", message="damaged"), None

    monkeypatch.setattr(small_run, "_remembered", broken)
    outcome = small_run.refresh(output).outcome
    assert outcome == Outcome(4, 2, {"not_found": 1, "unreadable": 1}, 1)
    assert reasons(output) == {None: 5, "not_found": 1, "unreadable": 2, "duplicate_row": 1}
    expect_sound(output)


def test_a_duplicate_of_a_clip_that_came_back_stays_where_it_is(tmp_path):
    output = tmp_path / "out"
    videos = shutil.copytree(small_run.world() / "some", tmp_path / "videos")
    (videos / "video1.mp4").unlink()
    places = dataclasses.replace(small_run.job(output).fetching, videos=(str(videos),))
    small_run.flow(output, fetching=places)
    small_run.refresh(output)
    twice = {line: reason for (_, clip_id, line), reason in outcomes(output).items() if "video1" in clip_id}
    assert sorted(twice.values(), key=str) == [None, "duplicate_row"]
    expect_as_clean(output)


def test_a_shard_of_a_search_whose_marker_is_deleted_is_prepared_anew(output):
    small_run.refresh(output)
    before = data(output), outcomes(output)
    (output / "tfrecord/train-refresh1-00000-of-00002.tfrecord").write_bytes(b"damaged")
    (output / "markers/train-refresh1-00000-of-00002.json").unlink()
    with watching() as asked:
        small_run.flow(output)
    assert len(asked) == 2
    assert (data(output), outcomes(output)) == before
    expect_as_clean(output)


def test_a_shard_of_the_first_plan_is_prepared_anew_without_what_was_found_later(output):
    small_run.refresh(output)
    before = data(output), outcomes(output)
    for marker in (output / "markers").glob("train-0*"):
        marker.unlink()
    small_run.flow(output)
    assert (data(output), outcomes(output)) == before
    expect_as_clean(output)


# Rows done twice, objects damaged ---------------------------------------------------------------


def test_a_row_done_twice_with_two_outcomes_has_one(tmp_path, monkeypatch):
    """Two workers were handed one row; one of them did not get the video."""
    real, is_first = clips_module.prepare_row, [True]
    output = tmp_path / "out"
    with prepare.open_run(small_run.job(output)) as run:
        part = run.parts[0]
        row = next(row for row in small_run.rows_of(part, 0) if row.media_id in small_run.IDS)

        def twice(row, context):
            ledger_row, record = real(row, context)
            if is_first.pop():
                is_first.append(False)
                clips_module.prepare_and_commit(row, part, context)  # the other worker, which is faster
                return dataclasses.replace(ledger_row, status="refused", reason="network", message="lost"), None
            is_first.append(False)
            return ledger_row, record

        with monkeypatch.context() as patch:
            patch.setattr(clips_module, "prepare_row", twice)
            clips_module.prepare_and_commit(row, part, run.context)
        assert len(objects.existing_objects(part, 0)) == 1
        small_run._carry_out(run, None)
    expect_as_clean(output)


def test_an_object_cut_at_a_records_border_is_done_again(begun):
    """Its ledger row says that a record was written, and there is none."""
    cut_objects(begun)
    with watching() as asked:
        small_run.flow(begun)
    assert sorted(asked) == ["video0", "video1", "video1"]  # one of them the duplicate
    small_run.refresh(begun)
    expect_as_clean(begun)


def test_a_find_cut_at_a_records_border_is_not_found_yet(output):
    stop(small_run.refresh, output, after=2)
    cut_objects(output)
    small_run.refresh(output)
    expect_as_clean(output)


def cut_objects(output: Path) -> None:
    """Cuts every object of a clip after its ledger row."""
    cut = 0
    for entry in Layout(output).store.list(".work/objects/"):
        payloads = list(tfrecord.read_bytes(output / entry.key))
        (output / entry.key).write_bytes(tfrecord.pack(payloads[0]))
        cut += len(payloads) > 1
    assert cut


# Killed between packing and amending ------------------------------------------------------------


@pytest.fixture(scope="module")
def half_packed(bases, tmp_path_factory) -> Path:
    """A folder of a refresh that was killed when it had committed its shards, and amended no ledger yet."""
    output = tmp_path_factory.mktemp("packed") / "out"
    for nth in range(1, 100):
        shutil.copytree(bases / "finished", output)
        fault = Fault("dies before", nth)
        with faulty_folder(fault), contextlib.suppress(Died):
            small_run.refresh(output)
        if "put ledger/train-0" in fault.where:
            return output
        shutil.rmtree(output)
    raise AssertionError("no ledger was amended")


@pytest.mark.parametrize("next_command", ["flow", *AGAIN])
def test_what_is_packed_and_not_amended_is_counted_once(next_command, half_packed, tmp_path):
    output = Path(shutil.copytree(half_packed, tmp_path / "out"))
    assert len(list((output / "markers").glob("train-refresh1-*"))) == 2
    assert state_of(output).name == state.PACKING
    ids = [row["clip_id"] for row in small_run.ledger_rows(output) if row["reason"] != "duplicate_row"]
    assert len(ids) == len({*ids}) + 3  # in two ledgers on disk, and yet
    assert shares(output)[0] == "train: 7 rows, 5 written (71.4%), 2 refused, 0 to go"
    (AGAIN | {"flow": small_run.flow})[next_command](output)
    expect_as_clean(output)


# Tools ------------------------------------------------------------------------------------------


@pytest.fixture
def other_tools(monkeypatch):
    """Programs that give other bytes, in this process and in its workers."""
    for module in (prepare, context):
        monkeypatch.setattr(module, "fingerprint", lambda recipe, hardware: "e" * 64)


@pytest.mark.parametrize("command", AGAIN)
def test_tools_that_give_other_bytes_are_refused(command, output, other_tools):
    before = small_run.tree(output)
    with pytest.raises(OtherTools, match="give other bytes.*--accept-tools"):
        AGAIN[command](output)
    assert small_run.tree(output) == before


def test_other_tools_are_noted_where_they_are_accepted(output, other_tools, monkeypatch):
    monkeypatch.setattr(small_run, "_memory", {})
    resumption = dataclasses.replace(small_run._resumption(output, "all", NOT_FOUND), accept_tools=True)
    with prepare.resume_run(resumption) as run:
        small_run._carry_out(run, None)
    file = recipe_file.read(Layout(output).store)
    assert [tools.fingerprint for tools in file.tools][1:] == ["e" * 64]
    first = file.tools[0].fingerprint
    rows = {row["clip_id"]: row["fingerprint"] for row in small_run.ledger_rows(output) if row["status"] == "written"}
    assert sorted(rows.values()) == sorted([first] * 3 + ["e" * 64] * 3)
    assert manifest.read(Layout(output).store)["fingerprints"] == [first, "e" * 64]
    expect_sound(output)
    small_run.refresh(output, reasons=("unreadable",))  # accepted once, they go on


def test_a_worker_with_other_tools_makes_nothing(tmp_path, monkeypatch):
    with prepare.open_run(small_run.job(tmp_path / "out")) as run:
        part = run.parts[0]
        monkeypatch.setattr(context, "fingerprint", lambda recipe, hardware: "e" * 64)
        with pytest.raises(OtherTools, match="give other bytes than those that started this run"):
            clips_module.prepare_and_commit(small_run.rows_of(part, 0)[0], part, run.context)
        assert objects.existing_objects(part, 0) == frozenset()


# Words ------------------------------------------------------------------------------------------


def test_the_outcome_reads_well():
    one = Outcome(2, 1, {"not_found": 1}, 1)
    assert str(one) == "looked for 2 rows again: 1 found, in 1 new shard; still refused: 1 not_found"
    assert str(dataclasses.replace(one, found=0, shards=0)).endswith("again: 0 found; still refused: 1 not_found")
    assert str(Outcome(2, 2, {}, 2)) == "looked for 2 rows again: 2 found, in 2 new shards"


def test_the_manifest_names_the_plan_of_each_search(output):
    small_run.refresh(output)
    train = json.loads((output / "dataset.json").read_text())["splits"]["train"]
    assert [(entry["refresh"], entry["plan"]) for entry in train["refreshes"]] == [(1, "plan/train-refresh1.parquet")]
    assert [shard.get("refresh", 0) for shard in train["shards"]] == [0, 0, 0, 0, 1, 1]
