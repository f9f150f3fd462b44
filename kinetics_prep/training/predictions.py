"""The predictions of a model for some clips. To score, fuse or compare them no model is needed, nor Keras."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from kinetics_prep.reading.clips import UNLABELLED
from kinetics_prep.training import metrics
from kinetics_prep.training.metrics import Scores

STREAMS = ("rgb", "flow", "both")
FUSIONS = ("logits", "probabilities")

_STREAM_TITLES = {"rgb": "RGB", "flow": "flow", "both": "RGB and flow"}


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """The logits of a model, or of several that were fused, for some clips."""

    model: str
    stream: str
    """What the model saw: one of `STREAMS`."""
    weights: str
    """Where its weights come from, in words."""
    labels: tuple[str, ...]
    """C of them, in the order of class ids."""
    clip_ids: tuple[str, ...]
    """N of them."""
    class_ids: np.ndarray
    """int64 [N]: the true classes, `UNLABELLED` where a clip has no label."""
    logits: np.ndarray
    """float32 [N, C]."""
    fusion: str = ""
    """How several models were fused: one of `FUSIONS`, or "" for one model."""

    def __post_init__(self) -> None:
        clips, classes = len(self.clip_ids), len(self.labels)
        _check(self.stream in STREAMS, f"stream is {self.stream!r}, expected one of {', '.join(STREAMS)}")
        _check(self.fusion in ("", *FUSIONS), f"fusion is {self.fusion!r}, expected one of {', '.join(FUSIONS)}")
        _check(classes > 0 and len(set(self.labels)) == classes, "labels must be one or more, each of them once")
        "".join(self.labels).encode()  # half of a surrogate pair could not be written
        _check(len(set(self.clip_ids)) == clips, "a clip id is there twice")
        _check(
            self.logits.shape == (clips, classes) and self.logits.dtype == np.float32,
            f"logits must be float32 {[clips, classes]}, are {self.logits.dtype} {list(self.logits.shape)}",
        )
        _check(
            self.class_ids.shape == (clips,) and np.issubdtype(self.class_ids.dtype, np.integer),
            f"class ids must be int {[clips]}, are {self.class_ids.dtype} {list(self.class_ids.shape)}",
        )
        within = (self.class_ids >= UNLABELLED) & (self.class_ids < classes)
        _check(bool(within.all()), f"class ids must be {UNLABELLED} to {classes - 1}")
        metrics.check_finite(self.logits)

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clip_ids)

    def __str__(self) -> str:
        fused = f", {self.fusion} fused" if self.fusion else ""
        return f"{self.model} on {_STREAM_TITLES[self.stream]}{fused}"

    def label_of(self, class_id: int) -> str:
        """The label of a class, "no label" for `UNLABELLED`."""
        return "no label" if class_id == UNLABELLED else self.labels[class_id]

    def logits_of(self, clip_ids: Sequence[str]) -> np.ndarray:
        """The logits of clips in the given order: float32 [len(clip_ids), C]."""
        if tuple(clip_ids) == self.clip_ids:
            return self.logits
        places = {clip_id: place for place, clip_id in enumerate(self.clip_ids)}
        return self.logits[[places[clip_id] for clip_id in clip_ids]]

    @property
    def is_labelled(self) -> np.ndarray:
        """Which clips have a label: bool [N]."""
        return self.class_ids != UNLABELLED

    def scores(self) -> Scores:
        """Scores the clips that have a label.

        Raises:
          BadOption: if no clip has a label.
        """
        return metrics.score(self.logits[self.is_labelled], self.class_ids[self.is_labelled])

    def confusion(self) -> np.ndarray:
        """How many labelled clips of each class were predicted as each class: int64 [C, C], true classes as rows."""
        return metrics.confusion(self.logits[self.is_labelled], self.class_ids[self.is_labelled])


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def likeliest(logits: np.ndarray, labels: Sequence[str], k: int = 5) -> list[tuple[str, float]]:
    """The k likeliest classes of a clip, or all if there are fewer: (label, probability), the likeliest first.

    Args:
      logits: float32 [C].
      labels: C of them, or none if they are not known; classes are then named "class 0" and so on.
    """
    (probabilities,) = metrics.softmax(logits[None])
    (order,) = metrics.top(logits[None], k)
    return [(labels[k] if labels else f"class {k}", float(probabilities[k])) for k in order.tolist()]
