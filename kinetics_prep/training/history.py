"""history.jsonl: the steps and evaluations of a run, one JSON object a line.

{"step": 12, "loss": 5.9, "learning_rate": 0.1, "clips_per_second": 7.1} is the twelfth step, and
{"step": 12, "val_loss": 5.8, "val_top1": 0.02, "val_top5": 0.08} the evaluation on the validation split after it.
"""

import contextlib
import dataclasses
import json
import logging
import math
import os
from pathlib import Path
from typing import Protocol

from kinetics_prep.errors import CorruptShard
from kinetics_prep.storage.files import atomic_write

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Receives each entry of a history, such as `tensorboard.Scalars`."""

    def add(self, entry: dict) -> None:
        """Takes an entry."""


@dataclasses.dataclass
class History:
    """The file, and the part of it that decides how the run goes on."""

    path: Path
    evaluations: list[dict] = dataclasses.field(default_factory=list)
    """The entries of evaluations, in the order of the file."""
    listener: Listener | None = None
    """Receives what `add` adds."""

    @classmethod
    def resume(cls, path: Path, step: int) -> "History":
        """Reads the history up to a step, and cuts the file there: a killed run takes its later steps again.

        Raises:
          CorruptShard: if a run does not write such a line. The file is not changed then.
        """
        entries = [entry for entry in read(path) if entry["step"] <= step]
        if step and not any("loss" in entry and entry["step"] == step for entry in entries):
            log.warning("%s lacks step %d, from which the run goes on: evaluations may be missing too", path, step)
        with atomic_write(path, path.parent) as temporary:
            temporary.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries), "utf-8")
        return cls(path, [entry for entry in entries if "val_loss" in entry])

    def add(self, entry: dict) -> None:
        """Adds a line, which other processes can read at once."""
        if "val_loss" in entry:
            self.evaluations.append(entry)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{json.dumps(entry)}\n")
        if self.listener is not None:
            self.listener.add(entry)

    def sync(self) -> None:
        """Flushes the file to disk. Call it before writing a checkpoint, which must not be newer than the history."""
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb") as file:
            os.fsync(file.fileno())

    @property
    def validation_losses(self) -> list[float]:
        """The loss of each evaluation, the first one first."""
        return [entry["val_loss"] for entry in self.evaluations]

    @property
    def evaluated(self) -> set[int]:
        """The steps after which there was an evaluation."""
        return {entry["step"] for entry in self.evaluations}

    def evaluations_since_best(self) -> int:
        """How many evaluations there were after the one with the highest top-1; of equal ones the first counts."""
        accuracies = [entry["val_top1"] for entry in self.evaluations]
        return len(accuracies) - 1 - accuracies.index(max(accuracies)) if accuracies else 0


def read(path: Path) -> list[dict]:
    """The entries of a file; without a last line that a killed run did not finish. None if there is no file.

    Raises:
      CorruptShard: if a run does not write a line such as one before the last.
    """
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CorruptShard(f"{path} cannot be read: {error.strerror}") from None
    entries = []
    for number, line in enumerate(lines, 1):
        entry = _entry(line)
        if entry is not None:
            entries.append(entry)
        elif number < len(lines):
            raise CorruptShard(
                f"line {number} of {path} is not one that a run writes, and others follow it: mend it, or begin in "
                "another --output"
            )
    return entries


def _entry(line: str) -> dict | None:
    """The entry on a line; None if a run does not write such a line."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
        return None
    needed = ("val_loss", "val_top1") if "val_loss" in entry else ("loss",)
    numbers = (entry.get(name) for name in needed)
    return entry if all(isinstance(value, int | float) and math.isfinite(value) for value in numbers) else None
