"""How a training run went, as a picture: loss, validation accuracy, learning rate and speed, one below the other."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from kinetics_prep.report.history import Column, History, smoothed
from kinetics_prep.report.plot import (
    GREY,
    MARGIN,
    TEXT_SIZE,
    add_axes,
    add_lines,
    heading_lines,
    height_of,
    new_figure,
    picture_of,
    require_matplotlib,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LEFT, RIGHT = 1200, 88, 28  # pixels, like all lengths here
BETWEEN, BELOW = 20, 60
LEGEND_HEIGHT = 24
LOG_FROM = 20
"""Values of which the largest is over 20 times the smallest stand on a logarithmic scale."""
MAX_DOTS = 100
PER_TICK = 40
"""The least height that a tick of a vertical axis gets; on a logarithmic axis half of that."""

LOSS, SMOOTH, VAL_LOSS = "#b8cde8", "#1854a4", "#d66e1e"
TOP1, TOP5, RATE, SPEED, BAD = "#148246", "#8cc396", "#6a3d9a", "#7a7a7a", "#c81e1e"
GRID = "#e8e8e8"


@dataclasses.dataclass(frozen=True)
class Line:
    """One curve: float64 [N] values at int64 [N] steps. Where a value is not finite the curve breaks off."""

    name: str
    steps: Column
    values: Column
    colour: str
    width: float
    has_dots: bool = False

    @property
    def has_value(self) -> bool:
        return bool(np.isfinite(self.values).any())


@dataclasses.dataclass(frozen=True)
class Limits:
    """The ends of an axis."""

    low: float
    high: float
    is_log: bool = False

    def __post_init__(self) -> None:
        if not (self.low < self.high and (self.low > 0 or not self.is_log)):
            raise ValueError(f"an axis needs low < high, both over 0 on a logarithmic scale; got {self}")


@dataclasses.dataclass(frozen=True)
class Panel:
    """Curves that share a scale."""

    name: str
    height: int
    lines: list[Line]
    limits: Limits
    tick_format: str = "{:.4g}"

    @property
    def height_above(self) -> int:
        """Room for a legend, which only several lines need."""
        return BETWEEN + LEGEND_HEIGHT * (len(self.lines) > 1)


def curves_picture(history: History, title: str) -> Image.Image:
    """Draws a run as `curves_figure` does; returns an RGB picture."""
    return picture_of(curves_figure(history, title))


def curves_figure(history: History, title: str) -> Figure:
    """Draws a run: panels of its loss, validation accuracy, learning rate and speed, those of which it noted any.

    The loss of each step is thin, its running mean bold. Red ticks stand at the foot where a loss was not finite.

    Args:
      history: a `History`.
      title: text of any kind. Its first line is the heading; what the history says in words follows below.

    Raises:
      MissingTool: if matplotlib is not installed.
    """
    require_matplotlib()
    panels = panels_of(history)
    heading = heading_lines(f"{title}\n{history.in_words()}", WIDTH - 2 * MARGIN)
    top = MARGIN + height_of(heading)
    height = top + sum(panel.height_above + panel.height for panel in panels) + BELOW
    figure = new_figure(WIDTH, height)
    add_lines(figure, MARGIN, heading)
    for panel in panels:
        top += panel.height_above
        axes = add_axes(figure, LEFT, top, WIDTH - LEFT - RIGHT, panel.height)
        _draw_panel(axes, panel)
        _draw_steps(axes, step_limits(history), is_last=panel is panels[-1])
        top += panel.height
    _mark_bad_losses(figure.axes[0], history)
    return figure


def panels_of(history: History) -> list[Panel]:
    """Returns the loss, and every other panel of which the history holds a number."""
    panels = [
        _loss_panel(history),
        _accuracy_panel(history),
        _step_panel(history, "learning_rate", "learning rate", RATE),
        _step_panel(history, "clips_per_second", "clips/s", SPEED, may_be_log=False),
    ]
    panels = [dataclasses.replace(panel, lines=[line for line in panel.lines if line.has_value]) for panel in panels]
    return [panel for panel in panels if panel.lines or panel is panels[0]]


def _loss_panel(history: History) -> Panel:
    steps, evaluations = history.steps, history.evaluations
    smooth = smoothed(steps["loss"])
    lines = [
        Line("loss of each step", steps["step"], steps["loss"], LOSS, 1),
        Line("validation loss", evaluations["step"], evaluations["val_loss"], VAL_LOSS, 2, has_dots=True),
        Line("loss, running mean", steps["step"], smooth, SMOOTH, 3),
    ]
    return Panel("loss", 400, lines, loss_limits(steps["loss"], smooth, evaluations["val_loss"]))


def _accuracy_panel(history: History) -> Panel:
    evaluations = history.evaluations
    lines = [
        Line("validation top-5", evaluations["step"], evaluations["val_top5"], TOP5, 2, has_dots=True),
        Line("validation top-1", evaluations["step"], evaluations["val_top1"], TOP1, 2, has_dots=True),
    ]
    return Panel("validation accuracy", 220, lines, Limits(0, 1), "{:.0%}")


def _step_panel(history: History, field: str, name: str, colour: str, may_be_log: bool = True) -> Panel:
    values = history.steps[field]
    line = Line(name, history.steps["step"], values, colour, 1.5)
    return Panel(name, 110, [line], positive_limits(values, may_be_log))


def loss_limits(losses: Column, smooth: Column, val_losses: Column) -> Limits:
    """Returns the scale on which losses are seen: logarithmic if they fall far, and without the rare outlier.

    Args:
      losses, smooth: float64 [N], each step's and the running mean.
      val_losses: float64 [M].
    """
    finite = losses[np.isfinite(losses)]
    steady = np.concatenate([smooth, val_losses])
    steady = steady[np.isfinite(steady)]
    if not steady.size:
        return Limits(0, 1)
    values = np.concatenate([steady, np.percentile(finite, [0.5, 99.5])]) if finite.size else steady
    low, high = float(values.min()), float(values.max())
    if low > 0 and finite.min(initial=low) > 0 and steady.max() > LOG_FROM * steady.min():
        return Limits(low / 1.1, high * 1.1, is_log=True)
    low = 0.0 if 0 <= low <= high / 2 or 0 <= low == high else low
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Limits(low and low - room, high + room)


def positive_limits(values: Column, may_be_log: bool = True) -> Limits:
    """Returns the scale on which values over 0 are seen: from 0, or logarithmic if they lie far apart."""
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        return Limits(0, 1)
    low, high = float(positive.min()), float(positive.max())
    if may_be_log and high > LOG_FROM * low:
        return Limits(low / 1.5, high * 1.5, is_log=True)
    return Limits(0, 1.1 * high)


def step_limits(history: History) -> Limits:
    """Returns 0 to the last step; from the first, if the run was noted only from later on."""
    steps = np.concatenate([history.steps["step"], history.evaluations["step"]])
    first, last = int(steps.min()), int(steps.max())
    low = float(first if 2 * first > last > first else 0)
    room = 0.01 * (max(last, 1) - low)  # or the last dot would be cut in half
    return Limits(low and low - room, max(last, 1) + room)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        _draw_line(axes, line)
    axes.set_ylabel(panel.name, size=TEXT_SIZE, color=GREY)
    axes.yaxis.set_label_coords(-60 / (WIDTH - LEFT - RIGHT), 0.5)
    _set_scale(axes, panel.limits)
    axes.yaxis.set_major_formatter(lambda value, _: panel.tick_format.format(value))
    axes.grid(axis="y", color=GRID, linewidth=1)
    axes.set_axisbelow(True)
    if len(panel.lines) > 1:
        handles = axes.get_lines()[::-1]  # what lies on top comes first
        axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=14)


def _draw_line(axes: Axes, line: Line) -> None:
    """Draws a line, with a dot on each value if there are few, and else on those between two breaks."""
    finite = np.isfinite(line.values)
    dots = finite & (line.has_dots and len(line.values) <= MAX_DOTS)
    around = np.pad(finite, 1)
    dots |= finite & ~around[:-2] & ~around[2:]
    axes.plot(
        line.steps,
        np.where(finite, line.values, np.nan),
        color=line.colour,
        linewidth=line.width,
        label=line.name,
        marker="o" if dots.any() else "",
        markersize=2 * line.width + 2,
        markevery=dots,
    )


def _set_scale(axes: Axes, limits: Limits) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    ticks = round(axes.bbox.height) // PER_TICK
    if limits.is_log:
        axes.set_yscale("log")
        has_room = 3 * np.log10(limits.high / limits.low) <= 2 * ticks
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if has_room else (1,), numticks=2 * ticks))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    axes.set_ylim(limits.low, limits.high)


def _draw_steps(axes: Axes, limits: Limits, is_last: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(limits.low, limits.high)
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step / 1000:g}k" if step >= 10_000 else f"{step:g}")
    axes.tick_params(axis="x", labelbottom=is_last)
    if is_last:
        axes.set_xlabel("step", size=TEXT_SIZE, color=GREY)


def _mark_bad_losses(axes: Axes, history: History) -> None:
    """Draws red ticks at the foot of the losses where a loss was not finite."""
    bad = history.steps["step"][~np.isfinite(history.steps["loss"])]
    if bad.size:
        foot = np.zeros(len(bad))
        axes.plot(bad, foot, "|", color=BAD, markersize=20, markeredgewidth=2, transform=axes.get_xaxis_transform())
