"""Predictions on disk: a Parquet file, whose columns and metadata `schemas/predictions.json` describes."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kinetics_prep import schemas
from kinetics_prep.errors import BadLogits, CorruptShard
from kinetics_prep.reading.clips import UNLABELLED
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import atomic_write
from kinetics_prep.training import metrics
from kinetics_prep.training.predictions import Predictions

_ROWS_PER_GROUP = 4096
_LARGEST_BYTES = 8 << 30
"""Of a file's logits. Parquet compresses zeros well: a small file can hold, or claim to hold, any number of them."""

_FACTS = ("model", "stream", "weights", "fusion")
"""Fields of `Predictions` that the metadata hold as they are."""


def write(path: Path, predictions: Predictions) -> None:
    """Writes predictions, whole or not at all. The same predictions give the same bytes."""
    groups = (list(_rows(predictions, begin, end)) for begin, end in _slices(len(predictions)))
    with atomic_write(path, path.parent) as temporary:
        tables.write(temporary, "predictions", groups, _metadata(predictions))


def _slices(clips: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of row groups. At least one: without a row group the file would have no columns."""
    begins = range(0, max(clips, 1), _ROWS_PER_GROUP)
    return ((begin, min(begin + _ROWS_PER_GROUP, clips)) for begin in begins)


def _rows(predictions: Predictions, begin: int, end: int) -> Iterator[dict]:
    logits, class_ids = predictions.logits[begin:end], predictions.class_ids[begin:end]
    order, probabilities = metrics.top(logits, 5), metrics.softmax(logits)
    ranks = metrics.ranks(logits, np.maximum(class_ids, 0))
    for k, class_id in enumerate(class_ids.tolist()):
        likeliest, is_labelled = order[k].tolist(), class_id != UNLABELLED
        yield {
            "clip_id": predictions.clip_ids[begin + k],
            "label_index": class_id if is_labelled else None,
            "label": predictions.labels[class_id] if is_labelled else None,
            "predicted_index": likeliest[0],
            "predicted": predictions.labels[likeliest[0]],
            "probability": float(probabilities[k, likeliest[0]]),
            "top5": [predictions.labels[other] for other in likeliest],
            "rank": int(ranks[k]) if is_labelled else None,
            "logits": logits[k],
        }


def _metadata(predictions: Predictions) -> dict[str, str]:
    values = {name: getattr(predictions, name) for name in _FACTS}
    values["version"] = str(schemas.load("predictions")["version"])
    values["labels"] = json.dumps(predictions.labels, ensure_ascii=False)
    return {name: values[name.removeprefix("kinetics_prep/")] for name in _metadata_names()}


def _metadata_names() -> list[str]:
    return [entry["name"] for entry in schemas.load("predictions")["metadata"]]


def read(path: Path) -> Predictions:
    """Reads predictions.

    Raises:
      CorruptShard: if the file does not hold predictions, or its other columns do not follow from its logits.
      NewerFormat: if only a newer kinetics-prep can read it.
    """
    with tables.opened(path, "predictions") as file:
        facts = _facts(path, file.schema_arrow.metadata or {})
        _check_size(path, file, len(facts["labels"]))
        there = set(file.schema_arrow.names)
        names = [name for name in tables.arrow_schema("predictions").names if name in there or name == "label_index"]
        table = tables.select(file.read([name for name in names if name in there]), "predictions", names, str(path))
    try:
        return _from_table(table, facts)
    except (ValueError, BadLogits) as error:
        raise CorruptShard(f"{path} does not hold predictions: {error}") from None


def _facts(path: Path, metadata: dict[bytes, bytes]) -> dict:
    """The fields of `Predictions` that are in a file's metadata: those of `_FACTS`, and the labels."""
    try:
        texts = {name: metadata[f"kinetics_prep/{name}".encode()].decode() for name in (*_FACTS, "labels")}
        labels = json.loads(texts["labels"])
    except (KeyError, ValueError, RecursionError) as error:
        raise CorruptShard(f"{path} does not say whose predictions it holds: {error!r}") from None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise CorruptShard(f"{path} does not say whose predictions it holds: its labels are not a list of strings")
    return {name: texts[name] for name in _FACTS} | {"labels": tuple(labels)}


def _check_size(path: Path, file: pq.ParquetFile, classes: int) -> None:
    """Compares the number of logits in the footer with clips and classes, before they are read into memory."""
    footer = file.metadata
    place = next(k for k in range(footer.num_columns) if footer.schema.column(k).path.startswith("logits."))
    values = sum(footer.row_group(group).column(place).num_values for group in range(footer.num_row_groups))
    if values != footer.num_rows * classes or values * 4 > _LARGEST_BYTES:
        raise CorruptShard(f"{path} claims {values} logits, for {footer.num_rows} clips and {classes} classes")


def _from_table(table: pa.Table, facts: dict) -> Predictions:
    """The predictions in a table; compares the other columns that it has with what follows from the logits."""
    predictions = Predictions(
        **facts,
        clip_ids=tuple(_column(table, "clip_id").to_pylist()),
        class_ids=table["label_index"].combine_chunks().fill_null(UNLABELLED).to_numpy(zero_copy_only=False),
        logits=_matrix(_column(table, "logits"), len(facts["labels"])),
    )
    rows = table.drop_columns(["logits"]).to_pylist()
    expected_rows = (row for begin, end in _slices(len(predictions)) for row in _rows(predictions, begin, end))
    for row, expected in zip(rows, expected_rows, strict=True):
        for name, value in row.items():
            if not _agree(value, expected[name]):
                raise ValueError(f"{name} of {row['clip_id']!r} is {value!r}, the rest means {expected[name]!r}")
    return predictions


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name].combine_chunks()
    if column.null_count:
        raise ValueError(f"{column.null_count} rows have no {name}")
    return column


def _matrix(lists: pa.ListArray, classes: int) -> np.ndarray:
    """N lists of C numbers as float32 [N, C].

    Raises:
      ValueError: if a list is longer or shorter, or a number is missing.
    """
    values, lengths = lists.flatten(), set(lists.value_lengths().unique().to_pylist())
    if values.null_count or lengths - {classes}:
        raise ValueError(f"logits are not {classes} numbers a clip, one a class")
    return values.to_numpy().reshape(-1, classes)


def _agree(value: object, expected: object) -> bool:
    if isinstance(value, float) and isinstance(expected, float):
        return abs(value - expected) < 1e-9  # another machine's exp() may differ in the last digits
    return value == expected
