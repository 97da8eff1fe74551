"""Draws the requests that an upstream still allowed over time, and what plans take ahead, as coordinates of an SVG."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from app.database.budget_samples import BudgetSample

WIDTH, HEIGHT = 760, 222
# The hours below need room, because telephones draw them larger.
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 14, 44
# Nothing is drawn across a longer gap between samples.
_GAP_SECONDS = 1800
_HOUR = 3600
_MOST_POINTS = 400


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid and the text beside it."""

    place: float
    text: str


@dataclass(frozen=True, slots=True)
class Coming:
    """A window ahead: GETs that plans take, and those that others are expected to take, usually and at most.

    Times are in seconds.
    """

    start: float
    end: float
    planned: int
    expected: float
    at_most: float


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Plot:
    """Paths of an SVG of WIDTH by HEIGHT. ``last`` is the point of the newest sample, None if there is none.

    ``planned`` are what plans take of windows ahead, ``expected`` the range that others are expected to take of them.
    """

    lines: Sequence[str]
    areas: Sequence[str]
    across: Sequence[Tick]
    down: Sequence[Tick]
    last: tuple[float, float] | None
    planned: Sequence[Box] = ()
    expected: Sequence[Box] = ()
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


def draw(samples: Sequence[BudgetSample], start: float, end: float, ahead: Sequence[Coming] = ()) -> Plot:
    """Plot samples, oldest first, and windows ahead, between two times in seconds."""
    step = max(1, len(samples) // _MOST_POINTS)
    chosen = [*samples[:-1:step], samples[-1]] if samples else []
    top = max((sample.limit for sample in chosen), default=0) or 1
    bottom = HEIGHT - _BOTTOM

    def x(at: float) -> float:
        return round(_LEFT + (at - start) / (end - start) * (WIDTH - _LEFT - _RIGHT), 1)

    def y(remaining: float) -> float:
        return round(bottom - min(remaining, top) / top * (bottom - _TOP), 1)

    lines, areas = [], []
    for piece in _pieces(chosen):
        points = [(x(sample.at), y(sample.remaining)) for sample in piece]
        line = "M" + "L".join(f"{a},{b}" for a, b in points)
        lines.append(line)
        areas.append(f"{line}L{points[-1][0]},{bottom}L{points[0][0]},{bottom}Z")
    hours = range(int(start // (4 * _HOUR) + 1) * 4 * _HOUR, int(end) + 1, 4 * _HOUR)
    across = [Tick(x(hour), time.strftime("%H:%M", time.gmtime(hour))) for hour in hours]
    down = [Tick(y(value), str(round(value))) for value in (0, top / 2, top)]
    last = (x(chosen[-1].at), y(chosen[-1].remaining)) if chosen else None

    def box(window: Coming, low: float, high: float) -> Box:
        left, right = x(window.start), x(min(window.end, end))
        return Box(left, y(high), round(max(0.0, right - left - 1), 1), round(y(low) - y(high), 1))

    shown = [window for window in ahead if window.start < end]
    return Plot(
        lines,
        areas,
        across,
        down,
        last,
        planned=[box(window, 0, window.planned) for window in shown if window.planned],
        expected=[box(window, window.expected, window.at_most) for window in shown],
    )


def _pieces(samples: Sequence[BudgetSample]) -> list[list[BudgetSample]]:
    pieces: list[list[BudgetSample]] = []
    for sample in samples:
        if pieces and sample.at - pieces[-1][-1].at <= _GAP_SECONDS:
            pieces[-1].append(sample)
        else:
            pieces.append([sample])
    return pieces
