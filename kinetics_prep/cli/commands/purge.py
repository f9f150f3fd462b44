"""`kinetics-prep purge`: takes videos or clips out of a folder for good."""

import argparse
import sys
import time

from kinetics_prep.annotations.formats import id_list
from kinetics_prep.cli.exit_codes import OK
from kinetics_prep.cli.flag_types import path
from kinetics_prep.dataset import purge
from kinetics_prep.dataset.purge import Request, Summary
from kinetics_prep.report.progress import Progress
from kinetics_prep.report.units import format_bytes, format_duration
from kinetics_prep.runs.workers import worker_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = (
        "Takes clips out of a folder, finished or not: out of its shards, its ledgers and its unfinished work. Their "
        "rows are then refused with the reason purged, and no command prepares them again, nor clips with these ids "
        "that are planned later. The other clips keep their bytes. Caches of videos, archives and copies of the folder "
        "elsewhere are not touched. Stopped, it goes on when the same command is given again."
    )
    parser.add_argument("folder", type=path, help="the --output of kinetics-prep flow")
    parser.add_argument(
        "--ids", type=path, required=True, metavar="FILE", help="ids of videos or of clips, one a line; what follows "
        "an id on its line is not read"
    )  # fmt: skip
    parser.add_argument(
        "--because", required=True, metavar="WORDS", help="why; it becomes the message of these rows in the ledger"
    )


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Takes clips out of a folder."""
    start, folder = time.monotonic(), arguments.folder
    request = Request(id_list.read_lines(arguments.ids), arguments.because)
    with purge.open_purge(folder, request) as opened:
        if opened.folder.finished is not None:
            print(f"{folder}: {opened.folder.finished}")
        free = "" if opened.free is None else f", {format_bytes(opened.free)} are free"
        print(
            f"{folder}: {opened.clips} clips to take out; new files need {format_bytes(opened.needed)} at most{free}",
            file=sys.stderr,
        )
        clips_done: list[int] = []
        with Progress(opened.clips, 0, lambda: {"purged": sum(clips_done)}):
            summary = opened.carry_out(worker_count(None), clips_done.append)
    print(f"{folder}: {_describe(summary)} in {format_duration(time.monotonic() - start)}")
    if summary.unknown:
        print(f"{summary.unknown} of {summary.ids} ids are in no row; kept, so that they stay out")
    print("caches of videos, archives, and copies of this folder elsewhere may still hold them", file=sys.stderr)
    return OK


def _describe(summary: Summary) -> str:
    """What was done, in words."""
    if not summary.is_new:
        return "all of them were purged before; nothing was changed"
    shards = f"{summary.shards} {'shard' if summary.shards == 1 else 'shards'}"
    clips = f"{summary.clips} {'clip' if summary.clips == 1 else 'clips'} taken out of {shards}"
    return clips + (f", {summary.refused} rows that were refused before are now purged" if summary.refused else "")
