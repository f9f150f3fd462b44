"""`kinetics-prep repair`: makes what is damaged anew."""

import argparse
import collections
import sys
from pathlib import Path

from kinetics_prep.cli import flags, options
from kinetics_prep.cli.exit_codes import INVALID, OK
from kinetics_prep.cli.notices import notices
from kinetics_prep.cli.preparing import load_beam, progress
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.repair import Report
from kinetics_prep.report.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = (
        "Mends what `kinetics-prep validate` finds. Documents, plans, markers and ledgers are made from each other, "
        "data in one format from those in another. Of a shard that has lost clips the sound ones are kept; only the "
        "others are prepared again, from the videos where the folder says that they are, or where --videos says. "
        "Nothing sound is changed; files that are not of the data set are named and left alone. Stopped, it goes on "
        "when the same command is given again. Exit code 0 if nothing is wrong any more, 4 if something could not be "
        "mended."
    )
    flags.add_repair_arguments(parser)


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Repairs a folder and says what was done."""
    graph, beam_options = load_beam(beam_flags)
    request = options.repair_from(arguments)
    with notices():
        outcome = graph.repair(request, arguments.workers, beam_options, progress)
    folder: Path = arguments.folder
    for line in _lines(outcome.report, outcome.again):
        print(printable(line))
    for key in outcome.report.strangers:
        print(printable(f"{key}: is not a file of this data set, and was left alone"), file=sys.stderr)
    if outcome.report.left:
        print(f"{folder}: {len(outcome.report.left)} files could not be mended")
        return INVALID
    print(f"{folder}: {'repaired' if not outcome.report.is_clean else 'nothing to repair'}")
    if not outcome.is_finished:
        print("it is not finished: give its kinetics-prep flow command once more", file=sys.stderr)
    return OK


def _lines(report: Report, again: tuple[LedgerRow, ...]) -> list[str]:
    """What was done, what was not, and what became of lost rows."""
    lines = [*report.done, *map(str, report.left)]
    counts = collections.Counter(row.status for row in again)
    if again:
        results = ", ".join(f"{count} {status}" for status, count in sorted(counts.items(), reverse=True))
        lines.append(f"{len(again)} rows were lost and prepared again: {results}")
    lines += [f"{row.clip_id}: refused now ({row.reason}): {row.message}" for row in again if row.reason is not None]
    return lines
