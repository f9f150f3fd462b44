"""A training run that is open: its data, its model, and how far it is."""

import dataclasses
import threading

import keras

from kinetics_prep.models.facts import Facts
from kinetics_prep.models.spec import Spec
from kinetics_prep.reading.clips import ClipIndex
from kinetics_prep.reading.sampling import Sampler
from kinetics_prep.reading.skipped import Skipped
from kinetics_prep.training.devices import Devices
from kinetics_prep.training.history import History
from kinetics_prep.training.job import TrainJob
from kinetics_prep.training.network import Forward
from kinetics_prep.training.recipes import TrainRecipe
from kinetics_prep.training.run_folder import RunFolder


@dataclasses.dataclass
class TrainRun:
    """A run that is ready to go on; `opening.open_run` makes it, `loop.train` trains it.

    Other threads may read `step` and set `stop`.
    """

    job: TrainJob
    folder: RunFolder
    core: keras.Model
    """The model of frames in [-1, 1]; its variables are the weights."""
    model: keras.Model
    """The model of uint8 samples, compiled; shares the core's variables."""
    forward: Forward
    """`model` at test, with the weights of the moment."""
    spec: Spec
    """Of the model."""
    facts: Facts
    """What the weights that come out of it are for."""
    clips: ClipIndex
    validation: ClipIndex | None
    digest: str
    """Of everything that decides the loss curve; each checkpoint bears it."""
    history: History
    devices: Devices
    skipped: Skipped = dataclasses.field(default_factory=Skipped)
    """Clips that could not be read, where the job says to go on without them."""
    step: int = 0
    """Steps done."""
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)
    """Set it to have the run write a checkpoint after the present step, and end."""

    @property
    def clips_seen(self) -> int:
        """How many samples the steps so far took, repetitions counted."""
        return self.step * self.job.recipe.batch

    @property
    def is_over(self) -> bool:
        """Whether the last step is done and evaluated, or `recipe.early_stop` evaluations brought no better top-1."""
        recipe = self.job.recipe
        patience = recipe.early_stop
        is_evaluated = self.validation is None or self.step in self.history.evaluated
        is_last = self.step >= recipe.steps and is_evaluated
        return is_last or bool(patience and self.history.evaluations_since_best() >= patience)

    def sampler(self, train: bool) -> Sampler:
        """How samples are drawn: at random to train, else the middle of each clip."""
        return sampler_for(self.job.recipe, self.spec, self.facts, train)


def sampler_for(recipe: TrainRecipe, spec: Spec, facts: Facts, train: bool) -> Sampler:
    """How the samples of a run are drawn: at random to train, else the middle of each clip."""
    offsets = spec.offsets(recipe.stream, facts.span)
    return Sampler(offsets, facts.size, train, recipe.flip and train, recipe.stride, recipe.seed, facts.span)
