"""`kinetics-prep validate`: reads a prepared folder back and names what is wrong."""

import argparse
import sys

from kinetics_prep.cli.exit_codes import INVALID, OK
from kinetics_prep.cli.flag_types import path
from kinetics_prep.dataset import validate
from kinetics_prep.errors import CorruptShard
from kinetics_prep.report.progress import Progress
from kinetics_prep.report.text import printable
from kinetics_prep.runs.workers import worker_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = (
        "Reads everything back: checksums, counts, the ledger against the plan, and of each record its "
        "images, sizes, timestamps and label. Exit code 0 if nothing is wrong, 4 if something is, 2 if only a newer "
        "kinetics-prep can read the folder."
    )
    parser.add_argument("folder", type=path, help="the --output of kinetics-prep flow")
    parser.add_argument("--workers", type=int, metavar="N", help="shards at a time; default: one per core")


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Prints everything that is wrong with a folder."""
    folder = arguments.folder
    try:
        opened = validate.open_folder(folder)
    except CorruptShard as error:
        print(f"{folder}: {error}")
        return INVALID
    workers = worker_count(arguments.workers)
    clips = sum(shard.written for shard in opened.shards)
    clips_read: list[int] = []
    with Progress(clips, 0, lambda: {"read back": sum(clips_read)}):
        found = validate.problems(opened, workers, done=lambda shard: clips_read.append(shard.written))
        problems = [printable(str(problem)) for problem in found]
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{folder}: {clips} clips read back, nothing wrong")
        return OK
    print(f"{folder}: {len(problems)} {'problem' if len(problems) == 1 else 'problems'}")
    print(f"what can be mended: kinetics-prep repair {folder}", file=sys.stderr)
    return INVALID
