"""Models side by side, as in Table 2 of the I3D paper: RGB, Flow, RGB + Flow."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from kinetics_prep.errors import BadOption
from kinetics_prep.training import fusion, predictions_file
from kinetics_prep.training.metrics import Scores
from kinetics_prep.training.predictions import Predictions

COLUMNS = {"rgb": "RGB", "flow": "Flow", "both": "RGB + Flow"}
"""Stream -> heading."""

_NO_SCORE = "–"
_FUSED = {"logits": "logits added", "probabilities": "probabilities averaged"}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The scores of models on the same clips."""

    rows: dict[str, dict[str, Scores]]
    """Name of a row -> stream -> scores."""
    clips: int
    """How many clips have a label."""
    classes: int
    fusions: tuple[str, ...] = ()
    """How streams were fused: some of `predictions.FUSIONS`."""

    @property
    def caption(self) -> str:
        """What the numbers mean."""
        fused = f"; fused: {', '.join(_FUSED[how] for how in self.fusions)}" if self.fusions else ""
        return f"top-1 / top-5 / mean class accuracy in %, {self.clips} clips, {self.classes} classes{fused}"

    def text(self) -> str:
        """The table for a terminal: a caption, and aligned columns."""
        lines = [("model", *COLUMNS.values()), *self._lines()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join([self.caption, "", *(_aligned(line, widths) for line in lines)])

    def markdown(self) -> str:
        """The table in Markdown, caption last."""
        lines = [("model", *COLUMNS.values()), ("---", *["--:"] * len(COLUMNS)), *self._lines()]
        return "\n".join([*(f"| {' | '.join(map(_escaped, line))} |" for line in lines), "", _escaped(self.caption)])

    def _lines(self) -> list[tuple[str, ...]]:
        return [(name, *(_cell(scores.get(stream)) for stream in COLUMNS)) for name, scores in self.rows.items()]


def _cell(scores: Scores | None) -> str:
    if scores is None:
        return _NO_SCORE
    return " / ".join(f"{100 * share:.1f}" for share in (scores.top1, scores.top5, scores.mean_class))


def _aligned(line: tuple[str, ...], widths: list[int]) -> str:
    name, *cells = line
    return "  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:]))])


def _escaped(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def compare_files(files: Iterable[tuple[str | None, Path]], how: str = "logits") -> Comparison:
    """The same as `compare`, from predictions files.

    Args:
      files: (name of the row or None, path).

    Raises:
      CorruptShard: if a file does not hold predictions.
    """
    return compare(((name, predictions_file.read(path)) for name, path in files), how)


def compare(named: Iterable[tuple[str | None, Predictions]], how: str = "logits") -> Comparison:
    """Scores models side by side. A row with RGB and flow, but not both, gets its two streams fused.

    Args:
      named: (name of the row, None for the model's name; predictions on one stream).
      how: to fuse streams, see `fusion.fuse`.

    Raises:
      BadOption: if two predictions are for the same place in the table, or they are not of the same clips and labels.
    """
    rows: dict[str, dict[str, Predictions]] = {}
    first = None
    for name, predictions in named:
        first = predictions if first is None else first
        if predictions is not first:
            fusion.check_comparable(first, predictions)
        row = rows.setdefault(name or predictions.model, {})
        if predictions.stream in row:
            weights = f"one of {row[predictions.stream].weights!r} and one of {predictions.weights!r}"
            where = f"{name or predictions.model!r} on {COLUMNS[predictions.stream]}"
            raise BadOption(f"two predictions of {where}, {weights}: give them names of their own")
        row[predictions.stream] = predictions
    if first is None:
        raise BadOption("there are no predictions to compare: expected one file or more")
    for row in rows.values():
        if row.keys() == {"rgb", "flow"}:
            row["both"] = fusion.fuse_predictions([row["rgb"], row["flow"]], how)
    return _compared(rows, first)


def _compared(rows: dict[str, dict[str, Predictions]], first: Predictions) -> Comparison:
    return Comparison(
        rows={name: {stream: cell.scores() for stream, cell in row.items()} for name, row in rows.items()},
        clips=int(first.is_labelled.sum()),
        classes=len(first.labels),
        fusions=tuple(sorted({cell.fusion for row in rows.values() for cell in row.values()} - {""})),
    )
