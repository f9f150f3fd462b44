import csv
import math
import subprocess
import zlib

import numpy as np
import pytest

from kinetics_prep import sample
from kinetics_prep.media import ffmpeg, video
from kinetics_prep.sample import MOTIONS, Motion, render


def decode(path, side):
    """uint8 [T, side, side, 3] of a whole video."""
    command = [ffmpeg.locate().path, "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, side, side, 3).astype(int)


def rows():
    with open(sample.ANNOTATIONS, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# The data set ------------------------------------------------------------------------------------


def test_every_row_has_a_video_and_every_video_a_row():
    assert {f"{row['youtube_id']}.mp4" for row in rows()} == {path.name for path in sample.VIDEOS.iterdir()}


def test_every_class_has_rows_to_train_on_and_to_validate_with():
    labels = {split: {row["label"] for row in rows() if row["split"] == split} for split in ("train", "val")}
    assert labels["train"] == labels["val"]
    assert len(labels["train"]) == 4 and len(rows()) == 9


@pytest.mark.parametrize("name", MOTIONS)
def test_a_video_s_name_and_label_say_how_it_moves(name):
    x, y = np.array([-50.0, 50.0]), np.array([-50.0, 50.0])
    dx, dy = MOTIONS[name].flow(x, y)
    label = next(row["label"] for row in rows() if row["youtube_id"] == name)
    if label == "moving left":
        assert (dx < -1).all() and name.startswith("pan_left")
    elif label == "moving right":
        assert (dx > 1).all() and name.startswith("pan_right")
    else:
        assert label == "zooming in" and name.startswith("zoom_in")
        assert (dx * x > 0).all() and (dy * y > 0).all()  # away from the centre


@pytest.mark.parametrize("name", MOTIONS)
def test_a_video_is_what_its_motion_and_name_render(name):
    """The videos in the tree are those that the program renders, but for the noise of compression."""
    decoded = decode(sample.VIDEOS / f"{name}.mp4", side=256)
    assert len(decoded) == 50
    expected = render.frames(MOTIONS[name], seed=zlib.crc32(name.encode()), number=8)
    error = np.abs(decoded[:8] - expected).mean()
    assert error < 3
    assert np.abs(decoded[1:9] - expected).mean() > 1.3 * error < np.abs(decoded[:7] - expected[1:]).mean()


def test_no_row_ends_after_its_video():
    for row in rows():
        seconds = 2 if row["youtube_id"] in MOTIONS else 13
        assert 0 <= float(row["time_start"]) < float(row["time_end"]) <= seconds


# Motions -----------------------------------------------------------------------------------------


def test_a_motion_is_a_shift_and_a_growth_about_the_centre():
    assert Motion(dx=2, dy=-1).flow(10.0, 20.0) == (2, -1)
    assert Motion(zoom=0.01).flow(10.0, -20.0) == (0.1, -0.2)
    dx, dy = Motion(dx=1, zoom=0.5).flow(np.array([0.0, 4.0]), np.array([2.0, 2.0]))
    assert (dx.tolist(), dy.tolist()) == ([1, 3], [1, 1])


def test_a_zoom_to_nothing_is_refused():
    with pytest.raises(ValueError, match="zoom must be above -1"):
        Motion(zoom=-1)


# Rendering ---------------------------------------------------------------------------------------


def test_a_texture_has_the_contrast_that_was_wanted_in_each_colour():
    waves = render.random_waves(seed=1, contrast=40)
    side = np.arange(2000.0)
    picture = render.picture(waves, side, side[::10])
    assert picture.shape == (200, 2000, 3) and picture.dtype == np.uint8
    assert picture.mean((0, 1)) == pytest.approx([128] * 3, abs=3)
    assert np.sqrt((waves.colour**2 / 2).sum(1)) == pytest.approx([40] * 3)
    assert picture.std((0, 1)) == pytest.approx([40] * 3, abs=4)


def test_waves_have_the_lengths_that_were_wanted():
    waves = render.random_waves(seed=2, number=500, shortest_pixels=10, longest_pixels=20)
    lengths = 2 * math.pi / np.hypot(waves.kx, waves.ky)
    assert 10 <= lengths.min() < 11 and 19 < lengths.max() <= 20


def test_a_picture_is_the_sum_of_its_waves():
    waves = render.random_waves(seed=3, number=5)
    x, y = np.array([0.0, 3.5, -20.0]), np.array([1.0, 8.0])
    for row, column in np.ndindex(2, 3):
        angle = waves.kx * x[column] + waves.ky * y[row] + waves.phase
        expected = np.clip(np.rint(128 + (waves.colour * np.cos(angle)).sum(1)), 0, 255)
        assert render.picture(waves, x, y)[row, column].tolist() == expected.tolist()


def test_waves_need_as_many_of_each():
    with pytest.raises(ValueError, match="expected one kx, ky, phase and colour for each wave"):
        render.Waves(np.zeros(3), np.zeros(3), np.zeros(2), np.zeros((3, 3)))


def test_frames_move_by_whole_pixels_exactly():
    """Content moves right where dx > 0, and down where dy > 0."""
    first, second, third = render.frames(Motion(dx=3, dy=-2), seed=5, number=3, side=40)
    for before, after in ((first, second), (second, third)):
        assert (after[:-2, 3:] == before[2:, :-3]).all()
    assert (first != second).any()


def test_frames_grow_about_the_centre():
    """Three times as large: each pixel beside the centre moves to three times as far from it."""
    first, second = render.frames(Motion(zoom=2.0), seed=6, number=2, side=18)
    centre = np.arange(-2, 3)
    near, far = 8 + 1 + centre, 8 + 1 + 3 * centre + 1
    assert (second[np.ix_(far, far)] == first[np.ix_(near, near)]).all()


def test_a_seed_is_a_texture():
    same, again, other = (render.frames(Motion(), seed, number=1, side=16) for seed in (7, 7, 8))
    assert (same == again).all() and (same != other).any()


def test_encoding_keeps_the_frames_their_number_and_their_rate(tmp_path):
    rgb = render.frames(Motion(dx=1), seed=9, number=12, side=64)
    path = tmp_path / "video.mp4"
    render.encode(rgb, path, fps=10)
    decoded = decode(path, side=64)
    assert decoded.shape == rgb.shape
    assert np.abs(decoded - rgb).mean() < 4
    probed = video.probe(path)
    assert probed.duration_seconds == pytest.approx(1.2, abs=0.11)
    render.encode(rgb, tmp_path / "again.mp4", fps=10)
    assert (tmp_path / "again.mp4").read_bytes() == path.read_bytes()


def test_the_program_renders_each_motion_under_its_name(tmp_path, monkeypatch):
    calls = {}
    monkeypatch.setattr("sys.argv", ["render", str(tmp_path / "new" / "folder")])
    monkeypatch.setattr(render, "MOTIONS", {"pan": Motion(dx=1), "zoom": Motion(zoom=0.1)})
    monkeypatch.setattr(render, "frames", lambda motion, seed: (motion, seed))
    monkeypatch.setattr(render, "encode", lambda rgb, path: calls.update({path: rgb}))
    render.main()
    assert (tmp_path / "new" / "folder").is_dir()
    assert calls == {
        tmp_path / "new" / "folder" / "pan.mp4": (Motion(dx=1), zlib.crc32(b"pan")),
        tmp_path / "new" / "folder" / "zoom.mp4": (Motion(zoom=0.1), zlib.crc32(b"zoom")),
    }
