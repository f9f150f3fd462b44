"""What is launched from `pipelines/`: in a checkout, and from an installed wheel in an empty folder."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import kinetics_prep
from kinetics_prep import schemas

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("--split", "train", "--short-side", "32", "--tvl1", "scales=1", "warps=1", "iterations=2", "--workers", "1")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The project's wheel, built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    names = ("kinetics_prep", "pipelines", "schemas", "setup.py", "pyproject.toml", "README.md", "LICENSE")
    for name in names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder / "dist"), str(folder)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if built.returncode and "No matching distribution found for setuptools" in built.stdout + built.stderr:
        pytest.skip("pip cannot get setuptools, which builds the wheel")
    assert built.returncode == 0, built.stderr
    (path,) = (folder / "dist").iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel's content, as pip would put it beside the other packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def shards(folder: Path) -> dict[str, str]:
    paths = sorted((folder / "sample-prepared" / "tfrecord").iterdir())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def run(*command: str, cwd: Path, path: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(path)}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_wheel_holds_what_a_checkout_has(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for path in schemas.FOLDER.glob("*.json"):
        assert f"kinetics_prep/schemas/files/{path.name}" in names
    for path in (ROOT / "pipelines").rglob("*.py"):
        assert f"kinetics_prep/pipelines/{path.relative_to(ROOT / 'pipelines').as_posix()}" in names
    for name in ("py.typed", "flow/tvl1.cu", "sample/annotations.csv", "pipelines/opencv_cuda/Dockerfile"):
        assert f"kinetics_prep/{name}" in names
    data = [name for name in names if name.startswith("kinetics_prep/sample/videos/")]
    assert len(data) == len(list((ROOT / "kinetics_prep/sample/videos").iterdir()))
    assert {name.split("/")[0] for name in names} == {
        "kinetics_prep",
        f"kinetics_prep-{kinetics_prep.__version__}.dist-info",
    }


def test_what_a_checkout_launches_an_installed_wheel_launches_too(installed, tmp_path):
    """Both in an empty folder; the wheel without a checkout anywhere near."""
    for name in ("checkout", "wheel"):
        (tmp_path / name).mkdir()
    done = run("-m", "pipelines.flow", *QUICK, cwd=tmp_path / "checkout", path=ROOT)
    assert done.returncode == 0, done.stderr
    done = run("-m", "kinetics_prep.pipelines.flow", *QUICK, cwd=tmp_path / "wheel", path=installed)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "sample-prepared: 5 rows, 5 written, 0 refused\n"
    assert shards(tmp_path / "wheel") == shards(tmp_path / "checkout")


def test_the_wheel_reads_its_own_schemas(installed, tmp_path):
    program = "import kinetics_prep, kinetics_prep.schemas as s; print(kinetics_prep.__file__); print(s.FOLDER)"
    out = run("-c", program, cwd=tmp_path, path=installed).stdout.splitlines()
    assert out == [str(installed / "kinetics_prep/__init__.py"), str(installed / "kinetics_prep/schemas/files")]


@pytest.mark.parametrize(
    "command, message",
    [
        (("--annotations", "missing.csv", "--videos", "."), "--annotations missing.csv: there is no such file"),
        (("--fps", "fast"), "argument --fps: 'fast' is no number or fraction; see python -m pipelines.flow --help"),
        (
            ("--nonsense",),
            "--nonsense: known neither to kinetics-prep nor to Apache Beam; see kinetics-prep flow --help",
        ),
    ],
)
def test_a_mistake_of_the_user_is_one_line_and_exit_code_2(command, message, tmp_path):
    done = run("-m", "pipelines.flow", *command, cwd=tmp_path, path=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"python -m pipelines.flow: {message}\n"


def failing_run(error: str, cwd: Path) -> subprocess.CompletedProcess:
    """A run in which a clip's object cannot be written."""
    program = (
        "import sys\nfrom kinetics_prep.cli import endings\nfrom kinetics_prep.dataset import objects\n"
        "from pipelines import flow\n"
        f"def fail(*arguments): {error}\n"
        "objects.create_object = fail\n"
        "endings.run_process(flow.main)\n"
    )
    return run("-c", program, *QUICK, cwd=cwd, path=ROOT)


def test_an_error_of_the_system_within_the_pipeline_is_one_line(tmp_path):
    done = failing_run("raise OSError(5, 'Input/output error', '/out/file')", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "python -m pipelines.flow: /out/file: Input/output error\n"


def test_a_bug_within_the_pipeline_is_a_traceback(tmp_path):
    done = failing_run("1 / 0", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" in done.stderr and "ZeroDivisionError" in done.stderr


def test_an_interrupt_has_the_exit_code_of_the_command_line(tmp_path):
    done = failing_run("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", tmp_path)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "\ninterrupted; what is committed stays, and the same command goes on from there\n"


def test_too_many_refused_rows_have_an_exit_code_of_their_own(installed, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "other.mp4").touch()
    (tmp_path / "rows.csv").write_text("waving,a,0,1,train\n")
    command = ("--annotations", "rows.csv", "--videos", "videos", "--max-refused", "0", "--output", "out")
    done = run("-m", "kinetics_prep.pipelines.flow", *command, cwd=tmp_path, path=installed)
    assert (done.returncode, done.stdout) == (3, "out: 1 rows, 0 written, 1 refused (1 not_found)\n")
