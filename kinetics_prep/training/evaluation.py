"""What weights are worth: whole clips of a prepared split, centre crop, as the paper tests."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kinetics_prep.errors import CorruptShard
from kinetics_prep.models import weights
from kinetics_prep.reading.batches import Reading
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.order import Once
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.training import devices, expectations, fusion, samples
from kinetics_prep.training.network import Network, logits_of
from kinetics_prep.training.predictions import Predictions


@dataclasses.dataclass(frozen=True)
class EvaluateJob:
    """Which weights to evaluate, on what."""

    weights: tuple[Path, ...]
    """Weights files."""
    data: Path
    """The output of `kinetics-prep flow`."""
    split: str = "val"
    frames: int | None = None
    """Of a clip, after the weights' stride; None for the model's own number at test."""
    batch: int = 1
    """Clips at a time."""
    how: str = "logits"
    """How to fuse several networks, see `fusion.fuse`."""
    reading: Reading = dataclasses.field(default_factory=Reading)
    accept: frozenset[str] = frozenset()
    """What may differ between the data and what the weights expect; see `expectations`."""


@dataclasses.dataclass
class Evaluation:
    """An evaluation that is ready to begin. Other threads may read `done`."""

    job: EvaluateJob
    clips: ClipIndex
    networks: tuple[Network, ...]
    skipped: set[str] = dataclasses.field(default_factory=set)
    """Ids of clips that could not be read, where the job says to go on without them."""
    done: int = 0
    """Clips evaluated so far, summed over networks."""

    @property
    def total(self) -> int:
        """Clips to evaluate, summed over networks."""
        return len(self.clips) * len(self.networks)


@contextlib.contextmanager
def open_evaluation(job: EvaluateJob) -> Iterator[Evaluation]:
    """Opens the data and the weights.

    Raises:
      RunError: if they do not go together.
    """
    clips = ClipIndex.open(job.data, job.split, job.reading.format)
    devices.make_deterministic(0)
    networks = []
    for path in job.weights:
        loaded = weights.load(path)
        expectations.check_clips(clips, loaded.facts, loaded.facts.stream, job.accept)
        expectations.check_labels(clips, loaded.facts)
        networks.append(Network.of(path, loaded, clips.quantizer, job.frames))
    yield Evaluation(job, clips, tuple(networks))


def evaluate(evaluation: Evaluation) -> list[Predictions]:
    """Predicts every clip of the split with every network.

    Returns:
      The predictions of each network, and last those of all fused, if there are several. A clip that one network could
      not read is left out of all.

    Raises:
      CorruptShard: if a record does not read back, unless the job says to skip such; or if no clip can be read.
    """
    predictions = [_evaluated(evaluation, network) for network in evaluation.networks]
    if evaluation.skipped:
        predictions = [_without(some, evaluation.skipped) for some in predictions]
    if len(predictions) == 1:
        return predictions
    return [*predictions, fusion.fuse_predictions(predictions, evaluation.job.how)]


def _evaluated(evaluation: Evaluation, network: Network) -> Predictions:
    clips, job, skipped, read = evaluation.clips, evaluation.job, Skipped(), []
    with samples.batches(clips, network.sampler(), Once(len(clips), job.batch), job.reading, skipped) as batches:
        for logits, _ in logits_of(network.model, network.spec, batches, network.span):
            read.append(logits)
            evaluation.done += len(logits)
    lost = {clip_id for _, clip_id, _ in skipped.clips}
    if len(lost) == len(clips):
        raise CorruptShard(f"none of the {len(clips)} clips of {clips.folder} can be read")
    evaluation.skipped |= lost
    kept = [number for number, clip_id in enumerate(clips.ids) if clip_id not in lost]
    clip_ids = [clips.ids[number] for number in kept]
    return network.predictions(clip_ids, clips.class_ids[kept], clips.labels, np.concatenate(read))


def _without(predictions: Predictions, lost: set[str]) -> Predictions:
    kept = [place for place, clip_id in enumerate(predictions.clip_ids) if clip_id not in lost]
    if not kept:
        raise CorruptShard("no clip could be read by every network")
    return dataclasses.replace(
        predictions,
        clip_ids=tuple(predictions.clip_ids[place] for place in kept),
        class_ids=predictions.class_ids[kept],
        logits=predictions.logits[kept],
    )
