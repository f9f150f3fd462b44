"""The command line: parses, calls one function, prints one summary. Imports what a command needs, when it needs it."""

import argparse
import contextlib
import logging
import os
import re
import signal
import sys
import time
from pathlib import Path

import kinetics_prep
from kinetics_prep.cli.common import BUG, CANNOT_GO_ON, INTERRUPTED, INVALID, OK, TOO_MANY_REFUSED, notices
from kinetics_prep.errors import RETRYABLE, CorruptShard, RunError

_INTERRUPTED = "interrupted; what is committed stays, and the same command goes on from there"


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns the exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(_joined(sys.argv[1:] if argv is None else argv))
    if rest and arguments.command not in (_flow, _retry, _refresh):
        parser.error(f"unknown: {' '.join(rest)}")
    try:
        return arguments.command(arguments, rest)
    except BrokenPipeError:
        # The reader of our output has enough; what else would be printed at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except BaseException as error:
        if _interrupted(error):
            print(f"\n{_INTERRUPTED}", file=sys.stderr)
            return INTERRUPTED
        said = _run_error(error)
        if said is None:
            raise
        print(f"kinetics-prep: {said}", file=sys.stderr)
        return CANNOT_GO_ON


def _joined(argv: list[str]) -> list[str]:
    """Clip ids may begin with "-", and would be taken for a flag."""
    if "--record" not in argv[:-1]:
        return list(argv)
    place = argv.index("--record")
    return [*argv[:place], f"--record={argv[place + 1]}", *argv[place + 2 :]]


def entry() -> None:
    """The console script. Leaves at once: threads that still compute a clip have nothing to tidy up."""
    code = BUG
    try:
        for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and what a scheduler sends before it kills
            signal.signal(number, _leave)
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


def _leave(number: int, frame) -> None:
    """Ends the program here and now. A KeyboardInterrupt would have to pass through libraries that
    swallow one now and then; and what is committed is whole, and what is not is done again."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{_INTERRUPTED}\n".encode())
    os._exit(INTERRUPTED)


def _interrupted(error: BaseException | None) -> bool:
    """Whether it is Ctrl-C, if need be wrapped up by Beam."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or str(error).startswith("KeyboardInterrupt"):
            return True
        error = error.__cause__ or error.__context__
    return False


