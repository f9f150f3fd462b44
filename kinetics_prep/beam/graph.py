"""The graph of `kinetics-prep flow`, `retry` and `refresh`, on one screen."""

import contextlib
from collections.abc import Callable

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from kinetics_prep.beam import runners, stages
from kinetics_prep.cli.options import workers_from
from kinetics_prep.runs import refresh as refreshing
from kinetics_prep.runs.prepare import Job, Planned, Resumption, Summary, finish, planned, resumed

Watch = Callable[[Planned, int], contextlib.AbstractContextManager]


def _unwatched(plan: Planned, workers: int) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext()


def run(plan: Planned, workers: int, options: PipelineOptions) -> None:
    """Carries out a plan and waits for the end. Whatever is committed already is skipped."""
    pipeline, in_process = runners.pipeline(options)
    with pipeline:
        pending = pipeline | "Pending shards" >> stages.PendingShards(plan)
        rows = pending | "Planned rows" >> stages.PlannedRows(plan)
        if not in_process:
            # Spreads the clips over the workers. In one process it would only hold them all in memory.
            rows = rows | "Spread" >> beam.Reshuffle()
        settled = rows | "Prepare clips" >> stages.PrepareClips(plan, workers)
        settled | "Assemble shards" >> stages.AssembleShards(plan)


def prepare_dataset(job: Job, workers: int, options: PipelineOptions, watch: Watch = _unwatched) -> Summary:
    """Plans a job, carries it out and writes its manifest; `watch` is entered meanwhile, with plan and workers."""
    with planned(job) as plan:
        with watch(plan, workers):
            run(plan, workers, options)
        return finish(plan)


def retry(asked: Resumption, workers: int | None, options: PipelineOptions, watch: Watch = _unwatched) -> Summary:
    """Tries again what a folder's ledgers say was refused for some reasons, and goes on with what is not done yet."""
    with resumed(asked.output, asked.fetching, asked.hardware, retry=asked.reasons) as plan:
        workers = workers_from(workers, plan.workshop.recipe.engine)
        with watch(plan, workers):
            run(plan, workers, options)
        return finish(plan)


def refresh(
    asked: Resumption, workers: int | None, options: PipelineOptions, watch: Watch = _unwatched
) -> refreshing.Outcome:
    """Looks once more for what a folder lacks, and puts what it finds into shards of its own."""
    with refreshing.looking(asked.output, asked.reasons, asked.fetching, asked.hardware) as looks:
        workers = workers_from(workers, looks.planned.workshop.recipe.engine)
        with watch(looks.planned, workers):
            run(looks.planned, workers, options)
        return refreshing.finish(looks)
