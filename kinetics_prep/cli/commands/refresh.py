"""`kinetics-prep refresh`: searches once more for what a prepared folder lacks."""

import argparse
import time

from kinetics_prep.cli import flags, options
from kinetics_prep.cli.notices import notices
from kinetics_prep.cli.preparing import load_beam, print_summary, progress
from kinetics_prep.errors import OF_FETCHING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = (
        "Looks once more for clips that were refused, where the folder says that its videos are or where "
        "--videos says. What is found goes into new shards, <split>-refresh1-00000-of-00002 and so on, under the same "
        "labels and recipe; the shards that there are stay as they are, to the byte. Ledgers and dataset.json are "
        "brought up to it. Stopped, it goes on when the same command is given again."
    )
    flags.add_again_arguments(parser, "what may have come back: all but damaged or too short videos")


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Searches refused clips once more."""
    start = time.monotonic()
    graph, beam_options = load_beam(beam_flags)
    resumption = options.resumption_from(arguments, OF_FETCHING)
    with notices():
        summary = graph.refresh(resumption, arguments.workers, beam_options, progress)
    return print_summary(arguments.folder, summary, start, None)
