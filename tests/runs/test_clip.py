"""One clip, from its plan row to its record: a colour video whose motion we made, through the whole walk."""

import dataclasses
import hashlib
import json
from fractions import Fraction

import cv2
import numpy as np
import pytest
from colours import BOUND_PX, FPS, RECIPE, moving_colours
from conftest import QUICK_TVL1, number_of, numbered_frames, write_video

import kinetics_prep
from kinetics_prep import flow
from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.planned import PlannedRow, RefusedRow
from kinetics_prep.dataset import layout, objects, recipe_file, tools
from kinetics_prep.dataset.part import Part
from kinetics_prep.dataset.purged import Purged
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import OtherTools
from kinetics_prep.media import quantize
from kinetics_prep.media.clip import Video
from kinetics_prep.records.record import Record
from kinetics_prep.runs import clip as clip_run
from kinetics_prep.runs.clip import is_trimmed, longest_seconds, prepare_and_commit, prepare_clip, prepare_row
from kinetics_prep.runs.context import RunContext
from kinetics_prep.runs.fingerprint import fingerprint
from kinetics_prep.sources import Fetching


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "colours.mp4", moving_colours(15), FPS)
    write_video(folder / "short.mp4", moving_colours(8), FPS)
    return folder


def row(media_id="colours", start=0.0, end=1.0, **changes) -> PlannedRow:
    annotation = Annotation(media_id, start, end, "train", "waving")
    known = PlannedRow(0, 0, annotation.clip_id, media_id, "waving", 3, "train", start, end, "rows.csv", 2)
    return dataclasses.replace(known, **changes)


def context(videos, recipe: Recipe = RECIPE, **changes) -> RunContext:
    accepted = frozenset({fingerprint(recipe)})
    known = RunContext(recipe, "0123456789abcdef", Fetching((str(videos),)), str(videos / "scratch"), accepted)
    return dataclasses.replace(known, **changes)


def flow_of(frames: np.ndarray, k: int) -> np.ndarray:
    """From frame k to the next, float32 [H, W, 2], by the engine itself; grey by ITU-R BT.601."""
    weights = np.array([0.299, 0.587, 0.114])
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[k : k + 2]])
    assert np.abs(grey - frames[k : k + 2] @ weights).max() <= 0.51
    return next(iter(flow.engine("tvl1").flows(grey, QUICK_TVL1)))


def check_flows(record: Record, frames: np.ndarray, places: dict[int, int]) -> None:
    """Compares flows of a record with the engine's flow of decoded frames: place in the record -> frame."""
    for k, frame in places.items():
        expected = quantize.quantize(flow_of(frames, frame), "symmetric", BOUND_PX)
        assert np.ptp(expected) > 100, "the flow of this frame is too quiet to tell anything"
        assert np.array_equal(record.levels(k), expected), k


def test_the_flow_of_a_colour_video_is_the_engines_flow_of_its_decoded_frames(videos):
    """First, middle and last; the last goes to the frame just after the clip."""
    ledger_row, data = prepare_row(row(), context(videos))
    record = Record.from_bytes(data)
    frames = moving_colours(15)
    assert len(record) == 10
    check_flows(record, frames, {0: 0, 4: 4, 9: 9})
    assert record["kinetics_prep/last_flow"] == "next_frame"
    every = np.stack([flow_of(frames, k) for k in range(10)])
    expected = float((np.abs(every) > BOUND_PX).mean())
    assert 0.001 < expected < 0.9
    assert ledger_row.saturated_share == pytest.approx(expected, abs=1e-12)
    assert record["kinetics_prep/saturated_share"] == np.float32(expected)


def test_exchanged_colours_would_give_another_flow(videos):
    """What makes the test above see red taken for blue."""
    frames = moving_colours(2)
    exchanged = frames[..., ::-1]
    difference = np.abs(flow_of(frames, 0) - flow_of(exchanged, 0))
    assert difference.mean() > 0.05


