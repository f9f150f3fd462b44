"""What happens to one clip, from its plan row to its record. No Beam in here; call it in a REPL.

    with job.planned(Job(...)) as planned:
        row = next(plan.read(planned.layout.plan("train")))
        settled, data = prepare.settle(row, planned.workshop)

`Record.from_bytes(data)` then has frames and flow.
"""

import contextlib
import dataclasses
import functools
import threading
import time
import uuid
from pathlib import Path

import cv2

from kinetics_prep import flow
from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.planned import PlannedRow, PlanRow, RefusedRow, annotation_columns
from kinetics_prep.dataset import ledger, shards
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.dataset.shards import ShardTask
from kinetics_prep.errors import BY_REASON, ClipError, UnreadableFile
from kinetics_prep.flow import ANY_HARDWARE, Hardware
from kinetics_prep.flow.clip_flow import quantized_flow
from kinetics_prep.media import video
from kinetics_prep.media.clip import Clip, TwoStreamClip, Video, clip_notes
from kinetics_prep.records import encode
from kinetics_prep.sources import Fetched, Fetching, Sources, open_sources
from kinetics_prep.sources.fetched import as_told
from kinetics_prep.storage.files import sha256_of

SAME_LENGTH_SHARE = 0.15
"""A file is about as long as a clip if it differs by no more of the clip's length. Copies of 10 s
that were cut at key frames or with `-t` run up to a second over."""

_ENDS_WITH_CLIP_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Workshop:
    """What every clip of a run shares. Crosses process borders; the rest is made where it is used."""

    recipe: Recipe
    digest: str
    versions: str
    """As JSON, for the ledger."""
    fetching: Fetching
    scratch: str
    hardware: Hardware = ANY_HARDWARE
    run: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    """Tells runs in one process apart: a folder is listed once a run, not once a process."""

    @property
    def sources(self) -> Sources:
        with _OPENING:  # else each thread of a pool would list the folder for itself
            return _sources(self.run, self.fetching, self.scratch)

    @property
    def engine(self):
        with _OPENING:
            return _engine(self.recipe.engine, self.hardware)

    @property
    def engine_version(self) -> str:
        """The engine's name and version, for the ledger."""
        return f"{self.recipe.engine}: {self.engine.version()}"

    @property
    def flow_by(self) -> str:
        """The same for the record, which is the same bytes whichever of the engines that give one flow computed it."""
        return f"{self.recipe.flow_by}: {self.engine.version()}"


_OPENING = threading.Lock()


@functools.lru_cache(maxsize=1)
def _sources(run: str, fetching: Fetching, scratch: str) -> Sources:
    return open_sources(fetching, Path(scratch))


@functools.lru_cache(maxsize=1)
def _engine(name: str, hardware: Hardware):
    # Clips run side by side; OpenCV's own threads would only fight over the cores.
    cv2.setNumThreads(1)
    return flow.engine(name, hardware)


class Stopwatch:
    """Adds up seconds under names."""

    def __init__(self):
        self.seconds = {}
        self._begun = time.monotonic()
        self._within = 0.0

    @contextlib.contextmanager
    def __call__(self, name: str):
        """Adds the seconds of a block to `name`; those of a block within it count there alone."""
        begun, before, self._within = time.monotonic(), self._within, 0.0
        try:
            yield
        finally:
            spent = time.monotonic() - begun
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._within
            self._within = before + spent

    def reading(self) -> dict[str, float]:
        """All the seconds since birth, and those under names."""
        return {"seconds": time.monotonic() - self._begun} | self.seconds


def settle(row: PlanRow, workshop: Workshop) -> tuple[LedgerRow, bytes | None]:
    """Prepares a clip, or says why there is none. The one place where a `ClipError` is caught.

    Returns:
      The clip's ledger row, and its record as a SequenceExample if it was written.
    """
    stopwatch, facts = Stopwatch(), {}
    try:
        if isinstance(row, RefusedRow):
            raise _refusal(row)
        data = _prepare(row, workshop, stopwatch, facts)
        facts |= {"status": ledger.WRITTEN, "record_bytes": len(data)}
    except ClipError as error:
        data = None
        facts |= {"status": ledger.REFUSED, "reason": error.reason, "message": str(error)}
        facts["attempts"] = error.attempts
    return _ledger_row(row, workshop, facts | stopwatch.reading()), data


def _refusal(row: RefusedRow) -> ClipError:
    return BY_REASON[row.refusal_reason](row.refusal_message, attempts=0)


def _ledger_row(row: PlanRow, workshop: Workshop, facts: dict) -> LedgerRow:
    return LedgerRow(
        **annotation_columns(row),
        shard=row.shard,
        engine=workshop.engine_version,
        recipe=workshop.digest,
        versions=workshop.versions,
        **facts,
    )


