"""The pipeline's stages: each PTransform names a plain function and wires it."""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.dataset import objects, shards
from kinetics_prep.dataset.part import Part, rows_of
from kinetics_prep.runs.clip import prepare_and_commit
from kinetics_prep.runs.context import RunContext
from kinetics_prep.runs.prepare import PrepareRun


class EachClip(beam.DoFn):
    """Calls a function on each element in a pool of threads, at most two elements a thread in flight.

    Decoding, flow and image codecs release the GIL, so threads use all cores, and a bundle's
    elements do not wait for the slowest. An error in one stops the pipeline.
    """

    def __init__(self, call: Callable[[Any], Any], workers: int):
        self._call, self._workers = call, workers

    def setup(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(self._workers, "clip")

    def start_bundle(self) -> None:
        self._running: set[concurrent.futures.Future] = set()

    def process(self, element: Any) -> Iterator[Any]:
        self._running.add(self._pool.submit(self._call, element))
        while len(self._running) >= 2 * self._workers:
            done, self._running = concurrent.futures.wait(self._running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                yield future.result()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for future in concurrent.futures.as_completed(self._running):
            yield WindowedValue(future.result(), MIN_TIMESTAMP, (GlobalWindow(),))
        self._running = set()

    def teardown(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclasses.dataclass
class PendingShards(beam.PTransform):
    """The shards without a marker, as (part, number)."""

    run: PrepareRun

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        # The plan is read from its files: a graph that held 300,000 rows could not be submitted.
        return begin | beam.Create([self.run]) | beam.FlatMap(pending_shards)


def pending_shards(run: PrepareRun) -> Iterator[tuple[str, int]]:
    """(name of the part, number) of each shard that is not committed."""
    for part, shard in run.pending():
        yield part.name, shard


@dataclasses.dataclass
class MissingRows(beam.PTransform):
    """(part, shard) -> (part, row) for each row of it that has no sound object yet."""

    run: PrepareRun

    def expand(self, pending: beam.PCollection) -> beam.PCollection:
        return pending | beam.FlatMapTuple(functools.partial(repair_shard, _by_name(self.run)))


def _by_name(run: PrepareRun) -> dict[str, Part]:
    return {part.name: part for part in run.parts}


def repair_shard(parts: dict[str, Part], name: str, shard: int) -> list[tuple[str, PlanRow]]:
    """Removes damaged objects of a shard, and assembles it if no row lacks an object.

    Damage is removed here, before any row is worked on, so that no other worker counts on an
    object that is about to go.

    Returns:
      (part, row) of each row that is to be prepared.
    """
    part = parts[name]
    rows = rows_of(part, shard)
    objects.remove_damaged(path for path in (objects.find_object(part, row) for row in rows) if path is not None)
    missing = objects.missing_rows(part, rows)
    if not missing:
        shards.assemble(part, shard)
    return [(name, row) for row in missing]


@dataclasses.dataclass
class PrepareClips(beam.PTransform):
    """(part, row) -> (part, shard), once the row's clip or its refusal is committed."""

    run: PrepareRun
    workers: int

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        call = functools.partial(prepare_element, _by_name(self.run), self.run.context)
        return rows | beam.ParDo(EachClip(call, self.workers))


def prepare_element(parts: dict[str, Part], context: RunContext, element: tuple[str, PlanRow]) -> tuple[str, int]:
    """Prepares one row of a part."""
    name, row = element
    prepare_and_commit(row, parts[name], context)
    return name, row.shard


@dataclasses.dataclass
class AssembleShards(beam.PTransform):
    """(part, shard) of prepared rows -> names of committed shards.

    Most were assembled after their last clip; this takes the rest, and fails if a row is unaccounted for.
    """

    run: PrepareRun

    def expand(self, prepared: beam.PCollection) -> beam.PCollection:
        return prepared | beam.Distinct() | beam.MapTuple(functools.partial(assemble_shard, _by_name(self.run)))


def assemble_shard(parts: dict[str, Part], name: str, shard: int) -> str:
    """Assembles a shard of a part and returns its name."""
    shards.assemble(parts[name], shard)
    return parts[name].shard_name(shard)
