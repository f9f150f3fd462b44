"""TwoStreamClip -> Record: which feature gets which value."""

import dataclasses
import functools
import json
from collections.abc import Mapping

from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.media.clip import TwoStreamClip
from kinetics_prep.records.image_codec import encode_frame, encode_levels
from kinetics_prep.records.record import FeatureValue, Record


@dataclasses.dataclass(frozen=True)
class Origin:
    """How a record was made, as far as the record states it."""

    data_path: str
    """The source file's name, without its folders."""
    recipe: str
    """Digest of the recipe."""
    engine: str
    """What computed the flow, and its version."""
    tvl1: Mapping[str, float]
    """The parameters of TV-L1 by name."""


def encode_clip(
    two_streams: TwoStreamClip,
    annotation: Annotation,
    label_index: int | None,
    seconds: float,
    origin: Origin,
    flow_encoding: str = "jpeg",
    jpeg_quality: int = 95,
) -> Record:
    """Returns the record of a clip.

    Args:
      label_index: class id; None if the annotation has no label.
      seconds: how long the clip is, or would be if its video did not end early.
      flow_encoding: one of `image_codec.ENCODINGS`.

    Raises:
      ValueError: if the annotation has a label and there is no class id.
    """
    clip, flow = two_streams.clip, two_streams.flow
    frame_jpeg = functools.partial(encode_frame, quality=jpeg_quality)
    flow_image = functools.partial(encode_levels, encoding=flow_encoding, quality=jpeg_quality)
    features: dict[str, FeatureValue] = {
        "example/id": annotation.clip_id,
        "clip/media_id": annotation.media_id,
        "clip/data_path": origin.data_path,
        "clip/start/timestamp": annotation.start_us,
        "clip/end/timestamp": annotation.start_us + round(seconds * 1e6),
        "kinetics_prep/split": annotation.split,
        "kinetics_prep/recipe": origin.recipe,
        "kinetics_prep/engine": origin.engine,
        "kinetics_prep/tvl1": json.dumps(dict(origin.tvl1), sort_keys=True),
        "kinetics_prep/quantizer": flow.quantizer,
        "kinetics_prep/bound_px": flow.bound_px,
        "kinetics_prep/saturated_share": flow.saturated_share,
        "kinetics_prep/last_flow": flow.last,
        "kinetics_prep/ends_early": int(clip.ends_early),
        "image/encoded": [frame_jpeg(frame) for frame in clip.frames],
        "FORWARD_FLOW/image/encoded": [flow_image(levels) for levels in flow.levels],
    }
    for stream, image_format in (("", "JPEG"), ("FORWARD_FLOW/", flow_encoding.upper())):
        features |= _stream_features(stream, image_format, two_streams, annotation)
    if annotation.label is not None:
        if label_index is None:
            raise ValueError(f"label {annotation.label!r} needs a class id")
        features |= {
            "clip/label/index": label_index,
            "clip/label/string": annotation.label,
            "clip/label/text": annotation.label,
        }
    return Record(features)


def _stream_features(
    stream: str, image_format: str, two_streams: TwoStreamClip, annotation: Annotation
) -> dict[str, FeatureValue]:
    """The features that frames and flow both have. `stream` is the prefix of their names."""
    clip = two_streams.clip
    count, height, width, _ = clip.frames.shape
    return {
        f"{stream}image/format": image_format,
        f"{stream}image/height": height,
        f"{stream}image/width": width,
        f"{stream}image/channels": 3,
        f"{stream}image/frame_rate": float(clip.fps),
        f"{stream}image/timestamp": [annotation.start_us + round(k * 1_000_000 / clip.fps) for k in range(count)],
    }
