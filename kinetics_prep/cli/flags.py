"""The flags of the commands that prepare and download, in groups that several commands share."""

import argparse
from fractions import Fraction

from kinetics_prep import flow
from kinetics_prep.annotations.formats import ANNOTATION_FORMATS
from kinetics_prep.cli.flag_types import fps, indices, path, path_text, rate, share, split, words
from kinetics_prep.media.quantize import QUANTIZERS
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.image_codec import ENCODINGS

Flags = argparse._ActionsContainer
"""A parser, or a group of its flags: argparse has no public name for both."""


def add_flow_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `flow` to a parser."""
    _add_what(parser.add_argument_group("what to prepare"))
    add_fetching_arguments(parser)
    _add_where(parser.add_argument_group("where to"))
    _add_how(parser.add_argument_group("how; the defaults are those of the I3D paper"))
    _add_running(parser.add_argument_group("running; flags not listed here go to Apache Beam, such as --runner"))


def add_download_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `download` to a parser."""
    _add_what(parser.add_argument_group("which videos"))
    add_fetching_arguments(parser)
    run = parser.add_argument_group("running")
    run.add_argument("--dry-run", action="store_true", help="ask nobody; say what would be asked of whom, and how long")
    run.add_argument(
        "--short-side", type=int, default=256, metavar="PX", help="the least that videos should have, where a site has "
        "them in several sizes; the smallest that suffices is taken; default: 256"
    )  # fmt: skip
    run.add_argument(
        "--again", type=words, default=(), metavar="LIST", help="ask once more for what was refused for these reasons"
    )  # fmt: skip
    run.add_argument(
        "--workers", type=int, metavar="N", help="rows at a time; default: as many as --connections allows"
    )
    _add_max_refused(run)


def add_again_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the flags of `retry` and `refresh` to a parser."""
    parser.add_argument("folder", type=path, help="the --output of kinetics-prep flow")
    parser.add_argument(
        "--reason", type=words, default=(), metavar="LIST", help=f"such as network,forbidden; default: {default}"
    )  # fmt: skip
    _add_going_on(parser)


def add_repair_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `repair` to a parser."""
    parser.add_argument("folder", type=path, help="the --output of kinetics-prep flow")
    _add_going_on(parser)


def _add_going_on(parser: argparse.ArgumentParser) -> None:
    add_fetching_arguments(parser)
    run = parser.add_argument_group("running; flags not listed here go to Apache Beam")
    _add_workers(run)


def _add_what(what: Flags) -> None:
    what.add_argument(
        "--annotations", type=path_text, nargs="+", action="extend", metavar="FILE", help="Kinetics CSV, any variant, "
        "or its JSON, DeepMind's or ActivityNet's; the official lists of UCF-101 and HMDB-51; lists of `path label`. "
        "Without it, the sample data set"
    )  # fmt: skip
    what.add_argument("--only", nargs="+", metavar="LABEL", default=[], help="these classes only; ids stay the same")
    what.add_argument(
        "--ids", type=path, metavar="FILE", help="video ids, one a line: only their rows, as with the lists of "
        "Mini-Kinetics-200 and the annotations of Kinetics-400"
    )  # fmt: skip
    what.add_argument(
        "--limit", type=int, metavar="N", help="at most N rows of each split, a fair sample of the classes"
    )
    add_annotation_arguments(what)


def add_annotation_arguments(what: Flags) -> None:
    """Adds the flags that say how annotation files are to be read."""
    what.add_argument(
        "--dataset", metavar="NAME", help="format of the annotations, of "
        f"{', '.join(ANNOTATION_FORMATS)}; default: by content"
    )  # fmt: skip
    what.add_argument(
        "--split",
        type=split,
        metavar="{train,val,test}",
        help="one split only; default: all that the file holds",
    )
    what.add_argument(
        "--labels", type=path, metavar="FILE", help="label map, one label a line in the order of the class ids; "
        "default: the labels of the annotations, sorted"
    )  # fmt: skip


