"""Weights on disk: a safetensors file of named arrays, and the facts that whoever uses them must know.

An array's name is `<layer>/<variable>`, e.g. `Mixed_3b.Branch_0.Conv3d_0a_1x1.conv_3d/kernel`. The facts stand in the
file's metadata, as one JSON text, because the library that writes the file puts several in whatever order.
"""

import dataclasses
import json
import math
import re
from collections.abc import Collection, Mapping
from fractions import Fraction
from pathlib import Path

import keras
import numpy as np
import safetensors
import safetensors.numpy

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.errors import BadOption, BadWeights
from kinetics_prep.media.quantize import BOUND_PX, QUANTIZERS
from kinetics_prep.models.spec import CHANNELS, STREAMS
from kinetics_prep.storage.files import atomic

_METADATA = "kinetics-prep"
_VERSION = 1
_SHOWN = 10

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Facts:
    """What weights are for, and what they expect of a clip."""

    model: str
    """A name from `models.MODELS`, or of a network that is only there to begin from, as "inception-v1"."""
    stream: str
    classes: int
    labels: tuple[str, ...] = ()
    """In the order of their ids; none if nobody knows them."""
    size: int = 224
    """Height and width of the input, px."""
    span: int = 64
    """Frames of a training sample."""
    stride: int = 1
    """Of the frames of a clip, every how many."""
    fps: str = "25"
    """Of the clips, before the stride: a fraction."""
    short_side: int | None = 256
    """Of the clips, px; None if nobody knows it."""
    quantizer: str | None = None
    """Of the flow; None if nobody knows it, so that any will do."""
    bound_px: float = BOUND_PX
    origin: str = "unknown"
    """Where they come from, in words."""

    def __post_init__(self):
        object.__setattr__(self, "labels", tuple(self.labels))
        name = isinstance(self.model, str) and re.fullmatch(r"[a-z0-9-]{1,40}", self.model)
        self._expect("model", bool(name), "a name of small letters, digits and -")
        self._expect("stream", self.stream in STREAMS, f"one of {', '.join(STREAMS)}")
        for field, least, most in (
            ("classes", 2, 100_000),
            ("size", 1, 4096),
            ("span", 1, 100_000),
            ("stride", 1, 1000),
        ):
            self._expect(field, _whole(getattr(self, field), least, most), f"{least} to {most}")
        self._expect("fps", _is_rate(self.fps), "a fraction, over 0 and at most 1000")
        self._expect("short_side", self.short_side is None or _whole(self.short_side, 1, 4096), "1 to 4096, or none")
        self._expect("quantizer", self.quantizer in (None, *QUANTIZERS), f"one of {', '.join(QUANTIZERS)}, or none")
        bound = isinstance(self.bound_px, int | float) and 0 < self.bound_px <= 1000
        self._expect("bound_px", bound, "over 0 and at most 1000")
        self._expect("origin", isinstance(self.origin, str) and len(self.origin) <= 10_000, "words")
        self._expect_labels()

    def _expect_labels(self):
        if not all(isinstance(label, str) for label in self.labels):
            raise BadOption("labels are no texts")
        LabelMap(self.labels)  # refuses what stands there twice
        if len(self.labels) not in (0, self.classes):
            raise BadOption(f"weights of {self.classes} classes, with {len(self.labels)} labels")

    def _expect(self, name: str, condition: bool, expected: str) -> None:
        if not condition:
            raise BadOption(f"{name} is {str(getattr(self, name))[:100]!r}, expected {expected}")

    def to_metadata(self) -> dict[str, str]:
        """As the metadata of a safetensors file."""
        content = {"version": _VERSION} | dataclasses.asdict(self)
        return {_METADATA: json.dumps(content, sort_keys=True, ensure_ascii=False)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None) -> "Facts":
        """The inverse.

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
            return cls(**content)
        except (BadOption, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BadWeights(f"what it says of itself makes no sense: {error}") from None


def _whole(value, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_rate(text) -> bool:
    try:
        return isinstance(text, str) and len(text) <= 40 and 0 < Fraction(text) <= 1000
    except (ValueError, ZeroDivisionError):
        return False


@dataclasses.dataclass(frozen=True)
class Weights:
    """Named arrays, and what they are for."""

    facts: Facts
    arrays: Arrays

    def __post_init__(self):
        for name, array in self.arrays.items():
            if array.dtype != np.float32:
                raise BadWeights(f"array {name} is {array.dtype}, expected float32")
            if not np.isfinite(array).all():
                raise BadWeights(f"array {name} holds values that are not finite")


def save(path: Path, weights: Weights) -> None:
    """Writes weights, whole or not at all. The same weights make the same bytes."""
    path = Path(path)
    arrays = {name: np.ascontiguousarray(array) for name, array in sorted(weights.arrays.items())}
    data = safetensors.numpy.save(arrays, weights.facts.to_metadata())
    with atomic(path, path.parent) as temporary:
        temporary.write_bytes(data)


def load(path: Path) -> Weights:
    """Reads weights; the file may be anybody's.

    Raises:
      BadWeights: if it is not there, is damaged, or is not what `save` writes.
    """
    try:
        # Of the file itself safetensors believes nothing: it sets names, types and shapes against the bytes there are.
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = Facts.from_metadata(file.metadata())
            return Weights(facts, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except BadWeights as error:
        raise BadWeights(f"{path}: {error}") from None
    except (OSError, safetensors.SafetensorError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise BadWeights(f"{path} does not read as safetensors: {error}") from None


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """The variables of a model that are its weights, by name; not the states of random generators."""
    found = {}
    for layer in model.layers:
        for variable in layer.weights:
            found[f"{layer.name}/{variable.name}"] = variable
    return found


def of_model(model: keras.Model) -> Arrays:
    """A model's weights, by name; copies, which training does not change."""
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in variables(model).items()}


