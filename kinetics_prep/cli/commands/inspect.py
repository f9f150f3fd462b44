"""`kinetics-prep inspect`: shows a record of a shard."""

import argparse
import re
from pathlib import Path

from kinetics_prep.cli.exit_codes import OK
from kinetics_prep.cli.flag_types import path
from kinetics_prep.records import read_shard
from kinetics_prep.report import inspect
from kinetics_prep.report.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds description and flags."""
    parser.description = (
        "Prints every field of a record, and writes a contact sheet: frames beside their flow in colours."
    )
    parser.add_argument("shard", type=path, help="a .tfrecord or .parquet file that kinetics-prep wrote")
    parser.add_argument("--record", default="0", metavar="N|ID", help="its number, from 0, or its clip id; default: 0")
    parser.add_argument("--output", type=path, metavar="PNG", help="contact sheet; default: <clip id>.png, here")
    parser.add_argument("--list", action="store_true", help="only list the records")


def run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Prints a record and draws its contact sheet, or lists the records."""
    if arguments.list:
        for number, record in enumerate(read_shard(arguments.shard)):
            label = record.get("clip/label/text", "no label")
            print(printable(f"{number:5d}  {record['example/id']}  {len(record)} frames  {label}"))
        return OK
    record = inspect.find(arguments.shard, arguments.record)
    print(inspect.describe(record))
    # The id comes from a file that may be hostile: only its last part can name a file here.
    name = re.sub(r"[^\w.()+-]", "_", record.text("example/id")).lstrip(".-") or "record"
    path = arguments.output or Path(f"{name[:200]}.png")
    inspect.sheet(record).save(path, format="PNG")
    print(f"contact sheet: {path}")
    return OK
