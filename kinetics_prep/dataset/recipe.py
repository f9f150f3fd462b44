"""Recipe: every setting and version that decides the bytes of a record.

Two runs with the same recipe, annotations and videos write the same shards. Its digest goes into
each record and guards a folder against a second recipe.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import PIL
import PIL.features
import pyarrow

import kinetics_prep
from kinetics_prep import flow
from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.flow import TVL1
from kinetics_prep.media import ffmpeg as ffmpeg_tool
from kinetics_prep.media.quantize import BOUND_PX, QUANTIZERS
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.image_codec import ENCODINGS

RECORD_VERSION = 2
"""Goes up whenever the same inputs and settings would give other bytes."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a clip becomes a record. The defaults are the I3D paper's."""

    engine: str
    """A name from `flow.ENGINES`; never "auto", because most differ in the last digits."""
    fps: Fraction = Fraction(25)
    short_side: int = 256
    clip_seconds: float = 10.0
    min_seconds: float = 1.0
    tvl1: TVL1 = dataclasses.field(default_factory=TVL1)
    quantizer: str = "symmetric"
    bound_px: float = BOUND_PX
    flow_encoding: str = "jpeg"
    jpeg_quality: int = 95
    formats: tuple[str, ...] = ("tfrecord",)
    clips_per_shard: int = 64

    def __post_init__(self):
        for name in ("short_side", "jpeg_quality", "clips_per_shard"):
            self._expect(name, isinstance(getattr(self, name), int), "a whole number")
        for name, kind in (("fps", Fraction), ("clip_seconds", float), ("min_seconds", float), ("bound_px", float)):
            # Equal recipes have equal digests: 10 and 10.0 are not the same JSON.
            object.__setattr__(self, name, kind(getattr(self, name)))
        self._expect("engine", self.engine in flow.ENGINES, f"one of {', '.join(flow.ENGINES)}")
        self._expect("fps", 0 < self.fps <= 1000, "over 0 and at most 1000")
        self._expect("short_side", 16 <= self.short_side <= 4096, "16 to 4096")
        self._expect("clip_seconds", 0 < self.clip_seconds <= 3600, "over 0 and at most 3600")
        self._expect("min_seconds", 0 <= self.min_seconds <= self.clip_seconds, "0 to clip_seconds")
        self._expect("quantizer", self.quantizer in QUANTIZERS, f"one of {', '.join(QUANTIZERS)}")
        self._expect("bound_px", 0 < self.bound_px <= 1000, "over 0 and at most 1000")
        self._expect("flow_encoding", self.flow_encoding in ENCODINGS, f"one of {', '.join(ENCODINGS)}")
        self._expect("jpeg_quality", 1 <= self.jpeg_quality <= 100, "1 to 100")
        known = bool(self.formats) and set(self.formats) <= set(SHARD_FORMATS)
        self._expect("formats", known, f"one or more of {', '.join(SHARD_FORMATS)}")
        self._expect("formats", len(set(self.formats)) == len(self.formats), "each format once")
        self._expect("clips_per_shard", 1 <= self.clips_per_shard <= 100_000, "1 to 100000")

    def _expect(self, name: str, condition: bool, expected: str) -> None:
        if not condition:
            value = getattr(self, name)
            value = ",".join(value) if isinstance(value, tuple) else value
            raise BadOption(f"{name} is {value}, expected {expected}")

    def settings(self) -> dict:
        """As plain values, for JSON. Engines that give the same flow make the same recipe."""
        changed = {"engine": self.flow_by, "fps": str(self.fps), "formats": list(self.formats)}
        return dataclasses.asdict(self) | changed

    @classmethod
    def from_settings(cls, settings: dict) -> "Recipe":
        """The recipe of such values; of the engines that give its flow the first that runs here.

        Raises:
          CorruptShard: if they are none.
          MissingTool: if no such engine runs here.
        """
        try:
            kinds = {"engine": flow.giving(settings["engine"]), "fps": Fraction(settings["fps"])}
            return cls(**settings | kinds | {"tvl1": TVL1(**settings["tvl1"]), "formats": tuple(settings["formats"])})
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise CorruptShard(f"recipe.json holds no recipe: {error!r}") from None

    @property
    def flow_by(self) -> str:
        """The engine's name, or that of the one whose flow it gives bit for bit."""
        return flow.ENGINES[self.engine].GIVES


def versions(recipe: Recipe) -> dict[str, str]:
    """Every program and library that has a hand in the bytes."""
    tool = ffmpeg_tool.locate()
    found = {
        "record": str(RECORD_VERSION),
        "engine": flow.ENGINES[recipe.engine].version(),
        "ffmpeg": tool.version + (" with zscale" if tool.has_zscale else ""),
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "libjpeg_turbo": str(PIL.features.version("libjpeg_turbo")),
        "protobuf": version("protobuf"),
    }
    if recipe.flow_encoding == "png":
        found["zlib"] = str(PIL.features.version("zlib"))
    if "parquet" in recipe.formats:
        found["pyarrow"] = pyarrow.__version__
    return found


def digest(recipe: Recipe, tools: dict[str, str]) -> str:
    """Sixteen hex digits that stand for a recipe and the versions it ran with."""
    return _digest(recipe.settings(), tools)


def _digest(settings: dict, tools: dict) -> str:
    text = json.dumps([settings, tools], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(path: Path) -> dict:
    """Reads a folder's recipe.json.

    Raises:
      CorruptShard: if it is damaged.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        if found.keys() >= {"digest", "recipe", "versions"}:
            if found["digest"] != _digest(found["recipe"], found["versions"]):
                raise CorruptShard(f"{path} is damaged: its digest is not that of its content")
            return found
    except (OSError, ValueError, AttributeError) as error:
        raise CorruptShard(f"{path} cannot be read: {error}") from None
    raise CorruptShard(f"{path} holds no recipe")


def differences(there: dict, here: dict) -> Iterator[str]:
    """What differs between settings written down and settings asked for, in words; settings within settings too."""
    there, here = dict(_flat(there)), dict(_flat(here))
    for key in sorted(there.keys() | here.keys()):
        if there.get(key) != here.get(key):
            yield f"{key} is {there.get(key)} there and {here.get(key)} here"


def _flat(settings: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield prefix + key, value


def provenance() -> dict[str, str]:
    """Versions that have no hand in the bytes and that a reader of the manifest may want all the same."""
    return {
        "kinetics-prep": kinetics_prep.__version__,
        "numpy": np.__version__,
        "pyarrow": pyarrow.__version__,
        "apache-beam": version("apache-beam"),
    }
