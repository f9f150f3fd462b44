"""The command line: parses, calls one function, prints one summary. Imports what a command needs, when it needs it."""

import argparse
import contextlib
import logging
import os
import re
import sys
import time
from pathlib import Path

import kinetics_prep
from kinetics_prep.errors import RunError

OK, BUG, CANNOT_GO_ON, TOO_MANY_REFUSED, INTERRUPTED = 0, 1, 2, 3, 130
INVALID = 4


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns the exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.command is not _flow:
        parser.error(f"unknown: {' '.join(rest)}")
    try:
        return arguments.command(arguments, rest)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has enough; what else would be printed at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        said = _run_error(error)
        if said is None:
            raise
        print(f"kinetics-prep: {said}", file=sys.stderr)
        return CANNOT_GO_ON


def entry() -> None:
    """The console script. Leaves at once: threads that still compute a clip have nothing to tidy up."""
    code = BUG
    try:
        code = main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else CANNOT_GO_ON
    except BaseException:
        import traceback

        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _run_error(error: BaseException) -> str | None:
    """What to tell the user if the run cannot go on; None if it is a bug.

    Beam adds where it was to an error's text, and a worker elsewhere hands it over as text alone.
    """
    if isinstance(error, RunError):
        return re.sub(r" \[while running .*", "", str(error), flags=re.S)
    names = "|".join(kind.__name__ for kind in RunError.__subclasses__())
    match = re.search(rf"kinetics_prep\.errors\.(?:{names}): (.*?)(?: \[while running|\n|$)", str(error))
    return match and match[1]


def _parser() -> argparse.ArgumentParser:
    from kinetics_prep import options

    parser = argparse.ArgumentParser(
        prog="kinetics-prep",
        description="Prepares Kinetics-style video data sets: RGB and TV-L1 optical flow, sharded.",
        epilog="`kinetics-prep COMMAND --help` says more.",
    )
    parser.add_argument("--version", action="version", version=f"kinetics-prep {kinetics_prep.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    raw = argparse.RawDescriptionHelpFormatter

    flow = commands.add_parser(
        "flow",
        help="prepare clips: RGB and flow",
        description=options.DESCRIPTION,
        epilog=options.EPILOG,
        formatter_class=raw,
        allow_abbrev=False,
    )
    options.add_flow_arguments(flow)
    flow.set_defaults(command=_flow)

    inspect = commands.add_parser("inspect", help="show a record of a shard, in words and as a picture")
    inspect.add_argument("shard", type=Path, help="a .tfrecord or .parquet file that kinetics-prep wrote")
    inspect.add_argument("--record", default="0", metavar="N|ID", help="its number, from 0, or its clip id; default: 0")
    inspect.add_argument("--output", type=Path, metavar="PNG", help="contact sheet; default: <clip id>.png, here")
    inspect.add_argument("--list", action="store_true", help="only list the records")
    inspect.set_defaults(command=_inspect)

    validate = commands.add_parser("validate", help="read a prepared folder back and name what is wrong")
    validate.add_argument("folder", type=Path, help="the --output of kinetics-prep flow")
    validate.add_argument("--workers", type=int, metavar="N", help="shards at a time; default: one per core")
    validate.set_defaults(command=_validate)
    return parser


def _flow(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep import options
    from kinetics_prep.report.progress import format_bytes, format_duration

    begun = time.monotonic()
    logging.getLogger().setLevel(logging.ERROR)  # Beam tells of every optional package it does not find
    from kinetics_prep.beam import flow, runners

    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # it logs a traceback of what we report in a line
    beam_options = runners.options(rest)
    job, workers = options.job_from(arguments), options.workers_from(arguments)
    print(f"{job.output}: {_in_words(job)}, {workers} clips at a time", file=sys.stderr)
    summary = flow.prepare_dataset(job, workers, beam_options, _watch)
    spent = format_duration(time.monotonic() - begun)
    print(f"{job.output}: {summary}; {format_bytes(summary.bytes)} in {spent}")
    if options.too_many_refused(arguments.max_refused, summary.refused_rows, summary.rows):
        print(
            f"kinetics-prep: more rows were refused than --max-refused allows; see {job.output}/ledger", file=sys.stderr
        )
        return TOO_MANY_REFUSED
    return OK


def _in_words(job) -> str:
    recipe = job.recipe
    return (
        f"{', '.join(job.splits) or 'every split'} of {', '.join(Path(path).name for path in job.annotations)}, "
        f"{float(recipe.fps):g} fps, short side {recipe.short_side}, flow by {recipe.engine}"
    )


@contextlib.contextmanager
def _watch(planned):
    from kinetics_prep import job
    from kinetics_prep.report.progress import Progress

    found = sum(job.settled(planned).values())
    with Progress(total=planned.rows, done_already=found, count=lambda: job.settled(planned)):
        yield


def _inspect(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep.report import inspect

    if arguments.list:
        for number, record in enumerate(inspect.records(arguments.shard)):
            label = record.get("clip/label/text", "no label")
            print(inspect.printable(f"{number:5d}  {record['example/id']}  {len(record)} frames  {label}"))
        return OK
    record = inspect.find(arguments.shard, arguments.record)
    print(inspect.describe(record))
    # The id comes from a file that may be hostile: only its last part can name a file here.
    name = re.sub(r"[^\w.()+-]", "_", record["example/id"]).lstrip(".-") or "record"
    path = arguments.output or Path(f"{name[:200]}.png")
    inspect.sheet(record).save(path, format="PNG")
    print(f"contact sheet: {path}")
    return OK


def _validate(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep import options, validate
    from kinetics_prep.report.inspect import printable

    count = 0
    for problem in validate.problems(arguments.folder, options.workers_from(arguments)):
        print(printable(str(problem)))
        count += 1
    if count:
        print(f"{arguments.folder}: {count} problems")
        return INVALID
    clips = validate.clips(validate.shards_of(validate.Layout(arguments.folder)))
    print(f"{arguments.folder}: {clips} clips read back, nothing wrong")
    return OK


if __name__ == "__main__":
    sys.exit(main())
