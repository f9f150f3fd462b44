"""Where the time of a prepared folder went, from its ledger.

python benchmarks/stages.py FOLDER
"""

import sys
from pathlib import Path

from kinetics_prep.storage import tables

_STAGES = ("seconds_fetch", "seconds_decode", "seconds_flow", "seconds_encode")


def main(folder: Path) -> None:
    rows = [row for path in folder.glob("ledger/*.parquet") for row in tables.read(path, "ledger")]
    written = [row for row in rows if row["status"] == "written"]
    total = sum(row["seconds"] for row in written)
    print(f"{len(written)} clips, {sum(row['frames'] for row in written)} frames, {total:.1f} s of one worker")
    for stage in _STAGES:
        spent = sum(row[stage] for row in written)
        print(f"{stage.removeprefix('seconds_'):>8}  {spent:8.1f} s  {spent / total:6.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
