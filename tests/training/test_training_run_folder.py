import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.training.run_folder import RunFolder


def test_what_a_killed_run_had_begun_to_write_goes(tmp_path):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    begun = [folder.checkpoints / f"{'0a' * 16}-step-00000003.safetensors", tmp_path / f"{'f1' * 16}-best.safetensors"]
    kept = [folder.checkpoints / "step-00000002.safetensors", tmp_path / "my-notes.txt"]
    for path in (*begun, *kept):
        path.write_bytes(b"")
    with folder.taken():
        assert [path.exists() for path in (*begun, *kept)] == [False, False, True, True]


def test_only_what_happens_to_the_folder_is_said_of_it(tmp_path):
    with pytest.raises(PermissionError, match="a shard"), RunFolder(tmp_path).taken():
        raise PermissionError(13, "not allowed", "a shard")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadOption, match="file cannot be written to"), RunFolder(tmp_path / "file").taken():
        pass


@pytest.mark.parametrize(
    "text", ["[]", "[" * 100_000, '{"digest": "a", "asked": {}, "versions": [1]}', '{"asked": {}}']
)
def test_a_description_that_is_none_is_an_error(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CorruptShard, match=r"run\.json (cannot be read|does not describe a run)"):
        RunFolder(tmp_path).describe({}, "1 CPU")
