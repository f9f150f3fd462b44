"""`python -m pipelines.flow ...`: the pipeline without the command line's progress and pictures.

Takes the flags of `kinetics-prep flow`; those it does not know go to Apache Beam.
"""

import argparse

from kinetics_prep.beam import graph as flow
from kinetics_prep.beam import runners
from kinetics_prep.cli import options


def main(argv: list[str] | None = None) -> None:
    """Prepares what the flags ask for and prints the outcome."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.flow", description=options.DESCRIPTION)
    options.add_flow_arguments(parser)
    arguments, beam_arguments = parser.parse_known_args(argv)
    job = options.job_from(arguments)
    workers = options.workers_from(arguments.workers, job.recipe.engine)
    summary = flow.prepare_dataset(job, workers, runners.options(beam_arguments))
    print(f"{job.output}: {summary}")
    if options.too_many_refused(arguments.max_refused, summary.refused_rows, summary.rows):
        raise SystemExit(3)


if __name__ == "__main__":
    main()
