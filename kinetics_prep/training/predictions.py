"""What a model said of clips, in memory and on disk; the words on disk stand in `schemas/predictions.json`.

Whoever has such files needs no model to score, fuse or compare them.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kinetics_prep import schemas
from kinetics_prep.errors import BadLogits, CorruptShard
from kinetics_prep.reading.clips import UNLABELLED
from kinetics_prep.storage import tables
from kinetics_prep.storage.files import atomic
from kinetics_prep.training import metrics
from kinetics_prep.training.metrics import Scores

STREAMS = ("rgb", "flow", "both")
FUSIONS = ("logits", "probabilities")

_SPOKEN = {"rgb": "RGB", "flow": "flow", "both": "RGB and flow"}
_ROWS_PER_GROUP = 4096
_LARGEST_BYTES = 8 << 30
"""Of a file's logits: Parquet packs zeros well, and a small file can claim to hold any number."""

_FACTS = ("model", "stream", "weights", "fusion")


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What a model, or several that were fused, said of clips."""

    model: str
    stream: str
    """What it saw: one of `STREAMS`."""
    weights: str
    """Where its weights come from, in words."""
    labels: tuple[str, ...]
    """In the order of class ids."""
    clip_ids: tuple[str, ...]
    class_ids: np.ndarray
    """int64 [N]: the true classes, `UNLABELLED` where a clip has no label."""
    logits: np.ndarray
    """float32 [N, C]."""
    fusion: str = ""
    """How those of several models were fused: one of `FUSIONS`, or nothing."""

    def __post_init__(self):
        clips, classes = len(self.clip_ids), len(self.labels)
        _expect(self.stream in STREAMS, f"stream is {self.stream!r}, expected one of {', '.join(STREAMS)}")
        _expect(self.fusion in ("", *FUSIONS), f"fusion is {self.fusion!r}, expected one of {', '.join(FUSIONS)}")
        _expect(classes > 0 and len(set(self.labels)) == classes, "labels must be there, and each of them once")
        "".join(self.labels).encode()  # half a surrogate could not be written
        _expect(len(set(self.clip_ids)) == clips, "a clip id stands there twice")
        _expect(
            self.logits.shape == (clips, classes) and self.logits.dtype == np.float32,
            f"logits must be float32 {[clips, classes]}, are {self.logits.dtype} {list(self.logits.shape)}",
        )
        _expect(
            self.class_ids.shape == (clips,) and np.issubdtype(self.class_ids.dtype, np.integer),
            f"class ids must be int {[clips]}, are {self.class_ids.dtype} {list(self.class_ids.shape)}",
        )
        within = (self.class_ids >= UNLABELLED) & (self.class_ids < classes)
        _expect(bool(within.all()), f"class ids must be {UNLABELLED} to {classes - 1}")
        metrics.expect_finite(self.logits)

    def __len__(self):
        return len(self.clip_ids)

    def __str__(self):
        fused = f", {self.fusion} fused" if self.fusion else ""
        return f"{self.model} on {_SPOKEN[self.stream]}{fused}"

    def label_of(self, class_id: int) -> str:
        """The label of a class, "no label" for `UNLABELLED`."""
        return "no label" if class_id == UNLABELLED else self.labels[class_id]

    def of_clips(self, clip_ids: Sequence[str]) -> np.ndarray:
        """The logits of clips in the given order: float32 [len(clip_ids), C]."""
        if tuple(clip_ids) == self.clip_ids:
            return self.logits
        places = {clip_id: place for place, clip_id in enumerate(self.clip_ids)}
        return self.logits[[places[clip_id] for clip_id in clip_ids]]

    @property
    def is_labelled(self) -> np.ndarray:
        """bool [N]."""
        return self.class_ids != UNLABELLED

    def scores(self) -> Scores:
        """Of the clips that have a label.

        Raises:
          BadOption: if none has.
        """
        return metrics.score(self.logits[self.is_labelled], self.class_ids[self.is_labelled])

    def confusion(self) -> np.ndarray:
        """Of the clips that have a label: int64 [C, C], true classes as rows."""
        return metrics.confusion(self.logits[self.is_labelled], self.class_ids[self.is_labelled])


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def likeliest(logits: np.ndarray, labels: Sequence[str], k: int = 5) -> list[tuple[str, float]]:
    """The k likeliest classes of one clip, or all if there are fewer: (label, probability), the likeliest first.

    Args:
      logits: float32 [C].
      labels: C of them, or none if nobody knows them; classes are then called by their ids.
    """
    (probabilities,) = metrics.softmax(logits[None])
    (order,) = metrics.top(logits[None], k)
    return [(labels[k] if labels else f"class {k}", float(probabilities[k])) for k in order.tolist()]


# On disk -----------------------------------------------------------------------------------------


def write(path: Path, predictions: Predictions) -> None:
    """Writes predictions, whole or not at all; the same predictions give the same bytes."""
    groups = (list(_rows(predictions, begin, end)) for begin, end in _slices(len(predictions)))
    with atomic(path, path.parent) as temporary:
        tables.write(temporary, "predictions", groups, _metadata(predictions))


def _slices(clips: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of row groups; at least one, or the file would have no columns."""
    begins = range(0, max(clips, 1), _ROWS_PER_GROUP)
    return ((begin, min(begin + _ROWS_PER_GROUP, clips)) for begin in begins)


