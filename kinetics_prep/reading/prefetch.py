"""Batches of a reader, by step, read ahead of time by threads.

Works for every shard format and every framework: a batch is a pair of NumPy arrays.
"""

import collections
import concurrent.futures
import functools
import os
import threading
from collections.abc import Callable, Iterator

import numpy as np

from kinetics_prep.errors import BadOption
from kinetics_prep.reading.array_pool import ArrayPool, keep_freed_memory
from kinetics_prep.reading.reader import Reader

Batch = tuple[dict[str, np.ndarray], np.ndarray]
"""Stream -> uint8 [B, T, size, size, 3 or 2], RGB or levels of dx and dy; and class ids, int32 [B]."""


def default_threads() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_run(first_step: int, steps: int, threads: int | None) -> None:
    """Checks the numbers of steps and threads.

    Raises:
      BadOption: if a number is negative, or `threads` is 0.
    """
    if first_step < 0 or steps < 0 or (threads is not None and threads < 1):
        raise BadOption(
            f"{steps} steps from step {first_step} on, {threads} threads: expected 0 or more, and 1 thread or more"
        )


class Prefetcher:
    """The batches of some steps. A batch is begun before it is requested.

    Each thread reads one clip at a time, so that all threads have work for a large batch and for small batches.
    """

    def __init__(self, reader: Reader, first_step: int, steps: int, threads: int | None = None):
        """Reads nothing yet.

        Args:
          threads: that read and decode; None for one per processor.

        Raises:
          BadOption: see `check_run`.
        """
        check_run(first_step, steps, threads)
        threads = threads or default_threads()
        keep_freed_memory()
        self._reader, self._steps = reader, range(first_step, first_step + steps)
        samples = max(1, len(reader.order.positions(first_step)))
        self._ahead = max(1, -(-threads // samples))
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, "clips")
        self._begun: dict[int, Callable[[], Batch]] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._arrays = ArrayPool()

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, number: int) -> Batch:
        """The batch of step `first_step + number`. It may lack clips that were skipped, or be empty; see `Once`.

        Can be called from any thread, in any order.

        Raises:
          CorruptShard: if a clip cannot be read and is not to be skipped, or if no clip can be read.
          IndexError: if there is no such step.
        """
        step = self._steps[number]
        with self._lock:
            finish = self._begun.pop(step, None) or self._begin(step)
            for later in range(step + 1, min(step + 1 + self._ahead, self._steps.stop)):
                if later not in self._begun:
                    self._begun[later] = self._begin(later)
            while len(self._begun) > self._ahead:  # steps were requested in another order
                self._begun.pop(next(iter(self._begun)))
        return finish()

    def __iter__(self) -> Iterator[Batch]:
        return map(self.__getitem__, range(len(self)))

    def _begin(self, step: int) -> Callable[[], Batch]:
        positions = self._reader.order.positions(step)
        shapes = self._reader.shapes().items()
        arrays = {name: self._arrays.empty((len(positions), *shape)) for name, shape in shapes}
        tasks = [
            self._pool.submit(self._reader.fill, position, {name: array[k] for name, array in arrays.items()})
            for k, position in enumerate(positions)
        ]
        return functools.partial(_finish, tasks, arrays)

    def close(self) -> None:
        """Stops reading ahead."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _finish(tasks: list[concurrent.futures.Future[int | None]], arrays: dict[str, np.ndarray]) -> Batch:
    class_ids = [task.result() for task in tasks]
    kept = [k for k, class_id in enumerate(class_ids) if class_id is not None]
    if len(kept) < len(class_ids):
        arrays = {name: array[kept] for name, array in arrays.items()}
    return arrays, np.array([class_ids[k] for k in kept], np.int32)
