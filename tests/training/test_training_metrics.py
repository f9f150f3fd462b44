import numpy as np
import pytest

from kinetics_prep.errors import BadLogits, BadOption
from kinetics_prep.training import metrics
from kinetics_prep.training.metrics import Scores


def logits(*rows) -> np.ndarray:
    return np.array(rows, np.float32)


def ids(*class_ids) -> np.ndarray:
    return np.array(class_ids)


def test_the_place_of_a_class_counts_those_above_it():
    assert metrics.ranks(logits([3, 1, 2], [3, 1, 2], [3, 1, 2]), ids(0, 1, 2)).tolist() == [1, 3, 2]


def test_of_equal_logits_the_lower_class_id_stands_first():
    level = logits([5, 7, 7, 7])
    assert [metrics.ranks(level, ids(k)).item() for k in range(4)] == [4, 1, 2, 3]
    assert metrics.top(level, 4).tolist() == [[1, 2, 3, 0]]


def test_a_constant_model_is_right_for_class_0_alone():
    assert metrics.score(np.zeros((4, 4), np.float32), np.arange(4)).top1 == 0.25


def test_ranks_and_top_agree_on_random_logits_full_of_ties():
    predicted = np.random.default_rng(0).integers(0, 4, (200, 9)).astype(np.float32)
    order = metrics.top(predicted, 9)
    for k in range(9):
        assert (metrics.ranks(predicted, order[:, k]) == k + 1).all()


def test_top_5_is_the_share_of_clips_whose_class_is_among_five():
    predicted = -np.tile(np.arange(10, dtype=np.float32), (10, 1))  # class k stands at place k + 1
    scores = metrics.score(predicted, np.arange(10))
    assert (scores.top1, scores.top5) == (0.1, 0.5)


def test_with_fewer_than_five_classes_all_are_among_the_first_five():
    scores = metrics.score(logits([1, 0, 0], [1, 0, 0]), ids(0, 2))
    assert (scores.top1, scores.top5) == (0.5, 1)
    assert metrics.top(logits([1, 2, 3]), 5).tolist() == [[2, 1, 0]]


def test_mean_class_accuracy_weighs_classes_alike_and_leaves_out_those_that_do_not_occur():
    predicted = logits(*[[1, 0, 0, 0]] * 10)
    scores = metrics.score(predicted, ids(*[0] * 9, 2))
    assert scores.top1 == 0.9
    assert scores.mean_class == 0.5


def test_a_confusion_matrix_has_true_classes_as_rows():
    predicted = logits([0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1])
    assert metrics.confusion(predicted, ids(0, 0, 0, 2)).tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_a_confusion_matrix_bears_out_the_scores():
    random = np.random.default_rng(1)
    predicted, class_ids = random.normal(size=(300, 7)).astype(np.float32), random.integers(0, 6, 300)
    matrix = metrics.confusion(predicted, class_ids)
    scores = metrics.score(predicted, class_ids)
    assert matrix.sum() == 300
    assert np.trace(matrix) / 300 == pytest.approx(scores.top1)
    assert np.mean(np.diag(matrix)[:6] / matrix[:6].sum(1)) == pytest.approx(scores.mean_class)


def test_scores_are_one_line_of_text():
    assert str(Scores(120, 0.7111, 0.893, 0.71)) == (
        "top-1 71.1%, top-5 89.3%, mean class accuracy 71.0%, of 120 clips"
    )
    assert str(Scores(1, 1.0, 1.0, 1.0)).endswith("of 1 clip")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(wrong):
    with pytest.raises(BadLogits, match="logits of 1 of 2 clips are not finite, the first of them those of clip 1"):
        metrics.score(logits([1, 2], [wrong, 0]), ids(0, 1))


def test_no_clips_have_no_scores():
    with pytest.raises(BadOption, match="no labelled clip"):
        metrics.score(np.zeros((0, 3), np.float32), np.zeros(0, int))


@pytest.mark.parametrize(
    "predicted, class_ids, match",
    [
        (logits([1, 2]), ids(2), "class ids must be 0 to 1, are 2 to 2"),
        (logits([1, 2]), ids(-1), "class ids must be 0 to 1, are -1"),
        (logits([1, 2]), ids(0, 1), r"class ids must be int \[1\]"),
        (logits([1, 2]), np.array([0.0]), "class ids must be int"),
        (logits([1, 2])[0], ids(0), r"logits must be float \[N, C\]"),
        (np.array([[1, 2]]), ids(0), "logits must be float"),
    ],
)
def test_what_does_not_belong_together_is_refused(predicted, class_ids, match):
    with pytest.raises(ValueError, match=match):
        metrics.score(predicted, class_ids)


def test_class_ids_of_few_bits_do_not_overflow_the_confusion_matrix():
    predicted = np.eye(200, dtype=np.float32)
    assert (metrics.confusion(predicted, np.arange(200, dtype=np.uint8)) == np.eye(200)).all()


@pytest.mark.parametrize("values", [(0, 0.5, 0.5, 0.5), (3, 1.5, 0.5, 0.5), (3, 0.5, float("nan"), 0.5)])
def test_scores_refuse_nonsense(values):
    with pytest.raises(ValueError):
        Scores(*values)
