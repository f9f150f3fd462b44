"""What tests of predictions share: a model's say on a few clips, made up."""

import dataclasses

import numpy as np

from kinetics_prep.reading.clips import UNLABELLED
from kinetics_prep.training.predictions import Predictions

LABELS = ("air drumming", 'café, "crème"', "日本", "tap dancing", "using segway", "yoga")


def some(clips=7, seed=0, **changes) -> Predictions:
    """Predictions of so many clips, some without a label; the logits are random."""
    random = np.random.default_rng(seed)
    facts = {
        "model": "i3d",
        "stream": "rgb",
        "weights": "i3d-rgb.safetensors, step 115000",
        "labels": LABELS,
        "clip_ids": tuple(f"clip{k}_000000_000010" for k in range(clips)),
        "class_ids": random.integers(UNLABELLED, len(LABELS), clips),
        "logits": random.normal(0, 3, (clips, len(LABELS))).astype(np.float32),
    }
    return Predictions(**facts | changes)


def same(one: Predictions, other: Predictions) -> bool:
    names = [field.name for field in dataclasses.fields(Predictions)]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
