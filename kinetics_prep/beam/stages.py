"""The pipeline's stages: each PTransform names a plain function and wires it."""

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Iterator

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.dataset import shards
from kinetics_prep.dataset.shards import ShardTask
from kinetics_prep.runs import clip as prepare
from kinetics_prep.runs.clip import Workshop
from kinetics_prep.runs.prepare import Planned


class EachClip(beam.DoFn):
    """Calls a function on each element in a pool of threads, at most two elements a thread in flight.

    Decoding, flow and image codecs release the GIL, so threads use all cores, and a bundle's
    elements are not held back behind the slowest. An error in one stops the pipeline.
    """

    def __init__(self, call: Callable, workers: int):
        self._call, self._workers = call, workers

    def setup(self):
        self._pool = concurrent.futures.ThreadPoolExecutor(self._workers, "clip")

    def start_bundle(self):
        self._flying = set()

    def process(self, element):
        self._flying.add(self._pool.submit(self._call, element))
        while len(self._flying) >= 2 * self._workers:
            landed, self._flying = concurrent.futures.wait(self._flying, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in landed:
                yield future.result()

    def finish_bundle(self):
        for future in concurrent.futures.as_completed(self._flying):
            yield WindowedValue(future.result(), MIN_TIMESTAMP, [GlobalWindow()])
        self._flying = set()

    def teardown(self):
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclasses.dataclass
class PendingShards(beam.PTransform):
    """The shards without a marker, as (part, number)."""

    planned: Planned

    def expand(self, begin):
        # The plan is read from its files: a graph that held 300,000 rows could not be submitted.
        return begin | beam.Create([self.planned]) | beam.FlatMap(_pending)


def _pending(planned: Planned) -> Iterator[tuple[str, int]]:
    for task, shard in planned.pending():
        yield task.part, shard


@dataclasses.dataclass
class PlannedRows(beam.PTransform):
    """(part, shard) -> (part, row) for each plan row of it that is not settled yet."""

    planned: Planned

    def expand(self, pending):
        return pending | beam.FlatMapTuple(functools.partial(_rows, _by_part(self.planned)))


def _by_part(planned: Planned) -> dict[str, ShardTask]:
    return {task.part: task for task in planned.tasks}


def _rows(tasks: dict[str, ShardTask], part: str, shard: int) -> Iterator[tuple[str, PlanRow]]:
    for row in shards.unsettled(tasks[part], shard):
        yield part, row


@dataclasses.dataclass
class PrepareClips(beam.PTransform):
    """(part, row) -> (part, shard), once the row's clip or its refusal is committed."""

    planned: Planned
    workers: int

    def expand(self, rows):
        call = functools.partial(_prepare, _by_part(self.planned), self.planned.workshop)
        return rows | beam.ParDo(EachClip(call, self.workers))


def _prepare(tasks: dict[str, ShardTask], workshop: Workshop, element: tuple[str, PlanRow]) -> tuple[str, int]:
    part, row = element
    prepare.carry_out(row, tasks[part], workshop)
    return part, row.shard


@dataclasses.dataclass
class AssembleShards(beam.PTransform):
    """(part, shard) of settled rows -> committed shards. Most were assembled by their last clip;
    this takes the rest and is the one that fails if a row is unaccounted for."""

    planned: Planned

    def expand(self, settled):
        assemble = functools.partial(_assemble, _by_part(self.planned))
        return settled | beam.Distinct() | beam.MapTuple(assemble)


def _assemble(tasks: dict[str, ShardTask], part: str, shard: int) -> str:
    shards.assemble(tasks[part], shard)
    return tasks[part].name(shard)
