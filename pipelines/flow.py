"""The pipeline without the command line's progress bar: what an engine launches.

    python -m pipelines.flow ...                  in a checkout
    python -m kinetics_prep.pipelines.flow ...    where kinetics-prep is installed

Takes the flags of `kinetics-prep flow`; those it does not know go to Apache Beam.
"""

import argparse

from kinetics_prep.beam import graph, runners
from kinetics_prep.cli import flags, options
from kinetics_prep.cli.commands.flow import DESCRIPTION
from kinetics_prep.cli.exit_codes import TOO_MANY_REFUSED
from kinetics_prep.runs.workers import worker_count


def main(argv: list[str] | None = None) -> None:
    """Prepares what the flags ask for and prints the outcome."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.flow", description=DESCRIPTION)
    flags.add_flow_arguments(parser)
    arguments, beam_flags = parser.parse_known_args(argv)
    job = options.job_from(arguments)
    workers = worker_count(arguments.workers, job.recipe.engine)
    summary = graph.prepare_dataset(job, workers, runners.parse_options(beam_flags))
    print(f"{job.output}: {summary}")
    if options.too_many_refused(arguments.max_refused, summary.refused_rows, summary.rows):
        raise SystemExit(TOO_MANY_REFUSED)


if __name__ == "__main__":
    main()
