"""The stages, each by itself, on a real runner: which shards, which rows, how many clips at a time."""

import threading
import uuid

import apache_beam as beam
import pytest
import small_dataset
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from colours import FPS, RECIPE, moving_colours
from conftest import write_video

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.beam import runners, stages
from kinetics_prep.beam.stages import EachClip, assemble_shard, pending_shards, repair_shard
from kinetics_prep.dataset import objects, state
from kinetics_prep.dataset.door import OpenFolder
from kinetics_prep.errors import BadOption, IncompleteShard, OtherTools
from kinetics_prep.runs.context import RunContext
from kinetics_prep.runs.fingerprint import fingerprint
from kinetics_prep.runs.prepare import PrepareRun
from kinetics_prep.sources import Fetching


class Counting:
    """A call that takes its time until all who may call at once have called."""

    def __init__(self, workers: int):
        self.workers, self.lock = workers, threading.Lock()
        self.now = self.most = self.handed = self.done = 0
        self.most_waiting = 0

    def __call__(self, element):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        threading.Event().wait(0.002)
        with self.lock:
            self.now -= 1
            self.done += 1
        return element * 10


def each_clip(call, workers: int) -> EachClip:
    """The stage's DoFn, of a run of its own."""
    return EachClip(call, workers, uuid.uuid4().hex)


def flow_through(function: EachClip, count: int) -> list[int]:
    """Hands elements to a DoFn as a runner does, and notes how many were handed in and are not done."""
    function.setup()
    function.start_bundle()
    results = []
    for element in range(count):
        function._call.handed += 1
        results += function.process(element)
        waiting = function._call.handed - function._call.done
        function._call.most_waiting = max(function._call.most_waiting, waiting)
    results += [value.value for value in function.finish_bundle()]
    function.teardown()
    return results


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_no_more_than_two_clips_a_thread_are_in_flight_and_none_is_lost(workers):
    call = Counting(workers)
    assert sorted(flow_through(each_clip(call, workers), 40)) == [10 * k for k in range(40)]
    assert call.most <= workers
    assert call.most_waiting <= 2 * workers


def test_all_threads_work_at_once():
    barrier = threading.Barrier(3, timeout=20)

    class Meeting(Counting):
        def __call__(self, element):
            barrier.wait()  # breaks, after its time, unless three come together
            return super().__call__(element)

    assert sorted(flow_through(each_clip(Meeting(3), 3), 6)) == [0, 10, 20, 30, 40, 50]


def test_results_come_before_the_bundle_ends():
    function = each_clip(Counting(1), 1)
    function.setup()
    function.start_bundle()
    early = [result for element in range(10) for result in function.process(element)]
    assert len(early) >= 8
    late = [value.value for value in function.finish_bundle()]
    assert sorted(early + late) == [10 * k for k in range(10)]
    assert list(function.finish_bundle()) == []
    function.teardown()


def test_an_error_in_one_clip_stops_the_bundle():
    def fail(element):
        if element == 3:
            raise ZeroDivisionError("of element 3")
        return element

    function = each_clip(fail, 2)
    function.setup()
    function.start_bundle()
    with pytest.raises(ZeroDivisionError, match="of element 3"):
        for element in range(10):
            list(function.process(element))
        list(function.finish_bundle())
    function.teardown()


def test_elements_pass_through_a_real_runner():
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        doubled = pipeline | beam.Create(range(25)) | beam.ParDo(each_clip(lambda element: 2 * element, 2))
        assert_that(doubled, equal_to([2 * k for k in range(25)]))


