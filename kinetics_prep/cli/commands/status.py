"""`kinetics-prep status`: how far a folder is, and what it lost."""

import argparse

from kinetics_prep.cli.exit_codes import OK
from kinetics_prep.cli.flag_types import path
from kinetics_prep.dataset import status
from kinetics_prep.errors import RETRYABLE
from kinetics_prep.report.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = (
        "Says of each split how many rows are written, refused and to go; for what reasons, and which "
        "classes lost the most; of a known data set, what share of the published rows is written. Changes nothing, "
        "so it may be asked while a run goes on."
    )
    parser.add_argument("folder", type=path, help="the --output of kinetics-prep flow")
    parser.add_argument("--classes", type=int, default=5, metavar="N", help="that lost the most; default: 5")


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Prints the status of each split."""
    for line in status.describe(status.read_status(arguments.folder), RETRYABLE, arguments.classes):
        print(printable(line))
    return OK
