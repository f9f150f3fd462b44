"""How good logits are: top-1, top-5, mean class accuracy, confusions.

Of classes with equal logits the lower id ranks first, here and in everything built on this, so that the same logits get
the same scores everywhere. A model with equal logits for all classes is right about clips of class 0 only.
"""

import dataclasses

import numpy as np

from kinetics_prep.errors import BadLogits, BadOption


@dataclasses.dataclass(frozen=True)
class Scores:
    """Shares of clips, 0 to 1."""

    clips: int
    top1: float
    top5: float
    """Of clips whose class is among the five likeliest; 1 if there are no more than five classes."""
    mean_class: float
    """Mean of the top-1 accuracies of the classes that occur."""

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise ValueError(f"scores need one clip or more, got {self.clips}")
        for name in ("top1", "top5", "mean_class"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be 0 to 1, got {getattr(self, name)}")

    def __str__(self) -> str:
        shares = f"top-1 {self.top1:.1%}, top-5 {self.top5:.1%}, mean class accuracy {self.mean_class:.1%}"
        return f"{shares}, of {self.clips} clip{'' if self.clips == 1 else 's'}"


def score(logits: np.ndarray, class_ids: np.ndarray) -> Scores:
    """Scores the logits of labelled clips.

    Args:
      logits: float32 [N, C].
      class_ids: int [N], 0 to C - 1.

    Raises:
      BadOption: if there is no clip.
      BadLogits: if a logit is not finite.
    """
    rank = ranks(logits, class_ids)
    if not len(rank):
        raise BadOption("there is no labelled clip to score: expected one or more")
    return Scores(
        clips=len(rank),
        top1=float(np.mean(rank <= 1)),
        top5=float(np.mean(rank <= 5)),
        mean_class=mean_class_accuracy(rank == 1, class_ids),
    )


def ranks(logits: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """The rank of each clip's true class among all classes, from 1.

    Args:
      logits: float32 [N, C].
      class_ids: int [N], 0 to C - 1.

    Returns:
      int64 [N].
    """
    logits, class_ids = _checked(logits), _checked_ids(class_ids, logits)
    true_logit = logits[np.arange(len(logits)), class_ids][:, None]
    ties_before = (logits == true_logit) & (np.arange(logits.shape[1]) < class_ids[:, None])
    return 1 + np.count_nonzero((logits > true_logit) | ties_before, axis=1)


def top(logits: np.ndarray, k: int) -> np.ndarray:
    """The k likeliest classes of each clip, or all if there are fewer, the likeliest first: int64 [N, min(k, C)]."""
    if k < 1:
        raise BadOption(f"k is {k}, expected 1 or more classes")
    return np.argsort(-_checked(logits), axis=1, kind="stable")[:, :k]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, float64 [N, C], of logits [N, C]; exact even where a probability is tiny."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64 [N, C], of logits [N, C]."""
    return np.exp(log_softmax(logits))


def cross_entropy(logits: np.ndarray, class_ids: np.ndarray) -> float:
    """Mean cross-entropy of float32 [N, C] and int [N], in nats."""
    class_ids = _checked_ids(class_ids, _checked(logits))
    return float(-log_softmax(logits)[np.arange(len(logits)), class_ids].mean())


def mean_class_accuracy(right: np.ndarray, class_ids: np.ndarray) -> float:
    """The mean, over the classes that occur, of the share of their clips that is right.

    Args:
      right: bool [N].
      class_ids: int [N], 0 or more.
    """
    clips = np.bincount(class_ids)
    hits = np.bincount(class_ids, weights=right)
    return float(np.mean(hits[clips > 0] / clips[clips > 0]))


def confusion(logits: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """How many clips of each class were predicted as each class.

    Args:
      logits: float32 [N, C].
      class_ids: int [N], 0 to C - 1.

    Returns:
      int64 [C, C]: a row for each true class, a column for each predicted class.
    """
    predicted = top(logits, 1)[:, 0]
    classes = logits.shape[1]
    cells = _checked_ids(class_ids, logits) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def check_finite(logits: np.ndarray) -> None:
    """Makes sure that logits [N, C] are finite, so that they can be compared.

    Raises:
      BadLogits: if not.
    """
    diverged = ~np.isfinite(logits).all(axis=1)
    if diverged.any():
        raise BadLogits(
            f"logits of {np.count_nonzero(diverged)} of {len(logits)} clips are not finite, the first of them those of "
            f"clip {int(np.argmax(diverged))}: the weights have diverged, take those of an earlier step"
        )


def _checked(logits: np.ndarray) -> np.ndarray:
    if logits.ndim != 2 or not logits.shape[1] or not np.issubdtype(logits.dtype, np.floating):
        raise ValueError(f"logits must be float [N, C] with C > 0, are {logits.dtype} {list(logits.shape)}")
    check_finite(logits)
    return logits


def _checked_ids(class_ids: np.ndarray, logits: np.ndarray) -> np.ndarray:
    clips, classes = logits.shape
    if class_ids.shape != (clips,) or not np.issubdtype(class_ids.dtype, np.integer):
        raise ValueError(f"class ids must be int [{clips}], are {class_ids.dtype} {list(class_ids.shape)}")
    if clips and not 0 <= class_ids.min() <= class_ids.max() < classes:
        raise ValueError(f"class ids must be 0 to {classes - 1}, are {class_ids.min()} to {class_ids.max()}")
    return class_ids.astype(np.int64)
