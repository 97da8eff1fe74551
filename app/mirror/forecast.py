"""Say when an upstream's pulls run out, if clients spend them as they do now."""

from __future__ import annotations

from collections.abc import Sequence

from app.database.budget_samples import BudgetSample

# The pace is that of the last half hour; a shorter time than some minutes tells no pace.
_PACE_SECONDS = 1800
_LEAST_SECONDS = 120


def empty_at(samples: Sequence[BudgetSample]) -> float | None:
    """Return when nothing is left at this pace (Unix seconds); None if nothing is being spent, or too little is known.

    ``samples`` are in order. Those before the last rise belong to a window of the upstream that is over.
    """
    window: list[BudgetSample] = []
    for sample in samples:
        if window and sample.remaining > window[-1].remaining:
            window.clear()
        window.append(sample)
    if not window:
        return None
    last = window[-1]
    first = next(sample for sample in window if sample.at >= last.at - _PACE_SECONDS)
    spent, seconds = first.remaining - last.remaining, last.at - first.at
    if spent <= 0 or seconds < _LEAST_SECONDS:
        return None
    return last.at + last.remaining * seconds / spent
