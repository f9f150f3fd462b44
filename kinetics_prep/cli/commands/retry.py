"""`kinetics-prep retry`: tries again what was refused for some reasons."""

import argparse
import time

from kinetics_prep.cli import flags, options
from kinetics_prep.cli.notices import notices
from kinetics_prep.cli.preparing import load_beam, print_summary, progress
from kinetics_prep.errors import PASSING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = (
        "Tries clips again that were refused for some reasons, where the folder says that its videos are "
        "or where --videos says, and goes on with whatever is not done yet. What is found goes into new shards, "
        "<split>-refresh1-00000-of-00002 and so on; the shards that there are stay as they are. Stopped, it goes on "
        "when the same command is given again."
    )
    flags.add_again_arguments(parser, "those that pass by themselves")


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Tries refused clips again."""
    start = time.monotonic()
    graph, beam_options = load_beam(beam_flags)
    resumption = options.resumption_from(arguments, PASSING)
    with notices():
        summary = graph.retry(resumption, arguments.workers, beam_options, progress)
    return print_summary(arguments.folder, summary, start, None)
