"""What `kinetics-prep inspect` shows of a shard: its records in words, and as a contact sheet."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kinetics_prep.errors import BadOption, CorruptShard
from kinetics_prep.records import read_shard
from kinetics_prep.records.features import FEATURES
from kinetics_prep.records.image_codec import LARGEST_PIXELS
from kinetics_prep.records.record import Record
from kinetics_prep.report.sheet import contact_sheet
from kinetics_prep.report.text import printable


def find(path: Path, wanted: str) -> Record:
    """Returns the record with a number, counted from 0, or with a clip id.

    Raises:
      BadOption: if the shard holds no such record.
    """
    count = -1
    for count, record in enumerate(read_shard(path)):
        if wanted in (str(count), record["example/id"]):
            return record
    raise BadOption(f"{path} holds {count + 1} records, and none is {wanted!r}")


def describe(record: Record) -> str:
    """Returns the record in lines of text: every feature under its name on disk."""
    width = max(map(len, FEATURES))
    return "\n".join(f"{name:<{width}}  {_value(name, record[name])}" for name in FEATURES if name in record.features)


def _value(name: str, value: Any) -> str:
    if FEATURES[name].where == "context":
        return f"{value:.6g}" if isinstance(value, float) else printable(str(value))
    if FEATURES[name].type == "bytes":
        sizes = [len(item) for item in value]
        return f"{len(sizes)} images, {sum(sizes) / 1e3:.1f} kB, {min(sizes)} to {max(sizes)} bytes each"
    return f"{len(value)} values, {value[0]} to {value[-1]}"


def sheet(record: Record, cells: int = 12) -> Image.Image:
    """Draws frames of a record at even distances, each beside its flow in colours.

    Raises:
      CorruptShard: if the record claims larger frames than the pipeline writes.
    """
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
