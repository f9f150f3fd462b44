"""Ten thousand tiny clips through the whole pipeline, killed at random: does anything pile up?

    python benchmarks/many_clips.py                    # 10,000 clips, about 20 minutes on two cores
    python benchmarks/many_clips.py --clips 500 --kill-every 10

Each run is `kinetics-prep flow` in a process of its own, killed by SIGKILL after a random time, until one ends. While
it runs, its memory, open files, threads and temporary files are looked at every second. Printed is each run's level in
its first and in its last third; exit code 1 if a row is lost, work files are left, or `validate` finds something.
"""

import argparse
import dataclasses
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from conftest import write_video

_QUICK = (
    *("--fps", "4", "--short-side", "16", "--clip-seconds", "0.5", "--min-seconds", "0.25"),
    *("--tvl1", "scales=1", "warps=1", "iterations=1"),
)
_VIDEOS = 50


@dataclasses.dataclass
class Level:
    """What a process holds at a moment."""

    megabytes: float
    open_files: int
    threads: int
    temporary_files: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--kill-every", type=float, default=120.0, metavar="S", help="on average; default: 120")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_inputs(root, arguments.clips)
        start, runs, code = time.monotonic(), 0, None
        while code is None:
            runs += 1
            code, levels = _run(root, rng.uniform(0.5, 1.5) * arguments.kill_every)
            print(f"run {runs}, {'killed' if code is None else f'exit code {code}'}: {_describe(levels)}", flush=True)
        print(f"{arguments.clips} clips, {runs - 1} kills, {time.monotonic() - start:.0f} s")
        left = [str(path) for path in (root / "out" / ".work",) if path.exists()]
        print(f"left behind: {', '.join(left) or 'nothing'}")
        status = _kinetics_prep("status", str(root / "out"))
        wrong = _kinetics_prep("validate", str(root / "out"))
        return int(bool(left or code or status or wrong))


def _write_inputs(root: Path, clips: int) -> None:
    videos = root / "videos"
    videos.mkdir()
    for number in range(_VIDEOS):
        frames = np.random.default_rng(number).integers(0, 256, (6, 16, 16, 3), np.uint8)
        write_video(root / f"{number}.mp4", frames, 8)  # type: ignore[arg-type]
    with open(root / "rows.csv", "w") as file:
        file.write("label,youtube_id,time_start,time_end,split\n")
        for clip in range(clips):
            file.write(f"class {clip % 7},video{clip:05d},0,0.5,train\n")
            os.link(root / f"{clip % _VIDEOS}.mp4", videos / f"video{clip:05d}.mp4")


def _run(root: Path, seconds: float) -> tuple[int | None, list[Level]]:
    """Runs `flow` until it ends or is killed after some seconds; returns its exit code, None if killed."""
    command = [sys.executable, "-m", "kinetics_prep", "flow", "--annotations", str(root / "rows.csv")]
    places = ["--videos", str(root / "videos"), "--output", str(root / "out")]
    process = subprocess.Popen([*command, *places, *_QUICK], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    start, levels = time.monotonic(), list[Level]()
    while process.poll() is None:
        time.sleep(1)
        try:
            levels.append(_level(process.pid, root / "out"))
        except (OSError, KeyError):  # it has just ended
            continue
        if time.monotonic() - start > seconds:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return None, levels
    return process.returncode, levels


def _level(pid: int, output: Path) -> Level:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    temporary = sum(len(names) for _, _, names in os.walk(output / ".work" / "tmp"))
    return Level(
        megabytes=int(status["VmRSS"].split()[0]) / 1024,
        open_files=len(os.listdir(f"/proc/{pid}/fd")),
        threads=int(status["Threads"]),
        temporary_files=temporary,
    )


def _describe(levels: Sequence[Level]) -> str:
    """The median of each measure in the first and in the last third of a run, start-up left out, and the largest."""
    levels = levels[5:]
    if len(levels) < 6:
        return "too short to tell"
    third = len(levels) // 3
    words = []
    for field in dataclasses.fields(Level):
        values = [getattr(level, field.name) for level in levels]
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        words.append(f"{field.name.replace('_', ' ')} {first:.0f} to {last:.0f}, at most {max(values):.0f}")
    return "; ".join(words)


def _kinetics_prep(*words: str) -> int:
    return subprocess.run([sys.executable, "-m", "kinetics_prep", *words], stderr=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    sys.exit(main())
