"""A run of `flow` as one of two on the same folder: it plays a machine of its own, and may be stopped at a write.

    python tests/one_of_two_runs.py FOLDER_WITH_VIDEOS OUTPUT --machine mars --stop-at 7

Prints "stopped" before it stops itself by SIGSTOP, between writing a temporary file and giving it its name; and how the
run ended. Times of the lease are short, so that a test need not wait.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from prepared import RECIPE, prepare_clips

from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset import door
from kinetics_prep.errors import RunError
from kinetics_prep.runs.job import Job
from kinetics_prep.runs.prepare import finish, open_run
from kinetics_prep.sources import Fetching
from kinetics_prep.storage import folder_store, lease

BEAT_SECONDS, DEAD_AFTER_SECONDS = 0.2, 1.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--machine", default="earth")
    parser.add_argument("--stop-at", type=int, default=None)
    arguments = parser.parse_args()
    job = Job(
        Selection((str(arguments.videos / "rows.csv"),)), Fetching((str(arguments.videos),)), arguments.output, RECIPE
    )
    with (
        mock.patch.object(lease, "_machine", lambda: arguments.machine),
        mock.patch.object(door, "hold_lease", _quick_lease),
        _stopping(arguments.stop_at),
    ):
        try:
            with open_run(job) as run:
                prepare_clips(run)
                print(f"done: {finish(run)}", flush=True)
        except RunError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            return 2
    return 0


def _quick_lease(root: Path, work: str):
    return lease.hold_lease(root, work, BEAT_SECONDS, DEAD_AFTER_SECONDS)


def _stopping(write: int | None):
    """Stops the whole process at a write, when the temporary file is there and its name is not."""
    place, count = folder_store._place, 0

    def place_and_stop(temporary: Path, path: Path, give_name: Callable[[Path, Path], bool]) -> bool:
        nonlocal count
        if "lease" not in path.parts:  # not in the thread that beats
            count += 1
            if count == write:
                print("stopped", flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
        return place(temporary, path, give_name)

    return mock.patch.object(folder_store, "_place", place_and_stop)


if __name__ == "__main__":
    sys.exit(main())