def _rows(predictions: Predictions, begin: int, end: int) -> Iterator[dict]:
    logits, class_ids = predictions.logits[begin:end], predictions.class_ids[begin:end]
    order, probabilities = metrics.top(logits, 5), metrics.softmax(logits)
    ranks = metrics.ranks(logits, np.maximum(class_ids, 0))
    for k, class_id in enumerate(class_ids.tolist()):
        likeliest_first, labelled = order[k].tolist(), class_id != UNLABELLED
        yield {
            "clip_id": predictions.clip_ids[begin + k],
            "label_index": class_id if labelled else None,
            "label": predictions.labels[class_id] if labelled else None,
            "predicted_index": likeliest_first[0],
            "predicted": predictions.labels[likeliest_first[0]],
            "probability": float(probabilities[k, likeliest_first[0]]),
            "top5": [predictions.labels[each] for each in likeliest_first],
            "rank": int(ranks[k]) if labelled else None,
            "logits": logits[k],
        }


def _metadata(predictions: Predictions) -> dict[str, str]:
    said = {name: getattr(predictions, name) for name in _FACTS}
    said |= {"version": str(schemas.load("predictions")["version"])}
    said |= {"labels": json.dumps(predictions.labels, ensure_ascii=False)}
    return {entry["name"]: said[entry["name"].removeprefix("kinetics_prep/")] for entry in _described()}


def _described() -> list[dict]:
    return schemas.load("predictions")["metadata"]


def read(path: Path) -> Predictions:
    """Reads predictions back.

    Raises:
      CorruptShard: if the file is none such, or says of itself what its logits do not bear out.
    """
    with tables.opened(path, "predictions") as file:
        facts = _facts(path, file.schema_arrow.metadata or {})
        _refuse_vast(path, file, len(facts["labels"]))
        table = file.read()
    try:
        return _read(table, facts)
    except (ValueError, BadLogits) as error:
        raise CorruptShard(f"{path} holds no predictions: {error}") from None


def _facts(path: Path, metadata: dict[bytes, bytes]) -> dict:
    """What the file says of whose predictions it holds."""
    try:
        said = {entry["name"]: metadata[entry["name"].encode()].decode() for entry in _described()}
        labels = json.loads(said["kinetics_prep/labels"])
    except (KeyError, ValueError, RecursionError) as error:
        raise CorruptShard(f"{path} does not say whose predictions it holds: {error!r}") from None
    version, expected = said["kinetics_prep/version"], str(schemas.load("predictions")["version"])
    if version != expected:
        raise CorruptShard(f"{path} holds predictions of version {version!r}, this program reads version {expected}")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise CorruptShard(f"{path} does not say whose predictions it holds: its labels are no list of strings")
    return {name: said[f"kinetics_prep/{name}"] for name in _FACTS} | {"labels": tuple(labels)}


def _refuse_vast(path: Path, file: pq.ParquetFile, classes: int) -> None:
    footer = file.metadata
    place = next(k for k in range(footer.num_columns) if footer.schema.column(k).path.startswith("logits."))
    values = sum(footer.row_group(group).column(place).num_values for group in range(footer.num_row_groups))
    if values != footer.num_rows * classes or values * 4 > _LARGEST_BYTES:
        raise CorruptShard(f"{path} claims {values} logits, for {footer.num_rows} clips and {classes} classes")


def _read(table: pa.Table, facts: dict) -> Predictions:
    found = Predictions(
        **facts,
        clip_ids=tuple(_column(table, "clip_id").to_pylist()),
        class_ids=table["label_index"].combine_chunks().fill_null(UNLABELLED).to_numpy(zero_copy_only=False),
        logits=_matrix(_column(table, "logits"), len(facts["labels"])),
    )
    told = table.drop_columns(["logits"]).to_pylist()
    follows = (row for begin, end in _slices(len(found)) for row in _rows(found, begin, end))
    for row, right in zip(told, follows, strict=True):
        for name, value in row.items():
            if not _agree(value, right[name]):
                raise ValueError(f"{name} of {row['clip_id']!r} is {value!r}, and the rest says {right[name]!r}")
    return found


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name].combine_chunks()
    if column.null_count:
        raise ValueError(f"{column.null_count} rows have no {name}")
    return column


def _matrix(lists: pa.ListArray, classes: int) -> np.ndarray:
    """float32 [N, C] of N lists of C numbers."""
    values, lengths = lists.flatten(), set(lists.value_lengths().unique().to_pylist())
    if values.null_count or lengths - {classes}:
        raise ValueError(f"logits are not {classes} numbers a clip, one a class")
    return values.to_numpy().reshape(-1, classes)


def _agree(value, right) -> bool:
    if isinstance(value, float):  # another machine's exp() may differ in the last digits
        return abs(value - right) < 1e-9
    return value == right