def restore(model: keras.Model, arrays: Mapping[str, np.ndarray], without: Collection[str] = ()) -> None:
    """Gives a model its weights; all of them, and nothing is left over.

    Args:
      without: names of layers that keep what they have, as a new head. Their arrays, if there are any, are not looked
        at.

    Raises:
      BadWeights: naming what is missing, unknown, or of another shape. The model is then as it was.
    """
    here = {name: variable for name, variable in variables(model).items() if _layer(name) not in without}
    given = {name: array for name, array in arrays.items() if _layer(name) not in without}
    problems = [f"{name} is missing" for name in sorted(here.keys() - given.keys())]
    problems += [f"{name} is unknown" for name in sorted(given.keys() - here.keys())]
    problems += [
        f"{name} is {_told(given[name].shape)}, expected {_told(here[name].shape)}"
        for name in sorted(here.keys() & given.keys())
        if tuple(given[name].shape) != tuple(here[name].shape)
    ]
    refuse(problems, f"weights do not fit {model.name}")
    for name, variable in here.items():
        variable.assign(given[name])


def _layer(name: str) -> str:
    return name.rpartition("/")[0]


def _told(shape) -> str:
    return "x".join(map(str, shape)) or "a number"


def refuse(problems: list[str], what: str) -> None:
    """Raises `BadWeights` if there are problems: the first ten by name, the others by number."""
    if problems:
        more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise BadWeights(f"{what}: {'; '.join(problems[:_SHOWN])}{more}")


def with_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A first kernel that was made for RGB, for so many channels: the mean over red, green and blue, in each.

    Wang et al., "Temporal Segment Networks", ECCV 2016, section 3.2, call it cross-modality initialisation.

    Args:
      kernel: float32 [..., 3, out].
    """
    return np.repeat(kernel.mean(axis=-2, keepdims=True, dtype=np.float32), channels, axis=-2)


def adapt_rgb_to_flow(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Weights of an RGB network as those of a flow network to begin from: its first kernel takes dx and dy.

    Each of the two gets the mean over red, green and blue; see `with_channels`.

    Raises:
      BadWeights: if not just one kernel takes three channels.
    """
    first = [name for name, array in arrays.items() if name.endswith("/kernel") and _takes_rgb(array)]
    if len(first) != 1:
        raise BadWeights(f"expected one kernel that takes RGB, found {len(first)}: {', '.join(first[:_SHOWN])}")
    return dict(arrays) | {first[0]: with_channels(arrays[first[0]], CHANNELS["flow"])}


def _takes_rgb(kernel: np.ndarray) -> bool:
    return kernel.ndim >= 4 and kernel.shape[-2] == CHANNELS["rgb"]


def parameters(model: keras.Model) -> int:
    """How many numbers a model's weights are, the moving means and variances of batch norm among them."""
    return sum(math.prod(variable.shape) for variable in variables(model).values())
