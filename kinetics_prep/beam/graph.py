"""The graph of `kinetics-prep flow`, `retry`, `refresh` and `repair`, on one screen."""

import contextlib
from collections.abc import Callable

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from kinetics_prep.beam import runners, stages
from kinetics_prep.runs import repair as repairs
from kinetics_prep.runs.job import Job, Resumption
from kinetics_prep.runs.prepare import PrepareRun, Summary, finish, open_run, resume_run
from kinetics_prep.runs.workers import worker_count

Progress = Callable[[PrepareRun, int], contextlib.AbstractContextManager]
"""Entered with the run and the number of workers while clips are prepared."""


def _no_progress(run: PrepareRun, workers: int) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext()


def prepare_clips(run: PrepareRun, workers: int, options: PipelineOptions) -> None:
    """Prepares every row of a run and waits for the end. Committed shards and finished clips are skipped."""
    pipeline, in_process = runners.pipeline(options)
    with pipeline:
        pending = pipeline | "Pending shards" >> stages.PendingShards(run)
        rows = pending | "Planned rows" >> stages.MissingRows(run)
        if not in_process:
            # Spreads the clips over the workers. In one process it would only hold them all in memory.
            rows = rows | "Spread" >> beam.Reshuffle()
        prepared = rows | "Prepare clips" >> stages.PrepareClips(run, workers)
        prepared | "Assemble shards" >> stages.AssembleShards(run)


def prepare_dataset(job: Job, workers: int, options: PipelineOptions, progress: Progress = _no_progress) -> Summary:
    """Plans a job, prepares its clips and writes its manifest."""
    with open_run(job) as run:
        with progress(run, workers):
            prepare_clips(run, workers, options)
        return finish(run)


def retry(
    request: Resumption, workers: int | None, options: PipelineOptions, progress: Progress = _no_progress
) -> Summary:
    """Tries again what a folder's ledgers say was refused for some reasons, and finishes what is not done yet."""
    return _try_again(request, workers, options, progress, needs_complete=False)


def refresh(
    request: Resumption, workers: int | None, options: PipelineOptions, progress: Progress = _no_progress
) -> Summary:
    """Searches once more for what a finished folder lacks."""
    return _try_again(request, workers, options, progress, needs_complete=True)


def repair(
    request: Resumption, workers: int | None, options: PipelineOptions, progress: Progress = _no_progress
) -> repairs.Outcome:
    """Makes anew what is damaged in a folder, and prepares again what is lost."""
    with repairs.open_repair(request, worker_count(workers)) as opened:
        if opened.run is not None:
            workers = worker_count(workers, opened.run.context.recipe.engine)
            with progress(opened.run, workers):
                prepare_clips(opened.run, workers, options)
        return repairs.finish(opened)


def _try_again(
    request: Resumption, workers: int | None, options: PipelineOptions, progress: Progress, needs_complete: bool
) -> Summary:
    with resume_run(request, needs_complete) as run:
        workers = worker_count(workers, run.context.recipe.engine)
        with progress(run, workers):
            prepare_clips(run, workers, options)
        return finish(run)
