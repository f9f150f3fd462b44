"""Fuses the predictions of several models for the same clips: the two streams of the paper, whose logits are added.

Carreira & Zisserman train RGB and flow apart and combine them only at test time.
"""

from collections.abc import Sequence

import numpy as np

from kinetics_prep.errors import BadOption
from kinetics_prep.training.metrics import log_softmax
from kinetics_prep.training.predictions import FUSIONS, Predictions


def fuse(logits: Sequence[np.ndarray], how: str = "logits") -> np.ndarray:
    """Fuses the logits of several models.

    Args:
      logits: one or more float32 [N, C], of the same clips and classes in the same order.
      how: "logits" adds them, as the paper does: a model that is surer counts for more. "probabilities" takes the mean
        of their softmaxes.

    Returns:
      Logits, float32 [N, C]. For "probabilities" these are logarithms of the mean, so that their softmax is the mean,
      and classes keep their order even where a probability is too small for float32.

    Raises:
      BadOption: if `how` is not one of `FUSIONS`.
    """
    if how not in FUSIONS:
        raise BadOption(f"fusion is {how!r}, expected one of {', '.join(FUSIONS)}")
    if not logits or len({each.shape for each in logits}) > 1 or logits[0].ndim != 2:
        raise ValueError(f"needs logits [N, C] of one shape, got {[list(each.shape) for each in logits]}")
    if how == "logits":
        return np.sum([each.astype(np.float64) for each in logits], axis=0).astype(np.float32)
    sums = [log_softmax(each) for each in logits]
    return (np.logaddexp.reduce(sums, axis=0) - np.log(len(sums))).astype(np.float32)


def fuse_predictions(several: Sequence[Predictions], how: str = "logits") -> Predictions:
    """Fuses the predictions of several models for the same clips; the clips are in the order of the first.

    Args:
      how: see `fuse`.

    Raises:
      BadOption: if there are fewer than two, or they are not of the same clips, true classes and labels.
    """
    if len(several) < 2:
        raise BadOption(f"fusion needs the predictions of two models or more, got {len(several)}")
    first = several[0]
    for other in several[1:]:
        check_comparable(first, other)
    streams = list(dict.fromkeys(each.stream for each in several))
    return Predictions(
        model=" + ".join(dict.fromkeys(each.model for each in several)),
        stream=streams[0] if len(streams) == 1 else "both",
        weights=" + ".join(dict.fromkeys(each.weights for each in several)),
        labels=first.labels,
        clip_ids=first.clip_ids,
        class_ids=first.class_ids,
        logits=fuse([each.logits_of(first.clip_ids) for each in several], how),
        fusion=how,
    )


def check_comparable(first: Predictions, second: Predictions) -> None:
    """Makes sure that two predictions are of the same clips, true classes and labels.

    Raises:
      BadOption: if not; the message says what differs.
    """
    pair = f"predictions of {first} and of {second} do not belong together"
    if first.labels != second.labels:
        raise BadOption(f"{pair}: {_label_difference(first.labels, second.labels)}")
    class_of_first, class_of_second = (
        dict(zip(each.clip_ids, each.class_ids.tolist(), strict=True)) for each in (first, second)
    )
    if class_of_first.keys() != class_of_second.keys():
        alone = sorted(class_of_first.keys() ^ class_of_second.keys())
        raise BadOption(
            f"{pair}: {len(alone)} clips are only in one of them, such as {alone[0]!r} "
            f"({len(first)} clips and {len(second)}); evaluate both on the same split"
        )
    for clip_id, class_id in class_of_first.items():
        if class_of_second[clip_id] != class_id:
            labels = f"{first.label_of(class_id)!r} in one and {second.label_of(class_of_second[clip_id])!r}"
            raise BadOption(f"{pair}: the true class of {clip_id!r} is {labels} in the other")


def _label_difference(first: tuple[str, ...], second: tuple[str, ...]) -> str:
    if len(first) != len(second):
        return f"one has {len(first)} classes and the other {len(second)}"
    class_id = next(k for k, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
    return f"class {class_id} is {first[class_id]!r} in one and {second[class_id]!r} in the other"
