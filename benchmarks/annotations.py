"""Seconds and peak memory of `kinetics-prep check` and of planning, against the number of annotation rows.

    python benchmarks/annotations.py        # 1, 100,000 and 1,000,000 rows, about 90 seconds

The rows are a CSV of Kinetics' kind: 700 classes, one row in a thousand a duplicate, one that cannot be read. Planning
is what `kinetics-prep flow` does before the first clip. Each runs in a process of its own; its peak is the largest
resident size. Most of that are the libraries: see the line of one row.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_CHECK = """
import sys
from kinetics_prep import cli

cli.main(["check", sys.argv[1]])
"""

_PLAN = """
import sys
from pathlib import Path
from kinetics_prep import sample, sources
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.runs import prepare

annotations, folder, clips = sys.argv[1:]
settings = Recipe("tvl1", clips_per_shard=int(clips))
videos = sources.Fetching((str(sample.VIDEOS),))
with prepare.planned(prepare.Job(Selection((annotations,)), videos, Path(folder, "out"), settings)):
    pass
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 100_000, 1_000_000])
    parser.add_argument("--clips-per-shard", type=int, default=64)
    arguments = parser.parse_args()
    print("     rows                check             planning")
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            annotations = Path(folder) / "rows.csv"
            write(annotations, rows)
            given = (str(annotations), folder, str(arguments.clips_per_shard))
            figures = [measured(program, *given) for program in (_CHECK, _PLAN)]
        print(f"{rows:9d}", *(f"{seconds:9.1f} s {peak / 1e6:5.0f} MB" for seconds, peak in figures), flush=True)


def write(path: Path, rows: int) -> None:
    """A CSV of Kinetics' kind."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("label,youtube_id,time_start,time_end,split\n")
        for k in range(rows):
            video = k - 1 if k % 1000 == 999 else k
            end = "soon" if k % 1000 == 500 else video % 300 + 10
            file.write(
                f"class number {video * 7919 % 700},v{video * 2654435761 % 2**32:010d},{video % 300},{end},train\n"
            )


def measured(program: str, *arguments: str) -> tuple[float, int]:
    """Seconds that a program takes, and the bytes of its largest resident size."""
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"it ended with code {process.returncode}")
    return time.monotonic() - begun, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
