"""The main job end to end: annotation rows and videos in, shards and ledger out, on real Beam runners."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK_TVL1, numbered_frames, write_video
from faulty_store import Fault, faulty_folder

from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.beam import stages
from kinetics_prep.cli import CANNOT_GO_ON, INTERRUPTED, INVALID, OK, TOO_MANY_REFUSED, main
from kinetics_prep.dataset import documents, layout, plan, shards
from kinetics_prep.dataset.markers import read_marker
from kinetics_prep.dataset.objects import read_ledger_row
from kinetics_prep.flow import ENGINES
from kinetics_prep.flow.cuda import GPU, TVL1CUDA
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.runs import context
from kinetics_prep.runs.clip import prepare_row
from kinetics_prep.runs.context import RunContext
from kinetics_prep.runs.fingerprint import _fingerprint, fingerprint
from kinetics_prep.sources import Fetching
from kinetics_prep.storage import tables
from kinetics_prep.storage.folder_store import FolderStore
from kinetics_prep.storage.lease import hold_lease

QUICK = (
    *("--fps", "5", "--short-side", "32", "--clip-seconds", "1", "--min-seconds", "0.4", "--clips-per-shard", "3"),
    *("--format", "tfrecord,parquet", "--tvl1", f"scales={QUICK_TVL1.scales}", "warps=1", "iterations=3"),
)


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        moving = np.roll(numbered_frames(50), number, axis=1)
        write_video(folder / f"video{number}.mp4", moving)
    (folder / "broken.mp4").write_bytes(b"this is no video")
    return folder


@pytest.fixture(scope="session")
def annotations(tmp_path_factory) -> Path:
    """Ten rows of train: seven good ones, a missing, a broken and a late one; and one of val."""
    path = tmp_path_factory.mktemp("annotations") / "tiny.csv"
    rows = [("walking", f"video{k % 4}", 0.25 * (k // 4), "train") for k in range(7)]
    rows += [("running", "missing", 0, "train"), ("running", "broken", 0, "train"), ("walking", "video0", 7, "train")]
    rows += [("running", "video1", 0, "val")]
    lines = [f"{label},{media},{start},{start + 1},{split}" for label, media, start, split in rows]
    path.write_text("label,youtube_id,time_start,time_end,split\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def command(videos, annotations) -> tuple[str, ...]:
    return ("flow", "--annotations", str(annotations), "--videos", str(videos), "--split", "train", *QUICK)


@pytest.fixture(scope="session")
def reference(command, tmp_path_factory) -> Path:
    """The output of an uninterrupted run with one worker."""
    output = tmp_path_factory.mktemp("reference") / "out"
    assert main([*command, "--output", str(output), "--workers", "1"]) == OK
    return output


def digests(output: Path) -> dict[str, object]:
    """Everything but the ledger, which says how many seconds each clip took, and where videos were looked for."""
    others = ("sources.json", "state.json", "dataset.json")
    paths = [path for path in output.rglob("*") if path.is_file() and path.parent.name not in ("ledger", "markers")]
    found = {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return {name: sha256 for name, sha256 in found.items() if name not in others} | {"manifest": manifest_of(output)}


def manifest_of(output: Path) -> dict[str, object]:
    """What dataset.json says of all but the ledgers."""
    content = json.loads((output / "dataset.json").read_text())
    for split in content["splits"].values():
        for shard in split["shards"]:
            del shard["ledger_sha256"]
    del content["sha256"]
    return content


def planned(output: Path, split: str = "train") -> list[PlanRow]:
    return list(plan.read(FolderStore(output), layout.plan_key(split)))


def ledger(output: Path) -> dict[str, dict]:
    rows = [row for path in sorted(output.glob("ledger/*.parquet")) for row in tables.read(path, "ledger")]
    assert len({row["clip_id"] for row in rows}) == len(rows)
    return {row["clip_id"]: row for row in rows}


def spawn(*arguments: str, **options) -> subprocess.Popen:
    command = (sys.executable, "-m", "kinetics_prep", *arguments)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_every_row_ends_in_the_ledger_written_or_refused(reference):
    rows = ledger(reference)
    reasons = {row["media_id"]: row["reason"] for row in rows.values() if row["status"] == "refused"}
    assert len(rows) == 10
    assert reasons == {"missing": "not_found", "broken": "unreadable", "video0": "clip_out_of_range"}
    assert sum(row["status"] == "written" for row in rows.values()) == 7


def test_shards_hold_the_written_clips_in_the_order_of_the_plan(reference):
    written = {clip_id for clip_id, row in ledger(reference).items() if row["status"] == "written"}
    expected = [row.clip_id for row in planned(reference) if row.clip_id in written]
    for name, module in SHARD_FORMATS.items():
        paths = sorted((reference / name).iterdir())
        assert [record["example/id"] for path in paths for record in module.read_shard(path)] == expected


def test_json_annotations_are_told_by_their_content_and_give_the_same_clips(
    command, reference, annotations, tmp_path, capsys
):
    lines = [line.split(",") for line in annotations.read_text().splitlines()[1:]]
    entries = (
        f'"{media}": {{"annotations": {{"label": "{label}", "segment": [{start}, {end}]}}, "subset": "{split}"}}'
        for label, media, start, end, split in lines
    )
    (tmp_path / "tiny.json").write_text("{" + ",".join(entries) + "}")
    changed = [str(tmp_path / "tiny.json") if word == str(annotations) else word for word in command]
    assert main([*changed, "--engine", "tvl1", "--output", str(tmp_path / "out")]) == OK
    assert "tiny.json: kinetics-json, 11 rows" in capsys.readouterr().err.splitlines()
    for name in ("tfrecord", "parquet"):
        shards_of = [
            {path.name: path.read_bytes() for path in (folder / name).iterdir()}
            for folder in (reference, tmp_path / "out")
        ]
        assert shards_of[0] == shards_of[1]
    assert main([*changed, "--output", str(tmp_path / "other"), "--dataset", "kinetics-csv"]) == CANNOT_GO_ON
    assert main([*changed, "--output", str(tmp_path / "other"), "--dataset", "csv"]) == CANNOT_GO_ON
    assert "--dataset csv: expected one of activitynet-json" in capsys.readouterr().err


LAUNCHES_BEFORE_CLIPS = 4 + 2 + 4
"""To try the GPU for the fingerprint, to compute that, and to try the GPU for the clips."""


@pytest.fixture
def emulated_gpu(monkeypatch):
    """Where one runs `tvl1-cuda`, a GPU that fails at the seventh clip or so."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "flow")
    import cuda_on_cpu

    if missing := cuda_on_cpu.missing():
        pytest.skip(missing)
    gpu = cuda_on_cpu.EmulatedGPU(fails_at=LAUNCHES_BEFORE_CLIPS + 6 * 2)

    class Engine(TVL1CUDA):
        def __init__(self, hardware):
            super().__init__(hardware, gpus=[GPU("GPU 0", gpu.open)])

        @staticmethod
        def usable():
            return None

    monkeypatch.setitem(ENGINES, "tvl1-cuda", Engine)
    context._engine.cache_clear()
    _fingerprint.cache_clear()
    yield gpu
    context._engine.cache_clear()
    _fingerprint.cache_clear()


