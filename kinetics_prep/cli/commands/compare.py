"""`kinetics-prep compare`: sets evaluated models side by side."""

import argparse

from kinetics_prep.cli import training_flags
from kinetics_prep.cli.exit_codes import OK
from kinetics_prep.report.text import printable
from kinetics_prep.training import comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = "Sets predictions side by side: a row a model, columns RGB, Flow, RGB + Flow."
    training_flags.add_compare_arguments(parser)


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Prints a table of accuracies."""
    table = comparison.compare_files(arguments.predictions, arguments.fuse)
    for line in (table.markdown() if arguments.markdown else table.text()).split("\n"):
        print(printable(line))
    return OK
