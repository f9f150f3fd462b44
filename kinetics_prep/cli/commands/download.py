"""`kinetics-prep download`: gets videos, and nothing else."""

import argparse
import sys
import time

from kinetics_prep.cli import flags, options
from kinetics_prep.cli.exit_codes import OK
from kinetics_prep.cli.notices import notices
from kinetics_prep.cli.preparing import exit_code
from kinetics_prep.report.progress import Progress
from kinetics_prep.report.units import format_bytes, format_duration
from kinetics_prep.runs.download import download_all, open_download
from kinetics_prep.runs.forecast import forecast

DESCRIPTION = """\
Gets the videos of annotation files into a cache, which `flow --cache` reads, and computes nothing.
What is in the cache, or in a folder or an archive that --videos names, is not asked for; what a
server was found not to have neither. The same command goes on where it was stopped. What became of
each row is in CACHE/ledger/NAME-DIGEST-SPLIT.parquet at the end: the digest is of the content of the
annotation files, --labels and --ids, of --only, --limit and --dataset. Until then the rows that are
done, but for those of the last minute, are in the Parquet files of NAME-DIGEST-SPLIT.part beside it;
they stay if the run is killed, until the same command is given again.
"""

EPILOG = """\
examples:
  kinetics-prep download --annotations k400_val.csv --cache videos --dry-run \\
      --videos 'https://mirror.example/val/{id}_{start:06d}_{end:06d}.mp4' youtube
      says how many videos that would ask for, of whom, and how long it takes at their pace
  kinetics-prep download --annotations k400_val.csv --cache videos --videos youtube --again geo --proxy http://host:3128
      asks once more for what was refused for one reason; with --again too_short or the like also for files in the cache
      that `flow` found to be so

exit code:
  0  every row is accounted for: there, or refused for a reason that CACHE/ledger holds
  2  the run could not start or go on; the message says what to mend
  3  as 0, and more rows were refused than --max-refused allows
130  interrupted; the same command goes on from there
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    flags.add_download_arguments(parser)


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Downloads, or says what a download would request."""
    start = time.monotonic()
    job = options.download_from(arguments)
    with notices(), open_download(job) as download:
        print("\n".join(map(str, download.chosen.files)), file=sys.stderr)
        if arguments.dry_run:
            for line in forecast(download).describe(job.fetching, format_duration):
                print(line)
            return OK
        with Progress(download.rows, 0, lambda: dict(download.tally.counts)):
            tally = download_all(download)
    spent, cache = format_duration(time.monotonic() - start), job.fetching.cache
    print(f"{cache}: {tally}; {format_bytes(tally.new_bytes)} downloaded in {spent}")
    again = f"why, and when to try again: {cache}/ledger"
    return exit_code(tally.rows, tally.refused, arguments.max_refused, job.cache, again)
