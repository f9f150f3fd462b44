"""The command line: finds the command, calls it, says why it cannot go on. Imports no more than the command needs."""

import argparse
import contextlib
import os
import re
import signal
import sys
from types import FrameType

import kinetics_prep
from kinetics_prep.cli.commands import COMMANDS, Command, load
from kinetics_prep.cli.exit_codes import BUG, CANNOT_GO_ON, INTERRUPTED, INVALID, OK, TOO_MANY_REFUSED
from kinetics_prep.errors import RunError

__all__ = ["BUG", "CANNOT_GO_ON", "INTERRUPTED", "INVALID", "OK", "TOO_MANY_REFUSED", "entry", "main"]

_INTERRUPTED = "interrupted; what is committed stays, and the same command goes on from there"


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns the exit code."""
    argv = _with_record_id(sys.argv[1:] if argv is None else argv)
    name = next((word for word in argv if word in COMMANDS), None)
    command = load(name) if name else None
    parser = _parser(name, command)
    arguments, rest = parser.parse_known_args(argv)
    if command is None or (rest and not COMMANDS[str(name)].takes_beam_flags):
        parser.error(f"unknown: {' '.join(rest)}")
    try:
        return command.run(arguments, rest)
    except BrokenPipeError:
        # The reader of our output has enough; what else would be printed at exit is discarded.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except BaseException as error:
        if _is_interrupt(error):
            print(f"\n{_INTERRUPTED}", file=sys.stderr)
            return INTERRUPTED
        message = _run_error_message(error)
        if message is None:
            raise
        print(f"kinetics-prep: {message}", file=sys.stderr)
        return CANNOT_GO_ON


def _with_record_id(argv: list[str]) -> list[str]:
    """Joins `--record ID` into one word: clip ids may begin with "-", and would be taken for a flag."""
    if "--record" not in argv[:-1]:
        return list(argv)
    place = argv.index("--record")
    return [*argv[:place], f"--record={argv[place + 1]}", *argv[place + 2 :]]


def entry() -> None:
    """The console script. Ends the process at once: threads that still compute a clip have nothing to tidy up."""
    code: int = BUG
    try:
        for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and what a scheduler sends before it kills
            signal.signal(number, _end_process)
        code = main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else OK if leaving.code is None else CANNOT_GO_ON
    except BaseException:
        import traceback

        traceback.print_exc()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _end_process(number: int, frame: FrameType | None) -> None:
    """Ends the program at once.

    A KeyboardInterrupt would have to pass through libraries that swallow it now and then. What is
    committed is complete, and the rest is done again.
    """
    with contextlib.suppress(OSError):
        os.write(2, f"\n{_INTERRUPTED}\n".encode())
    os._exit(INTERRUPTED)


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether an error is Ctrl-C, perhaps wrapped by Beam."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or str(error).startswith("KeyboardInterrupt"):
            return True
        error = error.__cause__ or error.__context__
    return False


def _run_error_message(error: BaseException) -> str | None:
    """What to tell the user if the run cannot go on; None if the error is a bug.

    Beam adds where it was to an error's text, and a worker elsewhere hands it over as text alone.
    """
    if isinstance(error, RunError):
        return re.sub(r" \[while running .*", "", str(error), flags=re.S)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'output'}: {error.strerror}"
    names = "|".join(kind.__name__ for kind in RunError.__subclasses__())
    match = re.search(rf"kinetics_prep\.errors\.(?:{names}): (.*?)(?: \[while running|\n|$)", str(error))
    return match[1] if match else None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, rather than below the whole usage."""

    def error(self, message: str) -> None:  # type: ignore[override]  # it does not return, which None also says
        self.exit(CANNOT_GO_ON, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser(name: str | None, command: Command | None) -> argparse.ArgumentParser:
    """The parser: each command with its help line, and the flags of the command called `name`."""
    parser = _Parser(
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
