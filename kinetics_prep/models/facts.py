"""The facts of a weights file: what the weights are for, and which clips they expect.

They stand in the metadata of the safetensors file as one JSON text. The library that writes the file orders several
entries at random, and the same weights must make the same bytes.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from fractions import Fraction

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.errors import BadOption, BadWeights
from kinetics_prep.media.quantize import BOUND_PX, QUANTIZERS
from kinetics_prep.models.spec import STREAMS

_METADATA = "kinetics-prep"
_VERSION = 1

_WHOLE_RANGES = {"classes": (2, 100_000), "size": (1, 4096), "span": (1, 100_000), "stride": (1, 1000)}

# No exponent: `Fraction("1e99999999")` computes for minutes, and the text may be a stranger's.
_RATE = re.compile(r"[0-9]{1,9}([./][0-9]{1,9})?", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What weights are for, and what they expect of a clip."""

    model: str
    """A name from `models.MODELS`, or of a network that only serves as a beginning, such as "inception-v1"."""
    stream: str
    classes: int
    labels: tuple[str, ...] = ()
    """In the order of their class ids; empty if they are unknown."""
    size: int = 224
    """Height and width of the input, px."""
    span: int = 64
    """Frames of a training sample."""
    stride: int = 1
    """The model sees every `stride`th frame of a clip."""
    fps: str = "25"
    """Frames per second of the clips, before the stride: a fraction."""
    short_side: int | None = 256
    """Of the clips, px; None if it is unknown."""
    quantizer: str | None = None
    """Of the flow; None if it is unknown: then any is accepted."""
    bound_px: float = BOUND_PX
    """Flow was clipped to plus or minus this many px."""
    origin: str = "unknown"
    """Where the weights come from, in words."""

    def __post_init__(self) -> None:
        is_name = isinstance(self.model, str) and re.fullmatch(r"[a-z0-9-]{1,40}", self.model)
        self._check("model", bool(is_name), "a name of small letters, digits and -")
        self._check("stream", self.stream in STREAMS, f"one of {', '.join(STREAMS)}")
        for field, (least, most) in _WHOLE_RANGES.items():
            self._check(field, _is_whole(getattr(self, field), least, most), f"{least} to {most}")
        self._check("fps", _is_rate(self.fps), "a fraction, over 0 and at most 1000")
        self._check("short_side", self.short_side is None or _is_whole(self.short_side, 1, 4096), "1 to 4096, or none")
        self._check("quantizer", self.quantizer in (None, *QUANTIZERS), f"one of {', '.join(QUANTIZERS)}, or none")
        is_number = isinstance(self.bound_px, int | float) and not isinstance(self.bound_px, bool)
        self._check("bound_px", is_number and 0 < self.bound_px <= 1000, "over 0 and at most 1000")
        self._check("origin", isinstance(self.origin, str) and len(self.origin) <= 10_000, "words")
        self._check_labels()

    def _check_labels(self) -> None:
        if not isinstance(self.labels, tuple) or not all(isinstance(label, str) for label in self.labels):
            raise BadOption("labels are not texts")
        LabelMap(self.labels)  # refuses duplicates
        if len(self.labels) not in (0, self.classes):
            raise BadOption(f"weights of {self.classes} classes, with {len(self.labels)} labels")

    def _check(self, name: str, condition: bool, expected: str) -> None:
        if not condition:
            raise BadOption(f"{name} is {str(getattr(self, name))[:100]!r}, expected {expected}")

    def to_metadata(self) -> dict[str, str]:
        """The facts as metadata of a safetensors file."""
        content = {"version": _VERSION} | dataclasses.asdict(self)
        return {_METADATA: json.dumps(content, sort_keys=True, ensure_ascii=False)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None) -> "Facts":
        """The inverse of `to_metadata`, for metadata that a stranger may have written.

        Raises:
          BadWeights: if there are no facts, or they make no sense.
        """
        text = (metadata or {}).get(_METADATA)
        if text is None:
            raise BadWeights("it does not say what it is for: expected a file that `kinetics-prep` wrote")
        try:
            content = json.loads(text)
            if content.pop("version") != _VERSION:
                raise BadWeights("it was written by another version of kinetics-prep")
            labels = content.pop("labels", [])
            if not isinstance(labels, list):  # a text would pass as a tuple of letters
                raise BadOption("labels are not a list")
            return cls(labels=tuple(labels), **content)
        except (BadOption, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BadWeights(f"its facts make no sense: {error}") from None


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_rate(text: object) -> bool:
    if not isinstance(text, str) or not _RATE.fullmatch(text):
        return False
    try:
        return 0 < Fraction(text) <= 1000
    except ZeroDivisionError:
        return False
