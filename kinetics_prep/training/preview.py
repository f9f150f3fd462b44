"""A clip of any video as it would stand in a shard, for a model to see: no annotation, no folder.

    clip = preview.of_video(Path("cat.mp4"), preview.recipe_for(weights.facts), ("rgb",))
    batch = preview.frames_of(clip, sampler)

Decoding, resizing, flow, quantizing and JPEG are those of `kinetics-prep flow`, so that a model sees what it was
trained on.
"""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np

from kinetics_prep import flow
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.errors import BadOption, BadVideo, ClipError
from kinetics_prep.flow.clip_flow import quantized_flow
from kinetics_prep.media import video
from kinetics_prep.media.clip import Clip, clip_notes
from kinetics_prep.models.facts import Facts
from kinetics_prep.reading import images
from kinetics_prep.reading.sampling import STREAMS, Sampler
from kinetics_prep.records import image_codec

SECONDS = 10.0
LONGEST_SECONDS = 60.0
"""No model of ours sees more, and the whole clip is in memory."""


@dataclasses.dataclass(frozen=True)
class Preview:
    """A clip as a shard would hold it, or one stream of it."""

    name: str
    """Of the file."""
    encoded: Mapping[str, list[bytes]]
    """Stream -> an image a frame: JPEG of RGB, and JPEG or PNG of levels of dx and dy."""
    height: int
    """Of the images, px."""
    width: int
    quantizer: str
    notes: tuple[str, ...] = ()
    """Notes on how it was made, such as "video ends early, after 3 frames"."""

    def __post_init__(self) -> None:
        frames = {len(encoded) for encoded in self.encoded.values()}
        if not set(self.encoded) <= set(STREAMS) or len(frames) != 1 or not min(frames):
            raise ValueError(f"needs images of one or both of {STREAMS}, equally many of each and at least one")

    def __len__(self) -> int:
        """Number of frames."""
        return len(next(iter(self.encoded.values())))


def recipe_for(facts: Facts, seconds: float = SECONDS) -> Recipe:
    """How to prepare clips for weights. Where they do not know, as the paper does: crops are 7/8 of the short side.

    Flow is TV-L1 with the parameters of the paper, by the fastest engine that runs here. For weights that see no flow,
    no engine is looked for.

    Args:
      seconds: length of the clips.

    Raises:
      BadOption: if the length is not over 0 and at most `LONGEST_SECONDS`.
    """
    if not 0 < seconds <= LONGEST_SECONDS:
        raise BadOption(f"a clip of {seconds:g} s: expected over 0 and at most {LONGEST_SECONDS:g}")
    recipe = Recipe(
        engine="tvl1" if facts.stream == "rgb" else flow.choose(),
        fps=Fraction(facts.fps),
        short_side=facts.short_side or facts.size * 8 // 7,
        clip_seconds=seconds,
        min_seconds=0.0,
        bound_px=facts.bound_px,
    )
    return recipe if facts.quantizer is None else dataclasses.replace(recipe, quantizer=facts.quantizer)


def of_video(path: Path, recipe: Recipe, streams: tuple[str, ...] = STREAMS, start_seconds: float = 0.0) -> Preview:
    """Prepares a clip of a video file. Flow takes most of the time, and is computed only if it is one of the streams.

    Args:
      start_seconds: where the clip begins. It lasts `recipe.clip_seconds`, or until the video ends.

    Raises:
      BadVideo: if there is no such file, or it holds no usable clip there.
      BadOption: if `start_seconds` is negative or not finite.
    """
    if not 0 <= start_seconds < float("inf"):
        raise BadOption(f"a clip cannot begin at {start_seconds:g} s")
    if not path.is_file():
        raise BadVideo(f"{path} is not a file")
    try:
        clip = video.trim(
            video.probe(path),
            start_seconds=start_seconds,
            seconds=recipe.clip_seconds,
            fps=recipe.fps,
            short_side=recipe.short_side,
            min_seconds=recipe.min_seconds,
        )
    except ClipError as error:
        raise BadVideo(" ".join(f"{path}: {error}".split())) from None
    notes = clip_notes(clip)
    encoded = {stream: _ENCODED[stream](clip, recipe, notes) for stream in streams}
    _, height, width, _ = clip.frames.shape
    return Preview(path.name, encoded, height, width, recipe.quantizer, tuple(notes))


def _encoded_frames(clip: Clip, recipe: Recipe, notes: list[str]) -> list[bytes]:
    return [image_codec.encode_frame(frame, recipe.jpeg_quality) for frame in clip.frames]


def _encoded_flow(clip: Clip, recipe: Recipe, notes: list[str]) -> list[bytes]:
    quantized = quantized_flow(clip, flow.engine(recipe.engine), recipe.tvl1, recipe.quantizer, recipe.bound_px, notes)
    return [image_codec.encode_levels(levels, recipe.flow_encoding, recipe.jpeg_quality) for levels in quantized.levels]


_ENCODED = {"rgb": _encoded_frames, "flow": _encoded_flow}


def frames_of(preview: Preview, sampler: Sampler) -> dict[str, np.ndarray]:
    """What a model sees of a clip at test, through the decoder that reads shards.

    Args:
      sampler: of the streams that the model sees; for tests, not one that draws at random.

    Returns:
      A batch of one: stream -> uint8 [1, T, size, size, 3 or 2], RGB, or levels of dx and dy.

    Raises:
      BadOption: if the images are too small for the crop.
    """
    if sampler.train or not set(sampler.streams) <= set(preview.encoded):
        raise ValueError(f"needs a sampler for tests of streams among {', '.join(preview.encoded)}")
    draw = sampler.draw(preview.name, 0, len(preview), preview.height, preview.width)
    batch = {}
    for stream in sampler.streams:
        shape = (1, len(draw.indices[stream]), sampler.size, sampler.size, images.CHANNELS[stream])
        batch[stream] = np.empty(shape, np.uint8)
        encoded = {frame: memoryview(image) for frame, image in enumerate(preview.encoded[stream])}
        images.stack(encoded, stream, draw, preview.quantizer, batch[stream][0])
    return batch
