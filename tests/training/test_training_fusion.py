import numpy as np
import pytest
from predictions_cases import LABELS, same, some

from kinetics_prep.errors import BadOption
from kinetics_prep.training import metrics, predictions_file
from kinetics_prep.training.fusion import fuse, fuse_predictions


def logits(*rows) -> np.ndarray:
    return np.array(rows, np.float32)


SURE, DOUBTFUL = logits([9, 0, 0]), logits([0, 1, 0])


def test_adding_logits_lets_the_surer_model_win():
    assert fuse([SURE, DOUBTFUL]).tolist() == [[9, 1, 0]]
    assert fuse([DOUBTFUL, SURE]).dtype == np.float32


def test_probabilities_of_the_fused_are_the_mean_of_probabilities():
    fused = fuse([SURE, DOUBTFUL], "probabilities")
    mean = (metrics.softmax(SURE) + metrics.softmax(DOUBTFUL)) / 2
    assert metrics.softmax(fused) == pytest.approx(mean, abs=1e-7)
    assert np.exp(fused) == pytest.approx(mean, abs=1e-6)  # logarithms of probabilities, not just logits


def test_the_two_ways_can_disagree():
    one, other = logits([3, 0, -9]), logits([-20, 0, 0])  # the other is certain that it is not class 0
    assert metrics.top(fuse([one, other], "logits"), 1).item() == 1
    assert metrics.top(fuse([one, other], "probabilities"), 1).item() == 0


@pytest.mark.parametrize("how", ["logits", "probabilities"])
def test_huge_logits_stay_finite_and_in_order(how):
    fused = fuse([logits([1e4, -1e4, 0, -3e4]), logits([1e4, -1e4, 0, -2e4])], how)
    assert np.isfinite(fused).all()
    assert metrics.top(fused, 4).tolist() == [[0, 2, 1, 3]]


@pytest.mark.parametrize("how", ["logits", "probabilities"])
def test_adding_to_each_logit_alike_changes_nothing(how):
    random = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    plain, moved = fuse([*random], how), fuse([random[0] + 700, random[1] - 300], how)
    assert metrics.softmax(moved) == pytest.approx(metrics.softmax(plain), abs=1e-3)


def test_the_order_of_two_models_does_not_matter():
    random = np.random.default_rng(0).normal(size=(2, 50, 9)).astype(np.float32)
    for how in ("logits", "probabilities"):
        assert (fuse([*random], how) == fuse([*random[::-1]], how)).all()


def test_other_ways_are_refused():
    with pytest.raises(BadOption, match="fusion is 'votes', expected one of logits, probabilities"):
        fuse([SURE], "votes")
    with pytest.raises(ValueError, match="of one shape"):
        fuse([SURE, SURE[:, :2]])
    with pytest.raises(ValueError, match="of one shape"):
        fuse([])


# Of predictions ----------------------------------------------------------------------------------


def shuffled(predictions):
    order = np.random.default_rng(1).permutation(len(predictions))
    ids = tuple(predictions.clip_ids[k] for k in order)
    class_ids = predictions.class_ids[order]
    return some(len(ids), 5, clip_ids=ids, class_ids=class_ids, stream="flow", weights="flow.safetensors")


def test_predictions_are_joined_by_clip_whatever_their_order():
    rgb = some()
    flow = shuffled(rgb)
    fused = fuse_predictions([rgb, flow])
    assert fused.clip_ids == rgb.clip_ids and (fused.class_ids == rgb.class_ids).all()
    for k, clip_id in enumerate(rgb.clip_ids):
        expected = rgb.logits[k] + flow.logits[flow.clip_ids.index(clip_id)]
        assert fused.logits[k] == pytest.approx(expected)


def test_fused_predictions_say_what_they_are():
    rgb = some()
    fused = fuse_predictions([rgb, shuffled(rgb)], "probabilities")
    assert (fused.model, fused.stream, fused.fusion) == ("i3d", "both", "probabilities")
    assert fused.weights == "i3d-rgb.safetensors, step 115000 + flow.safetensors"
    assert fuse_predictions([rgb, rgb]).stream == "rgb"
    assert str(fused) == "i3d on RGB and flow, probabilities fused"


def test_fused_predictions_go_to_disk_like_others(tmp_path):
    rgb = some()
    fused = fuse_predictions([rgb, shuffled(rgb)], "probabilities")
    predictions_file.write(tmp_path / "both.parquet", fused)
    assert same(predictions_file.read(tmp_path / "both.parquet"), fused)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"labels": ("other", *LABELS[1:])}, "class 0 is 'air drumming' in one and 'other' in the other"),
        (
            {"clip_ids": ("x", *some().clip_ids[1:])},
            r"2 clips are only in one of them, such as 'clip0_0.* \(7 clips and 7",
        ),
        (
            {"class_ids": (some().class_ids + 2) % 6},
            "the true class of 'clip0_000000_000010' is '.*' in one and '.*' in",
        ),
    ],
)
def test_predictions_of_other_clips_classes_or_labels_are_refused(changes, match):
    with pytest.raises(BadOption, match=f"i3d on RGB and of i3d on flow do not belong together: .*{match}"):
        fuse_predictions([some(), some(stream="flow", **changes)])


def test_another_number_of_clips_or_classes_is_an_error():
    with pytest.raises(BadOption, match=r"1 clips are only in one of them, such as 'clip6_.* \(7 clips and 6\)"):
        fuse_predictions([some(), some(6)])
    fewer = some(labels=LABELS[:4], logits=np.zeros((7, 4), np.float32), class_ids=np.zeros(7, int))
    with pytest.raises(BadOption, match="one has 6 classes and the other 4"):
        fuse_predictions([some(), fewer])


def test_one_clip_without_a_label_in_one_of_them_is_an_error():
    class_ids = some().class_ids.copy()
    class_ids[3] = 4 if class_ids[3] == -1 else -1
    with pytest.raises(BadOption, match="the true class of 'clip3_000000_000010' is .*no label"):
        fuse_predictions([some(), some(class_ids=class_ids)])


def test_one_model_is_no_fusion():
    with pytest.raises(BadOption, match="two models or more, got 1"):
        fuse_predictions([some()])
