"""Counts clips that were skipped because their records cannot be read."""

import threading
from pathlib import Path


class Skipped:
    """The skipped clips of a run. Can be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: dict[tuple[Path, str], str] = {}
        self._times = 0

    def add(self, path: Path, clip_id: str, message: str) -> None:
        """Notes a skipped clip; of one that was noted before, in an earlier epoch, the first message stays."""
        with self._lock:
            self._times += 1
            self._messages.setdefault((path, clip_id), message)

    @property
    def times(self) -> int:
        """Total number of skips; a clip that was skipped in two epochs counts twice."""
        return self._times

    @property
    def clips(self) -> list[tuple[Path, str, str]]:
        """(shard, clip id, message) of each skipped clip, each clip once."""
        with self._lock:
            return [(*key, message) for key, message in self._messages.items()]

    def __len__(self) -> int:
        """Number of skipped clips, each counted once."""
        return len(self._messages)
