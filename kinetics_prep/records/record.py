"""Record: one clip as it is on disk, in any shard format; Record <-> SequenceExample bytes."""

import dataclasses
from typing import TypeAlias, TypeVar

import numpy as np

from kinetics_prep.errors import CorruptShard
from kinetics_prep.media import quantize
from kinetics_prep.records import sequence_example
from kinetics_prep.records.features import FEATURES
from kinetics_prep.records.image_codec import decode_image

FeatureValue: TypeAlias = str | int | float | list[bytes] | list[int]
"""Text is str, bytes are encoded images; a list has one value a frame."""

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Record:
    """One clip as it is on disk. Absent optional features are left out."""

    features: dict[str, FeatureValue]
    """By their names in `FEATURES`."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.features) - set(FEATURES))
        missing = [name for name, feature in FEATURES.items() if feature.required and name not in self.features]
        if unknown or missing:
            raise CorruptShard(f"record lacks {missing or 'nothing'} and holds unknown {unknown or 'nothing'}")
        lengths = {name: len(self._list(name)) for name in self.features if FEATURES[name].is_list}
        if len(set(lengths.values())) != 1 or not min(lengths.values()):
            raise CorruptShard(f"feature lists must be of one length and not empty, got {lengths}")

    def __getitem__(self, name: str) -> FeatureValue:
        return self.features[name]

    def get(self, name: str, default: FeatureValue | None = None) -> FeatureValue | None:
        """Returns the value of a feature, or `default` if the record lacks it."""
        return self.features.get(name, default)

    def text(self, name: str) -> str:
        """Returns the value of a text feature.

        This and the accessors below raise `CorruptShard` if the value has another type.
        """
        return _expect_type(name, self[name], str)

    def integer(self, name: str) -> int:
        """Returns the value of an int64 feature."""
        return _expect_type(name, self[name], int)

    def real(self, name: str) -> float:
        """Returns the value of a float feature."""
        return float(_expect_type(name, self[name], (int, float)))

    def images(self, name: str) -> list[bytes]:
        """Returns the values of a feature list of bytes: encoded images, one a frame."""
        return [_expect_type(name, value, bytes) for value in self._list(name)]

    def integers(self, name: str) -> list[int]:
        """Returns the values of a feature list of int64, one a frame."""
        return [_expect_type(name, value, int) for value in self._list(name)]

    def _list(self, name: str) -> list:
        return _expect_type(name, self[name], list)

    def __len__(self) -> int:
        """Frames."""
        return len(self._list("image/encoded"))

    def __repr__(self) -> str:
        return f"Record({self['example/id']!r}, {len(self)} frames)"

    def frame(self, k: int) -> np.ndarray:
        """Returns frame k: uint8 [H, W, 3], RGB.

        This and the two methods below raise `CorruptShard` if the image does not decode.
        """
        return self._image("image/encoded", k, "frame")

    def levels(self, k: int) -> np.ndarray:
        """Returns quantized flow k: uint8 [H, W, 2], (dx, dy)."""
        return self._image("FORWARD_FLOW/image/encoded", k, "flow")[..., :2]

    def flow(self, k: int) -> np.ndarray:
        """Returns flow k: float32 [H, W, 2], (dx, dy) px, from frame k to frame k + 1."""
        bound, name = self.real("kinetics_prep/bound_px"), self.text("kinetics_prep/quantizer")
        if name not in quantize.QUANTIZERS:
            raise CorruptShard(f"flow was quantized by {name!r}, which is not known here")
        return quantize.dequantize(self.levels(k), name, bound)

    def _image(self, name: str, k: int, noun: str) -> np.ndarray:
        data = _expect_type(name, self._list(name)[k], bytes)
        return decode_image(data, f"{noun} {k} of {self.text('example/id')}")

    def to_bytes(self) -> bytes:
        """Returns a serialized SequenceExample; the same record gives the same bytes."""
        context, lists = {}, {}
        for name, value in self.features.items():
            kind = FEATURES[name].kind
            if isinstance(value, list):
                lists[name] = (kind, value)
            else:
                context[name] = (kind, value.encode() if isinstance(value, str) else value)
        return sequence_example.serialize(context, lists)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Record":
        """Reads what `to_bytes` wrote.

        Raises:
          CorruptShard: if the bytes are not a SequenceExample, or lack a required feature.
        """
        context, lists = sequence_example.parse(data)
        twice = sorted(context.keys() & lists.keys())
        if twice:
            raise CorruptShard(f"record holds {twice} twice")
        # Features that a newer version added are passed over.
        context, lists = (
            {name: values for name, values in part.items() if name in FEATURES} for part in (context, lists)
        )
        features = {name: _from_values(name, "feature_list", values) for name, values in lists.items()}
        features |= {name: _from_values(name, "context", values) for name, values in context.items()}
        return cls(features)


def _expect_type(name: str, value: object, kind: type[_T] | tuple[type[_T], ...]) -> _T:
    if not isinstance(value, kind):
        raise CorruptShard(f"{name} holds a value of type {type(value).__name__}")
    return value


_SERIALIZED_TYPES = {"bytes": bytes, "text": bytes, "int64": int, "float": float}


def _from_values(name: str, where: str, values: list) -> FeatureValue:
    """A feature's value, or its list of values, as it was before `to_bytes`."""
    feature = FEATURES[name]
    kind = _SERIALIZED_TYPES[feature.type]
    if feature.where != where or not all(isinstance(value, kind) for value in values):
        raise CorruptShard(f"{name} is not a {feature.where} of {feature.type}")
    if feature.is_list:
        return values
    if len(values) != 1:
        raise CorruptShard(f"context feature {name} holds {len(values)} values, expected 1")
    return values[0].decode("utf-8", "replace") if feature.type == "text" else values[0]
