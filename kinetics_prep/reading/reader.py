"""What both readers share: records that are what the index says, clips that cannot be read, batches ahead of time.

A reader gives of one clip its context and some of its encoded images; the rest is here.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.reading import images
from kinetics_prep.reading.clips import UNLABELLED, Clip, Clips
from kinetics_prep.reading.memory import Memory, keep_freed
from kinetics_prep.reading.order import Once, Order
from kinetics_prep.reading.sampling import Sampler

PREFIX = {"rgb": "", "flow": "FORWARD_FLOW/"}
"""Of a stream's features in a record."""

CONTEXT = (
    "example/id",
    "clip/label/index",
    "kinetics_prep/recipe",
    "kinetics_prep/quantizer",
    "kinetics_prep/bound_px",
)
"""Features that a record is checked by."""

Batch = tuple[dict[str, np.ndarray], np.ndarray]
"""Stream -> uint8 [B, T, size, size, 3 or 2], RGB or levels of dx and dy; and class ids, int32 [B]."""


@dataclasses.dataclass(frozen=True)
class Part:
    """What a reader took out of a record."""

    context: Mapping[str, object]
    """The features of `CONTEXT`, without those that the record lacks; text is str."""
    encoded: Mapping[str, Mapping[int, memoryview]]
    """Stream -> index of a frame -> image, as far as the record has them; until the thread reads another clip."""
    frames: Mapping[str, int]
    """Stream -> how many images the record has."""


Fetch = Callable[[Clip, Mapping[str, list[int]], bool], Part]
"""Reads one clip; it is told which images of each stream are wanted, in ascending order, and whether to check sums."""


class Skipped:
    """Counts clips that were skipped because their records cannot be read. Of any thread."""

    def __init__(self):
        self._lock = threading.Lock()
        self._messages: dict[tuple[Path, str], str] = {}
        self._times = 0

    def add(self, path: Path, clip_id: str, message: str) -> None:
        """Notes one clip; it may be noted before, in another epoch."""
        with self._lock:
            self._times += 1
            self._messages.setdefault((path, clip_id), message)

    @property
    def times(self) -> int:
        """How often a clip was skipped, all in all."""
        return self._times

    @property
    def clips(self) -> list[tuple[Path, str, str]]:
        """(shard, clip id, what is wrong) of each clip, once."""
        with self._lock:
            return [(*key, message) for key, message in self._messages.items()]

    def __len__(self):
        """Clips, each counted once."""
        return len(self._messages)


def expect_run(first_step: int, steps: int, threads: int | None) -> None:
    """Makes sure that there can be so many steps, and threads to read for them.

    Raises:
      BadOption: if not.
    """
    if first_step < 0 or steps < 0 or (threads is not None and threads < 1):
        raise BadOption(f"{steps} steps from step {first_step} on, {threads} threads: expected 0 or more, of threads 1")


