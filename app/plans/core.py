"""Divide an upstream's budget among the images of plans, window by window; pure functions of values and a clock.

    needs ──► merged by image ──► ordered ──► each takes GETs of windows before its date ──► Schedule
                                                │ quiet windows first, then the busy ones
                                                └ if these do not suffice: windows after the date, and it is late

The order is by the hour of the date. Within an hour people take turns, an image each.

Plans never get all of a window:

- On an account of our own they leave what pulls without a plan are expected to need, and a third of the limit at least.
  That third shrinks with the time that is left, so the end of a window goes to plans instead of lapsing.
- However busy a window is expected to be, a third of it is for plans, because a plan is made before others ask.
- The budget of an address is shared with others whom we do not know. Plans never take its last third.

Pulls that found nothing left wait. They come after the plans, in the order of the hours at which they asked, and take
turns in the same way. They may have all that plans leave, except a sixth of the limit for those who ask now. That sixth
shrinks with the time that is left, too, so nothing lapses while somebody waits.

In the last part of a window, plans may leave some of their share. It goes to refreshing tags that moved.

The simulation in ``bench/plans.py`` and the service run this same code.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from app.kit.zones import zone_of

HOUR = 3600.0
_DAY = 24 * HOUR
_HOURS_OF_A_WEEK = 168
# The share of a window that plans cannot take.
UNPLANNED = 1 / 3
# The share that even the busiest forecast leaves to plans, because pulls without a plan can wait.
PLANNED = 1 / 3
# The share of a window that those who wait leave to those who ask now.
_FRESH = 1 / 6
# The last part of a window in which its rest would soon lapse.
_TAIL = 1 / 12
# A window in which pulls without a plan use more than this part of the limit is busy.
_BUSY = 1 / 4
# The schedule looks no further ahead than this.
_LEAST_WINDOWS, _MOST_WINDOWS = 8, 200


@dataclass(frozen=True, slots=True)
class Budget:
    """An account's budget: ``remaining`` of ``limit`` GETs until ``ends_at`` (Unix seconds), then ``limit`` again.

    ``window`` is in seconds. ``own``: the upstream counts an account of ours, and not the address that we share.
    """

    limit: int
    window: float
    remaining: int
    ends_at: float
    own: bool

    def lapses(self, now: float) -> bool:
        """Return whether the rest of the window would soon lapse, on an account of our own."""
        return self.own and self.ends_at - now <= self.window * _TAIL


@dataclass(frozen=True, slots=True)
class Need:
    """The ``gets`` that one image still costs, wanted by ``person`` between ``earliest`` and ``due`` (Unix seconds).

    Two needs with the same ``key`` are one image.
    """

    key: str
    person: str
    due: float
    gets: int
    earliest: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """The GETs without a plan, ours and those of others behind the address, by the hour of a week (UTC).

    ``mean`` is the average of the weeks that were seen, ``high`` what they rarely exceeded. Both are empty if nothing
    was seen.
    """

    mean: Mapping[int, float] = field(default_factory=dict)
    high: Mapping[int, float] = field(default_factory=dict)

    def expected(self, start: float, end: float) -> float:
        """Return the average number of GETs between two times (Unix seconds)."""
        return _between(self.mean, start, end)

    def at_most(self, start: float, end: float) -> float:
        """Return the number of GETs between two times that is rarely exceeded."""
        return max(self.expected(start, end), _between(self.high, start, end))


@dataclass(frozen=True, slots=True)
class Window:
    """A window of the budget: the GETs that plans may have and have, those for pulls that wait, and what these have."""

    start: float
    end: float
    free: int
    busy: bool
    taken: int = 0
    open: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """The windows with what plans take of them, the first one being the present.

    ``ready``: when each image is here, by its key; an image without an entry is beyond what is looked ahead.
    ``late``: the keys of images that are not here before their date. ``now``: the keys whose GETs may be sent now, in
    order, and ``reserved``: how many GETs that are. ``spare``: how many more would lapse, so that tags are refreshed.
    """

    windows: Sequence[Window]
    ready: Mapping[str, float]
    late: frozenset[str]
    now: Sequence[str]
    reserved: int
    spare: int = 0


def schedule(
    budget: Budget, needs: Iterable[Need], forecast: Forecast, now: float, waiting: Iterable[Need] = ()
) -> Schedule:
    """Divide the budget among the needs of plans, and then among pulls that wait, which are never late."""
    ordered, ready = in_order(needs), dict[str, float]()
    last_date = max((need.due for need in ordered), default=now)
    horizon = max(last_date + 2 * budget.window, now + _LEAST_WINDOWS * budget.window)
    windows, taken_now, late = _windows(budget, forecast, now, horizon), dict[str, int](), set[str]()
    for need in ordered:
        at = _serve(windows, need, _choices(windows, need), ready, taken_now)
        if at is None or at >= need.due:
            late.add(need.key)
    planned = {need.key for need in ordered}
    for need in in_order((one for one in waiting if one.key not in planned), span=math.inf):
        _serve(windows, need, range(len(windows)), ready, taken_now, waits=True)
    present = windows[0]
    # Pulls without a plan are left all that they may need, because refreshing can wait for another window.
    expected = math.ceil(forecast.at_most(now, budget.ends_at))
    free = min(present.free, budget.remaining - expected) - present.taken - present.waiting
    spare = max(0, free) if budget.lapses(now) else 0
    return Schedule(windows, ready, frozenset(late), list(taken_now), sum(taken_now.values()), spare)


def _serve(
    windows: list[Window],
    need: Need,
    places: Iterable[int],
    ready: dict[str, float],
    taken_now: dict[str, int],
    *,
    waits: bool = False,
) -> float | None:
    """Give a need GETs of windows; return when it has them all, None if these windows do not suffice."""
    left, last = need.gets, windows[0].start
    for place in places:
        window = windows[place]
        takes = min(left, window.open - window.taken - window.waiting if waits else window.free - window.taken)
        if takes > 0:
            windows[place] = replace(
                window, taken=window.taken + takes * (not waits), waiting=window.waiting + takes * waits
            )
            left, last = left - takes, max(last, window.start)
            if place == 0:
                taken_now[need.key] = takes
        if not left:
            ready[need.key] = last
            return last
    return None


def in_order(needs: Iterable[Need], span: float = HOUR) -> list[Need]:
    """Return the needs in the order in which they are served, each image once.

    People take turns within a ``span`` of dates, in seconds.
    """
    merged: dict[str, Need] = {}
    for need in needs:
        known = merged.get(need.key)
        if known is None:
            merged[need.key] = need
            continue
        first = min(known, need, key=lambda one: one.due)
        merged[need.key] = replace(first, gets=max(known.gets, need.gets), earliest=min(known.earliest, need.earliest))
    turns: Counter[tuple[float, str]] = Counter()
    keyed = []
    for need in sorted(merged.values(), key=lambda one: (one.due, one.key)):
        hour = need.due // span
        keyed.append(((hour, turns[hour, need.person], need.due, need.key), need))
        turns[hour, need.person] += 1
    return [need for _, need in sorted(keyed, key=lambda pair: pair[0])]


def week_later(at: float, zone: str | None) -> float:
    """Return a time (Unix seconds) a week later, at the same hour in a time zone; in UTC without one that is known."""
    local = datetime.fromtimestamp(at, zone_of(zone) or UTC)
    # Arithmetic in one zone is that of its clocks on the wall.
    return (local + timedelta(days=7)).timestamp()


def free_now(budget: Budget, forecast: Forecast, now: float) -> int:
    """Return how many GETs of the present window plans may have."""
    part = min(1.0, max(0.0, budget.ends_at - now) / budget.window)
    share = budget.limit * UNPLANNED * (part if budget.own else 1.0)
    keep = max(share, min(forecast.at_most(now, budget.ends_at), budget.limit * (1 - PLANNED) * part))
    return max(0, budget.remaining - math.ceil(keep - 1e-9))


def _windows(budget: Budget, forecast: Forecast, now: float, horizon: float) -> list[Window]:
    def is_busy(start: float, end: float) -> bool:
        whole = forecast.expected(start, end) / (end - start) * budget.window if end > start else 0.0
        return whole > budget.limit * _BUSY

    end = max(now, budget.ends_at)
    fresh = math.ceil(budget.limit * _FRESH * min(1.0, max(0.0, end - now) / budget.window) - 1e-9)
    left = max(0, budget.remaining - fresh)
    windows = [
        Window(now, end, free_now(budget, forecast, now), not budget.lapses(now) and is_busy(now, end), open=left)
    ]
    while end < horizon and len(windows) < _MOST_WINDOWS:
        start, end = end, end + budget.window
        expected = min(forecast.at_most(start, end), budget.limit * (1 - PLANNED))
        keep = max(budget.limit * UNPLANNED, expected)
        free = max(0, budget.limit - math.ceil(keep - 1e-9))
        left = budget.limit - math.ceil(budget.limit * _FRESH)
        windows.append(Window(start, end, free, is_busy(start, end), open=left))
    return windows


def _choices(windows: Sequence[Window], need: Need) -> list[int]:
    """Return the places of the windows that a need may use, the best first."""
    possible = [place for place, window in enumerate(windows) if window.end > need.earliest]
    before = [place for place in possible if windows[place].start < need.due]
    return [*sorted(before, key=lambda place: windows[place].busy), *possible[len(before) :]]


def learn(spent: Iterable[tuple[float, float]], weeks: int, now: float) -> Forecast:
    """Return a forecast from (Unix time, GETs) of the last ``weeks`` weeks, without those of plans.

    With fewer than two weeks, an hour is compared with the same hour of all days.
    """
    hours: Counter[int] = Counter()
    first = now
    for at, number in spent:
        hours[int(at // HOUR)] += max(0.0, number)  # type: ignore[assignment]  # a Counter adds any number
        first = min(first, at)
    seen = min(now - first, weeks * 7 * _DAY)
    period = _HOURS_OF_A_WEEK if seen >= 14 * _DAY else 24
    if seen < HOUR:
        return Forecast()
    values: dict[int, list[float]] = {}
    for hour in range(int((now - seen) // HOUR), int(now // HOUR)):
        values.setdefault(hour % period, []).append(hours[hour])
    mean = {hour: sum(many) / len(many) for hour, many in values.items()}
    # Four weeks are too few for a quantile, so the largest value stands for it.
    high = {hour: float(max(many)) for hour, many in values.items()}
    return Forecast(
        {hour: mean.get(hour % period, 0.0) for hour in range(_HOURS_OF_A_WEEK)},
        {hour: high.get(hour % period, 0.0) for hour in range(_HOURS_OF_A_WEEK)},
    )


def _between(hours: Mapping[int, float], start: float, end: float) -> float:
    """Add up an hourly course between two times."""
    if not hours:
        return 0.0
    total, at = 0.0, start
    while at < end:
        hour = int(at // HOUR)
        until = min(end, (hour + 1) * HOUR)
        total += hours.get(hour % _HOURS_OF_A_WEEK, 0.0) * (until - at) / HOUR
        at = until
    return total
