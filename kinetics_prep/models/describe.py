"""What the models are, for people: a row for each."""

import dataclasses

from kinetics_prep.models import MODELS
from kinetics_prep.models.weights import parameters

CLASSES = 400


@dataclasses.dataclass(frozen=True)
class Row:
    """A model, and what it takes."""

    name: str
    title: str
    size: int
    """Height and width, px."""
    train: dict[str, int]
    """Frames of a training sample, by stream."""
    test: dict[str, int]
    """The same at test."""
    parameters: dict[str, int]
    """With 400 classes, for each stream that it can be built for."""


def rows(classes: int = CLASSES) -> list[Row]:
    """All models. Builds each to count its parameters, which takes some seconds."""
    return [_row(name, module, classes) for name, module in MODELS.items()]


def _row(name: str, module, classes: int) -> Row:
    spec = module.SPEC
    return Row(
        name=name,
        title=spec.title,
        size=spec.size,
        train=_frames(spec, spec.train_span),
        test=_frames(spec, spec.test_span),
        parameters={stream: parameters(module.build(classes, stream)) for stream in spec.streams},
    )


def _frames(spec, span: int) -> dict[str, int]:
    """Images and flow fields that the model sees of so many frames."""
    return {part: len(offsets) for stream in spec.streams for part, offsets in spec.offsets(stream, span).items()}