def test_a_gpu_writes_the_bytes_of_the_cpu_even_if_it_fails(command, reference, emulated_gpu, tmp_path, capsys):
    assert main([*command, "--output", str(tmp_path / "out"), "--workers", "1"]) == OK
    assert "engine tvl1-cuda: the fastest there is" in capsys.readouterr().err.splitlines()
    assert digests(tmp_path / "out") == digests(reference)
    rows = [row for row in ledger(tmp_path / "out").values() if row["status"] == "written"]
    assert {row["engine"] for row in rows} == {"tvl1-cuda: version 1"}
    assert emulated_gpu.launches == LAUNCHES_BEFORE_CLIPS + 6 * 2 + 1
    noted = [row["notes"] for row in rows if "GPU" in (row["notes"] or "")]
    assert len(noted) == 1 and noted[0].endswith("flow from frame 0 on by tvl1 on the CPU")


def test_a_folder_begun_on_a_cpu_is_finished_on_a_gpu(command, reference, emulated_gpu, tmp_path):
    shutil.copytree(reference, tmp_path / "out")
    for path in sorted((tmp_path / "out").glob("markers/*"))[:1]:  # as if that shard were still to be made
        path.unlink()
    assert main([*command, "--output", str(tmp_path / "out"), "--engine", "tvl1-cuda"]) == OK
    assert emulated_gpu.launches > 4
    assert digests(tmp_path / "out") == digests(reference)


