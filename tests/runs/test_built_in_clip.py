"""The built-in clip: what it has to show, and that it is what its program renders."""

import hashlib
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from kinetics_prep.media import video
from kinetics_prep.media.clip import Clip
from kinetics_prep.media.graph import scaled_size
from kinetics_prep.runs import built_in_clip
from kinetics_prep.runs.built_in_clip import TIMES_MS, render
from kinetics_prep.runs.fingerprint import FRAMES, SLOWEST_FPS, _seconds


def cut(fps: Fraction) -> Clip:
    """The clip at a rate, in its own size."""
    source = video.probe(built_in_clip.PATH)
    return video.trim(source, 0.0, _seconds(fps), fps, short_side=render.HEIGHT, min_seconds=0.0)


def pictures(clip: Clip) -> np.ndarray:
    """uint8 [T + 1, H, W, 3]: the frames of a clip and the one after them."""
    return np.stack([*clip.frames, clip.next_frame])


def test_it_is_small_and_the_one_that_was_published():
    data = built_in_clip.PATH.read_bytes()
    assert hashlib.sha256(data).hexdigest() == built_in_clip.SHA256
    assert len(data) < 16_000


def test_it_is_of_the_most_usual_kind():
    found = video.probe(built_in_clip.PATH)
    assert (found.codec, found.width, found.height) == ("h264", 374, 272)
    assert (found.colour_space, found.primaries) == ("bt709", "bt709")
    assert not found.interlaced and not found.high_dynamic_range
    assert cut(Fraction(25)).notes == ()


def test_its_frames_at_the_papers_rate_are_those_that_its_program_draws():
    shown = [TIMES_MS.index(time) for time in (0, 40, 80, 120, 160)]
    drawn = np.stack([render.picture(k) for k in shown]).astype(int)
    decoded = pictures(cut(Fraction(25)))
    differences = [[np.abs(mine - its).mean() for its in drawn] for mine in decoded]
    assert np.argmin(differences, axis=1).tolist() == [0, 1, 2, 3, 4]
    assert np.diag(differences).max() < 12  # compressed to a few kB, but recognisable


@pytest.mark.parametrize("short_side", [64, 112, 128, 224, 240, 256])
def test_usual_recipes_scale_it_and_give_it_an_even_width(short_side):
    width, height = scaled_size(render.WIDTH, render.HEIGHT, short_side)
    assert height == short_side < render.HEIGHT and width % 2 == 0


@pytest.mark.parametrize("fps", [SLOWEST_FPS, "1/60", "1/7", 1, 10, 12.5, 15, "30000/1001", 30, 50, 60, 120, 400, 1000])
def test_at_every_rate_it_is_long_enough_and_shows_motion(fps):
    clip = cut(Fraction(fps))
    assert len(clip) == FRAMES and clip.next_frame is not None and not clip.ends_early
    moved = [(before != after).any() for before, after in zip(pictures(clip), pictures(clip)[1:])]
    assert sum(moved) >= 2


def test_any_two_frames_differ_by_a_small_motion():
    drawn = [render.picture(k).astype(int) for k in range(len(TIMES_MS))]
    for k, one in enumerate(drawn):
        for other in drawn[:k]:
            assert 3 < np.abs(one - other).mean() < 60


def test_it_has_sharp_edges_all_colours_and_grey():
    first = render.picture(0).astype(int)
    assert np.abs(np.diff(first.mean(-1), axis=1)).max() > 150
    assert [first[..., channel].std() > 40 for channel in range(3)] == [True] * 3
    chroma = first.max(-1) - first.min(-1)
    assert chroma.max() > 180 and chroma.min() == 0


def test_its_program_writes_frame_times_and_size(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["render", str(tmp_path / "again.mp4")])
    render.main()
    again, published = video.probe(tmp_path / "again.mp4"), video.probe(built_in_clip.PATH)
    assert (again.width, again.height, again.duration_seconds) == (374, 272, published.duration_seconds)
    assert again.colour_space == "bt709"


def test_an_installed_package_has_it(tmp_path):
    pytest.importorskip("setuptools")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    installed = tmp_path / built_in_clip.PATH.relative_to(root)
    assert installed.read_bytes() == built_in_clip.PATH.read_bytes()
