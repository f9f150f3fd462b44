"""Recipe: every setting that decides the bytes of a record.

Two runs with the same recipe, tool versions, annotations and videos write the same shards.
"""

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from kinetics_prep import flow
from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.flow import TVL1
from kinetics_prep.media.quantize import BOUND_PX, QUANTIZERS
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.image_codec import ENCODINGS


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a clip becomes a record. The defaults are the I3D paper's."""

    engine: str
    """A name from `flow.ENGINES`; never "auto", because most differ in the last digits."""
    fps: Fraction = Fraction(25)
    short_side: int = 256
    """Pixels."""
    clip_seconds: float = 10.0
    """A longer clip is cut."""
    min_seconds: float = 1.0
    """A clip whose video ends early must have at least so much."""
    tvl1: TVL1 = dataclasses.field(default_factory=TVL1)
    quantizer: str = "symmetric"
    bound_px: float = BOUND_PX
    flow_encoding: str = "jpeg"
    jpeg_quality: int = 95
    formats: tuple[str, ...] = ("tfrecord",)
    clips_per_shard: int = 64

    def __post_init__(self) -> None:
        for name in ("short_side", "jpeg_quality", "clips_per_shard"):
            self._check(name, isinstance(getattr(self, name), int), "a whole number")
        for name, kind in (("fps", Fraction), ("clip_seconds", float), ("min_seconds", float), ("bound_px", float)):
            # Equal recipes have equal digests: 10 and 10.0 are not the same JSON.
            object.__setattr__(self, name, kind(getattr(self, name)))
        self._check("engine", self.engine in flow.ENGINES, f"one of {', '.join(flow.ENGINES)}")
        self._check("fps", 0 < self.fps <= 1000, "over 0 and at most 1000")
        self._check("short_side", 16 <= self.short_side <= 4096, "16 to 4096")
        self._check("clip_seconds", 0 < self.clip_seconds <= 3600, "over 0 and at most 3600")
        self._check("min_seconds", 0 <= self.min_seconds <= self.clip_seconds, "0 to clip_seconds")
        self._check("quantizer", self.quantizer in QUANTIZERS, f"one of {', '.join(QUANTIZERS)}")
        self._check("bound_px", 0 < self.bound_px <= 1000, "over 0 and at most 1000")
        self._check("flow_encoding", self.flow_encoding in ENCODINGS, f"one of {', '.join(ENCODINGS)}")
        self._check("jpeg_quality", 1 <= self.jpeg_quality <= 100, "1 to 100")
        check_shape(self.formats, self.clips_per_shard)

    def _check(self, name: str, is_valid: bool, expected: str) -> None:
        _check(name, getattr(self, name), is_valid, expected)

    def settings(self) -> dict[str, Any]:
        """Plain values, for JSON. Engines that give the same flow make the same recipe."""
        changes = {"engine": self.flow_by, "fps": str(self.fps), "formats": list(self.formats)}
        return dataclasses.asdict(self) | changes

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Recipe":
        """The recipe with these settings; of the engines that give its flow the first that runs here.

        Raises:
          CorruptShard: if they are not settings of a recipe.
          MissingTool: if no such engine runs here.
        """
        try:
            changes = {
                "engine": flow.giving(settings["engine"]),
                "fps": Fraction(settings["fps"]),
                "tvl1": TVL1(**settings["tvl1"]),
                "formats": tuple(settings["formats"]),
            }
            return cls(**{**settings, **changes})
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise CorruptShard(f"recipe.json holds no recipe: {error!r}") from None

    @property
    def flow_by(self) -> str:
        """The engine's name, or that of the engine whose flow it gives bit for bit."""
        return flow.ENGINES[self.engine].GIVES


def check_shape(formats: tuple[str, ...], clips_per_shard: int) -> None:
    """Checks the settings that say how shards are written, and change no record.

    Raises:
      BadOption: if they make no sense.
    """
    is_known = bool(formats) and set(formats) <= set(SHARD_FORMATS)
    _check("formats", formats, is_known, f"one or more of {', '.join(SHARD_FORMATS)}")
    _check("formats", formats, len(set(formats)) == len(formats), "each format once")
    _check("clips_per_shard", clips_per_shard, 1 <= clips_per_shard <= 100_000, "1 to 100000")


def _check(name: str, value: object, is_valid: bool, expected: str) -> None:
    if not is_valid:
        value = ",".join(value) if isinstance(value, tuple) else value
        raise BadOption(f"{name} is {value}, expected {expected}")