def test_where_the_video_ends_with_the_clip_the_last_flow_repeats_the_one_before(videos):
    _, data = prepare_row(row("short", end=0.8), context(videos))
    record = Record.from_bytes(data)
    frames = moving_colours(8)
    assert len(record) == 8
    check_flows(record, frames, {0: 0, 3: 3, 6: 6, 7: 6})
    assert record["kinetics_prep/last_flow"] == "repeated"


def test_frames_are_the_colours_of_the_video_and_not_exchanged(videos):
    _, data = prepare_row(row(start=0.3), context(videos))
    record, frames = Record.from_bytes(data), moving_colours(15)
    for k in range(len(record)):
        frame = record.frame(k).astype(int)
        off = np.abs(frame - frames[k + 3]).mean()
        assert off < 9  # JPEG, with colours at half resolution
        assert np.abs(frame - frames[k + 4]).mean() > off + 2
        assert np.abs(frame[..., ::-1] - frames[k + 3]).mean() > 40


def test_the_ledger_says_what_the_record_holds(videos):
    ledger_row, data = prepare_row(row(start=0.2, end=1.1), context(videos))
    record = Record.from_bytes(data)
    assert (ledger_row.status, ledger_row.reason, ledger_row.frames) == ("written", None, 9)
    assert (ledger_row.width, ledger_row.height) == (64, 48)
    assert ledger_row.record_bytes == len(data)
    assert ledger_row.source_sha256 == hashlib.sha256((videos / "colours.mp4").read_bytes()).hexdigest()
    assert ledger_row.source_bytes == (videos / "colours.mp4").stat().st_size
    assert (ledger_row.source, ledger_row.source_kind) == ("colours.mp4", "folder")
    assert (ledger_row.recipe, ledger_row.fingerprint) == ("0123456789abcdef", fingerprint(RECIPE))
    versions = json.loads(ledger_row.versions)
    assert versions == {"kinetics-prep": kinetics_prep.__version__} | tools.versions(RECIPE)
    assert ledger_row.engine.startswith("tvl1: version")
    assert ledger_row.taken_as_trimmed is False and ledger_row.ends_early is False and ledger_row.notes is None
    spent = (ledger_row.seconds_fetch, ledger_row.seconds_decode, ledger_row.seconds_flow, ledger_row.seconds_encode)
    assert all(seconds > 0 for seconds in spent) and sum(spent) <= ledger_row.seconds
    assert record["clip/start/timestamp"] == 200_000 and record["clip/end/timestamp"] == 1_100_000
    assert record["image/timestamp"] == [200_000 + 100_000 * k for k in range(9)]
    assert (record["clip/label/index"], record["clip/label/text"]) == (3, "waving")
    assert record["clip/data_path"] == "colours.mp4"


def test_a_clip_longer_than_the_recipe_allows_is_cut(videos):
    short = dataclasses.replace(RECIPE, clip_seconds=0.5, min_seconds=0.2)
    ledger_row, data = prepare_row(row(end=1.2), context(videos, short))
    record = Record.from_bytes(data)
    assert ledger_row.frames == len(record) == 5
    assert record["clip/end/timestamp"] == 500_000


def test_a_video_that_ends_early_says_so_and_a_whole_video_does_not(videos):
    early, data = prepare_row(row("short", end=1.0), context(videos))
    assert (early.ends_early, early.frames, early.notes) == (True, 8, "video ends early, after 8 frames")
    assert Record.from_bytes(data)["clip/end/timestamp"] == 1_000_000
    whole, data = prepare_row(row("short", end=None), context(videos))
    assert (whole.ends_early, whole.frames, whole.notes) == (False, 8, None)
    assert Record.from_bytes(data)["clip/end/timestamp"] == 800_000


def test_a_file_that_must_be_the_clip_itself_is_taken_as_trimmed(videos):
    ledger_row, _ = prepare_row(row("short", start=20.0, end=20.85), context(videos))
    assert (ledger_row.taken_as_trimmed, ledger_row.frames) == (True, 8)
    assert "taken as trimmed" in ledger_row.notes


