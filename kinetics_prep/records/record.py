"""TwoStreamClip <-> Record <-> SequenceExample bytes. The only file that names features.

The names are MediaSequence's (google/mediapipe, mediapipe/util/sequence/README.md); the words on
disk stand in `schemas/record.json`.
"""

import dataclasses
import functools
import io
import json
from collections.abc import Mapping

import numpy as np
from PIL import Image, UnidentifiedImageError

from kinetics_prep import schemas
from kinetics_prep.annotations.annotation import Annotation
from kinetics_prep.errors import CorruptShard
from kinetics_prep.media import quantize
from kinetics_prep.media.clip import TwoStreamClip
from kinetics_prep.records import sequence_example

LARGEST_PIXELS = 64_000_000
"""Of an image in a record: a header can claim any size, and records of others are read too."""


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a record, as `schemas/record.json` describes it."""

    name: str
    where: str
    """"context" (one value) or "feature_list" (one value a frame)."""
    type: str
    """"bytes", "text" (UTF-8), "int64" or "float"."""
    column: str
    """Its name in Parquet."""
    required: bool
    meaning: str

    @property
    def kind(self) -> str:
        """Its kind in a SequenceExample."""
        return "bytes" if self.type == "text" else self.type


ENCODINGS = ("jpeg", "png")
"""Of flow images; frames are always JPEG, as their source was lossy already."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a record says of how it was made."""

    data_path: str
    """The source file's name; its folders are not kept."""
    recipe: str
    """Digest of the recipe."""
    engine: str
    """What computed the flow, and its version."""
    tvl1: Mapping[str, float]
    """The parameters of TV-L1 by name."""


FEATURES = {item["name"]: Feature(**item) for item in schemas.load("record")["features"]}


@dataclasses.dataclass(frozen=True)
class Record:
    """One clip as it stands on disk: feature name -> value, or list of values for feature lists.

    Text is str, bytes are encoded images. Absent optional features are left out.
    """

    features: dict

    def __post_init__(self):
        unknown = sorted(set(self.features) - set(FEATURES))
        missing = [name for name, feature in FEATURES.items() if feature.required and name not in self.features]
        if unknown or missing:
            raise CorruptShard(f"record lacks {missing or 'nothing'} and holds unknown {unknown or 'nothing'}")
        lengths = {name: len(self[name]) for name, feature in FEATURES.items() if feature.where == "feature_list"}
        if len(set(lengths.values())) != 1 or not min(lengths.values()):
            raise CorruptShard(f"feature lists must be of one length and not empty, got {lengths}")

    def __getitem__(self, name):
        return self.features[name]

    def get(self, name, default=None):
        return self.features.get(name, default)

    def __len__(self):
        """Frames."""
        return len(self["image/encoded"])

    def __repr__(self):
        return f"Record({self['example/id']!r}, {len(self)} frames)"

    def frame(self, k: int) -> np.ndarray:
        """Frame k: uint8 [H, W, 3], RGB."""
        return _decoded(self["image/encoded"][k], f"frame {k} of {self['example/id']}")

    def levels(self, k: int) -> np.ndarray:
        """Quantized flow k: uint8 [H, W, 2], (dx, dy)."""
        planes = _decoded(self["FORWARD_FLOW/image/encoded"][k], f"flow {k} of {self['example/id']}")
        return planes[..., :2]

    def flow(self, k: int) -> np.ndarray:
        """Flow k: float32 [H, W, 2], (dx, dy) px, from frame k to frame k + 1."""
        bound, name = self["kinetics_prep/bound_px"], self["kinetics_prep/quantizer"]
        if name not in quantize.QUANTIZERS:
            raise CorruptShard(f"flow was quantized by {name!r}, which is not known here")
        return quantize.dequantize(self.levels(k), name, bound)

    def to_bytes(self) -> bytes:
        """A serialized SequenceExample; the same record gives the same bytes."""
        context, lists = {}, {}
        for name, value in self.features.items():
            feature = FEATURES[name]
            value = value.encode() if feature.type == "text" else value
            (lists if feature.where == "feature_list" else context)[name] = (feature.kind, value)
        return sequence_example.serialize(context, lists)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Record":
        """Reads what `to_bytes` wrote.

        Raises:
          CorruptShard: if it is no SequenceExample, or holds other features than ours.
        """
        context, lists = sequence_example.parse(data)
        features = {name: _read(name, "feature_list", values) for name, values in lists.items()}
        features |= {name: _read(name, "context", values) for name, values in context.items()}
        if len(features) < len(context) + len(lists):
            raise CorruptShard(f"record holds {sorted(context.keys() & lists.keys())} twice")
        return cls(features)


_PYTHON_TYPES = {"bytes": bytes, "text": bytes, "int64": int, "float": float}


def _read(name: str, where: str, values: list):
    """A feature's value, or its list of values, as it was before `to_bytes`."""
    feature = FEATURES.get(name)
    if feature is None:
        return values  # Record refuses it by its name
    kind = _PYTHON_TYPES[feature.type]
    if feature.where != where or not all(isinstance(value, kind) for value in values):
        raise CorruptShard(f"{name} is not a {feature.where} of {feature.type}")
    if where == "feature_list":
        return values
    if len(values) != 1:
        raise CorruptShard(f"context feature {name} holds {len(values)} values, expected 1")
    return values[0].decode("utf-8", "replace") if feature.type == "text" else values[0]


def _decoded(data: bytes, what: str) -> np.ndarray:
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        if image.width * image.height > LARGEST_PIXELS:
            raise ValueError(f"it claims {image.width}x{image.height} pixels")
        return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise CorruptShard(f"{what} does not decode: {error}") from None


def _encoded(pixels: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **options)
    return buffer.getvalue()


def encode_frame(frame: np.ndarray, quality: int) -> bytes:
    """uint8 [H, W, 3] RGB -> JPEG."""
    return _encoded(frame, format="JPEG", quality=quality)


def encode_levels(levels: np.ndarray, encoding: str, quality: int) -> bytes:
    """uint8 [H, W, 2] -> image with planes dx, dy, 0.

    A colour JPEG would mix dx and dy by turning them into luma and chroma; `keep_rgb` does not.
    """
    planes = np.zeros((*levels.shape[:2], 3), np.uint8)
    planes[..., :2] = levels
    if encoding == "png":
        return _encoded(planes, format="PNG", compress_level=6)
    return _encoded(planes, format="JPEG", quality=quality, subsampling=0, keep_rgb=True)


def encode(
    two_streams: TwoStreamClip,
    annotation: Annotation,
    label_index: int | None,
    seconds: float,
    origin: Origin,
    flow_encoding: str = "jpeg",
    jpeg_quality: int = 95,
) -> Record:
    """The record of a clip that lasts `seconds`, or would if its video did not end early."""
    clip, flow = two_streams.clip, two_streams.flow
    frames, height, width, _ = clip.frames.shape
    times = [annotation.start_us + round(k * 1_000_000 / clip.fps) for k in range(frames)]
    frame_jpeg = functools.partial(encode_frame, quality=jpeg_quality)
    flow_image = functools.partial(encode_levels, encoding=flow_encoding, quality=jpeg_quality)
    features = {
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
        features |= {
            f"{stream}image/format": image_format,
            f"{stream}image/height": height,
            f"{stream}image/width": width,
            f"{stream}image/channels": 3,
            f"{stream}image/frame_rate": float(clip.fps),
            f"{stream}image/timestamp": times,
        }
    if annotation.label is not None:
        features |= {
            "clip/label/index": label_index,
            "clip/label/string": annotation.label,
            "clip/label/text": annotation.label,
        }
    return Record(features)
