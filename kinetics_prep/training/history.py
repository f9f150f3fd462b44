"""history.jsonl: what a run has gone through, one JSON object a line, a step or an evaluation each.

{"step": 12, "loss": 5.9, "learning_rate": 0.1, "clips_per_second": 7.1} says what happened in the twelfth step, and
{"step": 12, "val_loss": 5.8, "val_top1": 0.02, "val_top5": 0.08} what the validation split came to after it.
"""

import contextlib
import dataclasses
import json
import logging
import math
import os
from pathlib import Path

from kinetics_prep.errors import CorruptShard
from kinetics_prep.storage.files import atomic

log = logging.getLogger(__name__)


@dataclasses.dataclass
class History:
    """The file, and what of it decides how the run goes on."""

    path: Path
    evaluations: list[dict] = dataclasses.field(default_factory=list)
    listener: object | None = None
    """Is told of entries too, by `add`."""

    @classmethod
    def resumed(cls, path: Path, step: int) -> "History":
        """The history up to a step; what a killed run had added after it goes, for it will be gone through again.

        Raises:
          CorruptShard: if a line is none that a run wrote. The file is as it was.
        """
        entries = [entry for entry in read(path) if entry["step"] <= step]
        if step and not any("loss" in entry and entry["step"] == step for entry in entries):
            log.warning("%s lacks step %d, from which the run goes on: it knows of no evaluation since", path, step)
        with atomic(path, path.parent) as temporary:
            temporary.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries), "utf-8")
        return cls(path, [entry for entry in entries if "val_loss" in entry])

    def add(self, entry: dict) -> None:
        """Adds a line, which other processes see at once."""
        if "val_loss" in entry:
            self.evaluations.append(entry)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{json.dumps(entry)}\n")
        if self.listener is not None:
            self.listener.add(entry)

    def sync(self) -> None:
        """Has what was added reach the disk: a checkpoint must not outlive what was told before it."""
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb") as file:
            os.fsync(file.fileno())

    @property
    def validation_losses(self) -> list[float]:
        return [entry["val_loss"] for entry in self.evaluations]

    @property
    def evaluated(self) -> set[int]:
        """After how many steps there was an evaluation."""
        return {entry["step"] for entry in self.evaluations}

    def evaluations_since_best(self) -> int:
        """How many there were after the one with the highest top-1, the earliest of equals."""
        found = [entry["val_top1"] for entry in self.evaluations]
        return len(found) - 1 - found.index(max(found)) if found else 0


def read(path: Path) -> list[dict]:
    """The entries of a file; a last line that a killed run left unfinished is left out.

    Raises:
      CorruptShard: if another line is none that a run wrote.
    """
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CorruptShard(f"{path} cannot be read: {error.strerror}") from None
    entries = [_entry(line) for line in lines]
    if entries and entries[-1] is None:
        entries.pop()
    if None in entries:
        raise CorruptShard(
            f"line {1 + entries.index(None)} of {path} is none that a run writes, and others follow it: mend it, or "
            "begin in another --output"
        )
    return entries


def _entry(line: str) -> dict | None:
    """What a line says; None if a run does not write such."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
        return None
    needed = ("val_loss", "val_top1") if "val_loss" in entry else ("loss",)
    numbers = (entry.get(name) for name in needed)
    return entry if all(isinstance(value, int | float) and math.isfinite(value) for value in numbers) else None