REFUSALS = {
    "not there": (row("gone"), "not_found", 1),
    "after the end": (row(start=9.0, end=10.0), "clip_out_of_range", 1),
    "too short": (row("short", start=0.4), "too_short", 1),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_makes_no_clip_is_a_refusal_with_a_reason_and_no_record(case, videos):
    planned, reason, attempts = REFUSALS[case]
    ledger_row, data = prepare_row(planned, context(videos))
    assert data is None
    assert (ledger_row.status, ledger_row.reason) == ("refused", reason)
    assert ledger_row.message and ledger_row.attempts <= attempts
    assert ledger_row.frames is None and ledger_row.record_bytes is None


def test_a_row_that_was_refused_while_planning_is_refused_without_looking_for_its_video():
    refused = RefusedRow(**vars(row("colours")), refusal_reason="duplicate_row", refusal_message="seen before")
    nowhere = RunContext(RECIPE, "", Fetching(("/no/such/folder",)), "/no/such/folder")
    ledger_row, data = prepare_row(refused, nowhere)
    assert data is None
    assert (ledger_row.reason, ledger_row.message, ledger_row.attempts) == ("duplicate_row", "seen before", 0)


def test_a_bug_is_no_refusal(videos, monkeypatch):
    monkeypatch.setattr(clip_run, "quantized_flow", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare_row(row(), context(videos))


def test_what_was_learnt_before_a_refusal_stays_in_the_ledger(videos, tmp_path):
    (tmp_path / "noise.mp4").write_bytes(b"no video at all")
    ledger_row, _ = prepare_row(row("noise"), context(tmp_path))
    assert (ledger_row.reason, ledger_row.source) == ("unreadable", "noise.mp4")
    assert ledger_row.source_sha256 == hashlib.sha256(b"no video at all").hexdigest()


def test_the_same_row_gives_the_same_bytes(videos):
    assert prepare_row(row(), context(videos))[1] == prepare_row(row(), context(videos))[1]


@pytest.mark.parametrize(
    "duration, start, end, expected",
    [
        (10.0, 299.0, 309.0, True),
        (11.4, 299.0, 309.0, True),
        (8.6, 299.0, 309.0, True),
        (11.6, 299.0, 309.0, False),  # over 15% longer than the clip
        (8.4, 299.0, 309.0, False),
        (309.0, 299.0, 309.0, False),
        (10.0, 0.0, 10.0, False),  # the whole video will do
        (9.4, 0.0, 10.0, True),
        (9.5, 0.0, 10.0, False),  # ends with the clip, but for half a second
        (None, 299.0, 309.0, False),
        (10.0, 299.0, None, False),
    ],
)
def test_a_file_is_taken_as_trimmed_if_too_short_for_the_row_and_as_long_as_the_clip(duration, start, end, expected):
    from pathlib import Path

    source = Video(Path("a.mp4"), 64, 48, Fraction(1, 1000), duration, "h264")
    assert is_trimmed(source, Annotation("a", start, end, "train")) is expected


@pytest.mark.parametrize("end, expected", [(None, 1.0), (5.5, 0.5), (6.0, 1.0), (15.0, 1.0)])
def test_a_clip_is_as_long_as_its_row_says_and_the_recipe_allows(end, expected):
    assert longest_seconds(Annotation("a", 5.0, end, "train"), RECIPE) == expected


# Committing -------------------------------------------------------------------------------------


@pytest.fixture
def part(tmp_path) -> Part:
    import small_dataset

    dataset = small_dataset.make(tmp_path / "out", rows=[row(), row("gone", index=1)])
    return dataset.part


def test_a_row_is_committed_once_and_its_shard_after_the_last(part, videos):
    ours = context(videos)
    prepare_and_commit(row(), part, ours)
    key = part.object_key(row())
    first = (part.store.root / key).stat().st_ino
    prepare_and_commit(row(), part, ours)
    assert (part.store.root / key).stat().st_ino == first
    assert not part.is_committed(0)
    prepare_and_commit(row("gone", index=1), part, ours)
    assert part.is_committed(0)
    assert list(part.store.list(layout.objects_prefix(1))) == []


def test_a_clip_whose_shard_is_committed_already_is_not_prepared_again(part, videos, monkeypatch):
    """As when a worker was handed a row just before another one assembled the shard."""
    for planned in (row(), row("gone", index=1)):
        prepare_and_commit(planned, part, context(videos))
    monkeypatch.setattr(clip_run, "prepare_row", lambda *arguments: pytest.fail("it was prepared once more"))
    prepare_and_commit(row(), part, context(videos))
    assert objects.existing_objects(part, 0) == frozenset()


def test_a_clip_that_was_taken_out_is_not_prepared_again(videos, monkeypatch):
    taken_out = Purged({"colours": "asked for by its maker"})
    monkeypatch.setattr(clip_run, "_prepare", lambda *arguments: pytest.fail("it was prepared"))
    ledger_row, data = prepare_row(row(), context(videos, purged=taken_out))
    assert (ledger_row.status, ledger_row.reason, data) == ("refused", "purged", None)
    assert ledger_row.message == "asked for by its maker"


def test_a_row_is_not_prepared_with_other_tools(part, videos, monkeypatch):
    monkeypatch.setattr(clip_run, "prepare_row", lambda *arguments: pytest.fail("it was prepared"))
    with pytest.raises(OtherTools, match="give other bytes"):
        prepare_and_commit(row(), part, context(videos, fingerprints=frozenset({"0" * 64})))


# In a REPL --------------------------------------------------------------------------------------


def test_one_call_prepares_a_clip_of_a_file_as_the_pipeline_does(videos):
    record = Record.from_bytes(kinetics_prep.prepare_clip(videos / "colours.mp4", 0.2, 1.1, RECIPE).to_bytes())
    _, data = prepare_row(row(start=0.2, end=1.1), context(videos))
    piped = Record.from_bytes(data)
    own = {"kinetics_prep/recipe", "kinetics_prep/split", "clip/label/index", "clip/label/text", "clip/label/string"}
    for name in piped.features.keys() - own:
        assert record[name] == piped[name], name
    assert "clip/label/text" not in record.features


def test_a_clip_of_a_file_says_how_it_was_made(videos):
    record = prepare_clip(videos / "colours.mp4", recipe=RECIPE)
    assert record["kinetics_prep/recipe"] == recipe_file.digest(RECIPE)
    assert record["kinetics_prep/engine"] == f"tvl1: {flow.engine('tvl1').version()}"
    assert (record["clip/data_path"], record["clip/media_id"]) == ("colours.mp4", "colours")


def test_times_of_a_file_are_its_own_even_if_it_is_as_long_as_the_clip(videos):
    """The pipeline would take such a file for the clip itself; here the caller says what the times mean."""
    with pytest.raises(kinetics_prep.ClipError, match="after the end") as refusal:
        prepare_clip(videos / "short.mp4", 20.0, 20.8, recipe=RECIPE)
    assert refusal.value.reason == "clip_out_of_range"


def test_a_clip_without_an_end_is_as_long_as_the_recipe_says(videos):
    assert len(prepare_clip(str(videos / "colours.mp4"), recipe=RECIPE)) == 10
    assert len(prepare_clip(videos / "short.mp4", recipe=RECIPE)) == 8


def test_what_is_no_clip_raises_the_reason(videos, tmp_path):
    with pytest.raises(kinetics_prep.ClipError, match="is not a file") as refusal:
        prepare_clip(videos / "gone.mp4")
    assert refusal.value.reason == "not_found"
    with pytest.raises(kinetics_prep.ClipError, match="after the end") as refusal:
        prepare_clip(videos / "short.mp4", 7.0, recipe=RECIPE)
    assert refusal.value.reason == "clip_out_of_range"


def test_numbers_in_the_frames_come_out_at_their_times(tmp_path):
    write_video(tmp_path / "numbers.mp4", numbered_frames(60), Fraction(25))
    record = prepare_clip(tmp_path / "numbers.mp4", 1.0, 2.0, dataclasses.replace(RECIPE, fps=Fraction(25)))
    assert [number_of(record.frame(k)) for k in range(len(record))] == list(range(25, 50))
