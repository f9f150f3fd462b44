"""`kinetics-prep models`: lists the models."""

import argparse

from kinetics_prep.cli.exit_codes import OK
from kinetics_prep.cli.keras_backend import load_keras


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = (
        "Lists the five models of the paper: what they see, at training and at test, and their parameters."
    )
    parser.add_argument("--classes", type=int, default=400, metavar="N", help="default: 400")


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Prints a table of the models."""
    load_keras()
    from kinetics_prep.models import describe

    for line in describe.table_lines(arguments.classes):
        print(line)
    return OK