def add_fetching_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say where videos are looked for, and how politely."""
    where = parser.add_argument_group("where the videos are; several places are tried in the order given")
    where.add_argument(
        "--videos", nargs="+", action="extend", default=[], metavar="WHERE", help="a folder of videos named <id>.* "
        "(the whole video) or <id>_<start>_<end>.* (already trimmed), at any depth; tar archives of such files, a "
        "folder of them, or a pattern such as 'part_*.tar.gz'; an http(s) URL with {id} in it and, for trimmed files, "
        "{start} and {end}; youtube; yt-dlp:URL with {id} in it, for other sites"
    )  # fmt: skip
    where.add_argument(
        "--cache", type=path_text, metavar="DIR", help="keep what is downloaded there, and look there first; "
        "`kinetics-prep download` fills it"
    )  # fmt: skip
    where.add_argument("--largest", type=float, default=8.0, metavar="GB", help="download no larger file; default: 8")
    where.add_argument(
        "--cookies", type=path_text, metavar="FILE", help="cookies in Netscape's format; never written to"
    )
    where.add_argument("--proxy", metavar="URL", help="such as http://host:3128")
    polite = parser.add_argument_group("how politely to ask; default: youtube for 300 videos an hour, others freely")
    polite.add_argument(
        "--rate", nargs="+", type=rate, default=(), metavar="[HOST=]N/UNIT", help="requests that a host gets at most, "
        "such as 2/s or www.youtube.com=200/h; units: s, min, h, d"
    )  # fmt: skip
    polite.add_argument("--connections", type=int, default=4, metavar="N", help="to a host at a time; default: 4")
    polite.add_argument("--rest", type=float, default=0.0, metavar="S", help="after each request, about; default: 0")
    polite.add_argument("--attempts", type=int, default=3, metavar="N", help="where failure may pass; default: 3")
    polite.add_argument(
        "--patience", type=float, default=15.0, metavar="MIN", help="a host that wants to be left alone for longer is "
        "not waited for: rows are refused until then; default: 15"
    )  # fmt: skip


def _add_where(where: Flags) -> None:
    where.add_argument("--output", type=path, metavar="DIR", help="default: <name of the annotations>-prepared, here")
    where.add_argument(
        "--format",
        type=words,
        default=("tfrecord",),
        metavar="LIST",
        help=f"of {','.join(SHARD_FORMATS)}; default: tfrecord",
    )
    where.add_argument("--clips-per-shard", type=int, default=64, metavar="N", help="default: 64")


def _add_how(how: Flags) -> None:
    how.add_argument(
        "--fps",
        type=fps,
        default=Fraction(25),
        help="frames per second, such as 25 or 30000/1001; default: 25",
    )
    how.add_argument("--short-side", type=int, default=256, metavar="PX", help="default: 256; the aspect is kept")
    how.add_argument("--clip-seconds", type=float, default=10.0, metavar="S", help="longest clip; default: 10")
    how.add_argument(
        "--min-seconds", type=float, default=1.0, metavar="S",
        help="a video that ends early is kept if it has at least so much of the clip; default: 1",
    )  # fmt: skip
    how.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help=f"what computes the flow, of {', '.join(flow.ENGINES)}; default: auto, the first of these that runs here. "
        "tvl1-cuda and tvl1 give the same flow",
    )
    how.add_argument(
        "--tvl1",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="parameters of TV-L1, such as lambda=0.2 warps=3; keys: tau, lambda, theta, scales, scale_step, warps, "
        "epsilon, iterations; defaults: those of OpenCV's CUDA class",
    )
    how.add_argument(
        "--quantizer",
        default="symmetric",
        metavar="NAME",
        help=f"px to levels, of {', '.join(QUANTIZERS)}; default: symmetric, where no motion is exactly 128",
    )
    how.add_argument(
        "--flow-encoding",
        default="jpeg",
        metavar="NAME",
        help=f"of {', '.join(ENCODINGS)}; default: jpeg, about half as large; png is exact",
    )
    how.add_argument("--jpeg-quality", type=int, default=95, metavar="Q", help="1 to 100; default: 95")


def _add_running(run: Flags) -> None:
    _add_workers(run)
    run.add_argument(
        "--retry",
        type=words,
        default=(),
        metavar="LIST",
        help="rows refused for these reasons are tried again, such as not_found,network after adding videos",
    )
    _add_max_refused(run)


def _add_workers(run: Flags) -> None:
    run.add_argument(
        "--workers", type=int, default=None, metavar="N", help="clips at a time; default: one per core, and two where "
        "a GPU computes the flow, so that decoding runs ahead of it"
    )  # fmt: skip
    run.add_argument(
        "--accept-tools", action="store_true", help="go on although ffmpeg, Pillow or another library here gives other "
        "bytes than those that began the folder; noted in recipe.json and the ledger"
    )  # fmt: skip
    run.add_argument(
        "--gpus",
        type=indices,
        default=(),
        metavar="LIST",
        help="indices of the GPUs to use, such as 0,1; default: all",
    )
    run.add_argument(
        "--gpu-memory", type=float, default=None, metavar="GB", help="of each GPU, at most, to be given where "
        "several processes share it; default: three quarters of what is free there"
    )  # fmt: skip


def _add_max_refused(run: Flags) -> None:
    run.add_argument(
        "--max-refused", type=share, default=None, metavar="N|N%",
        help="exit with code 3 if more rows, or a larger share of them, are refused; default: any number may be",
    )  # fmt: skip