def test_both_formats_hold_the_same_records(reference):
    for path in (reference / "tfrecord").iterdir():
        twin = reference / "parquet" / path.with_suffix(".parquet").name
        assert list(SHARD_FORMATS["tfrecord"].read_shard(path)) == list(SHARD_FORMATS["parquet"].read_shard(twin))


def test_the_manifest_counts_what_is_there(reference):
    train = json.loads((reference / "dataset.json").read_text())["splits"]["train"]
    assert (train["rows"], train["written"]) == (10, 7)
    assert train["refused"] == {"clip_out_of_range": 1, "not_found": 1, "unreadable": 1}
    for shard in train["shards"]:
        for file in shard["files"].values():
            assert hashlib.sha256((reference / file["path"]).read_bytes()).hexdigest() == file["sha256"]


def test_nothing_is_left_of_the_work(reference):
    assert not (reference / ".work").exists()


def test_four_workers_write_the_bytes_of_one(command, reference, tmp_path):
    assert main([*command, "--output", str(tmp_path / "out"), "--workers", "4"]) == OK
    assert digests(tmp_path / "out") == digests(reference)


def test_a_finished_run_is_not_done_again(command, tmp_path):
    output = tmp_path / "out"
    assert main([*command, "--limit", "3", "--output", str(output)]) == OK
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*-of-*")}
    assert main([*command, "--limit", "3", "--output", str(output)]) == OK
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*-of-*")} == before


def test_killed_at_ten_random_moments_it_ends_with_the_same_bytes_and_no_clip_done_twice(command, tmp_path):
    rows = [f"walking,video{k % 4},{0.1 * (k // 4)},{0.1 * (k // 4) + 1},train" for k in range(24)]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    slower = [*command, "--short-side", "64", "--fps", "25", "--tvl1", "scales=4", "iterations=60"]
    slower[slower.index("--annotations") + 1] = str(tmp_path / "rows.csv")
    assert main([*slower, "--output", str(tmp_path / "whole"), "--workers", "1"]) == OK
    output, moments, unfinished = tmp_path / "killed", random.Random(2007), 0
    seconds = {}
    for _ in range(10):
        process = spawn(*slower, "--output", str(output), "--workers", "2")
        kill_after(process, output, moments.randrange(3), moments.uniform(0, 0.4))
        unfinished += not (output / "dataset.json").exists()
        for clip_id, spent in committed(output).items():
            assert seconds.setdefault(clip_id, spent) == spent, f"{clip_id} was done twice"
    process = spawn(*slower, "--output", str(output), "--workers", "2")
    _, said = process.communicate()
    assert process.returncode == OK, said
    assert digests(output) == digests(tmp_path / "whole")
    assert {clip_id: row["seconds"] for clip_id, row in ledger(output).items()}.items() >= seconds.items()
    assert unfinished >= 5, "too few of the kills came before the end to prove anything"


def kill_after(process: subprocess.Popen, output: Path, clips: int, seconds: float) -> None:
    """Kills a run that has committed so many clips more than it found, and then worked on for a moment."""
    target = len(committed(output)) + clips
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)  # imports
    while process.poll() is None and len(committed(output)) < target:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()
    process.communicate()


def committed(output: Path) -> dict[str, float]:
    """Seconds spent on each clip that is committed: they are never the same twice."""
    done, store = {}, FolderStore(output)
    for entry in list(store.list(".work/objects/")):
        with contextlib.suppress(FileNotFoundError):  # a living run may assemble it meanwhile
            row = read_ledger_row(store, entry.key)
            done[row.clip_id] = row.seconds
    for marker in output.glob("markers/*.json"):
        path = output / read_marker(store, marker.stem)["ledger"]
        done |= {row["clip_id"]: row["seconds"] for row in tables.read(path, "ledger")}
    return done


def test_the_portable_runner_writes_the_same_bytes(command, reference, tmp_path, monkeypatch):
    from apache_beam.runners.portability import local_job_service
    from apache_beam.runners.worker import worker_pool_main

    # Beam's worker pool starts "python", whichever that is.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    server = local_job_service.LocalJobServicer(str(tmp_path / "staging"))
    port = server.start_grpc_server(0)
    pool, pool_server = worker_pool_main.BeamFnExternalWorkerPoolServicer.start(use_process=True)
    beam_flags = (
        *("--runner", "PortableRunner", "--job_endpoint", f"localhost:{port}"),
        *("--environment_type", "EXTERNAL", "--environment_config", str(pool)),
    )
    try:
        assert main([*command, "--output", str(tmp_path / "out"), "--workers", "2", *beam_flags]) == OK
    finally:
        pool_server.stop(0)
        server.stop()
    assert digests(tmp_path / "out") == digests(reference)


