import numpy as np
import pytest
from predictions_cases import some

from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.training import comparison, predictions_file

IDS = np.array([0, 1, 2, 3])


def right_for(clips, stream="rgb", strength=1, **changes):
    """Four clips of the classes 0 to 3, of which the model gets those in `clips` right; for others it says class 5."""
    logits = np.zeros((4, 6), np.float32)
    for k in range(4):
        logits[k, k if k in clips else 5] = strength
    return some(4, class_ids=IDS, logits=logits, stream=stream, weights=f"{stream} weights", **changes)


def table():
    return comparison.compare(
        [
            (None, right_for({0, 1})),
            (None, right_for({1, 2, 3}, "flow", strength=2)),
            ("I3D, \\ from | scratch", right_for({0}, "flow")),
            (None, right_for({0, 1, 2, 3}, "both", model="two-stream")),
        ]
    )


def test_a_table_has_a_row_a_model_and_a_column_a_stream():
    assert table().text().splitlines() == [
        "top-1 / top-5 / mean class accuracy in %, 4 clips, 6 classes; fused: logits added",
        "",
        "model                                  RGB                 Flow             RGB + Flow",
        "i3d                    50.0 / 100.0 / 50.0  75.0 / 100.0 / 75.0    75.0 / 100.0 / 75.0",
        "I3D, \\ from | scratch                    –  25.0 / 100.0 / 25.0                      –",
        "two-stream                               –                    –  100.0 / 100.0 / 100.0",
    ]


def test_a_table_in_markdown_escapes_what_would_break_it():
    lines = table().markdown().splitlines()
    assert lines[:3] == [
        "| model | RGB | Flow | RGB + Flow |",
        "| --- | --: | --: | --: |",
        "| i3d | 50.0 / 100.0 / 50.0 | 75.0 / 100.0 / 75.0 | 75.0 / 100.0 / 75.0 |",
    ]
    assert lines[3] == "| I3D, \\\\ from \\| scratch | – | 25.0 / 100.0 / 25.0 | – |"
    assert lines[5:] == ["", table().caption]


def test_two_streams_are_fused_unless_there_are_predictions_of_both():
    rgb, flow = right_for({0, 1}), right_for({1, 2, 3}, "flow", strength=2)
    both = right_for({0}, "both")
    assert comparison.compare([(None, rgb), (None, flow)]).rows["i3d"]["both"].top1 == 0.75
    assert comparison.compare([(None, rgb), (None, flow), (None, both)]).rows["i3d"]["both"].top1 == 0.25
    assert comparison.compare([(None, rgb), (None, flow), (None, both)]).fusions == ()
    averaged = comparison.compare([(None, rgb), (None, flow)], "probabilities")
    assert averaged.caption.endswith("; fused: probabilities averaged")


def test_clips_without_a_label_do_not_count():
    unlabelled = some(4, class_ids=np.array([0, -1, -1, 3]))
    assert comparison.compare([(None, unlabelled)]).clips == 2
    assert comparison.compare([(None, unlabelled)]).rows["i3d"]["rgb"].clips == 2


def test_a_table_is_made_of_files(tmp_path):
    for stream in ("rgb", "flow"):
        predictions_file.write(tmp_path / stream, right_for({0, 1}, stream))
    made = comparison.compare_files([(None, tmp_path / "rgb"), ("my I3D", tmp_path / "flow")])
    assert {name: list(row) for name, row in made.rows.items()} == {"i3d": ["rgb"], "my I3D": ["flow"]}
    with pytest.raises(CorruptShard, match="not a Parquet file"):
        comparison.compare_files([(None, tmp_path / "none")])


def test_what_cannot_stand_in_one_table_is_refused():
    with pytest.raises(BadOption, match="two predictions of 'i3d' on RGB, .*: give them names of their own"):
        comparison.compare([(None, right_for({0})), (None, right_for({1}))])
    with pytest.raises(BadOption, match="do not belong together: 1 clips are only in one of them"):
        comparison.compare([(None, right_for({0})), ("other", some(5))])
    with pytest.raises(BadOption, match="no predictions to compare"):
        comparison.compare([])
