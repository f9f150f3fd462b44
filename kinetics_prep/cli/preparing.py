"""What `flow`, `retry`, `refresh` and `download` share: Beam's options, the progress bar, the summary."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from kinetics_prep.cli.exit_codes import OK, TOO_MANY_REFUSED
from kinetics_prep.cli.options import too_many_refused
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.report.progress import Progress
from kinetics_prep.report.units import format_bytes, format_duration
from kinetics_prep.runs.prepare import PrepareRun, Summary

_EVERY_SECONDS = 3.0
"""Between two looks at the output folder, which may be on a busy server."""


def load_beam(beam_flags: list[str]) -> tuple[ModuleType, Any]:
    """Our graphs, and the options of Apache Beam.

    Raises:
      BadOption: for a flag that neither of us knows.
    """
    logging.getLogger().setLevel(logging.ERROR)  # Beam names every optional package that is missing
    from kinetics_prep.beam import graph, runners

    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # it logs a traceback of what we report in a line
    return graph, runners.parse_options(beam_flags)


@contextlib.contextmanager
def progress(run: PrepareRun, workers: int) -> Iterator[None]:
    """Says what is prepared and how, and shows a progress bar."""
    splits = ", ".join(f"{part.split} {part.rows}" for part in run.searches or run.parts if not part.refresh)
    print("\n".join(run.annotations), end="\n" if run.annotations else "", file=sys.stderr)
    how = f"{_describe(run.context.recipe)}, {workers} {'clip' if workers == 1 else 'clips'} at a time"
    what = "to look for again" if run.searches else "rows"
    print(f"{run.store.place}: {splits or 0} {what}, {len(run.labels)} classes; {how}", file=sys.stderr)
    done_already = sum(run.count_rows().values())
    with Progress(run.rows, done_already, run.count_rows, every_seconds=_EVERY_SECONDS):
        yield


def _describe(recipe: Recipe) -> str:
    return f"{float(recipe.fps):g} fps, short side {recipe.short_side}, flow by {recipe.engine}"


def print_summary(output: Path, summary: Summary, start: float, allowed: tuple[float, bool] | None) -> int:
    """Prints what a run came to and returns the exit code.

    Args:
      start: of the run, seconds of `time.monotonic`.
      allowed: as in `exit_code`.
    """
    spent = format_duration(time.monotonic() - start)
    if summary.outcome is not None:
        print(f"{output}: {summary.outcome}")
    print(f"{output}: {summary}; {format_bytes(summary.bytes)} in {spent}")
    again = f"why: {output}/ledger; to try again: kinetics-prep retry or refresh {output}"
    return exit_code(summary.rows, summary.refused_rows, allowed, output, again)


def exit_code(rows: int, refused: int, allowed: tuple[float, bool] | None, folder: Path, again: str) -> int:
    """The exit code of a run of which some rows were refused; prints where to look.

    Args:
      allowed: how many rows may be refused, as `flag_types.share` gives it; None for any number.
      again: the line that says where the reasons are.
    """
    if too_many_refused(allowed, refused, rows):
        print(f"kinetics-prep: more rows were refused than --max-refused allows; see {folder}/ledger", file=sys.stderr)
        return TOO_MANY_REFUSED
    if refused:
        print(again, file=sys.stderr)
    return OK
