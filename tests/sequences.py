"""Sequences of commands on one output folder, each of which may be killed at any write, and what must hold afterwards.

    python tests/sequences.py --sequences 2000 --seed 1

The test `tests/runs/test_sequences.py` does a few of them. A sequence is up to six commands; between them videos
appear, vanish and are damaged. After it `flow` runs once undisturbed. Then each row must be in one ledger, `validate`
must find nothing, every written clip must have the bytes of a clean run, and no clip may be missing that a command had
written.

What happens to one clip is computed once and remembered, by the row and the bytes of its video: real records, quickly.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import hashlib
import random
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from conftest import QUICK_TVL1, write_video
from prepared import prepare_clips

from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.annotations.selection import Selection
from kinetics_prep.dataset import convert, door, ledger, purge, recipe_file, status, validate
from kinetics_prep.dataset import state as states
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.prepared import open_dataset
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import OF_FETCHING, PASSING, ClipError, CorruptShard, RunError
from kinetics_prep.runs import clip, prepare, repair
from kinetics_prep.runs.job import Job, Resumption
from kinetics_prep.sources import Fetching
from kinetics_prep.storage.folder_store import FolderStore
from kinetics_prep.storage.lease import Holder, LeaseFolder

IDS = tuple(f"video{number}" for number in range(5))
RECIPE = Recipe(
    "tvl1", fps=Fraction(5), short_side=32, clip_seconds=1.0, min_seconds=0.4, tvl1=QUICK_TVL1, clips_per_shard=2
)
MOST_COMMANDS = 6
MOST_WRITES = 60
"""A command is killed at one of so many of its writes; one that has fewer is not killed."""


class Killed(BaseException):
    """The process is gone: nothing that it would tidy up happens."""


@dataclasses.dataclass
class KilledStore:
    """A store whose process is killed at a write. Afterwards nothing works, as nobody is there."""

    store: FolderStore
    writes_left: int
    after: bool
    """Whether the last write takes place."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def __hash__(self) -> int:
        return hash(self.store)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KilledStore) and other.store == self.store

    def create(self, key: str, content: bytes) -> bool:
        return self._write(lambda: self.store.create(key, content))

    def put(self, key: str, content: bytes | Path) -> None:
        self._write(lambda: self.store.put(key, content))

    def delete(self, key: str) -> None:
        self._write(lambda: self.store.delete(key))

    def _write(self, write: Callable[[], Any]) -> Any:
        if self.writes_left < 0:
            raise Killed
        self.writes_left -= 1
        if self.writes_left >= 0:
            return write()
        if self.after:
            write()
        raise Killed


@dataclasses.dataclass(frozen=True)
class Step:
    """A command, what happens to the videos before it, and when it is killed."""

    videos: tuple[tuple[str, str], ...]
    """(id, "sound", "damaged" or "gone")."""
    command: str
    argument: str = ""
    killed_at: int | None = None
    """Number of the write."""
    after: bool = False

    def __str__(self) -> str:
        events = "".join(f"{media_id} {how}; " for media_id, how in self.videos)
        when = "" if self.killed_at is None else f", killed {'after' if self.after else 'at'} write {self.killed_at}"
        return f"{events}{self.command} {self.argument}".rstrip() + when


def draw_steps(rng: random.Random) -> list[Step]:
    """A random sequence; four of five begin with `flow`, as the others mostly end in words."""
    first = ["flow"] if rng.random() < 0.8 else []
    return [draw_step(rng, first.pop() if first else None) for _ in range(rng.randint(1, MOST_COMMANDS))]


def draw_step(rng: random.Random, command: str | None = None) -> Step:
    """A random step."""
    states = ("sound", "sound", "damaged", "gone")
    videos = tuple((media_id, rng.choice(states)) for media_id in IDS if rng.random() < 0.3)
    command = command or rng.choice(tuple(COMMANDS))
    killed_at = rng.choice((None, rng.randrange(12), rng.randrange(MOST_WRITES)))
    return Step(videos, command, rng.choice(COMMANDS[command]), killed_at, rng.random() < 0.5)


# The world --------------------------------------------------------------------------------------


