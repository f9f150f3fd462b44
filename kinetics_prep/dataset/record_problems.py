"""What is wrong with one record: its label, its recipe, its timestamps, the sizes of its images."""

import itertools
from collections.abc import Iterator

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlannedRow
from kinetics_prep.errors import CorruptShard
from kinetics_prep.records.record import Record


def record_problems(record: Record, row: PlannedRow | None, recipe: str, labels: LabelMap) -> Iterator[str]:
    """Everything wrong with one record, in words.

    Args:
      row: the plan row of the clip; None if the plan has none to be prepared.
      recipe: digest of the recipe that should have made it.
    """
    if row is None:
        yield "is not in the shard's plan"
        return
    yield from _label_problems(record, row, labels)
    if record["kinetics_prep/recipe"] != recipe:
        yield f"was made by recipe {record['kinetics_prep/recipe']}, not {recipe}"
    for stream in ("", "FORWARD_FLOW/"):
        yield from _time_problems(record, row, stream)
    try:
        yield from _image_problems(record)
    except CorruptShard as error:
        yield str(error)


def _label_problems(record: Record, row: PlannedRow, labels: LabelMap) -> Iterator[str]:
    texts = {record.get("clip/label/text"), record.get("clip/label/string")}
    if texts != {row.label}:
        yield f"bears label {sorted(map(str, texts))}, planned was {row.label!r}"
    index = record.get("clip/label/index")
    if row.label is not None and not (isinstance(index, int) and labels.labels[index : index + 1] == (row.label,)):
        yield f"bears class id {index}, which is not {row.label!r} in labels.txt"


def _time_problems(record: Record, row: PlannedRow, stream: str) -> Iterator[str]:
    times, fps = record.integers(f"{stream}image/timestamp"), record.real(f"{stream}image/frame_rate")
    if any(later <= earlier for earlier, later in itertools.pairwise(times)):
        yield f"{stream}image/timestamp does not increase"
    start_us = row.annotation.start_us
    if any(abs(time - start_us - k * 1e6 / fps) > 1 for k, time in enumerate(times)):
        yield f"{stream}image/timestamp is not start + k / {fps:g} s"
    if times[-1] >= record.integer("clip/end/timestamp"):
        yield f"{stream}image/timestamp goes beyond clip/end/timestamp"


def _image_problems(record: Record) -> Iterator[str]:
    for stream, read in (("", record.frame), ("FORWARD_FLOW/", record.levels)):
        size = (record.integer(f"{stream}image/height"), record.integer(f"{stream}image/width"))
        wrong = {read(k).shape[:2] for k in range(len(record))} - {size}
        if wrong:
            yield f"{stream}image/encoded holds images of {sorted(wrong)}, expected {size} (height, width)"
