"""The flags of `kinetics-prep flow`, shared by the command line and by `pipelines/`."""

import argparse
import dataclasses
import os
from fractions import Fraction
from pathlib import Path

from kinetics_prep import flow, sample
from kinetics_prep.annotations.annotation import SPLITS, parse_split
from kinetics_prep.annotations.formats import ANNOTATION_FORMATS
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import BadOption, MalformedRow
from kinetics_prep.flow import TVL1, Hardware
from kinetics_prep.media.quantize import QUANTIZERS
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.record import ENCODINGS
from kinetics_prep.runs.download import DownloadJob
from kinetics_prep.runs.prepare import Job, Resumption, expect_retryable
from kinetics_prep.sources import Fetching, Politeness

DESCRIPTION = """\
Prepares clips: gets each annotated video, trims it, resamples it, computes TV-L1 optical flow,
and writes sharded records. Every annotation row ends in the ledger, written or refused.
A run that is stopped, by whatever, goes on where it was when the same command is given again.
"""

DOWNLOAD_DESCRIPTION = """\
Gets the videos of annotation files into a cache, which `flow --cache` reads, and computes nothing.
What is in the cache, or in a folder or an archive that --videos names, is not asked for; what a
server was found not to have neither. The same command goes on where it was stopped. What became of
each row stands in CACHE/ledger.
"""

DOWNLOAD_EPILOG = """\
examples:
  kinetics-prep download --annotations k400_val.csv --cache videos --dry-run \\
      --videos 'https://mirror.example/val/{id}_{start:06d}_{end:06d}.mp4' youtube
      says how many videos that would ask for, of whom, and how long it takes at their pace
  kinetics-prep download --annotations k400_val.csv --cache videos --videos youtube --again geo --proxy http://host:3128
      asks once more for what was refused for one reason

exit code:
  0  every row is accounted for: there, or refused for a reason that CACHE/ledger holds
  2  the run could not start or go on; the message says what to mend
  3  as 0, and more rows were refused than --max-refused allows
130  interrupted; the same command goes on from there
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
        "--again", type=_words, default=(), metavar="LIST", help="ask once more for what was refused for these reasons"
    )  # fmt: skip
    run.add_argument(
        "--workers", type=int, metavar="N", help="rows at a time; default: as many as --connections allows"
    )
    _add_max_refused(run)


def add_again_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the flags of `retry` and `refresh` to a parser."""
    parser.add_argument("folder", type=Path, help="the --output of kinetics-prep flow")
    parser.add_argument(
        "--reason", type=_words, default=(), metavar="LIST", help=f"such as network,forbidden; default: {default}"
    )  # fmt: skip
    add_fetching_arguments(parser)
    run = parser.add_argument_group("running; flags not listed here go to Apache Beam")
    _add_workers(run)


def _add_what(what) -> None:
    what.add_argument(
        "--annotations", nargs="+", action="extend", metavar="FILE", help="Kinetics CSV, any variant, or its JSON, "
        "DeepMind's or ActivityNet's; the official lists of UCF-101 and HMDB-51; lists of `path label`. Without it, "
        "the sample data set"
    )  # fmt: skip
    what.add_argument("--only", nargs="+", metavar="LABEL", default=[], help="these classes only; ids stay the same")
    what.add_argument(
        "--ids", type=Path, metavar="FILE", help="video ids, one a line: only their rows, as with the lists of "
        "Mini-Kinetics-200 and the annotations of Kinetics-400"
    )  # fmt: skip
    what.add_argument(
        "--limit", type=int, metavar="N", help="at most N rows of each split, a fair sample of the classes"
    )
    add_annotation_arguments(what)


