"""Training recipes: every setting that decides what a run learns. The defaults are the paper's.

Source, unless a recipe names another: Carreira & Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, section 2.5,
and the steps that deepmind/kinetics-i3d's README gives for its checkpoints.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from kinetics_prep.errors import BadOption

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")

PROTOCOLS = ("original", "fixed", "full-ft")
"""Of transfer, by the names of the paper's table 4. "original": nothing learnt from videos. "fixed": frozen features of
videos under a new last layer. "full-ft": the same, with all layers trained."""


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Divides the learning rate when the validation loss has stopped falling."""

    patience: int = 3
    """Evaluations in a row without a loss below the lowest so far."""
    factor: float = 0.1
    drops: int = 2
    """How often at most."""

    def __post_init__(self) -> None:
        _check("plateau patience", self.patience, self.patience >= 1, "1 or more")
        _check("plateau factor", self.factor, 0 < self.factor < 1, "between 0 and 1")
        _check("plateau drops", self.drops, self.drops >= 1, "1 or more")

    def scale(self, losses: Sequence[float]) -> float:
        """The factor of the learning rate after these validation losses, the first one first."""
        lowest, waited, dropped = float("inf"), 0, 0
        for loss in losses:
            lowest, waited = (loss, 0) if loss < lowest else (lowest, waited + 1)
            if waited == self.patience and dropped < self.drops:
                waited, dropped = 0, dropped + 1
        return self.factor**dropped


