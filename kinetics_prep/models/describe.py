"""What the models are, for people: a row for each."""

import dataclasses

from kinetics_prep.models import MODELS
from kinetics_prep.models.spec import parts
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
    """For each stream that it can be built for."""


def in_words(classes: int = CLASSES) -> list[str]:
    """A table of the models, as lines."""
    cells = [("model", "streams", "input", "frames to train", "frames at test", "parameters", "")]
    for row in rows(classes):
        for k, (stream, count) in enumerate(row.parameters.items()):
            seen = parts(stream)
            frames = (" + ".join(f"{each[part]} {part}" for part in seen) for each in (row.train, row.test))
            first = (row.name, "", f"{row.size}x{row.size}") if k == 0 else ("", "", "")
            cells.append((first[0], stream, first[2], *frames, f"{count:,}", row.title if k == 0 else ""))
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in cells]


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
