import dataclasses
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import number_of, numbered_frames, plan_row, write_video

pytest.importorskip("keras")  # weights are read by it

from kinetics_prep import flow
from kinetics_prep.errors import BadOption, BadVideo, MissingTool
from kinetics_prep.models.facts import Facts
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.records.record import Record
from kinetics_prep.runs.clip import prepare_row
from kinetics_prep.runs.context import RunContext
from kinetics_prep.sources import Fetching
from kinetics_prep.training import preview

FACTS = Facts(
    model="i3d", stream="both", classes=3, size=32, short_side=48, fps="5", quantizer="denseflow", bound_px=10.0
)


@pytest.fixture
def video(tmp_path):
    """Four seconds of a coloured pattern that moves right by 2 px a frame."""
    blocks = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    return write_video(tmp_path / "blocks.mp4", np.stack([np.roll(blocks, 2 * k, axis=1) for k in range(100)]))


def sampler(size=32, span=8, streams=("rgb",), **changes):
    return Sampler({stream: np.arange(span) for stream in streams}, size, train=False, **changes)


def test_a_preview_is_bit_for_bit_what_a_shard_would_hold(video, quick_recipe, tmp_path):
    context = RunContext(quick_recipe, "digest", Fetching((str(tmp_path),)), os.devnull)
    ledger_row, data = prepare_row(plan_row("blocks", 1.0, 2.0), context)
    assert ledger_row.status == "written"
    shard = Record.from_bytes(data)
    made = preview.of_video(video, quick_recipe, start_seconds=1.0)
    assert made.encoded["rgb"] == shard["image/encoded"]
    assert made.encoded["flow"] == shard["FORWARD_FLOW/image/encoded"]
    assert (made.height, made.width) == (shard["image/height"], shard["image/width"])
    assert len(made) == len(shard) == 5


def test_one_stream_is_the_same_without_the_other(video, quick_recipe):
    both = preview.of_video(video, quick_recipe)
    assert preview.of_video(video, quick_recipe, ("rgb",)).encoded == {"rgb": both.encoded["rgb"]}
    assert preview.of_video(video, quick_recipe, ("flow",)).encoded == {"flow": both.encoded["flow"]}


def test_frames_without_flow_need_no_flow_engine(video, quick_recipe):
    if flow.ENGINES["opencv-cuda"].usable() is None:
        pytest.skip("every flow engine runs here")
    recipe = dataclasses.replace(quick_recipe, engine="opencv-cuda")
    assert len(preview.of_video(video, recipe, ("rgb",))) == 5
    with pytest.raises(MissingTool):
        preview.of_video(video, recipe, ("flow",))


def test_the_recipe_is_what_the_weights_expect():
    recipe = preview.recipe_for(FACTS, seconds=2.0)
    settings = (recipe.fps, recipe.short_side, recipe.quantizer, recipe.bound_px, recipe.clip_seconds)
    assert settings == (Fraction(5), 48, "denseflow", 10.0, 2.0)
    assert preview.recipe_for(dataclasses.replace(FACTS, fps="30000/1001")).fps == Fraction(30000, 1001)


def test_where_the_weights_do_not_say_it_is_the_paper_s_recipe():
    recipe = preview.recipe_for(Facts(model="i3d", stream="rgb", classes=400, short_side=None))
    settings = (recipe.fps, recipe.short_side, recipe.quantizer, recipe.bound_px, recipe.clip_seconds)
    assert settings == (Fraction(25), 256, "symmetric", 20.0, 10.0)
    assert (
        preview.recipe_for(Facts(model="c3d", stream="rgb", classes=400, size=112, short_side=None)).short_side == 128
    )


