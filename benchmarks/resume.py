"""How soon an interrupted run over Kinetics-400 goes on: seconds to the first clip, and requests to the store.

    python benchmarks/resume.py                 # 306,245 rows, 4,785 shards, the last ten missing; about 3 minutes
    python benchmarks/resume.py --rows 30000

The folder is made without videos: plan, ledgers and markers are real, data files are sparse and have the size that the
markers say. Then `kinetics-prep flow` is started as its user would, and watched until the first clip's object is there.
A second run, in this process, counts what is asked of the store before that, and at the end.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from kinetics_prep.annotations.planned import PlannedRow, annotation_columns
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset import door, layout, ledger, markers, shards
from kinetics_prep.dataset.part import Part, rows_of
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.flow import TVL1
from kinetics_prep.runs.clip import prepare_and_commit
from kinetics_prep.runs.job import Job
from kinetics_prep.runs.prepare import PrepareRun, open_run
from kinetics_prep.sources import Fetching
from kinetics_prep.storage.folder_store import FolderStore

K400_ROWS = 306_245
RECORD_BYTES = 1_000
_TVL1 = TVL1(scales=2, warps=1, iterations=3)
_RECIPE = Recipe("tvl1", fps=Fraction(5), short_side=32, clip_seconds=1, min_seconds=0.4, tvl1=_TVL1)
_QUICK = (
    *("--fps", "5", "--short-side", "32", "--clip-seconds", "1", "--min-seconds", "0.4"),
    *("--tvl1", "scales=2", "warps=1", "iterations=3"),
)


@dataclasses.dataclass
class CountingStore:
    """A store that counts what is asked of it."""

    store: FolderStore
    requests: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def __getattr__(self, name: str):
        attribute = getattr(self.store, name)
        if not callable(attribute):
            return attribute

        def counted(*arguments):
            self.requests[name] += 1
            return attribute(*arguments)

        return counted

    def __hash__(self) -> int:
        return hash(self.store)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=K400_ROWS)
    parser.add_argument("--missing", type=int, default=10, help="shards that are not there yet; default: 10")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        annotations, videos = _write_annotations(root, arguments.rows), _write_videos(root)
        job = Job(Selection((str(annotations),)), Fetching((str(videos),)), root / "out", _RECIPE)
        start = time.monotonic()
        with open_run(job) as run:
            _write_shards(run, arguments.missing)
            rows, number = run.rows, sum(part.shards for part in run.parts)
        print(f"{rows:,} rows, {number:,} shards, made in {time.monotonic() - start:.0f} s")
        seconds = _seconds_to_first_clip(root, annotations)
        print(f"kinetics-prep flow, from its start to the first clip: {seconds:.1f} s")
        _count_requests(job)


def _write_annotations(root: Path, rows: int) -> Path:
    path = root / "k400.csv"
    with open(path, "w") as file:
        file.write("label,youtube_id,time_start,time_end,split\n")
        for number in range(rows):
            file.write(f"class {number % 400},id{number:09d},{number % 300},{number % 300 + 10},train\n")
    return path


def _write_videos(root: Path) -> Path:
    folder = root / "videos"
    folder.mkdir()
    (folder / "another.mp4").write_bytes(b"not one of them")
    return folder


def _write_shards(run: PrepareRun, missing: int) -> None:
    """Commits all shards but the last ones: every clip written, and nothing in the data files."""
    for part in run.parts:
        for shard in range(part.shards - missing):
            _write_shard(part, shard, run.context.digest)


def _write_shard(part: Part, shard: int, digest: str) -> None:
    name = part.shard_name(shard)
    rows = [_ledger_row(row, digest) for row in rows_of(part, shard) if isinstance(row, PlannedRow)]
    assert isinstance(part.store, FolderStore)
    key, size = layout.data_key(name, "tfrecord"), len(rows) * RECORD_BYTES
    path = part.store.root / key
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)
    offsets = [place * RECORD_BYTES for place in range(len(rows))]
    data = {"path": key, "bytes": size, "sha256": "0" * 64, "records": len(rows), "offsets": offsets}
    description = ledger.write(part.store, layout.ledger_key(name), rows)
    marker = shards.describe(part, shard, rows, {"tfrecord": data}) | description
    markers.create_marker(part.store, name, marker)


def _ledger_row(row: PlannedRow, digest: str) -> ledger.LedgerRow:
    size = {"frames": 5, "width": 32, "height": 32, "record_bytes": RECORD_BYTES}
    known = {"shard": row.shard, "engine": "tvl1: version 1", "recipe": digest, "versions": "{}"}
    return ledger.LedgerRow(**annotation_columns(row), status=ledger.WRITTEN, **known, **size)  # type: ignore[arg-type]


def _seconds_to_first_clip(root: Path, annotations: Path) -> float:
    """Starts the command and stops it when the first object is there."""
    command = [sys.executable, "-m", "kinetics_prep", "flow", "--annotations", str(annotations)]
    places = ["--videos", str(root / "videos"), "--output", str(root / "out")]
    start = time.monotonic()
    process = subprocess.Popen([*command, *places, *_QUICK], stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not any(_objects(root / "out")):
            time.sleep(0.01)
        return time.monotonic() - start
    finally:
        process.kill()
        process.wait()


def _objects(output: Path) -> Iterator[str]:
    for _, _, names in os.walk(output / ".work" / "objects"):
        yield from names


def _count_requests(job: Job) -> None:
    """Opens the run once more, does one row, and says what that asked of the store."""
    counting = list[CountingStore]()
    hold_lease = door.hold_lease

    def hold_counting(*arguments, **settings):
        @contextlib.contextmanager
        def held():
            with hold_lease(*arguments, **settings) as store:
                counting.append(CountingStore(store))
                yield counting[0]

        return held()

    door.hold_lease = hold_counting  # type: ignore[assignment]
    with open_run(job) as run:
        part, shard, keys = next(iter(run.pending()))
        row = next(row for row in rows_of(part, shard) if part.object_key(row) not in keys)
        print("requests to the store before the first clip:", json.dumps(dict(counting[0].requests)))
        prepare_and_commit(row, part, run.context)
        print("with the first clip:", json.dumps(dict(counting[0].requests)))
        counting[0].requests.clear()
        run.count_rows()
        counting[0].requests.clear()
        run.count_rows()
        print("to show progress once:", json.dumps(dict(counting[0].requests)))


if __name__ == "__main__":
    main()
