"""Two runs on one output folder: on one machine, on two, over two mounts; and one that sleeps while it is replaced."""

import contextlib
import hashlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import numbered_frames, write_video
from prepared import RECIPE

from kinetics_prep.dataset import validate
from kinetics_prep.storage.folder_store import FolderStore

SCRIPT = Path(__file__).parents[1] / "one_of_two_runs.py"
ROWS = 6


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    video = write_video(folder / "video0.mp4", numbered_frames(30), 25)
    for number in range(1, ROWS - 1):  # the last one is missing
        shutil.copy(video, folder / f"video{number}.mp4")
    lines = [f"waving,video{number},0,1,train" for number in range(ROWS)]
    (folder / "rows.csv").write_text("label,youtube_id,time_start,time_end,split\n" + "\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def clean(videos, tmp_path_factory) -> dict[str, str]:
    """The data files of an undisturbed run."""
    output = tmp_path_factory.mktemp("clean") / "out"
    assert start(videos, output).wait() == 0
    return data(output)


def start(videos: Path, output: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, str(SCRIPT), str(videos), str(output), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def data(output: Path) -> dict[str, str]:
    store = FolderStore(output)
    keys = [entry.key for form in RECIPE.formats for entry in store.list(f"{form}/")]
    return {key: hashlib.sha256(store.read(key)).hexdigest() for key in keys}


def tree(output: Path) -> dict[str, bytes]:
    return {entry.key: FolderStore(output).read(entry.key) for entry in FolderStore(output).list()}


def problems(output: Path) -> list[str]:
    return list(map(str, validate.problems(validate.open_folder(output))))


@contextlib.contextmanager
def mounts(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """One folder, mounted twice."""
    if shutil.which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    (tmp_path / "disk").mkdir()
    places = tmp_path / "one", tmp_path / "other"
    with contextlib.ExitStack() as stack:
        for place in places:
            place.mkdir()
            if subprocess.run(["bindfs", str(tmp_path / "disk"), str(place)], capture_output=True).returncode:
                pytest.skip("nothing can be mounted here")
            stack.callback(subprocess.run, ["fusermount", "-u", str(place)], check=True)
        yield places


def check_two(first: subprocess.Popen, second: subprocess.Popen, output: Path, clean: dict[str, str]) -> None:
    """One goes on; the other is told so, or begins after the first has ended and finds all done."""
    said = [process.communicate()[0] for process in (first, second)]
    codes = [process.returncode for process in (first, second)]
    assert 0 in codes, said
    for code, text in zip(codes, said, strict=True):
        assert "done: 6 rows, 5 written, 1 refused" in text if code == 0 else "FolderInUse: another run" in text
    assert data(output) == clean
    assert problems(output) == []
    assert not (output / ".work").exists()


def test_of_two_runs_at_once_one_goes_on(videos, clean, tmp_path):
    output = tmp_path / "out"
    check_two(start(videos, output), start(videos, output), output, clean)


def test_of_two_machines_one_goes_on(videos, clean, tmp_path):
    output = tmp_path / "out"
    check_two(start(videos, output), start(videos, output, "--machine", "mars"), output, clean)


@pytest.mark.parametrize("machine", ["earth", "mars"])
def test_over_two_mounts_one_goes_on(videos, clean, tmp_path, machine):
    with mounts(tmp_path) as (one, other):
        check_two(start(videos, one / "out"), start(videos, other / "out", "--machine", machine), one / "out", clean)


@pytest.mark.parametrize("write", [1, 3, 6, 8, 11, 15, 18, 21])
def test_a_stopped_run_that_wakes_up_does_no_harm(videos, clean, tmp_path, write):
    output = tmp_path / "out"
    sleeper = start(videos, output, "--machine", "mars", "--stop-at", str(write))
    assert sleeper.stdout is not None
    first = sleeper.stdout.readline()
    if not first.startswith("stopped"):
        pytest.fail(f"the run has fewer than {write} writes: {first}")
    try:
        second = start(videos, output)
        assert "done: 6 rows, 5 written, 1 refused" in second.communicate()[0]
        before = tree(output)
        sleeper.send_signal(signal.SIGCONT)
        said = sleeper.communicate(timeout=60)[0]
    finally:
        sleeper.kill()
    assert sleeper.returncode == 2
    assert "FolderInUse: another run has taken" in said
    assert tree(output) == before
    assert data(output) == clean
    assert problems(output) == []