def test_the_middle_of_the_clip_and_of_its_images_is_seen(tmp_path, quick_recipe):
    path = write_video(tmp_path / "numbers.mp4", numbered_frames(25, 64, 64), Fraction(5))
    recipe = dataclasses.replace(quick_recipe, clip_seconds=4.0, short_side=64)
    batch = preview.frames_of(preview.of_video(path, recipe, ("rgb",)), sampler(64, span=8))
    assert {stream: (array.dtype, array.shape) for stream, array in batch.items()} == {
        "rgb": ("uint8", (1, 8, 64, 64, 3))
    }
    assert [number_of(frame) for frame in batch["rgb"][0]] == [6, 7, 8, 9, 10, 11, 12, 13]
    cropped = preview.frames_of(preview.of_video(path, recipe, ("rgb",)), sampler(48, span=8))["rgb"]
    assert (cropped == batch["rgb"][:, :, 8:56, 8:56]).all()


def test_a_short_clip_is_looped(tmp_path, quick_recipe):
    path = write_video(tmp_path / "numbers.mp4", numbered_frames(200)[[0, 64, 128]], Fraction(5))
    made = preview.of_video(path, dataclasses.replace(quick_recipe, short_side=48), ("rgb",))
    frames = preview.frames_of(made, sampler(48, 7))["rgb"][0]
    assert len(np.unique(frames[:3], axis=0)) == 3
    assert (frames == frames[[0, 1, 2, 0, 1, 2, 0]]).all()
    assert made.notes == ("video ends early, after 3 frames",)


def test_frames_and_flow_come_in_step(video, quick_recipe):
    recipe = dataclasses.replace(quick_recipe, clip_seconds=2.0, quantizer="symmetric")
    batch = preview.frames_of(preview.of_video(video, recipe), sampler(32, 6, ("rgb", "flow")))
    assert batch["flow"].shape == (1, 6, 32, 32, 2) and batch["flow"].dtype == np.uint8
    dx, dy = np.moveaxis(batch["flow"].astype(float) - 128, -1, 0)
    assert dx.std() > 0 and abs(np.median(dy)) <= 2


def test_a_preview_and_a_sampler_that_do_not_fit_are_refused(video, quick_recipe):
    made = preview.of_video(video, quick_recipe, ("rgb",))
    with pytest.raises(ValueError, match="streams among rgb"):
        preview.frames_of(made, sampler(streams=("flow",)))
    with pytest.raises(ValueError, match="sampler for tests"):
        preview.frames_of(made, dataclasses.replace(sampler(), train=True))
    with pytest.raises(BadOption, match="too small for crops of 64 px"):
        preview.frames_of(made, sampler(64))


# Videos that are none ----------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 99, b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n"])
def test_what_is_no_video_is_told_in_a_line(tmp_path, quick_recipe, content):
    path = tmp_path / "not\na video.mp4"
    path.write_bytes(content)
    with pytest.raises(BadVideo) as caught:
        preview.of_video(path, quick_recipe)
    assert "not a video.mp4" in str(caught.value) and "\n" not in str(caught.value)


def test_a_clip_after_the_end_is_told(video, quick_recipe):
    with pytest.raises(BadVideo, match=r"blocks.mp4: clip begins at 60 s, after the end of blocks.mp4"):
        preview.of_video(video, quick_recipe, start_seconds=60.0)


@pytest.mark.parametrize("path", [os.curdir, os.devnull, "there is none.mp4"])
def test_what_is_no_file_is_told(tmp_path, quick_recipe, path):
    with pytest.raises(BadVideo, match="is not a file"):
        preview.of_video(Path(path), quick_recipe)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 61])
def test_lengths_that_make_no_sense_are_refused(seconds):
    with pytest.raises(BadOption, match="over 0 and at most 60"):
        preview.recipe_for(FACTS, seconds)


@pytest.mark.parametrize("start", [-1, float("nan"), float("inf")])
def test_starts_that_make_no_sense_are_refused(video, quick_recipe, start):
    with pytest.raises(BadOption, match="cannot begin at"):
        preview.of_video(video, quick_recipe, start_seconds=start)


def test_hostile_files_give_a_clip_or_a_line(shared_data, quick_recipe):
    refused = 0
    for path in sorted((shared_data / "hostile").glob("*.*4")):
        try:
            assert len(preview.of_video(path, quick_recipe, ("rgb",))) >= 2
        except BadVideo as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused
