"""Prepares Kinetics-style video data sets: RGB and TV-L1 flow, sharded, every row accounted for.

    import kinetics_prep

    record = kinetics_prep.prepare_clip("cat.mp4", start_seconds=3.0)     # one clip
    record.frame(0), record.flow(0)       # uint8 [H, W, 3]; float32 [H, W, 2], (dx, dy) px

    dataset = kinetics_prep.open_dataset("k400")                          # what `kinetics-prep flow` wrote
    for record in dataset.records("val"): ...
    for row in dataset.ledger("val"): ...

    for record in kinetics_prep.read_shard("k400/tfrecord/val-00000-of-00312.tfrecord"): ...

Names are imported when they are first used: `import kinetics_prep` loads neither Beam nor Numba, TensorFlow or yt-dlp.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinetics_prep.annotations.annotation import Annotation
    from kinetics_prep.dataset.ledger import LedgerRow
    from kinetics_prep.dataset.prepared import PreparedDataset, open_dataset
    from kinetics_prep.dataset.recipe import Recipe
    from kinetics_prep.errors import ClipError, RunError
    from kinetics_prep.flow.parameters import TVL1
    from kinetics_prep.records import read_shard
    from kinetics_prep.records.record import Record
    from kinetics_prep.runs.clip import prepare_clip

__version__ = "0.1.0"

__all__ = [
    "TVL1",
    "Annotation",
    "ClipError",
    "LedgerRow",
    "PreparedDataset",
    "Recipe",
    "Record",
    "RunError",
    "__version__",
    "open_dataset",
    "prepare_clip",
    "read_shard",
]

_HOMES = {
    "Annotation": "annotations.annotation",
    "ClipError": "errors",
    "LedgerRow": "dataset.ledger",
    "PreparedDataset": "dataset.prepared",
    "Recipe": "dataset.recipe",
    "Record": "records.record",
    "RunError": "errors",
    "TVL1": "flow.parameters",
    "open_dataset": "dataset.prepared",
    "prepare_clip": "runs.clip",
    "read_shard": "records",
}
"""Name -> the module of this package that has it."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
