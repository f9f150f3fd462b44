import json
import logging

import pytest

pytest.importorskip("keras", reason="the extra `train` is not installed")
pytest.importorskip("tensorflow", reason="the extra `train` is not installed")

from kinetics_prep.errors import CorruptShard
from kinetics_prep.training import history


def test_a_history_ends_before_a_line_that_was_not_finished(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo')
    assert [entry["step"] for entry in history.read(path)] == [1, 2]
    resumed = history.History.resume(path, 1)
    resumed.add({"step": 2, "loss": 1.25})
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [2.0, 1.25]


@pytest.mark.parametrize(
    "line",
    ["step 2", "[]", '{"step": 2, "val_loss": 1.0}', '{"step": 2, "val_loss": NaN, "val_top1": 0.5}', '{"step": "2"}'],
)
def test_a_history_is_never_cut_short_at_a_line_that_is_none(tmp_path, line):
    path = tmp_path / "history.jsonl"
    text = f'{{"step": 1, "loss": 2.0}}\n{line}\n{{"step": 3, "loss": 1.0}}\n'
    path.write_text(text)
    with pytest.raises(CorruptShard, match="line 2 of .* is not one that a run writes"):
        history.History.resume(path, 3)
    assert path.read_text() == text


def test_a_history_without_the_step_of_the_checkpoint_gives_a_warning(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "kinetics_prep")
    path = tmp_path / "history.jsonl"
    path.write_text(json.dumps({"step": 1, "loss": 2.0}) + "\n")
    history.History.resume(path, 1)
    assert not caplog.text
    history.History.resume(path, 2)
    assert "lacks step 2" in caplog.text
