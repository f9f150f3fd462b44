"""The pipeline without the command line's progress bar: what an engine launches.

    python -m pipelines.flow ...                  in a checkout
    python -m kinetics_prep.pipelines.flow ...    where kinetics-prep is installed

Takes the flags of `kinetics-prep flow`; those it does not know go to Apache Beam.
"""

import argparse
import functools

from kinetics_prep.cli import endings, flags, options
from kinetics_prep.cli.commands.flow import DESCRIPTION
from kinetics_prep.cli.exit_codes import OK, TOO_MANY_REFUSED
from kinetics_prep.cli.notices import notices
from kinetics_prep.cli.one_line_parser import OneLineParser
from kinetics_prep.cli.preparing import load_beam
from kinetics_prep.runs.workers import worker_count

PROGRAM = "python -m pipelines.flow"


def main(argv: list[str] | None = None) -> int:
    """Prepares what the flags ask for, prints the outcome, and returns the exit code, as `kinetics-prep flow` does."""
    parser = OneLineParser(prog=PROGRAM, description=DESCRIPTION)
    flags.add_flow_arguments(parser)
    arguments, beam_flags = parser.parse_known_args(argv)
    return endings.exit_code(PROGRAM, functools.partial(_prepare, arguments, beam_flags))


def _prepare(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    graph, beam_options = load_beam(beam_flags)
    job = options.job_from(arguments)
    workers = worker_count(arguments.workers, job.recipe.engine)
    with notices():
        summary = graph.prepare_dataset(job, workers, beam_options)
    print(f"{job.output}: {summary}")
    if options.too_many_refused(arguments.max_refused, summary.refused_rows, summary.rows):
        return TOO_MANY_REFUSED
    return OK


if __name__ == "__main__":
    endings.run_process(main)
