"""Parsed flags -> what the commands are asked for: jobs, selections, places of videos."""

import argparse
import dataclasses
from pathlib import Path

from kinetics_prep import flow, sample
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import BadOption
from kinetics_prep.flow import TVL1, Hardware
from kinetics_prep.runs.download import DownloadJob
from kinetics_prep.runs.job import Job, Resumption, check_retryable
from kinetics_prep.runs.workers import worker_count
from kinetics_prep.sources import Fetching, Politeness


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
        accept_tools=arguments.accept_tools,
    )


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
    check_retryable("--again", arguments.again)
    most = fetching.politeness.connections * max(1, len(fetching.videos))
    return DownloadJob(
        selection=selection_from(arguments),
        fetching=dataclasses.replace(fetching, ask_again=arguments.again),
        workers=worker_count(min(most, 64) if arguments.workers is None else arguments.workers),
    )


def repair_from(arguments: argparse.Namespace) -> Resumption:
    """The repair that parsed flags ask for.

    Raises:
      BadOption: if they make no sense.
    """
    return _resumption(arguments, ())


def resumption_from(arguments: argparse.Namespace, reasons: tuple[str, ...]) -> Resumption:
    """What parsed flags ask for of a folder; `reasons` if they name none.

    Raises:
      BadOption: if they make no sense.
    """
    return _resumption(arguments, arguments.reason or reasons)


def _resumption(arguments: argparse.Namespace, reasons: tuple[str, ...]) -> Resumption:
    return Resumption(
        output=arguments.folder,
        reasons=reasons,
        fetching=fetching_from(arguments, short_side=256),
        hardware=hardware_from(arguments),
        accept_tools=arguments.accept_tools,
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


def too_many_refused(allowed: tuple[float, bool] | None, refused: int, rows: int) -> bool:
    """Whether more rows were refused than `--max-refused` allows."""
    if allowed is None:
        return False
    number, is_share = allowed
    return refused > number * (rows if is_share else 1)