def add_annotation_arguments(what) -> None:
    """Adds the flags that say how annotation files are to be read."""
    what.add_argument(
        "--dataset", metavar="NAME", help="format of the annotations, of "
        f"{', '.join(ANNOTATION_FORMATS)}; default: by content"
    )  # fmt: skip
    what.add_argument(
        "--split", type=_split, metavar="{train,val,test}", help="one split only; default: all that the file holds"
    )
    what.add_argument(
        "--labels", type=Path, metavar="FILE", help="label map, one label a line in the order of the class ids; "
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
        "--cache", metavar="DIR", help="keep what is downloaded there, and look there first; "
        "`kinetics-prep download` fills it"
    )  # fmt: skip
    where.add_argument("--largest", type=float, default=8.0, metavar="GB", help="download no larger file; default: 8")
    where.add_argument("--cookies", metavar="FILE", help="cookies in Netscape's format; never written to")
    where.add_argument("--proxy", metavar="URL", help="such as http://host:3128")
    polite = parser.add_argument_group("how politely to ask; default: youtube for 300 videos an hour, others freely")
    polite.add_argument(
        "--rate", nargs="+", type=_rate, default=(), metavar="[HOST=]N/UNIT", help="requests that a host gets at most, "
        "such as 2/s or www.youtube.com=200/h; units: s, min, h, d"
    )  # fmt: skip
    polite.add_argument("--connections", type=int, default=4, metavar="N", help="to a host at a time; default: 4")
    polite.add_argument("--rest", type=float, default=0.0, metavar="S", help="after each request, about; default: 0")
    polite.add_argument("--attempts", type=int, default=3, metavar="N", help="where failure may pass; default: 3")
    polite.add_argument(
        "--patience", type=float, default=15.0, metavar="MIN", help="a host that wants to be left alone for longer is "
        "not waited for: rows are refused until then; default: 15"
    )  # fmt: skip


def fetching_from(arguments: argparse.Namespace, short_side: int) -> Fetching:
    """Where parsed flags say that videos are looked for.

    Args:
      short_side: the least that they should have, px.

    Raises:
      BadOption: if they make no sense.
    """
    if not 0 < arguments.largest < 1e6:
        raise BadOption(f"--largest is {arguments.largest:g}, expected GB")
    return Fetching(
        videos=tuple(arguments.videos),
        cache=arguments.cache,
        politeness=Politeness(
            rates=tuple(arguments.rate),
            connections=arguments.connections,
            rest_seconds=arguments.rest,
            attempts=arguments.attempts,
            patience_seconds=arguments.patience * 60,
        ),
        cookies=arguments.cookies,
        proxy=arguments.proxy,
        largest_bytes=int(arguments.largest * 1e9),
        short_side=short_side,
    )


_UNITS_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def _rate(text: str) -> tuple[str, float]:
    """(host or "", requests per second)."""
    host, _, rate = text.rpartition("=")
    number, _, unit = rate.partition("/")
    try:
        return host.lower(), float(number) / _UNITS_SECONDS[unit]
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text!r} is no rate such as 2/s, 300/h or host=2/s") from None


def _add_where(where) -> None:
    where.add_argument("--output", type=Path, metavar="DIR", help="default: <name of the annotations>-prepared, here")
    where.add_argument(
        "--format",
        type=_words,
        default=("tfrecord",),
        metavar="LIST",
        help=f"of {','.join(SHARD_FORMATS)}; default: tfrecord",
    )
    where.add_argument("--clips-per-shard", type=int, default=64, metavar="N", help="default: 64")


