"""`kinetics-prep convert`: other formats and another shard size, from what is there."""

import argparse
import sys
import time

from kinetics_prep.cli.exit_codes import OK
from kinetics_prep.cli.flag_types import path, words
from kinetics_prep.dataset import convert
from kinetics_prep.dataset.convert import Conversion, Shape
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.report.progress import Progress
from kinetics_prep.report.units import format_bytes, format_duration
from kinetics_prep.runs.workers import worker_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = (
        "Writes the clips of a finished folder in other formats, or into shards of another size. No video is read and "
        "no flow computed. New files are built beside the old ones and read back; then all of them take their places. "
        "Stopped, it goes on when the same command is given again."
    )
    parser.add_argument("folder", type=path, help="the --output of kinetics-prep flow")
    parser.add_argument(
        "--format", type=words, metavar="LIST", help="exactly the formats that there shall be, of "
        f"{','.join(SHARD_FORMATS)}: others are deleted at the end; default: those that there are"
    )  # fmt: skip
    parser.add_argument(
        "--clips-per-shard", type=int, metavar="N", help="deal all clips into shards of N, also those that refresh "
        "and retry found, as one run of flow with that setting would have; default: each shard keeps its clips"
    )  # fmt: skip
    parser.add_argument("--workers", type=int, metavar="N", help="shards at a time; default: one per core")


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Converts a folder."""
    start, folder = time.monotonic(), arguments.folder
    shape, workers = Shape(arguments.format, arguments.clips_per_shard), worker_count(arguments.workers)
    if convert.is_done(folder, shape):
        print(f"{folder}: has these settings already; nothing was written")
        return OK
    with convert.open_conversion(folder, shape) as conversion:
        if conversion.folder.finished is not None:
            print(f"{folder}: {conversion.folder.finished}")
        print(f"{folder}: {_describe(conversion)}", file=sys.stderr)
        clips_done: list[int] = []
        with Progress(conversion.clips, 0, lambda: {"converted": sum(clips_done)}):
            summary = conversion.carry_out(workers, clips_done.append)
    spent = format_duration(time.monotonic() - start)
    shards = f"{summary.shards} {'shard' if summary.shards == 1 else 'shards'}"
    print(
        f"{folder}: {summary.clips} clips in {shards} as {','.join(summary.formats)}; {format_bytes(summary.bytes)} "
        f"in {spent}"
    )
    return OK


def _describe(conversion: Conversion) -> str:
    """What is to be done, and what room it needs."""
    before, after = conversion.before, conversion.after
    what = f"{conversion.clips} clips to {','.join(after.formats)}"
    if conversion.deals_anew:
        what += f" in shards of {after.clips_per_shard}, from shards of {before.clips_per_shard}"
    free = "" if conversion.free is None else f", {format_bytes(conversion.free)} are free"
    return f"{what}; new files need {format_bytes(conversion.needed)} at most{free}"