@dataclasses.dataclass(frozen=True)
class TrainRecipe:
    """How a model is trained: everything that decides the loss curve, besides shards and versions."""

    name: str = "custom"
    model: str = "i3d"
    """A name from `models.MODELS`."""
    stream: str = "rgb"
    """"rgb", "flow", or "both" for the models that join them."""
    steps: int = 115_000
    batch: int = 384
    """Clips a step, over all devices."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after the other, if memory does not hold the whole."""
    learning_rates: tuple[tuple[int, float], ...] = ((0, 0.1), (97_000, 0.01), (108_000, 0.001))
    """(first step, learning rate), the first from step 0."""
    plateau: Plateau | None = None
    momentum: float = 0.9
    dropout: float = 0.5
    weight_decay: float = 1e-7
    batch_norm_momentum: float = 0.999
    """Of the moving means and variances. The paper's value suits long runs: in a few hundred steps the averages do not
    reach what they follow, and tests fail; use 0.9 there."""
    size: int | None = None
    """Side of the crop, px; None: the model's own."""
    frames: int | None = None
    """Frames that a sample spans; None: the model's own number."""
    stride: int = 1
    """Every `stride`th frame of a clip is taken."""
    flip: bool = True
    """Whether half of the clips are mirrored. Not for data in which left and right are different classes."""
    precision: str = "float32"
    """A name of `PRECISIONS`."""
    protocol: str = "original"
    """A name of `PROTOCOLS`."""
    evaluate_every: int = 1000
    """Steps between two evaluations on the validation split, if there is one."""
    early_stop: int | None = None
    """End after so many evaluations in a row without a better top-1; None: never."""
    seed: int = 0

    def __post_init__(self) -> None:
        rates = tuple((int(step), float(rate)) for step, rate in self.learning_rates)
        object.__setattr__(self, "learning_rates", rates)
        for name in ("steps", "batch", "accumulate", "stride", "evaluate_every"):
            _check(name, getattr(self, name), _is_whole(getattr(self, name)) and getattr(self, name) >= 1, "1 or more")
        for name in ("size", "frames", "early_stop"):
            value = getattr(self, name)
            _check(name, value, value is None or (_is_whole(value) and value >= 1), "1 or more")
        _check("batch", self.batch, self.batch % self.accumulate == 0, f"a multiple of the {self.accumulate} parts")
        for name in ("momentum", "dropout", "batch_norm_momentum"):
            _check(name, getattr(self, name), 0 <= getattr(self, name) < 1, "0 or more and under 1")
        _check("weight_decay", self.weight_decay, 0 <= self.weight_decay <= 1, "0 to 1")
        in_order = bool(rates) and rates[0][0] == 0 and all(a < b for (a, _), (b, _) in pairwise(rates))
        _check("learning_rates", rates, in_order, "pairs (first step, rate) in order, the first at step 0")
        _check("learning_rates", rates, all(0 < rate < 1000 for _, rate in rates), "rates over 0 and under 1000")
        _check("precision", self.precision, self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")
        _check("protocol", self.protocol, self.protocol in PROTOCOLS, f"one of {', '.join(PROTOCOLS)}")
        _check("seed", self.seed, _is_whole(self.seed) and 0 <= self.seed < 2**31, "0 to 2147483647")

    @property
    def batch_at_once(self) -> int:
        """Clips that all devices together compute at once."""
        return self.batch // self.accumulate

    def learning_rate(self, step: int, validation_losses: Sequence[float] = ()) -> float:
        """The learning rate of a step, from 0, after these evaluations."""
        rate = next(rate for first, rate in reversed(self.learning_rates) if first <= step)
        return rate * (self.plateau.scale(validation_losses) if self.plateau else 1.0)

    def settings(self) -> dict:
        """The settings as plain values, for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check(name: str, value: object, condition: bool, expected: str) -> None:
    if not condition:
        raise BadOption(f"{name} is {value}, expected {expected}")


def _i3d_kinetics(model: str, stream: str) -> TrainRecipe:
    """64 GPUs with 6 clips each. Top-1 on Kinetics-400, beginning with ImageNet weights: RGB 71.1, flow 63.4."""
    if stream == "flow":
        drops = ((0, 0.1), (97_000, 0.01), (104_500, 0.001), (115_000, 0.1), (140_000, 0.01), (150_000, 0.001))
        return TrainRecipe("i3d-kinetics", model, stream, steps=155_000, learning_rates=drops)
    return TrainRecipe("i3d-kinetics", model, stream)


def _kinetics(model: str, stream: str) -> TrainRecipe:
    """Any model on Kinetics: 110,000 steps; the rate falls tenfold when the validation loss has stopped falling."""
    return TrainRecipe(
        "kinetics", model, stream, steps=110_000, batch=192, learning_rates=((0, 0.1),), plateau=Plateau()
    )


def _mini_kinetics(model: str, stream: str) -> TrainRecipe:
    """As on Kinetics, but 35,000 steps."""
    recipe = _kinetics(model, stream)
    return dataclasses.replace(recipe, name="mini-kinetics", steps=35_000)


def _transfer(model: str, stream: str) -> TrainRecipe:
    """UCF-101 and HMDB-51: up to 5,000 steps on 16 GPUs. I3D, Full-FT, both streams, three splits: 98.0 and 80.7.

    The paper gives no learning rate; 0.01 is ours. These data sets have no split `val`: use `--validation test` for the
    plateau.
    """
    return TrainRecipe(
        "ucf101-hmdb51",
        model,
        stream,
        steps=5_000,
        batch=96,
        learning_rates=((0, 0.01),),
        plateau=Plateau(),
        evaluate_every=250,
        protocol="full-ft",
    )


def _small(model: str, stream: str) -> TrainRecipe:
    """Ours, not the paper's: to try the trainer with two cores and a hundred clips."""
    return TrainRecipe(
        "small",
        model,
        stream,
        steps=400,
        batch=8,
        learning_rates=((0, 0.01), (300, 0.001)),
        batch_norm_momentum=0.9,
        evaluate_every=100,
    )


RECIPES: dict[str, Callable[[str, str], TrainRecipe]] = {
    "i3d-kinetics": _i3d_kinetics,
    "kinetics": _kinetics,
    "mini-kinetics": _mini_kinetics,
    "small": _small,
    "ucf101-hmdb51": _transfer,
}


def recipe(name: str, model: str, stream: str, **changes: Any) -> TrainRecipe:
    """A named recipe for a model and stream, with some settings changed.

    Args:
      name: a row of `RECIPES`.
      model: a row of `models.MODELS`.
      stream: "rgb", "flow" or "both".
      changes: settings of `TrainRecipe`.

    Raises:
      BadOption: if there is no such recipe, or a setting is not possible.
    """
    if name not in RECIPES:
        raise BadOption(f"recipe is {name!r}, expected one of {', '.join(RECIPES)}")
    return dataclasses.replace(RECIPES[name](model, stream), **changes)
