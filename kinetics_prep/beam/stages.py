"""The pipeline's stages: each PTransform names a plain function and wires it."""

import concurrent.futures
import dataclasses
import functools
import threading
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

    Args:
      workers: threads of a process. A runner may have many bundles at a time, each with a DoFn of its own: all of them
        share one pool.
      run_id: tells the pools of runs in one process apart.
      check: called once for each DoFn before its first element; what it raises stops the pipeline.
    """

    def __init__(self, call: Callable[[Any], Any], workers: int, run_id: str, check: Callable[[], None] | None = None):
        self._call, self._workers, self._run_id, self._check = call, workers, run_id, check

    def setup(self) -> None:
        if self._check is not None:
            self._check()
        self._pool = _pool(self._run_id, self._workers)
        self._running: set[concurrent.futures.Future] = set()

    def start_bundle(self) -> None:
        self._running = set()

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
        for future in self._running:  # left by a bundle that failed
            future.cancel()


_OPENING = threading.Lock()


def _pool(run_id: str, workers: int) -> concurrent.futures.ThreadPoolExecutor:
    with _OPENING:
        return _pool_of_run(run_id, workers)


@functools.lru_cache(maxsize=1)
def _pool_of_run(run_id: str, workers: int) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(workers, "clip")


@dataclasses.dataclass
class PendingShards(beam.PTransform):
    """The shards without a marker, as (part, number, keys of the objects that there are)."""

    run: PrepareRun

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        # The plan is read from its files: a graph that held 300,000 rows could not be submitted.
        return begin | beam.Create([self.run]) | beam.FlatMap(pending_shards)


def pending_shards(run: PrepareRun) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """(name of the part, number, keys of its objects) of each shard that is not committed."""
    for part, shard, keys in run.pending():
        yield part.name, shard, keys


@dataclasses.dataclass
class MissingRows(beam.PTransform):
    """(part, shard, keys of objects) -> (part, row) for each row of it that has no sound object yet."""

    run: PrepareRun

    def expand(self, pending: beam.PCollection) -> beam.PCollection:
        return pending | beam.FlatMapTuple(functools.partial(repair_shard, _by_name(self.run)))


def _by_name(run: PrepareRun) -> dict[str, Part]:
    return {part.name: part for part in (*run.parts, *run.searches)}


def repair_shard(
    parts: dict[str, Part], name: str, shard: int, keys: tuple[str, ...] = ()
) -> list[tuple[str, PlanRow]]:
    """Removes damaged objects of a shard, and assembles it if no row lacks an object.

    Damage is removed here, before any row is worked on, so that no other worker counts on an
    object that is about to go.

    Args:
      keys: of the shard's objects.

    Returns:
      (part, row) of each row that is to be prepared.
    """
    part = parts[name]
    sound = objects.remove_damaged(part.store, keys)
    missing = [row for row in rows_of(part, shard) if part.object_key(row) not in sound]
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
        context = self.run.context
        return rows | beam.ParDo(EachClip(call, self.workers, context.run_id, context.expect_tools))


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
