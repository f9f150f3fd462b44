import json
import logging

import pytest

from kinetics_prep.errors import CorruptShard
from kinetics_prep.training import history


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.jsonl"


def written(path, *entries) -> None:
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))


def evaluation(step, top1, loss=1.0):
    return {"step": step, "val_loss": loss, "val_top1": top1, "val_top5": 1.0}


def test_a_history_ends_before_a_line_that_was_not_finished(path):
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo')
    assert [entry["step"] for entry in history.read(path)] == [1, 2]
    resumed = history.History.resume(path, 1)
    resumed.add({"step": 2, "loss": 1.25})
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [2.0, 1.25]


def test_a_run_that_goes_on_forgets_steps_and_evaluations_after_its_checkpoint(path):
    steps = [{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)]
    written(path, steps[0], steps[1], evaluation(2, 0.5, 0.7), steps[2], evaluation(3, 0.9))
    resumed = history.History.resume(path, 2)
    assert history.read(path) == [steps[0], steps[1], evaluation(2, 0.5, 0.7)]
    assert resumed.evaluations == [evaluation(2, 0.5, 0.7)]
    assert resumed.validation_losses == [0.7] and resumed.evaluated == {2}


def test_there_is_no_history_before_the_first_step(path):
    assert history.read(path) == []
    resumed = history.History.resume(path, 0)
    assert (resumed.evaluations, resumed.evaluations_since_best(), path.read_text()) == ([], 0, "")


@pytest.mark.parametrize(
    "accuracies, since", [([0.5], 0), ([0.5, 0.4, 0.3], 2), ([0.3, 0.5, 0.5], 1), ([0.3, 0.5, 0.6], 0)]
)
def test_evaluations_are_counted_from_the_first_of_the_best(path, accuracies, since):
    kept = history.History(path)
    for step, top1 in enumerate(accuracies, 1):
        kept.add(evaluation(step, top1))
    assert kept.evaluations_since_best() == since
    assert history.read(path) == kept.evaluations


def test_a_listener_gets_each_entry(path):
    class Collect(list):
        add = list.append

    kept = history.History(path, listener=Collect())
    kept.add({"step": 1, "loss": 2.0})
    kept.add(evaluation(1, 0.5))
    assert kept.listener == history.read(path) == [{"step": 1, "loss": 2.0}, evaluation(1, 0.5)]
    kept.sync()


BROKEN = [
    "step 2",
    "[]",
    '{"step": 2}',
    '{"step": 2, "loss": NaN}',
    '{"step": 2, "loss": Infinity}',
    '{"step": 2, "loss": "1.0"}',
    '{"step": 2, "val_loss": 1.0}',
    '{"step": 2, "val_loss": 1.0, "val_top1": null}',
    '{"step": 2, "val_loss": NaN, "val_top1": 0.5}',
    '{"step": "2", "loss": 1.0}',
    '{"loss": 1.0}',
    "[" * 100_000,
]


@pytest.mark.parametrize("line", BROKEN, ids=range(len(BROKEN)))
def test_a_history_is_never_cut_short_at_a_line_that_no_run_writes(path, line):
    text = f'{{"step": 1, "loss": 2.0}}\n{line}\n{{"step": 3, "loss": 1.0}}\n'
    path.write_text(text)
    with pytest.raises(CorruptShard, match="^line 2 of .* is not one that a run writes"):
        history.History.resume(path, 3)
    assert path.read_text() == text
    path.write_text(f'{{"step": 1, "loss": 2.0}}\n{line}\n')
    assert history.read(path) == [{"step": 1, "loss": 2.0}]


def test_a_history_that_cannot_be_read_is_an_error(path):
    path.mkdir()
    with pytest.raises(CorruptShard, match="cannot be read: Is a directory"):
        history.read(path)


def test_a_history_without_the_step_of_the_checkpoint_gives_a_warning(path, caplog):
    caplog.set_level(logging.WARNING, "kinetics_prep")
    written(path, {"step": 1, "loss": 2.0}, evaluation(2, 0.5))
    history.History.resume(path, 1)
    assert not caplog.text
    written(path, {"step": 1, "loss": 2.0}, evaluation(2, 0.5))
    history.History.resume(path, 2)
    assert "lacks step 2" in caplog.text
