"""The command line: finds the command, calls it, says why it cannot go on. Imports no more than the command needs."""

import argparse
import functools
import sys

import kinetics_prep
from kinetics_prep.cli import endings
from kinetics_prep.cli.commands import COMMANDS, Command, load
from kinetics_prep.cli.exit_codes import BUG, CANNOT_GO_ON, INTERRUPTED, INVALID, OK, TOO_MANY_REFUSED
from kinetics_prep.cli.one_line_parser import OneLineParser

__all__ = ["BUG", "CANNOT_GO_ON", "INTERRUPTED", "INVALID", "OK", "TOO_MANY_REFUSED", "entry", "main"]


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns the exit code."""
    argv = _with_record_id(sys.argv[1:] if argv is None else argv)
    name = next((word for word in argv if word in COMMANDS), None)
    command = load(name) if name else None
    parser = _parser(name, command)
    arguments, rest = parser.parse_known_args(argv)
    if command is None or (rest and not COMMANDS[str(name)].takes_beam_flags):
        parser.error(f"unknown: {' '.join(rest)}")
    return endings.exit_code("kinetics-prep", functools.partial(command.run, arguments, rest))


def _with_record_id(argv: list[str]) -> list[str]:
    """Joins `--record ID` into one word: clip ids may begin with "-", and would be taken for a flag."""
    if "--record" not in argv[:-1]:
        return list(argv)
    place = argv.index("--record")
    return [*argv[:place], f"--record={argv[place + 1]}", *argv[place + 2 :]]


def entry() -> None:
    """The console script."""
    endings.run_process(main)


def _parser(name: str | None, command: Command | None) -> argparse.ArgumentParser:
    """The parser: each command with its help line, and the flags of the command called `name`."""
    parser = OneLineParser(
        prog="kinetics-prep",
        description="Prepares Kinetics-style video data sets, RGB and TV-L1 optical flow, sharded; and trains on them.",
        epilog="`kinetics-prep COMMAND --help` says more.",
    )
    parser.add_argument("--version", action="version", version=f"kinetics-prep {kinetics_prep.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for each, entry in COMMANDS.items():
        subparser = commands.add_parser(each, help=entry.help, allow_abbrev=entry.allows_abbreviations)
        if each == name and command is not None:
            command.add_arguments(subparser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
