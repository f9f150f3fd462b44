"""How a training run went: its loss, its validation accuracy and its learning rate as a picture.

The history is a file of JSON lines that a run adds to. One killed in mid-line, or resumed from an earlier step, leaves
a line that is cut off, or a step told twice: the first is passed over and counted, of the second the last word holds.
"""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from kinetics_prep.errors import CorruptShard
from kinetics_prep.report.lettering import (
    GREY,
    INK,
    MARGIN,
    PALE,
    SMALL_SIZE,
    TEXT_SIZE,
    draw_title,
    draw_upright,
    font_of,
    line_height,
    title_height,
    title_lines,
)

WIDTH, PLOT_HEIGHT = 1200, 480  # pixels, like all lengths here
LEFT, RIGHT, BELOW = 72, 64, 52
FINE = 3  # lines are drawn so much larger, and then shrunk, for smooth edges
SMOOTHED_OVER = 50  # a smoothed loss looks back over about one part of so many of the steps
LOG_FROM = 20  # a loss that falls to less than one part of so many is drawn on a logarithmic scale
MAX_RATE_MARKS = 24
CHANGE = 1.5  # by so much a learning rate must go up or down to be marked

LOSS, SMOOTH, VAL_LOSS = (184, 205, 232), (24, 84, 164), (214, 110, 30)
TOP1, TOP5, BAD = (20, 130, 70), (140, 195, 150), (200, 30, 30)
GRID = (232, 232, 232)

STEP_FIELDS = ("loss", "learning_rate", "clips_per_second")
EVALUATION_FIELDS = ("val_loss", "val_top1", "val_top5")

_LONGEST_LINE = 1 << 16
_LARGEST_STEP = 1 << 53
_LARGEST = 1e30
"""A loss beyond that has diverged, and no axis need hold it."""
_EXAMPLE = '{"step": 1, "loss": 5.99, "learning_rate": 0.1, "clips_per_second": 3.2}'


@dataclasses.dataclass(frozen=True)
class History:
    """What was noted of a run, by step; NaN stands where something was not, or was no number."""

    steps: dict[str, np.ndarray]
    """"step" int64 [N], increasing, and float64 [N] for each of `STEP_FIELDS`."""
    evaluations: dict[str, np.ndarray]
    """"step" int64 [M], increasing, and float64 [M] for each of `EVALUATION_FIELDS`; accuracies 0 to 1."""
    unreadable: int = 0
    """Lines that could not be read, but for one that was cut off at the file's end."""

    def __post_init__(self):
        if not (len(self.steps["step"]) or len(self.evaluations["step"])):
            raise ValueError("a history has one step or one evaluation at least")

    def in_words(self):
        """The lines that say how far it came."""
        parts = [self._last_step()] if len(self.steps["step"]) else []
        best = _best(self.evaluations["val_top1"])
        if best is not None:
            step, top1 = self.evaluations["step"][best], self.evaluations["val_top1"][best]
            parts.append(f"best validation top-1 {top1:.1%} at step {step}")
        speed = self.steps["clips_per_second"]
        if np.isfinite(speed).any():
            parts.append(f"{np.median(speed[np.isfinite(speed)]):.3g} clips/s")
        bad = int(np.count_nonzero(~np.isfinite(self.steps["loss"])))
        notes = [f"steps without a finite loss: {bad}"] if bad else []
        notes += [f"unreadable lines: {self.unreadable}"] if self.unreadable else []
        return "\n".join(filter(None, ["; ".join(parts), "; ".join(notes)]))

    def _last_step(self):
        loss, rate = self.steps["loss"], self.steps["learning_rate"]
        smooth = smoothed(loss)[-1]
        said = f"step {self.steps['step'][-1]}: loss {smooth:.3g}"
        return said + (f", learning rate {rate[-1]:.3g}" if np.isfinite(rate[-1]) else "")