def from_places(command, *places) -> list[str]:
    """The command with videos from elsewhere."""
    place = command.index("--videos") + 1
    return [*command[:place], *map(str, places), *command[place + 1 :]]


def test_retry_takes_up_what_was_refused_and_computes_nothing_twice(command, videos, reference, tmp_path):
    folder, output = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(videos, folder)
    (folder / "video2.mp4").unlink()
    elsewhere = [*from_places(command, folder), "--output", str(output)]
    assert main(elsewhere) == OK
    before = ledger(output)
    assert sum(row["reason"] == "not_found" for row in before.values()) == 3
    shutil.copy(videos / "video2.mp4", folder)
    assert main(elsewhere) == OK
    assert ledger(output) == before
    assert main([*elsewhere, "--retry", "not_found"]) == OK
    found = sorted(path.name for path in (output / "tfrecord").glob("*refresh*"))
    assert found == ["train-refresh1-00000-of-00001.tfrecord"]
    assert records(output) == records(reference)
    for clip_id, row in ledger(output).items():
        assert (row == before[clip_id]) == (before[clip_id]["reason"] != "not_found")
    assert main(["validate", str(output)]) == OK


def records(output: Path) -> dict[str, bytes]:
    """The record of each clip, in whichever shard."""
    paths = (output / "tfrecord").iterdir()
    every = [record for path in paths for record in SHARD_FORMATS["tfrecord"].read_shard(path)]
    found = {record.text("example/id"): record.to_bytes() for record in every}
    assert len(found) == len(every)
    return found


def test_a_damaged_clip_object_is_done_again(command, reference, tmp_path):
    output = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        # An uncommitted shard, with one of its objects cut short as after a power cut.
        patch.setattr(shards, "assemble", lambda task, shard: False)
        assert main([*command, "--output", str(output)]) == CANNOT_GO_ON
    paths = sorted((output / ".work" / "objects").glob("*/*/*/*"))
    assert len(paths) == 10
    for path in paths[:2]:
        path.write_bytes(path.read_bytes()[:-9])
    assert main([*command, "--output", str(output)]) == OK
    assert digests(output) == digests(reference)


def test_two_splits_share_a_folder_and_a_label_map(command, tmp_path):
    output = str(tmp_path / "out")
    both = [word for word in command if word not in ("--split", "train")]
    assert main([*both, "--output", output]) == OK
    manifest = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert {split: part["rows"] for split, part in manifest["splits"].items()} == {"train": 10, "val": 1}
    assert (tmp_path / "out" / "labels.txt").read_text() == "running\nwalking\n"
    assert main(["validate", output]) == OK


def test_max_refused_has_an_exit_code_of_its_own(command, tmp_path):
    run = [*command, "--output", str(tmp_path / "out")]
    assert main([*run, "--max-refused", "3"]) == OK
    assert main([*run, "--max-refused", "2"]) == TOO_MANY_REFUSED
    assert main([*run, "--max-refused", "29%"]) == TOO_MANY_REFUSED
    assert main([*run, "--max-refused", "30%"]) == OK


def test_a_list_of_ids_picks_rows_and_tells_of_those_that_are_nowhere(command, tmp_path):
    (tmp_path / "mini.txt").write_text("video0\n\nbroken\r\nvideo0 again\nelsewhere\n")
    assert main([*command, "--ids", str(tmp_path / "mini.txt"), "--output", str(tmp_path / "out")]) == OK
    rows = ledger(tmp_path / "out").values()
    assert sorted((row["media_id"] or row["clip_id"], row["reason"]) for row in rows if row["reason"]) == [
        ("broken", "unreadable"),
        ("mini.txt:5", "malformed_row"),
        ("video0", "clip_out_of_range"),
    ]
    assert [row["media_id"] for row in rows if row["status"] == "written"] == ["video0", "video0"]


def test_a_line_of_the_list_that_is_only_a_wide_space_is_told_of(command, tmp_path):
    (tmp_path / "mini.txt").write_text("video1\n\u3000\n", "utf-8")
    assert main([*command, "--ids", str(tmp_path / "mini.txt"), "--output", str(tmp_path / "out")]) == OK
    messages = [row["message"] for row in ledger(tmp_path / "out").values() if row["status"] == "refused"]
    assert messages == ["mini.txt:2: there is no id on this line"]


