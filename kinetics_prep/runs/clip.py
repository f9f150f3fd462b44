"""What happens to one clip, from its plan row to its record. No Beam in here; call it in a REPL.

    with open_run(Job(...)) as run:
        row = next(plan.read(run.store, plan_key("train")))
        ledger_row, data = prepare_row(row, run.context)

`Record.from_bytes(data)` then has frames and flow.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from kinetics_prep import flow
from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.annotations.planned import PlannedRow, PlanRow, RefusedRow, annotation_columns
from kinetics_prep.dataset import ledger, objects, recipe_file, shards
from kinetics_prep.dataset.ledger import LedgerRow
from kinetics_prep.dataset.part import Part
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import BY_REASON, ClipError, NotFound, Purged, UnreadableFile
from kinetics_prep.flow.clip_flow import quantized_flow
from kinetics_prep.media import video
from kinetics_prep.media.clip import Clip, QuantizedFlow, TwoStreamClip, Video, clip_notes
from kinetics_prep.records import encode
from kinetics_prep.records.record import Record
from kinetics_prep.runs.context import RunContext
from kinetics_prep.runs.stopwatch import Stopwatch
from kinetics_prep.sources import Fetched
from kinetics_prep.sources.fetched import with_source_name
from kinetics_prep.storage.files import sha256_of

SAME_LENGTH_SHARE = 0.15
"""A file is about as long as a clip if it differs by at most this share of the clip's length. Copies
of 10 s that were cut at key frames or with `-t` run up to a second over."""

_ENDS_WITH_CLIP_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class CutClip:
    """A clip as cut out of one file."""

    clip: Clip
    seconds: float
    """How long it should be."""
    taken_as_trimmed: bool
    """Whether the file was taken for the clip itself because of its length."""
    fetched: Fetched


def prepare_row(row: PlanRow, context: RunContext) -> tuple[LedgerRow, bytes | None]:
    """Prepares the clip of a row, or refuses it. The one place where a `ClipError` is caught.

    Returns:
      The clip's ledger row, and its record as a serialized SequenceExample if it was written.
    """
    stopwatch = Stopwatch()
    facts: dict[str, Any] = {}
    data = None
    try:
        if (because := context.purged.reason_for(row)) is not None:
            raise Purged(because, attempts=0)
        if isinstance(row, RefusedRow):
            raise BY_REASON[row.refusal_reason](row.refusal_message, attempts=0)
        data = _prepare(row, context, stopwatch, facts)
        facts |= {"status": ledger.WRITTEN, "record_bytes": len(data)}
    except ClipError as error:
        facts |= {"status": ledger.REFUSED, "reason": error.reason, "message": str(error), "attempts": error.attempts}
    ledger_row = LedgerRow(
        **annotation_columns(row),
        shard=row.shard,
        engine=context.engine_version,
        recipe=context.digest,
        versions=context.versions,
        fingerprint=context.fingerprint,
        **facts | stopwatch.reading(),
    )
    return ledger_row, data


def prepare_clip(
    path: str | Path, start_seconds: float = 0.0, end_seconds: float | None = None, recipe: Recipe | None = None
) -> Record:
    """Prepares one clip of a video file, as `kinetics-prep flow` would: the same frames, flow and images.

    Args:
      path: a video that ffmpeg can read; its name without the suffix becomes the clip's `clip/media_id`.
      start_seconds: where the clip begins, on the clock of the video.
      end_seconds: where it ends; None for `recipe.clip_seconds` later, or the video's end.
      recipe: how; None for the I3D paper's, with the fastest flow engine that runs here.

    Raises:
      ClipError: if the video holds no usable clip there; `reason` says why.
      BadOption, MissingTool: if the recipe cannot be carried out here.
    """
    path, recipe = Path(path), recipe or Recipe(flow.choose())
    if not path.is_file():
        raise NotFound(f"{path} is not a file")
    annotation = Annotation(path.stem, float(start_seconds), end_seconds, split="test")
    source = Fetched(path, path.name, str(path), begins_seconds=0.0)
    cut = _cut(annotation, source, recipe)
    engine = flow.engine(recipe.engine)
    quantized = quantized_flow(cut.clip, engine, recipe.tvl1, recipe.quantizer, recipe.bound_px, [])
    digest = recipe_file.digest(recipe)
    flow_by = f"{recipe.flow_by}: {engine.version()}"
    origin = encode.Origin(path.name, digest, flow_by, dataclasses.asdict(recipe.tvl1))
    return _encode(cut, quantized, annotation, None, origin, recipe)


def prepare_and_commit(row: PlanRow, part: Part, context: RunContext) -> None:
    """Prepares a row unless it has an object already, writes its object, and assembles its shard if it was the last."""
    context.expect_tools()
    if not objects.has_object(part, row):
        if part.is_committed(row.shard):  # asked second: objects go only after their shard's marker is written
            return
        ledger_row, data = prepare_row(row, context)
        objects.create_object(part, row, ledger_row, data)
    shards.assemble_if_complete(part, row.shard)


def _prepare(row: PlannedRow, context: RunContext, stopwatch: Stopwatch, facts: dict[str, Any]) -> bytes:
    """Prepares one row. What is learnt on the way goes into `facts`, which survive an error."""
    recipe, annotation = context.recipe, row.annotation
    with stopwatch("seconds_fetch"):
        cut = context.sources.first_usable(
            row, functools.partial(_cut_with_facts, annotation, recipe, stopwatch, facts)
        )
    clip, fetched = cut.clip, cut.fetched
    facts |= {"taken_as_trimmed": cut.taken_as_trimmed, "ends_early": clip.ends_early, "frames": len(clip)}
    facts |= {"height": clip.frames.shape[1], "width": clip.frames.shape[2]}
    notes = [*clip_notes(clip, cut.taken_as_trimmed), *fetched.notes]
    with stopwatch("seconds_flow"):
        quantized = quantized_flow(clip, context.engine, recipe.tvl1, recipe.quantizer, recipe.bound_px, notes)
    facts |= {"saturated_share": quantized.saturated_share, "notes": "; ".join(notes) or None}
    with stopwatch("seconds_encode"):
        origin = encode.Origin(fetched.name, context.digest, context.flow_by, dataclasses.asdict(recipe.tvl1))
        return _encode(cut, quantized, annotation, row.label_index, origin, recipe).to_bytes()


def _encode(
    cut: CutClip,
    quantized: QuantizedFlow,
    annotation: Annotation,
    label_index: int | None,
    origin: encode.Origin,
    recipe: Recipe,
) -> Record:
    return encode.encode_clip(
        TwoStreamClip(cut.clip, quantized),
        annotation,
        label_index=label_index,
        seconds=cut.seconds,
        origin=origin,
        flow_encoding=recipe.flow_encoding,
        jpeg_quality=recipe.jpeg_quality,
    )


def _cut_with_facts(
    annotation: Annotation, recipe: Recipe, stopwatch: Stopwatch, facts: dict[str, Any], fetched: Fetched
) -> CutClip:
    """Cuts the clip of an annotation out of a file, and notes what the file is.

    If every file is refused, the first one's facts stay: it is the best match, whose refusal is reported.
    """
    known = {"attempts": fetched.attempts, "source": fetched.origin, "source_kind": fetched.source}
    try:
        known |= _checksum(fetched)
        with stopwatch("seconds_decode"):
            cut = _cut(annotation, fetched, recipe)
    except ClipError as error:
        if "source" not in facts:
            facts |= known
        raise with_source_name(error, fetched.path, fetched.name, fetched.attempts) from None
    facts |= known
    return cut


def _cut(annotation: Annotation, fetched: Fetched, recipe: Recipe) -> CutClip:
    """Cuts the clip of an annotation out of a file."""
    cut = _decode(annotation, fetched, recipe)
    if annotation.end_seconds is None and cut.clip.ends_early:  # a whole video ends where it should
        seconds = float(len(cut.clip) / cut.clip.fps)
        return dataclasses.replace(cut, seconds=seconds, clip=dataclasses.replace(cut.clip, ends_early=False))
    return cut


def _checksum(fetched: Fetched) -> dict[str, Any]:
    try:
        sha256 = fetched.sha256 or sha256_of(fetched.path)
        return {"source_sha256": sha256, "source_bytes": fetched.path.stat().st_size}
    except OSError as error:  # no right to read it, removed since it was listed, a failing disk
        raise UnreadableFile(f"{fetched.origin} cannot be read: {error.strerror}") from None


def _decode(annotation: Annotation, fetched: Fetched, recipe: Recipe) -> CutClip:
    source = video.probe(fetched.path)
    start_seconds, trimmed = fetched.begins_seconds, False
    if start_seconds is None:
        trimmed = is_trimmed(source, annotation)
        start_seconds = annotation.start_seconds if trimmed else 0.0
    seconds = longest_seconds(annotation, recipe)
    clip = video.trim(
        source,
        start_seconds=annotation.start_seconds - start_seconds,
        seconds=seconds,
        fps=recipe.fps,
        short_side=recipe.short_side,
        min_seconds=recipe.min_seconds,
    )
    return CutClip(clip, seconds, trimmed, fetched)


def longest_seconds(annotation: Annotation, recipe: Recipe) -> float:
    """How long the clip of an annotation should be."""
    if annotation.end_seconds is None:
        return recipe.clip_seconds
    return min(annotation.end_seconds - annotation.start_seconds, recipe.clip_seconds)


def is_trimmed(source: Video, annotation: Annotation) -> bool:
    """Whether a file without times in its name must be the clip itself rather than the whole video.

    It must if it is too short for the row and about as long as the clip: mirrors of Kinetics hold
    files of 11 s, named by the bare id, for a row that says 299 to 309 s.
    """
    duration_seconds = source.duration_seconds
    if duration_seconds is None or annotation.end_seconds is None:
        return False
    seconds = annotation.end_seconds - annotation.start_seconds
    is_too_short = duration_seconds < annotation.end_seconds - _ENDS_WITH_CLIP_SECONDS
    return is_too_short and abs(duration_seconds - seconds) <= SAME_LENGTH_SHARE * seconds
