"""A table of the models for people."""

import dataclasses

from kinetics_prep.models import MODELS, ModelModule
from kinetics_prep.models.model_variables import count_parameters
from kinetics_prep.models.spec import Spec, parts

CLASSES = 400

_TITLES = ("model", "streams", "input", "frames to train", "frames at test", "parameters", "")


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


def rows(classes: int = CLASSES) -> list[Row]:
    """All models. Builds each to count its parameters, which takes some seconds."""
    return [_row(name, module, classes) for name, module in MODELS.items()]


def table_lines(classes: int = CLASSES) -> list[str]:
    """The models as the lines of a table, with a line for each stream that a model can be built for."""
    cells = [_TITLES, *(line for row in rows(classes) for line in _cells(row))]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in cells]


def _row(name: str, module: ModelModule, classes: int) -> Row:
    spec = module.SPEC
    return Row(
        name=name,
        title=spec.title,
        size=spec.size,
        train=_frames(spec, spec.train_span),
        test=_frames(spec, spec.test_span),
        parameters={stream: count_parameters(module.build(classes, stream)) for stream in spec.streams},
    )


def _frames(spec: Spec, span: int) -> dict[str, int]:
    """The number of images and flow fields that the model sees of `span` frames."""
    return {part: len(offsets) for stream in spec.streams for part, offsets in spec.offsets(stream, span).items()}


def _cells(row: Row) -> list[tuple[str, ...]]:
    """Only the first of a model's lines shows its name, size and title."""
    lines: list[tuple[str, ...]] = []
    for k, (stream, count) in enumerate(row.parameters.items()):
        name, size, title = (row.name, f"{row.size}x{row.size}", row.title) if k == 0 else ("", "", "")
        train, test = (" + ".join(f"{of[part]} {part}" for part in parts(stream)) for of in (row.train, row.test))
        lines.append((name, stream, size, train, test, f"{count:,}", title))
    return lines