def _add_how(how) -> None:
    how.add_argument(
        "--fps", type=_fps, default=Fraction(25), help="frames per second, such as 25 or 30000/1001; default: 25"
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


def _add_running(run) -> None:
    _add_workers(run)
    run.add_argument(
        "--retry",
        type=_words,
        default=(),
        metavar="LIST",
        help="rows refused for these reasons are tried again, such as not_found,network after adding videos",
    )
    _add_max_refused(run)


def _add_workers(run) -> None:
    run.add_argument(
        "--workers", type=int, default=None, metavar="N", help="clips at a time; default: one per core, and two where "
        "a GPU computes the flow, so that decoding runs ahead of it"
    )  # fmt: skip
    run.add_argument(
        "--gpus",
        type=_indices,
        default=(),
        metavar="LIST",
        help="indices of the GPUs to use, such as 0,1; default: all",
    )
    run.add_argument(
        "--gpu-memory", type=float, default=None, metavar="GB", help="of each GPU, at most, to be given where "
        "several processes share it; default: three quarters of what is free there"
    )  # fmt: skip


def _add_max_refused(run) -> None:
    run.add_argument(
        "--max-refused", type=_share, default=None, metavar="N|N%",
        help="exit with code 3 if more rows, or a larger share of them, are refused; default: any number may be",
    )  # fmt: skip


def _split(word: str) -> str:
    try:
        return parse_split(word)
    except MalformedRow:
        raise argparse.ArgumentTypeError(f"unknown split {word!r}, expected one of {', '.join(SPLITS)}") from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _indices(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0,1") from None


def _fps(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number or fraction") from None


def _share(text: str) -> tuple[float, bool]:
    """(number, whether it is a share of 1)."""
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of rows nor a share such as 5%")
    return (number / 100, True) if text.endswith("%") else (number, False)


def too_many_refused(allowed: tuple[float, bool] | None, refused: int, rows: int) -> bool:
    """Whether more rows were refused than `--max-refused` allows."""
    if allowed is None:
        return False
    number, is_share = allowed
    return refused > number * (rows if is_share else 1)


def job_from(arguments: argparse.Namespace) -> Job:
    """The job that parsed flags ask for; the sample data set if they name no annotations.

    Raises:
      BadOption: if they make no sense together.
    """
    places = arguments.videos or arguments.cache
    if bool(arguments.annotations) != bool(places):
        given, missing = ("--annotations", "--videos") if arguments.annotations else ("--videos", "--annotations")
        raise BadOption(f"{given} also needs {missing}; with neither, the sample data set is prepared")
    chosen = selection_from(arguments)
    name = Path(chosen.annotations[0]).stem if arguments.annotations else "sample"
    recipe = _recipe(arguments)
    fetching = fetching_from(arguments, recipe.short_side)
    return Job(
        selection=chosen,
        fetching=fetching if places else dataclasses.replace(fetching, videos=(str(sample.VIDEOS),)),
        output=arguments.output or Path(f"{name}-prepared"),
        recipe=recipe,
        retry=arguments.retry,
        hardware=hardware_from(arguments),
    )


def selection_from(arguments: argparse.Namespace) -> Selection:
    """Which rows parsed flags ask for; those of the sample data set if they name no annotations.

    Raises:
      BadOption: if they make no sense.
    """
    return Selection(
        annotations=tuple(arguments.annotations or (str(sample.ANNOTATIONS),)),
        splits=(arguments.split,) if arguments.split else (),
        labels=arguments.labels,
        only=tuple(arguments.only),
        limit=arguments.limit,
        format_name=arguments.dataset,
        ids=arguments.ids,
    )


def download_from(arguments: argparse.Namespace) -> DownloadJob:
    """The download that parsed flags ask for.

    Raises:
      BadOption: if they make no sense together.
    """
    if not arguments.annotations:
        raise BadOption("--annotations is missing: whose videos to get")
    fetching = fetching_from(arguments, arguments.short_side)
    expect_retryable("--again", arguments.again)
    most = fetching.politeness.connections * max(1, len(fetching.videos))
    return DownloadJob(
        selection=selection_from(arguments),
        fetching=dataclasses.replace(fetching, ask_again=arguments.again),
        workers=workers_from(min(most, 64) if arguments.workers is None else arguments.workers),
    )


def resumption_from(arguments: argparse.Namespace, reasons: tuple[str, ...]) -> Resumption:
    """What parsed flags ask for of a folder; `reasons` if they name none.

    Raises:
      BadOption: if they make no sense.
    """
    return Resumption(
        output=arguments.folder,
        reasons=arguments.reason or reasons,
        fetching=fetching_from(arguments, short_side=256),
        hardware=hardware_from(arguments),
    )


def _recipe(arguments: argparse.Namespace) -> Recipe:
    return Recipe(
        engine=flow.choose(arguments.engine),
        fps=arguments.fps,
        short_side=arguments.short_side,
        clip_seconds=arguments.clip_seconds,
        min_seconds=min(arguments.min_seconds, arguments.clip_seconds),
        tvl1=TVL1.parse(arguments.tvl1),
        quantizer=arguments.quantizer,
        flow_encoding=arguments.flow_encoding,
        jpeg_quality=arguments.jpeg_quality,
        formats=arguments.format,
        clips_per_shard=arguments.clips_per_shard,
    )


def hardware_from(arguments: argparse.Namespace) -> Hardware:
    """The GPUs that parsed flags allow.

    Raises:
      BadOption: if they make no sense.
    """
    gigabytes = arguments.gpu_memory
    if gigabytes is not None and not 0.001 <= gigabytes <= 1e6:
        raise BadOption(f"--gpu-memory is {gigabytes:g}, expected GB, 0.001 to 1,000,000")
    return Hardware(arguments.gpus, None if gigabytes is None else int(gigabytes * 1e9))


def workers_from(asked: int | None, engine: str | None = None) -> int:
    """Clips at a time: as asked, else one per core that this process may use, two if the engine runs on a GPU."""
    if asked is None:
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        return 2 * cores if engine and flow.ENGINES[engine].RUNS_ON_GPU else cores
    if asked < 1:
        raise BadOption(f"--workers is {asked}, expected at least 1")
    return asked
