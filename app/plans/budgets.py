"""Read what the planning core needs to know of a budget: its present state, and what it is used for without plans."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from cachetools import TTLCache

from app.database import Database, budget_samples, plans
from app.database.budget_samples import BudgetSample
from app.mirror.answers import RateLimit
from app.mirror.statistics import SAMPLES_KEPT_SECONDS, BudgetView

from .core import HOUR, Budget, Forecast, learn

_WEEKS = SAMPLES_KEPT_SECONDS // (7 * 24 * 3600)
# A forecast is of hours and weeks, so that of a few minutes ago will do.
_FORECAST_SECONDS = 600
# A longer gap in the samples says nothing about the time in which the pulls were spent.
_GAP_SECONDS = 2 * HOUR


class Forecasts:
    """Forecasts of budgets, each read again after some minutes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: TTLCache[tuple[str, str], Forecast] = TTLCache(64, _FORECAST_SECONDS)

    async def of(self, upstream: str, account: str) -> Forecast:
        """Return the forecast for an account of an upstream, from the samples of the last weeks."""
        kept = self._kept.get((upstream, account))
        if kept is not None:
            return kept
        now = time.time()
        since = now - SAMPLES_KEPT_SECONDS
        async with self._database.reading() as transaction:
            samples = await budget_samples.since(transaction, upstream, account, since)
            planned = await plans.spent_since(transaction, upstream, account, since)
        made = learn(unplanned(samples, planned), _WEEKS, now)
        self._kept[upstream, account] = made
        return made


def unplanned(samples: Sequence[BudgetSample], planned: Mapping[int, int]) -> list[tuple[float, float]]:
    """Return (Unix time, GETs) by the hour: what the samples show as spent, less the GETs of plans."""
    hours: Counter[int] = Counter()
    for before, after in pairwise(samples):
        if after.at - before.at <= _GAP_SECONDS:
            # Remaining pulls rise when a window begins.
            hours[int(after.at // HOUR)] += max(0, before.remaining - after.remaining)
    if samples:
        # The forecast begins with the first sample, and also learns of hours in which nothing was spent.
        hours[int(samples[0].at // HOUR)] += 0
    return [(hour * HOUR, float(max(0, spent - planned.get(int(hour * HOUR), 0)))) for hour, spent in hours.items()]


def budget_of(view: BudgetView, stated: RateLimit | None, now: float) -> Budget | None:
    """Return a budget as the core takes it; None if no limit is known.

    ``stated``: a limit from an answer of the upstream, for a ledger that has not begun.
    """
    own = bool(view.account)
    if view.limit is None or view.window is None:
        if stated is None:
            return None
        return Budget(stated.limit, stated.window, stated.remaining, now + stated.window, own)
    if view.blocked_until is not None and view.blocked_until > now:
        return Budget(view.limit, view.window, 0, view.blocked_until, own)
    if view.remaining is None or view.resets_at is None or view.resets_at <= now:
        return Budget(view.limit, view.window, view.limit, now + view.window, own)
    return Budget(view.limit, view.window, max(0, view.remaining - view.reserved), view.resets_at, own)
