"""Drawings of trials as plain geometry: parallel coordinates and learning curves, one line a trial.

They become SVG inside the page, where a line can be found from its row of the table and the other way
round; a picture made elsewhere could not be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

_SPREAD = 0.34
"""Share of the distance between two levels over which the lines through one level are spread."""


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in units of the drawing."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """An upright axis of parallel coordinates."""

    x: float
    title: str
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Line:
    """One trial.

    Attributes:
        trial: its id.
        label: what a reader hears or sees on pointing at it.
        points: (x, y) in units of the drawing.
        share: 0 for the worst response, 1 for the best; None where there is none.
        best: whether it is the best trial.
    """

    trial: str
    label: str
    points: tuple[tuple[float, float], ...]
    share: float | None
    best: bool


@dataclass(frozen=True)
class Drawing:
    """Lines over axes; the origin is the upper left corner.

    Attributes:
        title: of the drawing.
        alt: what it shows, in words.
        width: of the whole, in pixels at full size.
        height: of the whole.
        axes: upright axes (parallel coordinates), or none.
        x_ticks: of curves.
        y_ticks: of curves.
        x_title: of curves.
        frame: left, top, right, bottom of the drawn area.
        lines: worst first, so that the best is drawn last.
    """

    title: str
    alt: str
    width: float
    height: float
    frame: tuple[float, float, float, float]
    lines: tuple[Line, ...]
    axes: tuple[Axis, ...] = ()
    x_ticks: tuple[Tick, ...] = ()
    y_ticks: tuple[Tick, ...] = ()
    x_title: str = ""


@dataclass(frozen=True)
class DrawnTrial:
    """What the drawings need of a trial.

    Attributes:
        trial: its id.
        label: what it is called.
        levels: factor -> level number, from 1.
        response: of the objective; None before it is completed.
        epochs: metrics of every epoch.
    """

    trial: str
    label: str
    levels: Mapping[str, int]
    response: float | None
    epochs: Sequence[Mapping[str, float]] = ()


def draw_parallel_coordinates(
    trials: Sequence[DrawnTrial],
    factors: Mapping[str, Sequence[str]],
    response: str,
    best: str | None = None,
    larger_is_better: bool = True,
    height: float = 340,
) -> Drawing | None:
    """Every completed trial as a line through its levels to its response.

    Args:
        trials: in order.
        factors: name -> names of its levels; dummy levels keep a place of their own.
        response: title of the last axis.
        best: id of the trial to mark.
        larger_is_better: which end of the last axis is good.
        height: of the drawing in pixels.

    Returns:
        The drawing; None before any trial is completed.
    """
    done = [trial for trial in trials if trial.response is not None]
    if not done:
        return None
    step, left, top = 150.0, 90.0, 46.0
    frame = (left, top, left + step * len(factors), height - 20)
    ticks, place = _scale([_response(t) for t in done], frame[3], frame[1])
    axes = [
        Axis(left + step * i, name, _level_ticks(levels, frame))
        for i, (name, levels) in enumerate(factors.items())
    ]
    axes.append(Axis(frame[2], response, ticks))
    shares = _shares(done, larger_is_better)
    spread = _spread_lines(done, factors, shares)
    lines = []
    for trial in done:
        points = [
            (
                axis.x,
                axis.ticks[trial.levels[axis.title] - 1].at + spread[trial.trial, axis.title] * _room(axis),
            )
            for axis in axes[:-1]
        ]
        points.append((frame[2], place(_response(trial))))
        share = shares[trial.trial]
        label = f"{trial.label}: {_response(trial):.4g}"
        lines.append(Line(trial.trial, label, _rounded(points), share, trial.trial == best))
    return Drawing(
        title="Factors against the response",
        alt=_describe_parallel(done, factors, response, larger_is_better),
        width=frame[2] + 70, height=height, frame=frame, lines=_best_last(lines), axes=tuple(axes),
    )  # fmt: skip


def draw_learning_curves(
    trials: Sequence[DrawnTrial],
    metric: str,
    title: str,
    best: str | None = None,
    larger_is_better: bool = True,
    width: float = 430,
    height: float = 290,
) -> Drawing | None:
    """A metric of every trial over its epochs; None where no trial kept it.

    Args:
        trials: in order.
        metric: a key of their epochs.
        title: what to call it.
        best: id of the trial to mark.
        larger_is_better: direction of the response, which colours the lines.
        width: of the drawing in pixels.
        height: of the drawing in pixels.
    """
    curves = {
        trial.trial: [(i + 1, row[metric]) for i, row in enumerate(trial.epochs) if _finite(row.get(metric))]
        for trial in trials
    }
    shown = [trial for trial in trials if curves[trial.trial]]
    if not shown:
        return None
    frame = (58.0, 14.0, width - 14, height - 44)
    values = [value for curve in curves.values() for _, value in curve]
    last = max(epoch for curve in curves.values() for epoch, _ in curve)
    y_ticks, y = _scale(values, frame[3], frame[1])
    span = max(last - 1, 1)
    x_ticks = tuple(
        Tick(round(frame[0] + (epoch - 1) / span * (frame[2] - frame[0]), 1), str(epoch))
        for epoch in _whole_ticks(last)
    )
    shares = _shares(shown, larger_is_better)
    lines = [
        Line(
            trial.trial,
            f"{trial.label}: {curves[trial.trial][-1][1]:.4g} after epoch {curves[trial.trial][-1][0]}",
            _rounded(
                (frame[0] + (e - 1) / span * (frame[2] - frame[0]), y(v)) for e, v in curves[trial.trial]
            ),
            shares[trial.trial],
            trial.trial == best,
        )
        for trial in shown
    ]
    finals = [curve[-1][1] for curve in curves.values() if curve]
    alt = (
        f"{title} of {len(shown)} trials over up to {last} epochs; last values from {min(finals):.4g} to "
        f"{max(finals):.4g}."
    )
    return Drawing(
        title=title, alt=alt, width=width, height=height, frame=frame, lines=_best_last(lines),
        x_ticks=x_ticks, y_ticks=y_ticks, x_title="epoch",
    )  # fmt: skip


def _response(trial: DrawnTrial) -> float:
    assert trial.response is not None
    return trial.response


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _scale(values: Sequence[float], low_at: float, high_at: float):
    """Ticks, and a function from a value to its place."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - max(abs(low), 1) * 0.05, high + max(abs(high), 1) * 0.05
    margin = (high - low) * 0.04
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return low_at + (value - low) / (high - low) * (high_at - low_at)

    found = [float(tick) for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
    return tuple(Tick(round(place(tick), 1), f"{tick:.6g}") for tick in found), place


def _whole_ticks(last: int) -> list[int]:
    found = MaxNLocator(6, integer=True).tick_values(1, last)
    ticks = sorted({int(tick) for tick in found if 1 <= tick <= last and float(tick).is_integer()})
    return ticks or [1]


def _level_ticks(levels: Sequence[str], frame: tuple[float, float, float, float]) -> tuple[Tick, ...]:
    """Level 1 below, evenly spaced, half a step from the ends."""
    step = (frame[3] - frame[1]) / len(levels)
    names = [f"{name} ({i + 1})" if list(levels).count(name) > 1 else name for i, name in enumerate(levels)]
    return tuple(Tick(round(frame[3] - (i + 0.5) * step, 1), name) for i, name in enumerate(names))


def _room(axis: Axis) -> float:
    """Height over which the lines through one level may spread."""
    step = abs(axis.ticks[0].at - axis.ticks[1].at) if len(axis.ticks) > 1 else 40.0
    return 2 * _SPREAD * step


def _shares(trials: Sequence[DrawnTrial], larger_is_better: bool) -> dict[str, float | None]:
    """Where each response stands between the worst and the best, from 0 to 1."""
    values = [trial.response for trial in trials if trial.response is not None]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    found: dict[str, float | None] = {}
    for trial in trials:
        if trial.response is None:
            found[trial.trial] = None
            continue
        share = (trial.response - low) / (high - low) if high > low else 0.5
        found[trial.trial] = share if larger_is_better else 1 - share
    return found


def _spread_lines(
    trials: Sequence[DrawnTrial], factors: Mapping[str, Sequence[str]], shares: Mapping[str, float | None]
) -> dict[tuple[str, str], float]:
    """Offset of each trial's line at each factor, -0.5 to 0.5 of the room: the better the higher."""
    found = {}
    for name in factors:
        for level in {trial.levels[name] for trial in trials}:
            own = [trial.trial for trial in trials if trial.levels[name] == level]
            own.sort(key=lambda trial: -(shares[trial] or 0.0))
            for index, trial in enumerate(own):
                found[trial, name] = (index + 0.5) / len(own) - 0.5
    return found


def _best_last(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Lines without a response below, the marked one on top."""
    return tuple(sorted(lines, key=lambda line: (line.best, -1.0 if line.share is None else line.share)))


def _rounded(points) -> tuple[tuple[float, float], ...]:
    return tuple((round(x, 1), round(y, 1)) for x, y in points)


def _describe_parallel(
    trials: Sequence[DrawnTrial], factors: Mapping[str, Sequence[str]], response: str, larger_is_better: bool
) -> str:
    best = (max if larger_is_better else min)(trials, key=_response)
    values = [_response(trial) for trial in trials]
    levels = ", ".join(f"{name} = {factors[name][level - 1]}" for name, level in best.levels.items())
    return (
        f"Parallel coordinates of {len(trials)} trials; {response} from {min(values):.4g} to {max(values):.4g}, "
        f"best at {levels}. The table holds the same values."
    )
