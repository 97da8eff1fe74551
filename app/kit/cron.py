"""Schedules in Harbor's six fields: second, minute, hour, day of the month, month, day of the week; in UTC.

    0 0 * * * *      every hour         0 30 2 * * 1-5      at 2:30 on weekdays
    0 0 0 * * *      every day          0 */10 * * * *      every ten minutes
    0 0 0 * * 0      every Sunday       0 0 0 1,15 * ?      on the first and the fifteenth

Sunday is 0. If both days are given, a day that is either of them counts, as in other crons.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MOST_CHARACTERS = 100
_PART = re.compile(r"(?:(?P<any>[*?])|(?P<low>[0-9]{1,2})(?:-(?P<high>[0-9]{1,2}))?)(?:/(?P<step>[0-9]{1,2}))?\Z")
_BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
# Long enough for a 29th of February.
_MOST_DAYS = 8 * 366


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times of a schedule; ``either`` says whether one of both days is enough."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    def after(self, at: float) -> float | None:
        """Return the first time (Unix seconds) after ``at``; None if there is none within years."""
        start = datetime.fromtimestamp(int(at) + 1, UTC)
        day = start.replace(hour=0, minute=0, second=0)
        for _ in range(_MOST_DAYS):
            if self._has(day):
                found = self._within(day, start)
                if found is not None:
                    return found.timestamp()
            day += timedelta(days=1)
        return None

    def _has(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (of_month or of_week) if self.either else (of_month and of_week)

    def _within(self, day: datetime, start: datetime) -> datetime | None:
        for hour in sorted(self.hours):
            for minute in sorted(self.minutes):
                if day.replace(hour=hour, minute=minute, second=59) < start:
                    continue
                for second in sorted(self.seconds):
                    found = day.replace(hour=hour, minute=minute, second=second)
                    if found >= start:
                        return found
        return None


def parse(text: str) -> Schedule | None:
    """Return the schedule of a text, None if it is not one."""
    fields = text.split() if len(text) <= MOST_CHARACTERS else []
    if len(fields) != len(_BOUNDS):
        return None
    sets = [_values(field, *bounds) for field, bounds in zip(fields, _BOUNDS, strict=True)]
    if not all(sets):
        return None
    weekdays = frozenset(day % 7 for day in sets[5])
    either = fields[3][0] not in "*?" and fields[5][0] not in "*?"
    return Schedule(sets[0], sets[1], sets[2], sets[3], sets[4], weekdays, either)


def _values(field: str, low: int, high: int) -> frozenset[int]:
    """Return the numbers that a field stands for; none if it is not valid."""
    found: set[int] = set()
    for part in field.split(","):
        read = _PART.match(part)
        if read is None:
            return frozenset()
        step = int(read["step"] or 1)
        first = low if read["any"] else int(read["low"])
        last = high if read["any"] or (read["step"] and not read["high"]) else int(read["high"] or first)
        if not (step and low <= first <= last <= high):
            return frozenset()
        found.update(range(first, last + 1, step))
    return frozenset(found)