def _run_error(error: BaseException) -> str | None:
    """What to tell the user if the run cannot go on; None if it is a bug.

    Beam adds where it was to an error's text, and a worker elsewhere hands it over as text alone.
    """
    if isinstance(error, RunError):
        return re.sub(r" \[while running .*", "", str(error), flags=re.S)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'output'}: {error.strerror}"
    names = "|".join(kind.__name__ for kind in RunError.__subclasses__())
    match = re.search(rf"kinetics_prep\.errors\.(?:{names}): (.*?)(?: \[while running|\n|$)", str(error))
    return match and match[1]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, rather than under the whole usage."""

    def error(self, message: str):
        self.exit(CANNOT_GO_ON, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    from kinetics_prep.cli import options, training

    parser = _Parser(
        prog="kinetics-prep",
        description="Prepares Kinetics-style video data sets, RGB and TV-L1 optical flow, sharded; and trains on them.",
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

    _add_check(commands)
    _add_download(commands)
    _add_inspect(commands)
    _add_refresh(commands)
    _add_retry(commands)
    _add_status(commands)
    _add_validate(commands)
    training.add_commands(commands)
    return parser


def _add_check(commands) -> None:
    from kinetics_prep.cli import options

    check = commands.add_parser(
        "check",
        help="look over annotation files before a run",
        description="Says what annotation files hold: format, rows, classes; which rows `flow` would refuse, and why; "
        "videos in several splits or files, odd times, labels that disagree. Exit code 0 if flow would take every row, "
        "4 if not.",
    )
    check.add_argument("annotations", nargs="+", metavar="FILE", help="annotation files, of one data set or of several")
    options.add_annotation_arguments(check)
    check.add_argument(
        "--corrected", type=Path, metavar="CSV", help="write what flow would take here: every clip once, labels as in "
        "the label map"
    )  # fmt: skip
    check.set_defaults(command=_check)


def _add_download(commands) -> None:
    from kinetics_prep.cli import options

    download = commands.add_parser(
        "download",
        help="get videos, and nothing else",
        description=options.DOWNLOAD_DESCRIPTION,
        epilog=options.DOWNLOAD_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_download_arguments(download)
    download.set_defaults(command=_download)


def _add_refresh(commands) -> None:
    from kinetics_prep.cli import options

    refresh = commands.add_parser(
        "refresh",
        help="look again for what a prepared folder lacks; its shards stay as they are",
        description="Looks once more for clips that were refused, where the folder says that its videos are or where "
        "--videos says. What is found goes into new shards, <split>-refresh1-00000-of-00002 and so on, under the same "
        "labels and recipe; the shards that there are stay as they are, to the byte. Ledgers and dataset.json are "
        "brought up to it. Stopped, it goes on when the same command is given again.",
        allow_abbrev=False,
    )
    options.add_again_arguments(refresh, "what may have come back: all but damaged or too short videos")
    refresh.set_defaults(command=_refresh)


def _add_retry(commands) -> None:
    from kinetics_prep.cli import options

    retry = commands.add_parser(
        "retry",
        help="try again what was refused for some reasons, and write its shards anew",
        description="Tries clips again that were refused for some reasons, where the folder says that its videos are "
        "or where --videos says, and goes on with whatever is not done yet. The shards that they belong to are written "
        "anew, as if they had been there at once; clips that are written are not computed again.",
        allow_abbrev=False,
    )
    options.add_again_arguments(retry, "those that pass by themselves")
    retry.set_defaults(command=_retry)


def _add_inspect(commands) -> None:
    inspect = commands.add_parser(
        "inspect",
        help="show a record of a shard, in words and as a picture",
        description="Prints every field of a record, and writes a contact sheet: frames beside their flow in colours.",
    )
    inspect.add_argument("shard", type=Path, help="a .tfrecord or .parquet file that kinetics-prep wrote")
    inspect.add_argument("--record", default="0", metavar="N|ID", help="its number, from 0, or its clip id; default: 0")
    inspect.add_argument("--output", type=Path, metavar="PNG", help="contact sheet; default: <clip id>.png, here")
    inspect.add_argument("--list", action="store_true", help="only list the records")
    inspect.set_defaults(command=_inspect)


def _add_status(commands) -> None:
    status = commands.add_parser(
        "status",
        help="how far a folder is, and what it lost",
        description="Says of each split how many rows are written, refused and to go; for what reasons, and which "
        "classes lost the most; of a known data set, what share of the published rows is written. Changes nothing, "
        "so it may be asked while a run goes on.",
    )
    status.add_argument("folder", type=Path, help="the --output of kinetics-prep flow")
    status.add_argument("--classes", type=int, default=5, metavar="N", help="that lost the most; default: 5")
    status.set_defaults(command=_status)


def _add_validate(commands) -> None:
    validate = commands.add_parser(
        "validate",
        help="read a prepared folder back and name what is wrong",
        description="Reads everything back: checksums, counts, the ledger against the plan, and of each record its "
        "images, sizes, timestamps and label. Exit code 0 if nothing is wrong, 4 if something is.",
    )
    validate.add_argument("folder", type=Path, help="the --output of kinetics-prep flow")
    validate.add_argument("--workers", type=int, metavar="N", help="shards at a time; default: one per core")
    validate.set_defaults(command=_validate)


def _flow(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep import flow as flow_engines
    from kinetics_prep.cli import options

    begun = time.monotonic()
    flow, beam_options = _beam(rest)
    job = options.job_from(arguments)
    workers = options.workers_from(arguments.workers, job.recipe.engine)
    if arguments.engine == "auto":
        print(f"engine {job.recipe.engine}: {flow_engines.why(job.recipe.engine)}", file=sys.stderr)
    with notices():
        summary = flow.prepare_dataset(job, workers, beam_options, _watch)
    return _told(job.output, summary, begun, arguments.max_refused)


def _retry(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep.cli import options
    from kinetics_prep.errors import PASSING

    begun = time.monotonic()
    flow, beam_options = _beam(rest)
    asked = options.resumption_from(arguments, PASSING)
    with notices():
        summary = flow.retry(asked, arguments.workers, beam_options, _watch)
    return _told(arguments.folder, summary, begun, None)


def _refresh(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep.cli import options
    from kinetics_prep.errors import OF_FETCHING

    begun = time.monotonic()
    flow, beam_options = _beam(rest)
    asked = options.resumption_from(arguments, OF_FETCHING)
    with notices():
        outcome = flow.refresh(asked, arguments.workers, beam_options, _watch)
    print(f"{arguments.folder}: {outcome}")
    return _told(arguments.folder, outcome.summary, begun, None)


def _beam(rest: list[str]):
    """Our graphs, and Beam's options."""
    logging.getLogger().setLevel(logging.ERROR)  # Beam tells of every optional package it does not find
    from kinetics_prep.beam import graph as flow
    from kinetics_prep.beam import runners

    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # it logs a traceback of what we report in a line
    return flow, runners.options(rest)


def _told(output: Path, summary, begun: float, allowed) -> int:
    """Prints the outcome of a run and returns the exit code."""
    from kinetics_prep.report.progress import format_bytes, format_duration

    spent = format_duration(time.monotonic() - begun)
    print(f"{output}: {summary}; {format_bytes(summary.bytes)} in {spent}")
    again = f"why: {output}/ledger; to try again: kinetics-prep retry or refresh {output}"
    return _code(summary.rows, summary.refused_rows, allowed, output, again)