def test_only_keeps_the_class_ids_of_the_whole_map(command, tmp_path):
    assert main([*command, "--only", "walking", "--output", str(tmp_path / "out")]) == OK
    indexes = {row.label_index for row in planned(tmp_path / "out")}
    assert indexes == {1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--annotations", "nowhere.csv"), "there is no such file"),
        (("--videos", "nowhere"), "is not a folder"),
        (("--only", "waking"), "no row has this label; there are 'walking'"),
        (("--engine", "magic"), "engine is 'magic', expected auto or one of"),
        (("--engine", "opencv-cuda"), "cannot run here"),
        (("--format", "jpeg"), "expected one or more of tfrecord, parquet"),
        (("--quantizer", "none"), "expected one of symmetric, mediapipe, denseflow"),
        (("--short-side", "3"), "short_side is 3, expected 16 to 4096"),
        (("--tvl1", "tau=fast"), "tau must be of type float"),
        (("--labels", "nowhere.txt"), "cannot be read"),
        (("--wrokers", "3"), "--wrokers: known neither to kinetics-prep nor to Apache Beam"),
        (("--direct_running_mode", "multi_threading"), "silently loses elements"),
        (("--workers", "0"), "expected at least 1"),
        (("--gpus", "0", "--engine", "tvl1"), "--gpus and --gpu-memory: engine tvl1 ("),
        (("--ids", "nowhere.txt"), "--ids nowhere.txt cannot be read"),
        (("--ids", os.devnull), "holds no id"),
        (("--ids", __file__), "none of its ids is in the annotation files"),
        (("--gpus", "0,0"), "--gpus 0,0: expected each index once"),
        (("--gpu-memory", "nan"), "--gpu-memory is nan, expected GB"),
        (("--gpu-memory", "0"), "--gpu-memory is 0, expected GB"),
        (("--limit", "0"), "expected at least 1"),
        (("--videos", "ftp://host/{id}"), "expected a folder, a tar archive, an http(s) URL template"),
        (("--cache", __file__), "cannot be made"),
        (("--rate", "0/s"), "expected a positive number"),
        (("--connections", "0"), "--connections is 0, expected 1 to 1000"),
        (("--attempts", "0"), "--attempts is 0, expected 1 to 100"),
        (("--largest", "0"), "--largest is 0, expected GB"),
        (("--cookies", "nowhere.txt"), "--cookies"),
        (("--runner", "Magic"), "--runner Magic: "),
        (("--retry", "malformed_row"), "expected one or more of not_found"),
        (("--retry", "bad_luck"), "--retry bad_luck: expected one or more of not_found"),
        (("--split", "test"), "no readable row of split 'test'; the annotations hold train, val"),
    ],
)
def test_what_the_user_must_mend_is_one_line_and_exit_code_2(command, change, message, tmp_path, capsys):
    arguments = list(command)
    if change[0] in ("--annotations", "--videos"):
        place = arguments.index(change[0])
        arguments[place : place + 2] = []
    if main([*arguments, "--output", str(tmp_path / "out"), *change]) != CANNOT_GO_ON:
        pytest.fail("it went on")
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("kinetics-prep: ") and message in said


@pytest.mark.parametrize("rate", ["5", "5/fortnight", "x/s", "host=", "/s"])
def test_a_rate_that_is_none_is_refused(command, capsys, rate):
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--rate", rate])
    assert "is no rate such as 2/s, 300/h or host=2/s" in capsys.readouterr().err


