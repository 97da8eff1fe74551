"""Draws what an upstream still allowed, what plans take of it ahead, and pulls, over time: as coordinates of an SVG."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.database.budget_samples import BudgetSample

WIDTH, HEIGHT = 760, 222
# The hours below need room, because telephones draw them larger.
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 14, 44
# Nothing is drawn across a longer gap between samples.
_GAP_SECONDS = 1800
_HOUR = 3600
_MOST_POINTS = 400
_BARS_WIDTH, _BARS_HEIGHT = 300, 80


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


@dataclass(frozen=True, slots=True)
class Bar:
    """The number of one hour or day, with its time in words."""

    x: float
    y: float
    width: float
    height: float
    count: int
    text: str


@dataclass(frozen=True, slots=True)
class Bars:
    """Numbers over time, an SVG of ``width`` by ``height``. ``most`` is that of the highest bar."""

    bars: Sequence[Bar]
    total: int
    most: int
    first: str
    last: str
    width: int = _BARS_WIDTH
    height: int = _BARS_HEIGHT


def draw_bars(by_hour: Mapping[int, int], now: float, step: int, count: int, form: str) -> Bars:
    """Plot the last ``count`` spans of ``step`` seconds until now; ``form`` spells the time at which one begins.

    ``by_hour`` has numbers by the Unix time at which an hour begins.
    """
    end = (int(now) // step + 1) * step
    begins = range(end - count * step, end, step)
    sums = dict.fromkeys(begins, 0)
    for hour, number in by_hour.items():
        if (begin := hour // step * step) in sums:
            sums[begin] += number
    most = max(sums.values())
    wide, high = _BARS_WIDTH / count, _BARS_HEIGHT
    texts = {begin: time.strftime(form, time.gmtime(begin)) for begin in begins}
    bars = []
    for place, (begin, number) in enumerate(sums.items()):
        height = round(number / (most or 1) * (high - 2), 1)
        bars.append(
            Bar(round(place * wide, 1), round(high - height, 1), round(wide - 2, 1), height, number, texts[begin])
        )
    return Bars(bars, sum(sums.values()), most, texts[begins[0]], texts[begins[-1]])


def _pieces(samples: Sequence[BudgetSample]) -> list[list[BudgetSample]]:
    pieces: list[list[BudgetSample]] = []
    for sample in samples:
        if pieces and sample.at - pieces[-1][-1].at <= _GAP_SECONDS:
            pieces[-1].append(sample)
        else:
            pieces.append([sample])
    return pieces
