"""Records whose values differ for each record and frame. Their images are not images, which no format minds."""

import random
from pathlib import Path

from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.features import FEATURES, Feature
from kinetics_prep.records.record import FeatureValue, Record

FRAMES = 3


def value_of(feature: Feature, number: int, k: int = 0) -> str | bytes | int | float:
    """A value of the feature's type, different for each record and frame."""
    return {
        "text": f"{feature.column} {number} é",
        "bytes": bytes([number, k]) + random.Random(f"{feature.name} {number} {k}").randbytes(300),
        "int64": 1000 * number + k,
        "float": number + 0.5,
    }[feature.type]


def record(number: int, frames: int = FRAMES, labelled: bool = True) -> Record:
    """Record `number`."""
    features: dict[str, FeatureValue] = {
        name: [value_of(feature, number, k) for k in range(frames)] if feature.is_list else value_of(feature, number)
        for name, feature in FEATURES.items()
        if labelled or feature.required
    }
    return Record(features)


def records(count: int) -> list[Record]:
    """Clips of several lengths, one in five of them unlabelled."""
    return [record(number, FRAMES + number % 3, labelled=number % 5 != 2) for number in range(count)]


def write(folder: Path, name: str, records) -> tuple[Path, list[int]]:
    """Writes a shard in the format `name`."""
    path = folder / f"shard.{SHARD_FORMATS[name].SUFFIX}"
    return path, SHARD_FORMATS[name].write_shard(path, records)


def flipped(data: bytes, place: int, bit: int) -> bytes:
    """`data` with one bit changed."""
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