def test_bundles_of_one_process_share_the_threads():
    """Beam's local runner has many bundles at a time, each with a DoFn of its own; it once was `workers` for each."""
    bundles, workers = 6, 2
    call, begins = Counting(workers), threading.Barrier(6, timeout=20)
    first = each_clip(call, workers)
    results: list[int] = []

    def bundle(number: int) -> None:
        function = EachClip(call, workers, first._run_id)
        begins.wait()
        results.extend(flow_through(function, 10))

    threads = [threading.Thread(target=bundle, args=(number,)) for number in range(bundles)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(bundles * [10 * k for k in range(10)])
    assert call.most == workers


def test_two_runs_in_one_process_have_threads_of_their_own():
    one, other = each_clip(Counting(1), 1), each_clip(Counting(3), 3)
    flow_through(one, 3)
    flow_through(other, 3)
    assert (one._pool._max_workers, other._pool._max_workers) == (1, 3)


def test_what_the_check_raises_stops_the_pipeline_before_any_clip():
    def check():
        raise OtherTools("give other bytes")

    function = EachClip(lambda element: pytest.fail("it was prepared"), 1, "run", check)
    with pytest.raises(OtherTools, match="give other bytes"):
        function.setup()


# Shards and rows --------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path):
    return small_dataset.make(tmp_path / "out")


def run_of(dataset, videos="/no/such/folder", recipe=RECIPE) -> PrepareRun:
    accepted = frozenset({fingerprint(recipe)})
    context = RunContext(
        recipe, dataset.part.recipe, Fetching((str(videos),)), str(dataset.folder / "videos"), accepted
    )
    folder = OpenFolder(dataset.store, state.read(dataset.store), dataset.folder / "downloads")
    return PrepareRun(folder, (dataset.part,), (), context, LabelMap(("running", "walking")), ())


def test_pending_are_the_shards_without_a_marker(dataset):
    assert list(pending_shards(run_of(dataset))) == [("train", 0, ()), ("train", 1, ())]
    dataset.write(dataset.rows_in(1)[0])
    keys = (".work/objects/000001/train/00001/00000",)
    assert list(pending_shards(run_of(dataset))) == [("train", 0, ()), ("train", 1, keys)]
    for planned in dataset.rows_in(0):
        dataset.write(planned)
    assemble_shard({"train": dataset.part}, "train", 0)
    assert list(pending_shards(run_of(dataset))) == [("train", 1, keys)]


def keys_of(dataset, shard: int) -> tuple[str, ...]:
    return tuple(sorted(objects.existing_objects(dataset.part, shard)))


def test_rows_to_prepare_are_those_without_a_sound_object(dataset):
    dataset.write(dataset.rows[0])
    dataset.write(dataset.rows[1])
    dataset.path(dataset.part.object_key(dataset.rows[1])).write_bytes(b"damaged")
    rows = repair_shard({"train": dataset.part}, "train", 0, keys_of(dataset, 0))
    assert rows == [("train", dataset.rows[1]), ("train", dataset.rows[2])]
    assert not dataset.part.is_committed(0)


def test_a_shard_that_lacks_no_row_is_assembled_and_gives_none(dataset):
    for planned in dataset.rows_in(1):
        dataset.write(planned)
    assert repair_shard({"train": dataset.part}, "train", 1, keys_of(dataset, 1)) == []
    assert dataset.part.is_committed(1)


def test_a_shard_with_a_row_unaccounted_for_fails_the_pipeline(dataset):
    dataset.write(dataset.rows[0])
    with pytest.raises(IncompleteShard, match="2 of 3 rows unaccounted for"):
        assemble_shard({"train": dataset.part}, "train", 0)
    assert assemble_name(dataset) == "train-00001-of-00002"


def assemble_name(dataset) -> str:
    for planned in dataset.rows_in(1):
        dataset.write(planned, "removed")
    return assemble_shard({"train": dataset.part}, "train", 1)


def test_progress_counts_objects_and_committed_shards(dataset):
    run = run_of(dataset)
    assert run.count_rows() == {"written": 0, "refused": 0}
    for planned, reason in zip(dataset.rows, (None, "network", None, "geo", None), strict=True):
        dataset.write(planned, reason)
    assert run.count_rows() == {"written": 3, "refused": 2}
    assemble_shard({"train": dataset.part}, "train", 0)
    assert run.count_rows() == {"written": 3, "refused": 2}
    assert run.rows == 5


def test_the_graph_prepares_every_row_and_commits_every_shard(dataset, tmp_path):
    from kinetics_prep.beam import graph

    videos = tmp_path / "videos"
    videos.mkdir()
    for number in (0, 3):
        write_video(videos / f"video{number}.mp4", moving_colours(45), FPS)
    graph.prepare_clips(run_of(dataset, videos), 2, runners.parse_options([]))
    counts = run_of(dataset, videos).count_rows()
    assert counts == {"written": 2, "refused": 3}
    assert list(pending_shards(run_of(dataset))) == []


# Runners ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--runner", "DirectRunner"], ["--runner=FnApiRunner"]])
def test_local_runs_use_the_fn_api_runner_in_this_process(flags):
    pipeline, in_process = runners.pipeline(runners.parse_options(flags))
    assert in_process
    assert type(pipeline.runner) is FnApiRunner


def test_another_runner_is_elsewhere():
    options = runners.parse_options(["--runner", "PortableRunner", "--job_endpoint", "localhost:1"])
    pipeline, in_process = runners.pipeline(options)
    assert not in_process
    assert type(pipeline.runner).__name__ == "PortableRunner"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--nonsense"], "--nonsense: known neither to kinetics-prep nor to Apache Beam"),
        (["--nonsense=3", "--more"], "--more, --nonsense: known neither"),
        (["stray"], "stray: known neither"),
        (["--direct_running_mode=multi_threading"], "silently loses elements"),
        (["--runner", "NoSuchRunner"], "--runner NoSuchRunner: "),
    ],
)
def test_flags_that_would_be_ignored_or_lose_data_are_refused(flags, message):
    with pytest.raises(BadOption, match=message):
        runners.parse_options(flags)


def test_flags_of_beam_reach_beam():
    options = runners.parse_options(["--direct_num_workers", "3", "--job_name", "x"])
    assert isinstance(options, PipelineOptions)
    assert options.get_all_options(drop_default=True) == {"direct_num_workers": 3, "job_name": "x"}


def test_the_graph_is_small_whatever_the_number_of_rows(tmp_path):
    """A plan of 3,000 rows must not travel in the graph: its size is that of a plan of five."""
    sizes = []
    for count in (5, 3_000):
        dataset = small_dataset.make(tmp_path / str(count), count=count)
        pipeline = beam.Pipeline(runner=FnApiRunner())
        pending = pipeline | stages.PendingShards(run_of(dataset))
        rows = pending | stages.MissingRows(run_of(dataset))
        prepared = rows | stages.PrepareClips(run_of(dataset), 2)
        prepared | stages.AssembleShards(run_of(dataset))
        sizes.append(len(pipeline.to_runner_api().SerializeToString()))
    assert sizes[1] < sizes[0] + 500
    assert sizes[1] < 100_000
