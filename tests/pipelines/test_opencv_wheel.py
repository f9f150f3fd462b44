"""What of `pipelines/opencv_cuda` can be tried in less than half an hour; the README has what the whole gave."""

import base64
import csv
import hashlib
import importlib.util
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "pipelines" / "opencv_cuda" / "build_wheel.py"
SPEC = importlib.util.spec_from_file_location("build_wheel", SCRIPT)
build_wheel = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build_wheel)  # a script, which nothing installs


@pytest.mark.parametrize("word", ["sm_90", "9", "9.0;rm", "-DX=1"])
def test_capabilities_are_numbers(word, capsys):
    with pytest.raises(SystemExit) as stopped:
        build_wheel.main(["--capabilities", word])
    assert stopped.value.code == 2
    assert "capabilities" in capsys.readouterr().err


def test_code_for_each_gpu_once_and_ptx_for_those_yet_to_come():
    arguments = build_wheel.cmake_arguments(Path("toolkit"), Path("tools"), ["10.0", "9.0", "8.6", "9.0"])
    assert "-DCUDA_ARCH_BIN=8.6,9.0,10.0" in arguments
    assert "-DCUDA_ARCH_PTX=10.0" in arguments


def test_the_toolkit_looks_like_an_installed_one(tmp_path):
    library = tmp_path / "toolkit" / build_wheel.NVIDIA / "lib" / "libnppc.so.13"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"")
    root = build_wheel.gather_toolkit(tmp_path)
    assert (root / "lib64/libnppc.so").resolve() == library
    assert build_wheel.gather_toolkit(tmp_path) == root  # and once more


def test_a_packed_wheel_has_the_checksums_of_its_files(tmp_path):
    tree = tmp_path / "tree"
    info = tree / "cv2-1.dist-info"
    info.mkdir(parents=True)
    for name in ("METADATA", "RECORD"):
        (info / name).write_text("old")
    (tree / "cv2").mkdir()
    (tree / "cv2/cv2.abi3.so").write_bytes(b"code")
    wheel = build_wheel._pack(tree, info, tmp_path / "made.whl")
    with zipfile.ZipFile(wheel) as archive:
        rows = list(csv.reader(archive.read("cv2-1.dist-info/RECORD").decode().splitlines()))
        assert [row[0] for row in rows] == archive.namelist()
        for name, digest, size in rows[:-1]:
            data = archive.read(name)
            assert digest == "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert int(size) == len(data)
    assert rows[-1] == ["cv2-1.dist-info/RECORD", "", ""]


def test_a_failed_step_says_which_and_shows_the_end_of_its_log(tmp_path):
    with pytest.raises(
        build_wheel.BuildFailed, match=r"compile failed with exit code 3; .*compile.log ends with:\nno nvcc"
    ):
        build_wheel._run("compile", tmp_path, ["sh", "-c", "echo no nvcc; exit 3"])