def default_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Reader:
    """Samples of clips, by position."""

    clips: Clips
    sampler: Sampler
    order: Order | Once
    streams: tuple[str, ...]
    fetch: Fetch
    skipped: Skipped | None = None
    """Takes note of clips that cannot be read, and is asked to go on without them; None to stop at the first."""

    def __post_init__(self):
        if not self.streams or not set(self.streams) <= set(self.sampler.streams):
            raise BadOption(f"streams are {self.streams}, expected some of {self.sampler.streams}")
        if self.order.clips != len(self.clips):
            raise BadOption(f"an order of {self.order.clips} clips is not one of {len(self.clips)}")
        self.sampler.expect(self.clips.short_side)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Stream -> [T, size, size, channels] of a sample."""
        size = self.sampler.size
        return {name: (len(self.sampler.offsets[name]), size, size, images.CHANNELS[name]) for name in self.streams}

    def fill(self, position: int, out: Mapping[str, np.ndarray]) -> int | None:
        """Reads the sample of a position into arrays of the shapes of `shapes`.

        Returns:
          Its class id, or None if its clip cannot be read and none may stand in for it.

        Raises:
          CorruptShard: if the clip cannot be read and is not to be skipped, or if no clip can be read.
        """
        for candidate in (position, *self.order.stand_ins(position)):
            epoch, number = self.order.at(candidate)
            clip = self.clips[number]
            try:
                self._read(clip, epoch, out)
                return clip.class_id
            except CorruptShard as error:
                self._skip(clip, error)
        if self.order.stand_ins(position) or self.order.clips == 1:
            raise CorruptShard(f"none of the {len(self.clips)} clips of {self.clips.folder} can be read")
        return None

    def _skip(self, clip: Clip, error: CorruptShard) -> None:
        if self.skipped is None:
            raise CorruptShard(
                f"{clip.path}, {clip.clip_id}: {error}. Nothing else is known to be wrong; `kinetics-prep validate "
                f"{self.clips.folder}` tells. Prepare or copy this shard once more, or skip what cannot be read"
            ) from None
        self.skipped.add(clip.path, clip.clip_id, str(error))

    def _read(self, clip: Clip, epoch: int, out: Mapping[str, np.ndarray]) -> None:
        draw = self.sampler.draw(clip.clip_id, epoch, clip.frames, clip.height, clip.width)
        wanted = {name: np.unique(draw.indices[name]).tolist() for name in self.streams}
        checked = (clip.clip_id, self.streams)
        part = self.fetch(clip, wanted, checked not in self.clips.checked)
        self._expect(part, clip, wanted)
        for name in self.streams:
            images.stack(part.encoded[name], name, draw, self.clips.quantizer, out[name])
        self.clips.checked.add(checked)

    def _expect(self, part: Part, clip: Clip, wanted: Mapping[str, list[int]]) -> None:
        known = {
            "example/id": clip.clip_id,
            "clip/label/index": None if clip.class_id == UNLABELLED else clip.class_id,
            "kinetics_prep/recipe": self.clips.digest,
            "kinetics_prep/quantizer": self.clips.quantizer,
            "kinetics_prep/bound_px": float(np.float32(self.clips.bound_px)),
        }
        for name, value in known.items():
            if part.context.get(name) != value:
                raise CorruptShard(f"its {name} is {part.context.get(name)!r}, the data set says {value!r}")
        for name, indices in wanted.items():
            if part.frames[name] != clip.frames:
                raise CorruptShard(f"it holds {part.frames[name]} {name} images, the ledger says {clip.frames}")
            for index in indices:
                _expect_image(part.encoded[name][index], clip, f"{name} image {index}")


def _expect_image(data: memoryview, clip: Clip, what: str) -> None:
    try:
        images.expect(data, clip.height, clip.width)
    except CorruptShard as error:
        raise CorruptShard(f"{what} {error}") from None


class Ahead:
    """Batches of a reader by step, each begun before it is asked for.

    Threads take one clip each, so that neither a large batch nor many small ones keep any of them idle.
    """

    def __init__(self, reader: Reader, first_step: int, steps: int, threads: int | None = None):
        threads = threads or default_threads()
        keep_freed()
        self._reader, self._steps = reader, range(first_step, first_step + steps)
        share = max(1, len(reader.order.positions(first_step)))
        self._ahead = max(1, -(-threads // share))
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, "clips")
        self._begun: dict[int, Callable[[], Batch]] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._memory = Memory()

    def __len__(self):
        return len(self._steps)

    def batch(self, number: int) -> Batch:
        """The batch of step `first_step + number`.

        Raises:
          CorruptShard: as `Reader.fill`.
        """
        step = self._steps[number]
        with self._lock:
            finish = self._begun.pop(step, None) or self._begin(step)
            for later in self._steps[number + 1 : number + 1 + self._ahead]:
                if later not in self._begun:
                    self._begun[later] = self._begin(later)
            while len(self._begun) > self._ahead:  # asked for in another order
                self._begun.pop(next(iter(self._begun)))
        return finish()

    def _begin(self, step: int) -> Callable[[], Batch]:
        positions = self._reader.order.positions(step)
        shapes = self._reader.shapes().items()
        arrays = {name: self._memory.empty((len(positions), *shape)) for name, shape in shapes}
        tasks = [
            self._pool.submit(self._reader.fill, position, {name: array[k] for name, array in arrays.items()})
            for k, position in enumerate(positions)
        ]
        return functools.partial(_finish, tasks, arrays)

    def close(self) -> None:
        """Stops what was begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _finish(tasks: list[concurrent.futures.Future], arrays: dict[str, np.ndarray]) -> Batch:
    found = [task.result() for task in tasks]
    read = [k for k, class_id in enumerate(found) if class_id is not None]
    if len(read) < len(found):
        arrays = {name: array[read] for name, array in arrays.items()}
    return arrays, np.array([found[k] for k in read], np.int32)
