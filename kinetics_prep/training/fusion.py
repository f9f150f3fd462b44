"""Several models' say on the same clips as one: the two streams of the paper, whose logits are added.

Carreira & Zisserman train RGB and flow apart and combine them at test time alone.
"""

from collections.abc import Sequence

import numpy as np

from kinetics_prep.errors import BadOption
from kinetics_prep.training.metrics import log_softmax
from kinetics_prep.training.predictions import FUSIONS, Predictions


def fuse(logits: Sequence[np.ndarray], how: str = "logits") -> np.ndarray:
    """The logits of several models as one's.

    Args:
      logits: one or more float32 [N, C], of the same clips and classes in the same order.
      how: "logits" adds them, as the paper does: who is surer counts for more. "probabilities" takes the mean of their
        softmaxes.

    Returns:
      float32 [N, C]: logits in any case. Of fused probabilities these are the logarithms, so that their softmax is the
      mean, and classes keep their order even where a probability is too small for float32.
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
    """What several models said of the same clips as the predictions of one, clips in the order of the first.

    Raises:
      BadOption: if they are fewer than two, or not of the same clips, true classes and labels.
    """
    if len(several) < 2:
        raise BadOption(f"fusion needs the predictions of two models or more, got {len(several)}")
    first = several[0]
    for other in several[1:]:
        expect_comparable(first, other)
    streams = list(dict.fromkeys(each.stream for each in several))
    return Predictions(
        model=" + ".join(dict.fromkeys(each.model for each in several)),
        stream=streams[0] if len(streams) == 1 else "both",
        weights=" + ".join(dict.fromkeys(each.weights for each in several)),
        labels=first.labels,
        clip_ids=first.clip_ids,
        class_ids=first.class_ids,
        logits=fuse([each.of_clips(first.clip_ids) for each in several], how),
        fusion=how,
    )


def expect_comparable(one: Predictions, other: Predictions) -> None:
    """Makes sure that two models were asked the same.

    Raises:
      BadOption: if it was of other clips, true classes or labels.
    """
    pair = f"predictions of {one} and of {other} do not belong together"
    if one.labels != other.labels:
        raise BadOption(f"{pair}: {_labels_differ(one.labels, other.labels)}")
    true, also = (dict(zip(each.clip_ids, each.class_ids.tolist(), strict=True)) for each in (one, other))
    if true.keys() != also.keys():
        alone = sorted(true.keys() ^ also.keys())
        raise BadOption(
            f"{pair}: {len(alone)} clips are in one of them alone, such as {alone[0]!r} "
            f"({len(true)} clips and {len(also)}); evaluate both on the same split"
        )
    for clip_id, class_id in true.items():
        if also[clip_id] != class_id:
            names = (repr(each.label_of(k)) for each, k in ((one, class_id), (other, also[clip_id])))
            raise BadOption(f"{pair}: the true class of {clip_id!r} is {' in one and '.join(names)} in the other")


def _labels_differ(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    if len(one) != len(other):
        return f"one has {len(one)} classes and the other {len(other)}"
    where = next(k for k, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    return f"class {where} is {one[where]!r} in one and {other[where]!r} in the other"
