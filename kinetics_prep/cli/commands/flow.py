"""`kinetics-prep flow`: prepares clips."""

import argparse
import sys
import time

from kinetics_prep import flow
from kinetics_prep.cli import flags, options
from kinetics_prep.cli.notices import notices
from kinetics_prep.cli.preparing import load_beam, print_summary, progress
from kinetics_prep.runs.workers import worker_count

DESCRIPTION = """\
Prepares clips: gets each annotated video, trims it, resamples it, computes TV-L1 optical flow,
and writes sharded records. Every annotation row ends in the ledger, written or refused.
A run that is stopped, by whatever, goes on where it was when the same command is given again.
"""

EPILOG = """\
examples:
  kinetics-prep flow --split train
      prepares the sample data set that comes with the package
  kinetics-prep flow --annotations k400_val.csv --videos /data/k400 --output k400
      prepares every split of the file from a folder of videos
  kinetics-prep flow --annotations k400_val.csv --output k400 \\
      --videos 'https://mirror.example/val/{id}_{start:06d}_{end:06d}.mp4'
      the same from a mirror

exit code:
  0  every row is accounted for: written, or refused for a reason that the ledger holds
  2  the run could not start or go on; the message says what to mend
  3  as 0, and more rows were refused than --max-refused allows
130  interrupted; the same command goes on from there
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_flow_arguments(parser)


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Prepares clips."""
    start = time.monotonic()
    graph, beam_options = load_beam(beam_flags)
    job = options.job_from(arguments)
    workers = worker_count(arguments.workers, job.recipe.engine)
    if arguments.engine == "auto":
        print(f"engine {job.recipe.engine}: {flow.why(job.recipe.engine)}", file=sys.stderr)
    with notices():
        summary = graph.prepare_dataset(job, workers, beam_options, progress)
    return print_summary(job.output, summary, start, arguments.max_refused)
