"""Stopwatch: how long each step of a clip took, for the ledger."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Adds up seconds under names. For one thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.monotonic()
        self._within = 0.0

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Adds the seconds of a block to `name`; seconds of a block within it count there alone."""
        start, outside, self._within = time.monotonic(), self._within, 0.0
        try:
            yield
        finally:
            spent = time.monotonic() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._within
            self._within = outside + spent

    def reading(self) -> dict[str, float]:
        """Seconds since the start under "seconds", and those of each name."""
        return {"seconds": time.monotonic() - self._start} | self.seconds