def test_an_unknown_split_is_refused_by_name(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--split", "trian"])
    assert "unknown split 'trian', expected one of train, val, test" in capsys.readouterr().err


def test_a_folder_with_another_recipe_is_left_alone(command, reference, capsys):
    before = digests(reference)
    assert main([*command, "--output", str(reference), "--fps", "6"]) == CANNOT_GO_ON
    assert "fps is 5 there and 6 here" in capsys.readouterr().err
    assert main([*command, "--output", str(reference), "--limit", "2"]) == CANNOT_GO_ON
    assert "10 there, 2 here" in capsys.readouterr().err
    assert digests(reference) == before


def test_other_labels_in_the_same_folder_are_refused(command, reference, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("walking\nrunning\n")
    assert main([*command, "--output", str(reference), "--labels", str(tmp_path / "labels.txt")]) == CANNOT_GO_ON
    assert "class ids would disagree" in capsys.readouterr().err


def test_a_label_that_the_map_lacks_refuses_its_rows(command, tmp_path):
    (tmp_path / "labels.txt").write_text("walking\n")
    assert main([*command, "--output", str(tmp_path / "out"), "--labels", str(tmp_path / "labels.txt")]) == OK
    refused = [row for row in ledger(tmp_path / "out").values() if row["reason"] == "unknown_label"]
    assert {row["label"] for row in refused} == {"running"}


def test_a_full_disk_stops_the_run_loses_nothing_and_goes_on_later(command, reference, tmp_path):
    output = tmp_path / "out"
    # Set by the new process itself: code between fork and exec would run among the threads of gRPC, which may abort.
    program = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from kinetics_prep.cli import entry\n"
        "entry()\n"
    )
    arguments = [sys.executable, "-c", program, *command, "--output", str(output)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _, said = process.communicate()
    assert process.returncode == CANNOT_GO_ON, said
    assert "no room to write" in said.splitlines()[-1] and "Traceback" not in said
    assert main([*command, "--output", str(output)]) == OK
    assert digests(output) == digests(reference)


@pytest.mark.parametrize("nth", [1, 4, 9, 16, 30])
@pytest.mark.parametrize("kind", ["disk full once", "disk full"])
def test_a_disk_that_is_full_for_the_pipeline_is_one_line_too(kind, nth, command, reference, tmp_path, capsys):
    with faulty_folder(Fault(kind, nth)) as fault:
        assert main([*command, "--output", str(tmp_path / "out")]) == CANNOT_GO_ON
    assert fault.has_struck
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("kinetics-prep: no room to write ") and "it goes on from here" in said
    assert main([*command, "--output", str(tmp_path / "out")]) == OK
    assert digests(tmp_path / "out") == digests(reference)


def test_retry_of_a_shard_with_a_duplicate_row_keeps_the_written_clip(command, videos, tmp_path):
    rows = [
        "walking,video0,0,1,train",
        "walking,video0,0,1,train",
        "walking,video1,0,1,train",
        "walking,gone,0,1,train",
    ]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    run = with_rows(command, tmp_path / "rows.csv", tmp_path / "out", "--clips-per-shard", "9")
    assert main(run) == OK
    shard = next((tmp_path / "out" / "tfrecord").iterdir())
    before = shard.read_bytes()
    assert main([*run, "--retry", "not_found"]) == OK
    assert shard.read_bytes() == before
    accounts = next((tmp_path / "out" / "ledger").iterdir())
    reasons = [row["reason"] for row in tables.read(accounts, "ledger")]
    assert sorted(filter(None, reasons)) == ["duplicate_row", "not_found"]


def with_rows(command, annotations: Path, output: Path, *more: str) -> list[str]:
    changed = list(command)
    changed[changed.index("--annotations") + 1] = str(annotations)
    return [*changed, "--output", str(output), *more]


def test_clips_found_done_are_assembled_and_none_is_prepared_again(command, reference, tmp_path, monkeypatch):
    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(shards, "assemble", lambda task, shard: False)
        assert main([*command, "--output", str(output)]) == CANNOT_GO_ON
    before = committed(output)
    assert len(before) == 10
    assert main([*command, "--output", str(output), "--workers", "4"]) == OK
    assert {clip_id: row["seconds"] for clip_id, row in ledger(output).items()} == before
    assert digests(output) == digests(reference)


def test_a_folder_in_which_nothing_was_prepared_takes_another_recipe(command, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "prepare_and_commit", lambda row, part, context: None)
        assert main([*command, "--output", str(tmp_path / "out")]) == CANNOT_GO_ON
    assert main([*command, "--output", str(tmp_path / "out"), "--fps", "6", "--limit", "1"]) == OK


def test_a_second_split_with_fewer_labels_takes_the_folders_class_ids(command, videos, tmp_path):
    (tmp_path / "val.csv").write_text("walking,video0,0,1,val")
    assert main([*command, "--limit", "1", "--output", str(tmp_path / "out")]) == OK
    run = with_rows(command, tmp_path / "val.csv", tmp_path / "out")
    run[run.index("--split") + 1] = "val"
    assert main(run) == OK
    assert [row.label_index for row in planned(tmp_path / "out", "val")] == [1]


def test_a_row_whose_split_cannot_be_read_is_told_of_once(command, tmp_path):
    (tmp_path / "rows.csv").write_text("a,video0,0,1,train\na,video1,0,1,val\na,video2,0,1,nonsense\n")
    run = [word for word in with_rows(command, tmp_path / "rows.csv", tmp_path / "out") if word != "--split"]
    run.remove("train")
    assert main(run) == OK
    assert len(ledger(tmp_path / "out")) == 3


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_that_cannot_be_written_to_is_one_line(command, place, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([*command, "--output", str(tmp_path / place)]) == CANNOT_GO_ON
    assert "cannot be written to" in capsys.readouterr().err.splitlines()[-1]


def test_a_record_whose_id_begins_with_a_dash_can_be_asked_for(reference, capsys):
    shard = next((reference / "tfrecord").iterdir())
    assert main(["inspect", str(shard), "--record", "-3B32lodo2M_000059_000069"]) == CANNOT_GO_ON
    assert "none is '-3B32lodo2M_000059_000069'" in capsys.readouterr().err


def test_two_runs_do_not_write_to_one_folder(command, tmp_path, capsys):
    with hold_lease(tmp_path, layout.WORK):
        assert main([*command, "--output", str(tmp_path)]) == CANNOT_GO_ON
    assert f"another run (process {os.getpid()} on " in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_status_says_what_became_of_each_row_and_which_classes_lost_most(reference, capsys):
    assert main(["status", str(reference)]) == OK
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "train: 10 rows, 7 written (70.0%), 3 refused, 0 to go"
    assert sorted(said[1:4]) == [
        f"        1  {reason}  to try again: --retry {reason}"
        for reason in ("clip_out_of_range", "not_found", "unreadable")
    ]
    assert said[4:] == ["  lost 2 of 2: running", "  lost 1 of 8: walking"]


def test_status_of_a_run_that_was_stopped_counts_what_is_there(reference, tmp_path, capsys):
    shutil.copytree(reference, tmp_path / "out")
    for path in sorted((tmp_path / "out" / "markers").iterdir())[1:]:
        path.unlink()
    assert main(["status", str(tmp_path / "out")]) == OK
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("train: 10 rows, ") and first.endswith(" refused, 7 to go")


def test_status_of_a_folder_that_is_none_is_one_line(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == CANNOT_GO_ON
    assert "holds no plan: nothing was begun here" in capsys.readouterr().err


def test_validate_finds_nothing_wrong_with_what_was_written(reference, capsys):
    assert main(["validate", str(reference)]) == OK
    assert "7 clips read back, nothing wrong" in capsys.readouterr().out


def copied(reference: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "copy"))


def damage_shard(folder: Path) -> str:
    path = sorted((folder / "tfrecord").iterdir())[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return "checksum is not the recorded one"


def remove_shard(folder: Path) -> str:
    sorted((folder / "parquet").iterdir())[0].unlink()
    return "parquet: is missing"


def swap_labels(folder: Path) -> str:
    (folder / "labels.txt").write_text("walking\nrunning\n")
    return "is not the file that dataset.json knows"


def add_stranger(folder: Path) -> str:
    (folder / "tfrecord" / "train-00009-of-00004.tfrecord").write_bytes(b"")
    return "is not a file of this data set"


def lose_ledger_row(folder: Path) -> str:
    path = sorted((folder / "ledger").iterdir())[0]
    rows = list(tables.read(path, "ledger"))
    tables.write(path, "ledger", [rows[1:]])
    return "rows are not the 3 that were planned"


def alter_marker(folder: Path) -> str:
    path = sorted((folder / "markers").iterdir())[1]
    marker = documents.decode(path.read_bytes(), path.name)
    path.write_bytes(documents.encode(marker | {"recipe": "0" * 16}))
    return f"says recipe {'0' * 16}, expected {marker['recipe']}"


def flip_marker(folder: Path) -> str:
    path = sorted((folder / "markers").iterdir())[1]
    path.write_text(path.read_text().replace('"rows": 3', '"rows": 2'))
    return "is damaged: it does not read back as it was written"


def alter_recipe(folder: Path) -> str:
    text = (folder / "recipe.json").read_text()
    (folder / "recipe.json").write_text(text.replace('"pillow": "', '"pillow": "9'))
    return "recipe.json: is damaged: it does not read back as it was written"


def alter_sources(folder: Path) -> str:
    path = folder / "sources.json"
    path.write_text(path.read_text().replace("videos", "vidios"))
    return "sources.json: is damaged: it does not read back as it was written"


def add_ledger(folder: Path) -> str:
    shutil.copy(sorted((folder / "ledger").iterdir())[0], folder / "ledger" / "train-00009-of-00004.parquet")
    return "ledger/train-00009-of-00004.parquet: is not a file of this data set"


def lose_manifest(folder: Path) -> str:
    (folder / "dataset.json").unlink()
    return "dataset.json: is missing"


@pytest.mark.parametrize(
    "damage",
    [
        damage_shard,
        remove_shard,
        swap_labels,
        add_stranger,
        lose_ledger_row,
        alter_marker,
        flip_marker,
        alter_recipe,
        alter_sources,
        add_ledger,
        lose_manifest,
    ],
)
def test_validate_names_what_is_wrong(damage, reference, tmp_path, capsys):
    folder = copied(reference, tmp_path)
    expected = damage(folder)
    assert main(["validate", str(folder)]) == INVALID
    assert expected in capsys.readouterr().out


def test_a_shard_whose_marker_is_deleted_is_prepared_anew(command, reference, tmp_path):
    folder = copied(reference, tmp_path)
    damage_shard(folder)
    sorted((folder / "markers").iterdir())[0].unlink()
    assert main([*command, "--output", str(folder)]) == OK
    assert digests(folder) == digests(reference)


def test_labels_that_are_no_text_are_one_line(command, reference, tmp_path, capsys):
    folder = copied(reference, tmp_path)
    (folder / "labels.txt").write_bytes(b"\xff\n")
    assert main([*command, "--output", str(folder)]) == CANNOT_GO_ON
    assert "labels.txt cannot be read" in capsys.readouterr().err.splitlines()[-1]


def test_inspect_prints_every_feature_and_draws_a_sheet(reference, tmp_path, capsys):
    from PIL import Image

    shard = sorted((reference / "tfrecord").iterdir())[0]
    assert main(["inspect", str(shard), "--output", str(tmp_path / "sheet.png")]) == OK
    said = capsys.readouterr().out
    assert "clip/label/text" in said and "walking" in said
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width >= 640


def test_inspect_names_what_it_cannot_read(tmp_path, capsys):
    (tmp_path / "x.tfrecord").write_bytes(b"\0" * 30)
    assert main(["inspect", str(tmp_path / "x.tfrecord")]) == CANNOT_GO_ON
    assert "at byte 0" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "x.txt")]) == CANNOT_GO_ON


def test_the_sample_prepares_with_no_argument_but_the_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = ("--short-side", "32", "--tvl1", "scales=1", "warps=1", "iterations=2")
    assert main(["flow", "--split", "train", *quick]) == OK
    labels = (tmp_path / "sample-prepared" / "labels.txt").read_text().splitlines()
    assert len(labels) >= 2
    assert {row["status"] for row in ledger(tmp_path / "sample-prepared").values()} == {"written"}


def test_pipelines_flow_is_the_same_job(videos, annotations, command, reference, tmp_path):
    root = Path(__file__).resolve().parents[2]
    run = [sys.executable, "-m", "pipelines.flow", *command[1:], "--output", str(tmp_path / "out")]
    subprocess.run(run, cwd=root, check=True, capture_output=True)
    assert digests(tmp_path / "out") == digests(reference)


def test_prepare_row_can_be_called_in_a_repl(reference, videos, quick_recipe):
    row = next(row for row in planned(reference) if row.media_id == "video1")
    accepted = frozenset({fingerprint(quick_recipe)})
    context = RunContext(quick_recipe, "digest", Fetching((str(videos),)), os.devnull, accepted)
    ledger_row, record = prepare_row(row, context)
    assert ledger_row.status == "written" and ledger_row.frames == 5 and len(record) == ledger_row.record_bytes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_run_at_once_and_says_that_it_goes_on(number, command, tmp_path):
    from kinetics_prep import sample

    slow = with_rows(from_places(command, sample.VIDEOS), sample.ANNOTATIONS, tmp_path / "out")
    slow += ["--short-side", "256", "--fps", "25", "--tvl1", "warps=5", "iterations=300"]
    process = spawn(*slow)
    for line in process.stderr:
        if "0/5" in line:  # under way
            break
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == INTERRUPTED
    assert said.splitlines()[-1] == "interrupted; what is committed stays, and the same command goes on from there"