def read_history(path: Path) -> History:
    """Reads the history of a run, under way or ended.

    Raises:
      CorruptShard: if no step and no evaluation can be read.
    """
    steps, evaluations, unreadable, cut_off = {}, {}, 0, 0
    with open(path, "rb") as file:
        for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
            unreadable, cut_off = unreadable + cut_off, 0
            said = _parsed(line)
            if said is None:
                cut_off = 1  # or simply wrong, if another line follows
                continue
            for kind, fields in ((steps, STEP_FIELDS), (evaluations, EVALUATION_FIELDS)):
                if any(name in said for name in fields):
                    kind[said["step"]] = [_number(said.get(name)) for name in fields]
    if not (steps or evaluations):
        raise CorruptShard(f"{path} holds no step of a run: expected a line of JSON for each, such as {_EXAMPLE}")
    return History(_columns(steps, STEP_FIELDS), _columns(evaluations, EVALUATION_FIELDS), unreadable)


def _parsed(line: bytes) -> dict | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = said.get("step") if isinstance(said, dict) else None
    return said if type(step) is int and 0 <= step < _LARGEST_STEP else None


def _number(value) -> float:
    if type(value) not in (int, float):
        return math.nan
    return float(value) if abs(value) < _LARGEST or value != value else math.inf


def _columns(rows: dict, fields: tuple[str, ...]) -> dict[str, np.ndarray]:
    order = sorted(rows)
    values = np.array([rows[step] for step in order], np.float64).reshape(-1, len(fields))
    return {"step": np.array(order, np.int64), **dict(zip(fields, values.T))}


def smoothed(values):
    """The running mean of a loss, which forgets exponentially: float64 [N] of float64 [N].

    What is not finite is passed over. NaN stands where the mean would be that of a few values, while it looks back
    over many.
    """
    over = max(1.0, len(values) / SMOOTHED_OVER)
    keep = math.exp(-1 / over)
    result, total, weight = np.full(len(values), np.nan), 0.0, 0.0
    for k, value in enumerate(values.tolist()):
        if math.isfinite(value):
            total, weight = keep * total + value, keep * weight + 1
        if weight > 0.2 * over:
            result[k] = total / weight
    return result


def rate_changes(steps, rates):
    """(step, learning rate) wherever it drops or rises noticeably, and nothing for the one that it begins with."""
    changes, before = [], None
    for step, rate in zip(steps.tolist(), rates.tolist()):
        if not (math.isfinite(rate) and rate > 0):
            continue
        if before is None:
            before = rate
        elif not before / CHANGE < rate < before * CHANGE:
            changes.append((step, rate))
            before = rate
    return changes


