"""What `kinetics-prep inspect` shows of a shard: its records in words, and as a contact sheet."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.records import SHARD_FORMATS
from kinetics_prep.records.features import FEATURES
from kinetics_prep.records.image_codec import LARGEST_PIXELS
from kinetics_prep.records.record import Record
from kinetics_prep.report.sheet import contact_sheet


def records(path: Path) -> Iterator[Record]:
    """The records of a shard of any format, told by its name's ending.

    Raises:
      BadOption: if it ends in none that we know.
    """
    if not path.is_file():
        raise BadOption(f"{path} is not a file")
    for module in SHARD_FORMATS.values():
        if path.name.endswith(f".{module.SUFFIX}"):
            return module.read_shard(path)
    raise BadOption(
        f"{path}: expected a file that ends in {' or '.join(f'.{m.SUFFIX}' for m in SHARD_FORMATS.values())}"
    )


def find(path: Path, wanted: str) -> Record:
    """The record with a number, from 0, or a clip id.

    Raises:
      BadOption: if the shard holds none such.
    """
    count = -1
    for count, record in enumerate(records(path)):
        if wanted in (str(count), record["example/id"]):
            return record
    raise BadOption(f"{path} holds {count + 1} records, and none is {wanted!r}")


def describe(record: Record) -> str:
    """The record in lines of text: every feature under its name on disk."""
    width = max(map(len, FEATURES))
    return "\n".join(f"{name:<{width}}  {_value(name, record[name])}" for name in FEATURES if name in record.features)


def _value(name: str, value) -> str:
    if FEATURES[name].where == "context":
        return f"{value:.6g}" if isinstance(value, float) else printable(str(value))
    if FEATURES[name].type == "bytes":
        sizes = [len(item) for item in value]
        return f"{len(sizes)} images, {sum(sizes) / 1e3:.1f} kB, {min(sizes)} to {max(sizes)} bytes each"
    return f"{len(value)} values, {value[0]} to {value[-1]}"


def printable(text: str) -> str:
    """Without control characters, which a hostile file could use against a terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def sheet(record: Record, cells: int = 12) -> Image.Image:
    """A contact sheet of a record: frames at even distances, each beside its flow in colours."""
    size = record.integer("image/height") * record.integer("image/width")
    if size > LARGEST_PIXELS:
        raise CorruptShard(f"record claims frames of {size} pixels")
    chosen = np.linspace(0, len(record) - 1, min(cells, len(record))).round().astype(int)
    begins, times = record.integer("clip/start/timestamp"), record.integers("image/timestamp")
    title = "\n".join(
        (
            f"{record.get('clip/label/text', 'no label')} · {record['example/id']}",
            f"{record['image/width']}x{record['image/height']}, {len(record)} frames at "
            f"{record['image/frame_rate']:g} fps, from {begins / 1e6:g} s of {record['clip/data_path']}",
            f"flow: {record['kinetics_prep/engine']}, {record['kinetics_prep/quantizer']}, "
            f"{record['kinetics_prep/saturated_share']:.2%} beyond {record['kinetics_prep/bound_px']:g} px",
        )
    )
    return contact_sheet(
        frames=np.stack([record.frame(k) for k in chosen]),
        flows=np.stack([record.flow(k) for k in chosen]),
        captions=[f"t = {times[k] / 1e6:.2f} s" for k in chosen],
        title=title,
    )
