"""How many clips a process prepares at a time."""

import os

from kinetics_prep import flow
from kinetics_prep.errors import BadOption


def worker_count(requested: int | None, engine: str | None = None) -> int:
    """Clips at a time: as requested, else one per core this process may use, two if the engine runs on a GPU.

    Raises:
      BadOption: if less than one is requested.
    """
    if requested is not None and requested < 1:
        raise BadOption(f"--workers is {requested}, expected at least 1")
    if requested is not None:
        return requested
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 2 * cores if engine and flow.ENGINES[engine].RUNS_ON_GPU else cores