# Axes --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Axis:
    """A scale: which values lie where between its two ends, 0 and 1."""

    low: float
    high: float
    is_log: bool = False

    def __post_init__(self):
        if not (self.low < self.high and (self.low > 0 or not self.is_log)):
            raise ValueError(f"an axis needs low < high, both over 0 on a logarithmic scale; got {self}")

    def at(self, values):
        """float64 of any shape -> the same; values beyond its ends lie beyond 0 and 1."""
        low, high, values = (
            (map(np.log, (self.low, self.high, values))) if self.is_log else (self.low, self.high, values)
        )
        return (values - low) / (high - low)

    def ticks(self):
        """Round values within it, as floats."""
        candidates = self._decades() if self.is_log else self._multiples()
        slack = 1e-9 * (self.high - self.low)
        return [value for value in candidates if self.low - slack <= value <= self.high + slack]

    def _multiples(self):
        room = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(room))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= room * 0.99)
        return [step * k for k in range(math.floor(self.low / step), math.ceil(self.high / step) + 1)]

    def _decades(self):
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        factors = (1, 2, 5) if last - first <= 3 else (1,)
        return [
            factor * 10.0**power for power in range(first, last + 1, max(1, (last - first) // 6)) for factor in factors
        ]


def loss_axis(losses, smooth, val_losses):
    """The scale on which losses are seen: logarithmic if they fall far, and without the rare outlier.

    Args:
      losses, smooth: float64 [N], each step's and the running mean.
      val_losses: float64 [M].
    """
    finite = losses[np.isfinite(losses)]
    steady = np.concatenate([smooth, val_losses])
    steady = steady[np.isfinite(steady)]
    if not steady.size:
        return Axis(0.0, 1.0)
    every = np.concatenate([steady, np.percentile(finite, [0.5, 99.5])]) if finite.size else steady
    low, high = float(every.min()), float(every.max())
    if low > 0 and finite.min(initial=low) > 0 and steady.max() > LOG_FROM * steady.min():
        return Axis(low / 1.1, high * 1.1, is_log=True)
    low = 0.0 if 0 <= low <= high / 2 or 0 <= low == high else low
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis(low and low - room, high + room)


def step_axis(history):
    """From 0 to the last step; from the first, if the run was noted from later on only."""
    steps = np.concatenate([history.steps["step"], history.evaluations["step"]])
    first, last = int(steps.min()), int(steps.max())
    low = float(first if 2 * first > last > first else 0)
    room = 0.01 * (max(last, 1) - low)  # or the last dot would be cut in half
    return Axis(low and low - room, max(last, 1) + room)


# The picture -------------------------------------------------------------------------------------


def curves_picture(history, title):
    """Draws a run: the loss of each step thin and its running mean bold, validation loss, and accuracy on the right.

    Dashed lines stand where the learning rate changes, red ticks at the foot where a loss was not finite.

    Args:
      history: a `History`.
      title: text of any kind. Its first line is the heading; what the history says in words follows below.

    Returns:
      A PIL image, RGB.
    """
    lines = title_lines(f"{title}\n{history.in_words()}", WIDTH - 2 * MARGIN)
    top = MARGIN + title_height(lines) + 2 * line_height(TEXT_SIZE)
    picture = Image.new("RGB", (WIDTH, top + PLOT_HEIGHT + BELOW), "white")
    draw_title(ImageDraw.Draw(picture), lines)

    smooth = smoothed(history.steps["loss"])
    plot = _Plot(
        history,
        smooth,
        across=step_axis(history),
        losses=loss_axis(history.steps["loss"], smooth, history.evaluations["val_loss"]),
        has_accuracy=bool(np.isfinite(_accuracies(history)).any()),
    )
    _draw_legend(picture, top - round(1.4 * line_height(TEXT_SIZE)), plot)
    picture.paste(_drawn(plot), (LEFT, top))
    _draw_axes(picture, top, plot)
    return picture


def _accuracies(history):
    return np.concatenate([history.evaluations["val_top1"], history.evaluations["val_top5"]])


@dataclasses.dataclass(frozen=True)
class _Plot:
    history: History
    smooth: np.ndarray
    across: Axis
    losses: Axis
    has_accuracy: bool

    width = WIDTH - LEFT - RIGHT

    def series(self):
        """(name, steps, values, axis, colour, width, with dots) of each line, in the order of drawing."""
        steps, evaluations, shares = self.history.steps, self.history.evaluations, Axis(0.0, 1.0)
        every = (
            ("loss of each step", steps["step"], steps["loss"], self.losses, LOSS, 1, False),
            ("validation top-5", evaluations["step"], evaluations["val_top5"], shares, TOP5, 2, True),
            ("validation top-1", evaluations["step"], evaluations["val_top1"], shares, TOP1, 2, True),
            ("validation loss", evaluations["step"], evaluations["val_loss"], self.losses, VAL_LOSS, 2, True),
            ("loss, running mean", steps["step"], self.smooth, self.losses, SMOOTH, 3, False),
        )
        return [one for one in every if np.isfinite(one[2]).any()]

    @property
    def rate_marks(self):
        """(x, learning rate) of its changes; none if it changes all the time."""
        changes = rate_changes(self.history.steps["step"], self.history.steps["learning_rate"])
        marks = [(round(self.across.at(step) * (self.width - 1)), rate) for step, rate in changes]
        return marks if len(marks) <= MAX_RATE_MARKS else []


def _drawn(plot):
    """What lies between the axes."""
    fine = Image.new("RGB", (plot.width * FINE, PLOT_HEIGHT * FINE), "white")
    draw = ImageDraw.Draw(fine)
    for value in plot.losses.ticks():
        y = (1 - plot.losses.at(value)) * fine.height
        draw.line((0, y, fine.width, y), GRID, FINE)
    for x, _ in plot.rate_marks:
        for y in range(0, fine.height, 8 * FINE):
            draw.line((x * FINE, y, x * FINE, y + 4 * FINE), PALE, FINE)
    for _, steps, values, axis, colour, width, with_dots in plot.series():
        values = np.where(np.isfinite(values), values, np.nan)
        x, y = plot.across.at(steps) * fine.width, (1 - axis.at(values)) * fine.height
        _draw_line(draw, x, np.clip(y, -FINE, fine.height + FINE), colour, width * FINE, with_dots)
    losses = plot.history.steps["loss"]
    for x in plot.across.at(plot.history.steps["step"][~np.isfinite(losses)]) * fine.width:
        draw.line((x, fine.height - 10 * FINE, x, fine.height), BAD, 2 * FINE)
    return fine.reduce(FINE)


def _draw_line(draw, x, y, colour, width, with_dots):
    """Draws a line that breaks off where y is not a number; of a piece of one point, a dot."""
    known = np.isfinite(y)
    pieces = np.split(np.arange(len(y)), np.flatnonzero(np.diff(known)) + 1)
    for piece in (piece for piece in pieces if len(piece) and known[piece[0]]):
        points = _thinned(x[piece], y[piece])
        draw.line([*map(tuple, points)], colour, width, joint="curve" if width > FINE else None)
        for px, py in points if with_dots or len(points) == 1 else ():
            radius = 3.5 * FINE if with_dots else max(2 * FINE, width)
            draw.ellipse((px - radius, py - radius, px + radius, py + radius), colour)


def _thinned(x, y):
    """Points of a line, float64 [N, 2]: of very many, the highest and the lowest in each column of pixels."""
    columns = x.astype(np.int64) // FINE
    starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
    if len(x) <= 4 * len(starts):
        return np.stack([x, y], axis=1)
    ends = np.stack([np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)], axis=1)
    return np.stack([np.repeat(x[starts], 2), ends.ravel()], axis=1)


def _draw_axes(picture, top, plot):
    draw, font, small = ImageDraw.Draw(picture), font_of(TEXT_SIZE), font_of(SMALL_SIZE)
    right, bottom = LEFT + plot.width, top + PLOT_HEIGHT
    draw.rectangle((LEFT - 1, top - 1, right, bottom), outline=PALE)
    for value in plot.losses.ticks():
        draw.text((LEFT - 8, bottom - plot.losses.at(value) * PLOT_HEIGHT), f"{value:.4g}", INK, small, anchor="rm")
    for share in (0, 0.2, 0.4, 0.6, 0.8, 1) if plot.has_accuracy else ():
        draw.text((right + 8, bottom - share * PLOT_HEIGHT), f"{share:.0%}", TOP1, small, anchor="lm")
    for value in plot.across.ticks():
        if value == round(value):
            x = LEFT + plot.across.at(value) * (plot.width - 1)
            draw.line((x, bottom, x, bottom + 4), GREY)
            draw.text((x, bottom + 8), _steps_in_words(value), INK, small, anchor="ma")
    for x, rate in _apart(plot.rate_marks, line_height(SMALL_SIZE)):
        draw_upright(picture, (LEFT + x + 9, top + 4), f"lr {rate:.3g}", small, GREY, "end")
    middle = top + PLOT_HEIGHT // 2
    draw_upright(picture, (14, middle), "loss", font, GREY, "middle")
    if plot.has_accuracy:
        draw_upright(picture, (WIDTH - 12, middle), "validation accuracy", font, GREY, "middle")
    draw.text((LEFT + plot.width / 2, bottom + BELOW - 8), "step", GREY, font, anchor="ms")


def _steps_in_words(step):
    return f"{step / 1000:g}k" if step >= 10_000 else f"{step:g}"


def _apart(marks, distance):
    """Those marks that stand so far from the one before."""
    kept = []
    for mark in marks:
        if not kept or mark[0] - kept[-1][0] >= distance:
            kept.append(mark)
    return kept


def _draw_legend(picture, y, plot):
    draw, font, x = ImageDraw.Draw(picture), font_of(TEXT_SIZE), LEFT
    for name, _, _, _, colour, width, _ in reversed(plot.series()):  # what lies on top comes first
        draw.line((x, y + 10, x + 24, y + 10), colour, width)
        draw.text((x + 32, y), name, INK, font)
        x += 32 + math.ceil(font.getlength(name)) + 28


def _best(values):
    """The place of the highest value, the first of several; None if none is finite."""
    finite = np.isfinite(values)
    return int(np.argmax(np.where(finite, values, -np.inf))) if finite.any() else None
