"""Peak memory of `kinetics-prep flow` against the number of clips.

    python benchmarks/memory.py             # 20 and 200 clips of 10 s, about 10 minutes on two cores

Every clip is 10 s at 25 fps and 340x256, as in Kinetics. TV-L1 is stopped after one iteration: how
long it iterates changes the time and not the memory, and 200 clips at full quality take OpenCV a
day. Prints the largest resident size of the run's process, which is where everything but decoding
happens, and that of the largest ffmpeg beside it.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from kinetics_prep.media import ffmpeg

_HASTY = ("--tvl1", "scales=1", "warps=1", "iterations=1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        render(Path(folder) / "video.mp4")
        print("clips  peak of kinetics-prep  peak of one ffmpeg")
        for clips in arguments.clips:
            own, ffmpeg = peaks(Path(folder), clips, arguments.workers)
            print(f"{clips:5d}  {own / 1e6:15.0f} MB  {ffmpeg / 1e6:15.0f} MB", flush=True)


def render(path: Path) -> None:
    """Fifteen seconds of moving texture: as hard to compress as a real video."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 85, 3), np.uint8)
    texture = np.kron(noise, np.ones((4, 4, 1), np.uint8))
    command = (ffmpeg.locate().path, "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "340x256")
    encode = ("-r", "30", "-i", "pipe:", "-c:v", "libx264", "-pix_fmt", "yuv420p", str(path))
    frames = b"".join(np.roll(texture, k, axis=1).tobytes() for k in range(450))
    subprocess.run([*command, *encode], input=frames, check=True)


def peaks(folder: Path, clips: int, workers: int) -> tuple[int, int]:
    """Bytes: the largest resident size of a run over so many clips, and of its largest ffmpeg."""
    rows = "\n".join(f"moving,video,{k * 0.01:.2f},{k * 0.01 + 10:.2f},train" for k in range(clips))
    annotations = folder / f"{clips}.csv"
    annotations.write_text(rows)
    command = (sys.executable, "-m", "kinetics_prep", "flow", "--annotations", str(annotations))
    where = ("--videos", str(folder), "--output", str(folder / f"out{clips}"), "--workers", str(workers))
    process = subprocess.Popen([*command, *where, *_HASTY], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    largest_child, ended = [0], threading.Event()
    watcher = threading.Thread(target=_watch_children, args=(process.pid, largest_child, ended))
    watcher.start()
    _, status, _ = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"kinetics-prep ended with code {process.returncode}")
    return largest_child[1], largest_child[0]


def _watch_children(pid: int, largest: list[int], ended: threading.Event) -> None:
    # The high-water mark of a process stands in /proc as long as it lives.
    largest.append(0)
    while not ended.wait(0.05):
        largest[1] = max(largest[1], _high_water(pid))
        for child in _children(pid):
            largest[0] = max(largest[0], _high_water(child, "ffmpeg"))


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    try:
        return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return []


def _high_water(pid: int, name: str = "") -> int:
    """Of a process, if its name begins so: before its exec a child still is a copy of its parent."""
    try:
        found = re.search(rf"Name:\s+{name}[\s\S]*VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    main()
