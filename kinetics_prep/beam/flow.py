"""The graph of `kinetics-prep flow`, on one screen."""

import contextlib
from collections.abc import Callable

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from kinetics_prep.beam import runners, stages
from kinetics_prep.job import Job, Planned, Summary, finish, planned

Watch = Callable[[Planned], contextlib.AbstractContextManager]


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


def prepare_dataset(job: Job, workers: int, options: PipelineOptions, watch: Watch = contextlib.nullcontext) -> Summary:
    """Plans a job, carries it out and writes its manifest; `watch` is entered with the plan meanwhile."""
    with planned(job) as plan:
        with watch(plan):
            run(plan, workers, options)
        return finish(plan)
