"""Reads how a training run went: its losses, rates, speeds and evaluations.

The history is a file of JSON lines that a run adds to. A run that was killed in mid-line leaves a line that is cut off;
a run that was resumed from an earlier step writes some steps again. Of a step that stands twice, the last line counts.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinetics_prep.errors import CorruptShard

STEP_FIELDS = ("loss", "learning_rate", "clips_per_second")
EVALUATION_FIELDS = ("val_loss", "val_top1", "val_top5")

SMOOTHED_OVER = 50
"""A smoothed loss looks back over about one fiftieth of the steps."""

_LONGEST_LINE = 1 << 16
_LARGEST_STEP = 1 << 53
_LARGEST = 1e30
"""A loss beyond that has diverged, and no axis need hold it."""
_EXAMPLE = '{"step": 1, "loss": 5.99, "learning_rate": 0.1, "clips_per_second": 3.2}'

Column = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class History:
    """What a run noted, by step; NaN stands where a value is missing or is not a number."""

    steps: dict[str, Column]
    """"step" int64 [N], increasing, and float64 [N] for each of `STEP_FIELDS`."""
    evaluations: dict[str, Column]
    """"step" int64 [M], increasing, and float64 [M] for each of `EVALUATION_FIELDS`; accuracies 0 to 1."""
    unreadable: int = 0
    """Lines that could not be read, not counting a last line that was cut off."""

    def __post_init__(self) -> None:
        if not (len(self.steps["step"]) or len(self.evaluations["step"])):
            raise ValueError("a history needs at least one step or one evaluation")

    def in_words(self) -> str:
        """Returns lines that say how far the run came."""
        parts = [self._last_step()] if len(self.steps["step"]) else []
        top1 = self.evaluations["val_top1"]
        if np.isfinite(top1).any():
            best = int(np.argmax(np.where(np.isfinite(top1), top1, -np.inf)))
            parts.append(f"best validation top-1 {top1[best]:.1%} at step {self.evaluations['step'][best]}")
        speed = self.steps["clips_per_second"]
        if np.isfinite(speed).any():
            parts.append(f"{np.median(speed[np.isfinite(speed)]):.3g} clips/s")
        bad = int(np.count_nonzero(~np.isfinite(self.steps["loss"])))
        notes = [f"steps without a finite loss: {bad}"] if bad else []
        notes += [f"unreadable lines: {self.unreadable}"] if self.unreadable else []
        return "\n".join(filter(None, ["; ".join(parts), "; ".join(notes)]))

    def _last_step(self) -> str:
        rate = self.steps["learning_rate"][-1]
        loss = f"step {self.steps['step'][-1]}: loss {smoothed(self.steps['loss'])[-1]:.3g}"
        return loss + (f", learning rate {rate:.3g}" if np.isfinite(rate) else "")


def read_history(path: Path) -> History:
    """Reads the history of a run, under way or ended.

    Raises:
      CorruptShard: if no step and no evaluation can be read.
    """
    steps: dict[int, list[float]] = {}
    evaluations: dict[int, list[float]] = {}
    unreadable, is_cut_off = 0, False
    with open(path, "rb") as file:
        for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
            unreadable += is_cut_off
            entry = _parsed(line)
            is_cut_off = entry is None  # or simply wrong, if another line follows
            for rows, fields in ((steps, STEP_FIELDS), (evaluations, EVALUATION_FIELDS)):
                if entry is not None and any(name in entry for name in fields):
                    rows[entry["step"]] = [_number(entry.get(name)) for name in fields]
    if not (steps or evaluations):
        raise CorruptShard(f"{path} holds no step of a run: expected a line of JSON for each, such as {_EXAMPLE}")
    return History(_columns(steps, STEP_FIELDS), _columns(evaluations, EVALUATION_FIELDS), unreadable)


def smoothed(values: Column) -> Column:
    """Returns the running mean of a loss, which forgets exponentially: float64 [N] of float64 [N].

    Values that are not finite are passed over. NaN stands at the beginning, where the mean would be of few values,
    and later looks back over many.
    """
    over = max(1.0, len(values) / SMOOTHED_OVER)
    keep = math.exp(-1 / over)
    result, total, weight = np.full(len(values), np.nan), 0.0, 0.0
    for k, value in enumerate(values.tolist()):
        if math.isfinite(value):
            total, weight = keep * total + value, keep * weight + 1
        if weight > 0.2 * over:
            result[k] = total / weight
    return result


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Returns the entry in a line; None if there is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = entry.get("step") if isinstance(entry, dict) else None
    return entry if type(step) is int and 0 <= step < _LARGEST_STEP else None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if abs(value) < _LARGEST or value != value else math.inf


def _columns(rows: dict[int, list[float]], fields: tuple[str, ...]) -> dict[str, Column]:
    order = sorted(rows)
    values = np.array([rows[step] for step in order], np.float64).reshape(-1, len(fields))
    return {"step": np.array(order, np.int64), **dict(zip(fields, values.T))}
