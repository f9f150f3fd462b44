import numpy as np
import pytest
from predictions_cases import LABELS, some

from kinetics_prep.errors import BadLogits, BadOption
from kinetics_prep.reading.clips import UNLABELLED
from kinetics_prep.training import predictions


def test_scores_are_those_of_labelled_clips():
    logits = np.eye(6, dtype=np.float32)[:3]
    assert some(3, class_ids=np.array([0, UNLABELLED, 1]), logits=logits).scores().top1 == 0.5
    matrix = some(3, class_ids=np.array([0, UNLABELLED, 1]), logits=logits).confusion()
    assert matrix.sum() == 2 and matrix[0, 0] == 1 and matrix[1, 2] == 1
    with pytest.raises(BadOption, match="no labelled clip"):
        some(2, class_ids=np.array([UNLABELLED] * 2)).scores()


def test_the_likeliest_classes_come_with_their_probabilities():
    likeliest = predictions.likeliest(np.log(np.array([0.1, 0.5, 0.4], np.float32)), ("a", "b", "c"), 5)
    assert [label for label, _ in likeliest] == ["b", "c", "a"]
    assert [probability for _, probability in likeliest] == pytest.approx([0.5, 0.4, 0.1])
    assert [label for label, _ in predictions.likeliest(np.array([1, 3, 2], np.float32), (), 2)] == [
        "class 1",
        "class 2",
    ]


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"stream": "sound"}, "stream is 'sound', expected one of rgb"),
        ({"fusion": "votes"}, "fusion is 'votes'"),
        ({"labels": ("a",) * 6}, "each of them once"),
        ({"labels": LABELS[:5]}, r"logits must be float32 \[7, 5\]"),
        ({"labels": (*LABELS[:5], "\ud800")}, "surrogates not allowed"),
        ({"clip_ids": ("a",) * 7}, "twice"),
        ({"class_ids": np.array([6] * 7)}, "class ids must be -1 to 5"),
        ({"class_ids": np.array([-2] * 7)}, "class ids must be -1 to 5"),
        ({"class_ids": np.zeros(7)}, "class ids must be int"),
    ],
)
def test_nonsense_is_refused_at_birth(changes, match):
    with pytest.raises(ValueError, match=match):
        some(**changes)


def test_predictions_of_diverged_weights_are_refused():
    with pytest.raises(BadLogits, match="diverged"):
        some(logits=np.full((7, 6), np.nan, np.float32))