def _code(rows: int, refused: int, allowed, output, again: str) -> int:
    """The exit code of a run of which some rows were refused; says where to look."""
    from kinetics_prep.cli import options

    if options.too_many_refused(allowed, refused, rows):
        print(f"kinetics-prep: more rows were refused than --max-refused allows; see {output}/ledger", file=sys.stderr)
        return TOO_MANY_REFUSED
    if refused:
        print(again, file=sys.stderr)
    return OK


def _in_words(recipe) -> str:
    return f"{float(recipe.fps):g} fps, short side {recipe.short_side}, flow by {recipe.engine}"


@contextlib.contextmanager
def _watch(planned, workers: int):
    from kinetics_prep.report.progress import Progress
    from kinetics_prep.runs import prepare as job

    splits = ", ".join(f"{task.split} {task.rows}" for task in planned.tasks if not task.refresh)
    print("\n".join(planned.annotations), end="\n" if planned.annotations else "", file=sys.stderr)
    how = f"{_in_words(planned.workshop.recipe)}, {workers} {'clip' if workers == 1 else 'clips'} at a time"
    what = "to look for again" if planned.tasks and planned.tasks[0].is_look else "rows"
    print(f"{planned.layout.output}: {splits or 0} {what}, {len(planned.labels)} classes; {how}", file=sys.stderr)
    found = sum(job.settled(planned).values())
    with Progress(total=planned.rows, done_already=found, count=lambda: job.settled(planned)):
        yield


def _download(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep.cli import options
    from kinetics_prep.report.progress import Progress, format_bytes, format_duration
    from kinetics_prep.runs import download

    begun = time.monotonic()
    asked = options.download_from(arguments)
    with notices(), download.prepared(asked) as ready:
        print("\n".join(map(str, ready.chosen.files)), file=sys.stderr)
        if arguments.dry_run:
            for line in download.forecast(ready).in_words(asked.fetching, format_duration):
                print(line)
            return OK
        with Progress(ready.rows, 0, lambda: dict(ready.tally.counts)):
            tally = download.carry_out(ready)
    spent = format_duration(time.monotonic() - begun)
    print(f"{asked.fetching.cache}: {tally}; {format_bytes(tally.new_bytes)} downloaded in {spent}")
    cache = asked.fetching.cache
    again = f"why, and when to try again: {cache}/ledger"
    return _code(tally.rows, tally.refused, arguments.max_refused, cache, again)


def _check(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep.annotations import check, label_map, selection
    from kinetics_prep.annotations.row_store import RowStore
    from kinetics_prep.report.inspect import printable

    labels = label_map.read_labels(arguments.labels) if arguments.labels else None
    with RowStore() as rows:
        files = selection.read_annotations(
            rows, tuple(arguments.annotations), arguments.split, arguments.dataset, labels
        )
        report = check.examine(files, rows, labels)
        for file in report.files:
            print(printable(file))
        splits = ", ".join(f"{split} {count}" for split, count in report.splits.items())
        print(f"clips: {splits}; {report.classes} classes")
        for finding in report.findings:
            print(printable(f"{'! ' if finding.is_refused else '  '}{finding.count:7d}  {finding.what}"))
            for example in finding.examples:
                print(printable(f"             {example}"))
        if arguments.corrected:
            count = check.write_corrected(rows, arguments.corrected, labels)
            print(f"{arguments.corrected}: {count} rows")
    refused = report.refused_rows
    print(
        f"flow would refuse {refused} rows, those marked with !" if refused else "flow would refuse none of these rows"
    )
    return INVALID if refused else OK


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


def _status(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep.dataset import status
    from kinetics_prep.report.inspect import printable

    for line in status.in_words(status.examine(arguments.folder), RETRYABLE, arguments.classes):
        print(printable(line))
    return OK


def _validate(arguments: argparse.Namespace, rest: list[str]) -> int:
    from kinetics_prep.cli import options
    from kinetics_prep.dataset import validate
    from kinetics_prep.report.inspect import printable
    from kinetics_prep.report.progress import Progress

    layout, read_back = validate.Layout(arguments.folder), []
    try:
        clips = validate.clips(validate.shards_of(layout))
    except CorruptShard as error:
        print(f"{arguments.folder}: {error}")
        return INVALID
    with Progress(clips, 0, lambda: {"read back": sum(read_back)}):
        found = validate.problems(
            arguments.folder,
            options.workers_from(arguments.workers),
            done=lambda shard: read_back.append(shard.described["written"]),
        )
        said = [printable(str(problem)) for problem in found]
    for line in said:
        print(line)
    if said:
        print(f"{arguments.folder}: {len(said)} {'problem' if len(said) == 1 else 'problems'}")
        print(
            "a shard is prepared anew if its file in markers/ is deleted and the same flow command given",
            file=sys.stderr,
        )
        return INVALID
    print(f"{arguments.folder}: {clips} clips read back, nothing wrong")
    return OK


if __name__ == "__main__":
    sys.exit(main())