def _prepare(row: PlannedRow, workshop: Workshop, stopwatch: Stopwatch, facts: dict) -> bytes:
    """The walk of one row. What is learnt on the way goes into `facts`, which survive an error."""
    recipe, annotation = workshop.recipe, row.annotation
    with stopwatch("seconds_fetch"):
        use = functools.partial(_cut, annotation, recipe, stopwatch, facts)
        fetched, clip, seconds, trimmed = workshop.sources.bring(row, use)
    facts |= {"taken_as_trimmed": trimmed, "ends_early": clip.ends_early, "frames": len(clip)}
    facts |= {"height": clip.frames.shape[1], "width": clip.frames.shape[2]}
    notes = [*clip_notes(clip, trimmed), *fetched.notes]
    with stopwatch("seconds_flow"):
        quantized = quantized_flow(clip, workshop.engine, recipe.tvl1, recipe.quantizer, recipe.bound_px, notes)
    facts |= {"saturated_share": quantized.saturated_share, "notes": "; ".join(notes) or None}
    with stopwatch("seconds_encode"):
        made = encode.encode_clip(
            TwoStreamClip(clip, quantized),
            annotation,
            label_index=row.label_index,
            seconds=seconds,
            origin=encode.Origin(fetched.name, workshop.digest, workshop.flow_by, dataclasses.asdict(recipe.tvl1)),
            flow_encoding=recipe.flow_encoding,
            jpeg_quality=recipe.jpeg_quality,
        )
        return made.to_bytes()


def _cut(annotation: Annotation, recipe: Recipe, stopwatch: Stopwatch, facts: dict, fetched: Fetched):
    """The clip in a file: (fetched, clip, how long it should be, whether the file was taken as trimmed)."""
    facts |= {"attempts": fetched.attempts, "source": fetched.origin, "source_kind": fetched.source}
    try:
        facts |= _fingerprint(fetched)
        with stopwatch("seconds_decode"):
            seconds = _longest_seconds(annotation, recipe)
            clip, trimmed = _decode(annotation, seconds, fetched, recipe)
    except ClipError as error:
        raise as_told(error, fetched.path, fetched.name, fetched.attempts) from None
    if annotation.end_seconds is None and clip.ends_early:  # it ends where it should
        seconds, clip = float(len(clip) / clip.fps), dataclasses.replace(clip, ends_early=False)
    return fetched, clip, seconds, trimmed


def _fingerprint(fetched: Fetched) -> dict:
    try:
        sha256 = fetched.sha256 or sha256_of(fetched.path)
        return {"source_sha256": sha256, "source_bytes": fetched.path.stat().st_size}
    except OSError as error:  # no right to read it, gone since it was found, a failing disk
        raise UnreadableFile(f"{fetched.origin} cannot be read: {error.strerror}") from None


def _longest_seconds(annotation: Annotation, recipe: Recipe) -> float:
    if annotation.end_seconds is None:
        return recipe.clip_seconds
    return min(annotation.end_seconds - annotation.start_seconds, recipe.clip_seconds)


def _decode(annotation: Annotation, seconds: float, fetched: Fetched, recipe: Recipe) -> tuple[Clip, bool]:
    found = video.probe(fetched.path)
    begins_seconds, trimmed = fetched.begins_seconds, False
    if begins_seconds is None:
        trimmed = is_trimmed(found, annotation)
        begins_seconds = annotation.start_seconds if trimmed else 0.0
    clip = video.trim(
        found,
        start_seconds=annotation.start_seconds - begins_seconds,
        seconds=seconds,
        fps=recipe.fps,
        short_side=recipe.short_side,
        min_seconds=recipe.min_seconds,
    )
    return clip, trimmed


def is_trimmed(found: Video, annotation: Annotation) -> bool:
    """Whether a file that bears no times must be the clip itself rather than the whole video.

    It must if it is too short for the row and about as long as the clip: mirrors of Kinetics hold
    files of 11 s, named by the bare id, for a row that says 299 to 309 s.
    """
    lasts = found.duration_seconds
    if lasts is None or annotation.end_seconds is None:
        return False
    seconds = annotation.end_seconds - annotation.start_seconds
    too_short = lasts < annotation.end_seconds - _ENDS_WITH_CLIP_SECONDS
    return too_short and abs(lasts - seconds) <= SAME_LENGTH_SHARE * seconds


def carry_out(row: PlanRow, task: ShardTask, workshop: Workshop) -> None:
    """Settles a clip unless it is settled already, commits it, and assembles its shard if it was the last."""
    if shards.find_object(task, row) is None:
        if task.is_committed(row.shard):  # asked second: objects go only after their shard's marker stands
            return
        settled, data = settle(row, workshop)
        shards.commit_clip(task, row, settled, data)
    shards.assemble_if_complete(task, row.shard)
