"""How a program of ours ends: the exit code, and one line for an error that the user can mend."""

import ast
import builtins
import contextlib
import itertools
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from kinetics_prep.cli.exit_codes import BUG, CANNOT_GO_ON, INTERRUPTED, OK
from kinetics_prep.errors import RunError

_INTERRUPTED = "interrupted; what is committed stays, and the same command goes on from there"

_TRACEBACK = "Traceback (most recent call last):"
_STEP = " [while running "
"""Begins what Beam appends to the text of an error: in which of its steps the error was raised."""

_RUN_ERROR = re.compile(r"kinetics_prep\.errors\.(\w+): ")
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_OS_ERROR = re.compile(rf"(?:RuntimeError: )?(\w+): \[Errno \d+\] ([^\n:]+?)(?:: ({_QUOTED})(?: -> (?:{_QUOTED}))?)?\Z")


def exit_code(program: str, call: Callable[[], int]) -> int:
    """The exit code of a command; says in one line why it cannot go on. An error that is a bug is raised.

    Args:
      program: its name, which the line begins with.
      call: the command; returns the exit code if it comes to its end.
    """
    try:
        return call()
    except BrokenPipeError:
        # The reader of our output has enough; what else would be printed at exit is discarded.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except BaseException as error:
        if _is_interrupt(error):
            print(f"\n{_INTERRUPTED}", file=sys.stderr)
            return INTERRUPTED
        message = run_error_message(error)
        if message is None:
            raise
        print(f"{program}: {message}", file=sys.stderr)
        return CANNOT_GO_ON


def run_process(call: Callable[[], int]) -> None:
    """Calls a command and ends the process at once: threads that still compute a clip have nothing to tidy up."""
    code: int = BUG
    try:
        for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and what a scheduler sends before it kills
            signal.signal(number, _end_process)
        code = call()
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


def run_error_message(error: BaseException) -> str | None:
    """What to tell the user if the run cannot go on; None if the error is a bug.

    Beam adds where it was to an error's text. It hands over as text alone what a worker elsewhere raised, and every
    error whose first argument is no text, such as an `OSError`.
    """
    if isinstance(error, RunError):
        return str(error).partition(_STEP)[0]
    if isinstance(error, OSError):
        return _os_error_message(error.filename, error.strerror) if error.strerror else None
    return _message_in_text(str(error))


def _os_error_message(filename: object, what: str) -> str:
    name = "output" if filename is None else str(filename)
    return f"{name if name.isprintable() else ascii(name)}: {what}"


def _message_in_text(text: str) -> str | None:
    """The same, of an error that came as text: its traceback, or its class and message."""
    text = _last_error(text)
    if match := _RUN_ERROR.match(text):
        kinds = {kind.__name__ for kind in _with_subclasses(RunError)}
        return text[match.end() :] if match[1] in kinds else None
    if match := _OS_ERROR.match(text):
        kind = getattr(builtins, match[1], None)
        if isinstance(kind, type) and issubclass(kind, OSError):
            return _os_error_message(match[3] and ast.literal_eval(match[3]), match[2])
    return None


def _last_error(text: str) -> str:
    """Class and message of the error that a text tells of, without Beam's step.

    Of a chain of errors that is the last: a bug that was met while another error was handled is still a bug.
    """
    _, has_traceback, last = text.rpartition(_TRACEBACK)
    if has_traceback:
        last = "\n".join(itertools.dropwhile(_is_indented, last.split("\n")))
    elif match := _RUN_ERROR.search(last):  # a runner's own words may come first
        last = last[match.start() :]
    message, has_step, _ = last.partition(_STEP)
    return message if has_step else last.partition("\n")[0]


def _is_indented(line: str) -> bool:
    """Whether a line is one of a traceback's, or empty."""
    return not line or line[0].isspace()


def _with_subclasses(kind: type[RunError]) -> Iterator[type[RunError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _with_subclasses(each)