class World:
    """Annotations, videos and an output folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.videos, self.output, self.annotations = folder / "videos", folder / "out", folder / "rows.csv"
        self.videos.mkdir(parents=True)
        lines = ["label,youtube_id,time_start,time_end,split"]
        lines += [f"{label},{media_id},0,1,train" for media_id, label in zip(IDS, ("waving", "running", "waving") * 2)]
        lines += ["waving,video0,0,1,train", "waving,video1,0,1,val", "waving,oh no,1,0,val"]
        self.annotations.write_text("\n".join(lines) + "\n")
        (self.videos / "other.mp4").write_bytes(b"so that there is one")
        self.purged = set[str]()
        self.perhaps_purged = set[str]()
        """By a command that was killed."""
        self.written = set[tuple[str, str, int]]()

    def put(self, media_id: str, how: str) -> None:
        path = self.videos / f"{media_id}.mp4"
        if how == "gone":
            path.unlink(missing_ok=True)
        elif how == "damaged":
            path.write_bytes(b"no video at all")
        else:
            shutil.copy(sound_video(media_id), path)

    def do(self, step: Step) -> str:
        """Carries a step out; says how it ended."""
        for media_id, how in step.videos:
            self.put(media_id, how)
        try:
            with remembering_clips(), killing(step.killed_at, step.after):
                self.run(step.command, step.argument)
        except Killed:
            return "killed"
        except RunError as error:
            return f"{type(error).__name__}: {error}"
        return "done"

    def run(self, command: str, argument: str) -> None:
        fetching = Fetching((str(self.videos),))
        reasons = tuple(filter(None, argument.split(",")))
        if command == "flow":
            job = Job(Selection((str(self.annotations),)), fetching, self.output, self.recipe(), retry=reasons)
            self._finish(prepare.open_run(job), reasons)
        elif command in ("retry", "refresh"):
            chosen = reasons or (PASSING if command == "retry" else OF_FETCHING)
            request = Resumption(self.output, chosen, fetching)
            self._finish(prepare.resume_run(request, needs_complete=command == "refresh"), chosen)
        elif command == "status":
            assert all(each.to_go >= 0 for each in status.read_status(self.output)), "more rows done than planned"
        elif command == "validate":
            list(validate.problems(validate.open_folder(self.output)))
        elif command == "convert":
            formats, _, clips_per_shard = argument.partition(" ")
            shape = convert.Shape(tuple(formats.split(",")), int(clips_per_shard) if clips_per_shard else None)
            if not convert.is_done(self.output, shape):
                with convert.open_conversion(self.output, shape) as conversion:
                    conversion.carry_out()
        elif command == "purge":
            self.perhaps_purged.add(argument)
            with purge.open_purge(self.output, purge.Request((argument,), "its owner asked for it")) as opened:
                opened.carry_out()
            self.purged.add(argument)
        elif command == "repair":
            with repair.open_repair(Resumption(self.output, (), fetching)) as opened_repair:
                if opened_repair.run is not None:
                    prepare_clips(opened_repair.run)
                repair.finish(opened_repair)
        else:
            raise AssertionError(command)

    def recipe(self) -> Recipe:
        """That of the folder, whose formats and shard size `convert` may have changed."""
        try:
            there = recipe_file.read(door.open_for_reading(self.output)[0])
        except CorruptShard:
            there = None
        if there is None:
            return RECIPE
        return dataclasses.replace(RECIPE, formats=there.formats, clips_per_shard=there.clips_per_shard)

    def _finish(self, opened: contextlib.AbstractContextManager[prepare.PrepareRun], reasons: tuple[str, ...]) -> None:
        goes_on = self.output.exists() and (state := states.read(FolderStore(self.output))) and state.search
        with opened as run:
            prepare_clips(run)
            prepare.finish(run)
        rows = self.ledger()
        self.written = {key for key, row in rows.items() if row["status"] == ledger.WRITTEN}
        for row in rows.values():
            # A search that goes on does not ask once more for what it has asked for already.
            was_tried = row["reason"] not in reasons or goes_on or not self._is_sound(row["media_id"])
            assert was_tried, f"{row['clip_id']} was not tried again"

    def _is_sound(self, media_id: str) -> bool:
        path = self.videos / f"{media_id}.mp4"
        return media_id in IDS and path.exists() and path.read_bytes() == sound_video(media_id).read_bytes()

    def ledger(self) -> dict[tuple[str, str, int], dict[str, Any]]:
        """Ledger rows by split, clip and line. Each must be in one ledger, once."""
        store = FolderStore(self.output)
        columns = [*LedgerRow.__dataclass_fields__]
        rows = [row for entry in store.list("ledger/") for row in ledger.read_columns(store, entry.key, *columns)]
        found = {(row["split"], row["clip_id"], row["annotation_line"]): row for row in rows}
        assert len(found) == len(rows), "a row is in two ledgers"
        return found

    def check(self) -> None:
        """Runs `flow` once more, undisturbed, and checks what must hold then."""
        before, how = self.written, self.do(Step((), "flow"))
        assert how == "done", how
        rows = self.ledger()
        assert len(rows) == 8, f"{len(rows)} rows are in ledgers, expected 8"
        problems = list(map(str, validate.problems(validate.open_folder(self.output))))
        assert not problems, problems
        assert all(each.to_go == 0 for each in status.read_status(self.output))
        written = {key for key, row in rows.items() if row["status"] == ledger.WRITTEN}
        lost = {key for key in before - written if rows[key]["media_id"] not in self.perhaps_purged}
        assert not lost, f"lost: {lost}"
        for row in rows.values():
            is_purged = row["media_id"] in self.purged
            assert not is_purged or row["reason"] == "purged", f"{row['clip_id']} came back"
        assert not (self.output / ".work").exists(), "work files are left"
        dataset = open_dataset(self.output)
        for form in dataset.formats:
            clips = {}
            for split in dataset.splits:
                clips |= {(split, record.text("example/id")): record for record in dataset.records(split, form)}
            assert clips.keys() == {key[:2] for key in written}, f"{form} does not hold what the ledgers say"
            for key, record in clips.items():
                assert record.to_bytes() == clean_records()[key], f"{key} has other bytes in {form}"


COMMANDS: dict[str, tuple[str, ...]] = {
    "flow": ("", "", "not_found", "unreadable", "not_found,unreadable"),
    "retry": ("", "not_found", "unreadable", "not_found,unreadable"),
    "refresh": ("", "not_found", "not_found,unreadable"),
    "convert": ("tfrecord", "parquet", "tfrecord,parquet", "tfrecord 1", "tfrecord,parquet 3", "parquet 2"),
    "repair": ("",),
    "purge": IDS[:2],
    "status": ("",),
    "validate": ("",),
}
"""Command -> arguments."""


# Killing, and remembering -----------------------------------------------------------------------


@contextlib.contextmanager
def killing(killed_at: int | None, after: bool) -> Iterator[None]:
    """Kills the run that opens a folder within, at one of its writes."""

    @contextlib.contextmanager
    def hold(root: Path, work: str) -> Iterator[Any]:
        # The holder is dead as seen from here: the next run takes over at once, as after `kill -9`.
        here = dataclasses.replace(Holder.here(), token=uuid.uuid4().hex, pid=2**22 + 1, started="long ago")
        leases = LeaseFolder(root, work, here)
        number = leases.acquire()
        yield leases.store if killed_at is None else KilledStore(leases.store, killed_at, after)
        leases.release(number)  # not in a `finally`: who is killed does not tidy up

    with mock.patch.object(door, "hold_lease", hold):
        yield


_MEMORY: dict[tuple[str, ...], tuple[dict[str, Any], bytes | ClipError]] = {}
_prepare = clip._prepare


@contextlib.contextmanager
def remembering_clips() -> Iterator[None]:
    """Has the same row and the same video computed once only."""

    def prepare_once(row: PlannedRow, context: Any, stopwatch: Any, facts: dict[str, Any]) -> bytes:
        path = Path(context.fetching.videos[0], f"{row.media_id}.mp4")
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
        key = (row.clip_id, row.split, str(row.label), content, context.digest)
        if key not in _MEMORY:
            try:
                outcome: bytes | ClipError = _prepare(row, context, stopwatch, facts)
            except ClipError as error:
                outcome = error
            _MEMORY[key] = dict(facts), outcome
        known, outcome = _MEMORY[key]
        facts |= known
        if isinstance(outcome, ClipError):
            raise type(outcome)(str(outcome), outcome.attempts)
        return outcome

    with mock.patch.object(clip, "_prepare", prepare_once):
        yield


@functools.cache
def _shelf() -> Path:
    return Path(tempfile.mkdtemp(prefix="kinetics-prep-sequences-"))


@functools.cache
def sound_video(media_id: str) -> Path:
    """A video of half a second of noise of its own."""
    frames = np.random.default_rng(IDS.index(media_id)).integers(0, 256, (12, 48, 64, 3), np.uint8)
    return write_video(_shelf() / f"{media_id}.mp4", frames, Fraction(10))


@functools.cache
def clean_records() -> dict[tuple[str, str], bytes]:
    """The records of an undisturbed run by split and clip."""
    world = World(_shelf() / "clean")
    for media_id in IDS:
        world.put(media_id, "sound")
    assert world.do(Step((), "flow")) == "done"
    dataset = open_dataset(world.output)
    return {
        (split, record.text("example/id")): record.to_bytes()
        for split in dataset.splits
        for record in dataset.records(split)
    }


def play(steps: list[Step], folder: Path) -> list[str]:
    """Plays a sequence in a new folder and checks what must hold after it; says how each step ended.

    Raises:
      AssertionError: if it does not hold.
    """
    world = World(folder)
    ends = [world.do(step) for step in steps]
    world.check()
    return ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the first sequence; the next has the next number")
    arguments = parser.parse_args()
    start, ends, failed = time.monotonic(), collections.Counter[str](), []
    scratch = "/dev/shm" if Path("/dev/shm").is_dir() else None
    for seed in range(arguments.seed, arguments.seed + arguments.sequences):
        steps = draw_steps(random.Random(seed))
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            try:
                ends.update(end.partition(":")[0] for end in play(steps, Path(folder, "world")))
            except Exception as error:
                failed.append(seed)
                print(f"seed {seed}: {error!r:.1000}", *(f"  {step}" for step in steps), sep="\n", flush=True)
    commands = ", ".join(f"{count} {end}" for end, count in ends.most_common())
    seconds = time.monotonic() - start
    print(f"{arguments.sequences} sequences from seed {arguments.seed}, {seconds:.0f} s; commands: {commands}")
    print(f"{len(failed)} failed" + (f": seeds {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
