"""`kinetics-prep check`: looks over annotation files before a run."""

import argparse

from kinetics_prep.annotations import check, label_map, selection
from kinetics_prep.annotations.row_store import RowStore
from kinetics_prep.cli import flags
from kinetics_prep.cli.exit_codes import INVALID, OK
from kinetics_prep.cli.flag_types import path, path_text
from kinetics_prep.report.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = (
        "Says what annotation files hold: format, rows, classes; which rows `flow` would refuse, and why; "
        "videos in several splits or files, odd times, labels that disagree. Exit code 0 if flow would take every row, "
        "4 if not."
    )
    parser.add_argument(
        "annotations", type=path_text, nargs="+", metavar="FILE", help="annotation files, of one data set or of several"
    )
    flags.add_annotation_arguments(parser)
    parser.add_argument(
        "--corrected", type=path, metavar="CSV", help="write what flow would take here: every clip once, labels as in "
        "the label map"
    )  # fmt: skip


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Prints what annotation files hold."""
    labels = label_map.read_labels(arguments.labels) if arguments.labels else None
    paths = tuple(arguments.annotations)
    with RowStore() as rows:
        files = selection.read_annotations(rows, paths, arguments.split, arguments.dataset, labels)
        report = check.examine(files, rows, labels)
        _print_report(report)
        if arguments.corrected:
            count = check.write_corrected(rows, arguments.corrected, labels)
            print(f"{arguments.corrected}: {count} rows")
    refused = report.refused_rows
    print(
        f"flow would refuse {refused} rows, those marked with !" if refused else "flow would refuse none of these rows"
    )
    return INVALID if refused else OK


def _print_report(report: check.Report) -> None:
    for file in report.files:
        print(printable(file))
    splits = ", ".join(f"{split} {count}" for split, count in report.splits.items())
    print(f"clips: {splits}; {report.classes} classes")
    for finding in report.findings:
        print(printable(f"{'! ' if finding.is_refused else '  '}{finding.count:7d}  {finding.what}"))
        for example in finding.examples:
            print(printable(f"             {example}"))
