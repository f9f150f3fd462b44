"""What to train, on what, and where to. The settings are checked when a job is made."""

import dataclasses
from pathlib import Path

from kinetics_prep.errors import BadOption
from kinetics_prep.reading.batches import Reading
from kinetics_prep.training.recipes import TrainRecipe


@dataclasses.dataclass(frozen=True)
class TrainJob:
    """What to train, on what, and where to."""

    recipe: TrainRecipe
    data: Path
    """The output of `kinetics-prep flow`."""
    output: Path
    """The run's folder, see `run_folder`."""
    split: str = "train"
    validation: str | None = None
    """A split to evaluate on every `recipe.evaluate_every` steps."""
    init_from: Path | None = None
    """A weights file to begin from; see `transfer`."""
    reading: Reading = dataclasses.field(default_factory=Reading)
    accept: frozenset[str] = frozenset()
    """What may differ between the data and what the weights in `init_from` expect; see `expectations`."""
    checkpoint_minutes: float = 10.0
    """Between two checkpoints; 0 writes one after every step."""
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if not self.checkpoint_minutes >= 0:
            raise BadOption(f"--checkpoint-minutes is {self.checkpoint_minutes}, expected 0 or more")
        if self.recipe.early_stop and self.validation is None:
            raise BadOption("--early-stop needs a split to evaluate on: --validation NAME")
        if self.recipe.plateau and self.validation is None:
            raise BadOption(
                f"recipe {self.recipe.name} lowers the learning rate when the validation loss has stopped falling, and "
                "there is no split to evaluate on: say --validation NAME, or --plateau 0 and steps with --learning-rate"
            )
