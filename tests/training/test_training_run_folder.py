import json

import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

import keras

import kinetics_prep
from kinetics_prep.errors import BadOption, CorruptShard, FolderInUse, OtherRecipe
from kinetics_prep.training.run_folder import RunFolder


def test_what_a_killed_run_had_begun_to_write_goes(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    begun = [folder.checkpoints / f"{'0a' * 16}-step-00000003.safetensors", tmp_path / f"{'f1' * 16}-best.safetensors"]
    kept = [folder.checkpoints / "step-00000002.safetensors", tmp_path / "my-notes.txt"]
    for path in (*begun, *kept):
        path.write_bytes(b"")
    with folder.exclusive():
        assert [path.exists() for path in (*begun, *kept)] == [False, False, True, True]


def test_only_what_happens_to_the_folder_is_said_of_it(tmp_path):
    with pytest.raises(PermissionError, match="a shard"), RunFolder(tmp_path).exclusive():
        raise PermissionError(13, "not allowed", "a shard")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadOption, match="file cannot be written to"), RunFolder(tmp_path / "file").exclusive():
        pass


@pytest.mark.parametrize(
    "text", ["[]", "[" * 100_000, '{"digest": "a", "asked": {}, "versions": [1]}', '{"asked": {}}']
)
def test_a_description_that_is_none_is_an_error(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CorruptShard, match=r"run\.json (cannot be read|does not describe a run)"):
        RunFolder(tmp_path).describe({}, "1 CPU")


def test_a_folder_takes_one_run_and_says_what_differs(tmp_path):
    folder, settings = RunFolder(tmp_path / "run"), {"recipe": {"seed": 0, "steps": 3}, "labels": ["a"]}
    with folder.exclusive():
        digest = folder.describe(settings, "1 CPU")
        assert folder.describe(dict(reversed(settings.items())), "8 GPUs") == digest
        with pytest.raises(OtherRecipe, match="holds another run: recipe seed is 0 there and 7 here. Use the same"):
            folder.describe(settings | {"recipe": {"seed": 7, "steps": 3}}, "1 CPU")
        with pytest.raises(FolderInUse, match="another run is writing"), folder.exclusive():
            pass
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (content["digest"], content["asked"], content["versions"]["devices"]) == (digest, settings, "1 CPU")
    assert set(content["versions"]) == {"kinetics-prep", "keras", keras.backend.backend(), "devices"}


def test_versions_and_devices_that_changed_are_named(tmp_path):
    folder = RunFolder(tmp_path)
    folder.describe({}, "1 CPU")
    assert folder.changed_versions("1 CPU") == []
    content = json.loads(folder.description.read_text())
    del content["versions"]["kinetics-prep"]
    folder.description.write_text(json.dumps(content | {"versions": content["versions"] | {"keras": "3.0.0"}}))
    ours, theirs = kinetics_prep.__version__, keras.__version__
    assert folder.changed_versions("8 GPUs") == [
        f"kinetics-prep None, now {ours}",
        f"keras 3.0.0, now {theirs}",
        "devices 1 CPU, now 8 GPUs",
    ]
