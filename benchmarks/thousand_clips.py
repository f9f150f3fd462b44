"""A thousand clips from a server that fails 30% of its requests at random, by a run that is killed twice.

    python benchmarks/thousand_clips.py

Looks afterwards whether every row ended in one row of the ledger, whether anything was asked for that was there
already, and at which pace the server was asked. Exit code 1 if not all of that is as it should be.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
import loopback

from kinetics_prep import sample
from kinetics_prep.dataset import ledger
from kinetics_prep.storage import tables

_QUICK = (
    *("--fps", "5", "--short-side", "32", "--clip-seconds", "1", "--min-seconds", "0.4"),
    *("--tvl1", "scales=2", "warps=1", "iterations=3"),
)


@dataclasses.dataclass
class Mirror:
    """Answers with a video, or fails in one of several ways."""

    video: bytes
    failing_share: float
    rng: random.Random
    delivered: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    """Whole videos by path."""
    failures: int = 0
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def answer(self, handler) -> None:
        with self.lock:
            how = self.rng.choice(("500", "503", "cut", "dropped")) if self.rng.random() < self.failing_share else ""
            self.failures += bool(how)
        if how == "dropped":
            handler.connection.close()
        elif how == "cut":
            loopback.send(handler, 200, {"Content-Length": str(len(self.video))}, self.video[: len(self.video) // 2])
            handler.close_connection = True
        elif how:
            loopback.send(handler, int(how), {}, b"")
        else:
            loopback.file(self.video)(handler)
            with self.lock:
                self.delivered[handler.path] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=25.0, help="requests per second; default: 25")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    video = min(sample.VIDEOS.glob("*.mp4"), key=lambda path: path.stat().st_size).read_bytes()
    with tempfile.TemporaryDirectory() as folder, loopback.running() as server:
        mirror = Mirror(video, 0.3, random.Random(arguments.seed))
        server.otherwise = mirror.answer
        rows = Path(folder, "rows.csv")
        rows.write_text("".join(f"waving,video{number},0,1,train\n" for number in range(arguments.clips)))
        command = [sys.executable, "-m", "kinetics_prep", "flow", "--annotations", str(rows), "--workers", "8"]
        command += ["--videos", server.url + "/{id}.mp4", "--rate", f"127.0.0.1={arguments.rate:g}/s", *_QUICK]
        command += ["--cache", str(Path(folder, "cache")), "--output", str(Path(folder, "out"))]
        begun = time.monotonic()
        had = [killed_after(command, server, requests, folder) for requests in kills(arguments.clips)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        print(f"{time.monotonic() - begun:.0f} s, {len(server.requests)} requests, {mirror.failures} of them failed")
        sound = accounted(Path(folder, "out"), arguments.clips)
        sound &= asked_in_vain(server, had, mirror) == 0
        sound &= pace(server, arguments.rate)
        code = subprocess.run([sys.executable, "-m", "kinetics_prep", "validate", str(Path(folder, "out"))]).returncode
    return 0 if sound and code == 0 else 1


def kills(clips: int) -> tuple[int, int]:
    """After how many requests, all together, the run is killed."""
    return clips // 3, clips


def killed_after(command: list[str], server: loopback.Server, requests: int, folder: str) -> tuple[int, set[str]]:
    """Runs until the server has had so many requests, and kills it: (requests by then, the paths that were there)."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while len(server.requests) < requests and process.poll() is None:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # what was under way arrives at the server
    entries = Path(folder, "cache", "entries").glob("*/*.json")
    ids = {json.loads(path.read_text())["key"].removeprefix("video ") for path in entries}
    return len(server.requests), {f"/{media_id}.mp4" for media_id in ids}


def accounted(output: Path, clips: int) -> bool:
    """Whether every row is in the ledgers once; prints what became of them."""
    rows = [row for path in sorted(output.glob("ledger/*.parquet")) for row in tables.read(path, "ledger")]
    became = collections.Counter(row["reason"] or ledger.WRITTEN for row in rows)
    once = len(rows) == len({row["clip_id"] for row in rows}) == clips
    words = ", ".join(f"{count} {what}" for what, count in became.most_common())
    print(f"ledger: {len(rows)} rows, each clip {'once' if once else 'NOT once'}: {words}")
    return once


def asked_in_vain(server: loopback.Server, had: list[tuple[int, set[str]]], mirror: Mirror) -> int:
    """How many requests were made for what was in the cache when the run before was killed."""
    vain = sum(path in there for requests, there in had for path in server.requested[requests:])
    twice = sum(count - 1 for count in mirror.delivered.values())
    print(f"{vain} requests for what was there at a kill ({', '.join(str(len(there)) for _, there in had)} videos)")
    print(f"{twice} videos were sent whole twice, being under way when the run was killed")
    return vain


def pace(server: loopback.Server, rate: float) -> bool:
    """Whether the server was asked no faster than at the rate; prints how fast."""
    moments = sorted(request.seconds for request in server.requests)
    busiest = max(sum(first <= moment < first + 1 for moment in moments) for first in moments)
    mean = (len(moments) - 1) / (moments[-1] - moments[0])
    print(f"pace: at most {busiest} requests within a second, {mean:.1f}/s in the mean; allowed: {rate:g}/s")
    return busiest <= rate + 2  # both ends of the second, and a thread that was held back


if __name__ == "__main__":
    sys.exit(main())
