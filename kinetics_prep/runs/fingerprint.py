"""The fingerprint of the tools: a digest of what they make of a built-in clip under a recipe.

Version strings cannot tell whether two machines make the same bytes: a security revision of ffmpeg changes its version
and no frame, and two builds of one version can differ. So the clip goes the way of every clip, from the file to the
serialized record. Machines with the same fingerprint may work on one data set.

`fingerprint` computes once a process and recipe; `fingerprint_by` computes each time, by an engine that is open.
"""

import dataclasses
import functools
import hashlib
import threading
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from kinetics_prep import flow
from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import ClipError, MissingTool
from kinetics_prep.flow import ANY_HARDWARE, FlowEngine, Hardware
from kinetics_prep.flow.clip_flow import quantized_flow
from kinetics_prep.media import ffmpeg, video
from kinetics_prep.media.clip import Clip, TwoStreamClip
from kinetics_prep.records import encode
from kinetics_prep.records.record import Record
from kinetics_prep.runs import built_in_clip

FRAMES = 4
"""Of the record. The flow of the last one leads to a fifth, which is decoded too."""

SLOWEST_FPS = Fraction(1, 3600)
"""A clip lasts an hour at most, so at this rate or a slower one no clip has the two frames that a record needs."""

DIGEST = "fingerprint"
"""In the record, in place of the recipe's digest, which may one day depend on the fingerprint."""

_ANNOTATION = Annotation("built_in_clip", 0.0, None, split="test", label="built-in clip")

# Settings that say which clips there are and how they are packed. A setting that is not listed here counts.
_WITHOUT_EFFECT: Mapping[str, Any] = {
    "clip_seconds": 10.0,
    "min_seconds": 0.0,
    "formats": ("tfrecord",),
    "clips_per_shard": 64,
}

_COMPUTING = threading.Lock()


def fingerprint(recipe: Recipe, hardware: Hardware = ANY_HARDWARE) -> str:
    """Returns the fingerprint of this process's tools under a recipe: computed once, then remembered.

    Threads that ask at the same time wait for the first of them.

    Args:
      recipe: of its settings only those that can change the bytes of a record count.
      hardware: which GPUs to test.

    Returns:
      64 hex digits.

    Raises:
      MissingTool: if the engine, or an ffmpeg that decodes the built-in clip, is missing.
    """
    with _COMPUTING:
        return _fingerprint(dataclasses.replace(recipe, **_WITHOUT_EFFECT), hardware)


@functools.lru_cache(maxsize=16)
def _fingerprint(recipe: Recipe, hardware: Hardware) -> str:
    return fingerprint_by(flow.engine(recipe.engine, hardware), recipe)


def fingerprint_by(engine: FlowEngine, recipe: Recipe) -> str:
    """Computes the fingerprint with an engine that is open; `recipe.engine` must be its name.

    Returns:
      64 hex digits: the sha256 of the record, and of its frames and flow before they were compressed. A compressed
      image can hide a difference that other clips would show.

    Raises:
      MissingTool: if no ffmpeg here decodes the built-in clip.
    """
    two_streams = _two_streams(engine, recipe)
    digest = hashlib.sha256(_record(two_streams, engine, recipe).to_bytes())
    digest.update(two_streams.clip.frames.tobytes())
    digest.update(two_streams.flow.levels.tobytes())
    return digest.hexdigest()


def _two_streams(engine: FlowEngine, recipe: Recipe) -> TwoStreamClip:
    clip = _decoded(recipe)
    return TwoStreamClip(clip, quantized_flow(clip, engine, recipe.tvl1, recipe.quantizer, recipe.bound_px, []))


def _record(two_streams: TwoStreamClip, engine: FlowEngine, recipe: Recipe) -> Record:
    flow_by = f"{recipe.flow_by}: {engine.version()}"
    return encode.encode_clip(
        two_streams,
        _ANNOTATION,
        label_index=0,
        seconds=_seconds(two_streams.clip.fps),
        origin=encode.Origin(built_in_clip.PATH.name, DIGEST, flow_by, dataclasses.asdict(recipe.tvl1)),
        flow_encoding=recipe.flow_encoding,
        jpeg_quality=recipe.jpeg_quality,
    )


def _decoded(recipe: Recipe) -> Clip:
    """The built-in clip as this machine's ffmpeg decodes it.

    Raises:
      MissingTool: if it decodes nothing or too little, or the file in the package is damaged.
    """
    _expect_sound_file()
    tool, fps = ffmpeg.locate(), max(recipe.fps, SLOWEST_FPS)
    try:
        clip = video.trim(
            video.probe(built_in_clip.PATH), 0.0, _seconds(fps), fps, short_side=recipe.short_side, min_seconds=0.0
        )
    except (ClipError, OSError) as error:  # an OSError if the program was removed or may not be run
        raise _unfit(tool, str(error)) from None
    if clip.next_frame is None:
        raise _unfit(tool, f"it has {len(clip)} frames, expected {FRAMES + 1}")
    return clip


def _seconds(fps: Fraction) -> float:
    """A length of `FRAMES` frames, however it is rounded."""
    return float((FRAMES - Fraction(1, 2)) / fps)


def _unfit(tool: ffmpeg.FFmpeg, why: str) -> MissingTool:
    return MissingTool(
        f"needs an ffmpeg that decodes H.264, found {tool.path} ({tool.version}), which does not decode the built-in "
        f"clip: {why}. Put another ffmpeg on the PATH, or none: `pip install imageio-ffmpeg` brings one"
    )


def _expect_sound_file() -> None:
    """Raises MissingTool unless the built-in clip is as it was published: else its fingerprint would blame a tool."""
    path = built_in_clip.PATH
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise MissingTool(
            f"{path}, a part of kinetics-prep, cannot be read: {error.strerror}. Install it again"
        ) from None
    if found != built_in_clip.SHA256:
        raise MissingTool(
            f"{path}, a part of kinetics-prep, is damaged: its sha256 is {found}, expected {built_in_clip.SHA256}. "
            "Install kinetics-prep again"
        )
