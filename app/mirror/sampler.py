"""Notes once a minute what an upstream still allows, for people to look back on."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from app.cache import Cache, keys
from app.database import Database, budget_samples
from app.database.budget_samples import MINUTE
from app.kit.jobs import repeat

from .budget import BudgetView

_LOOK_SECONDS = 10
_KEPT_SECONDS = 7 * 24 * 3600

log = logging.getLogger(__name__)


class Sampler:
    """Samples the budgets of one upstream; every worker runs one, the first of a minute does it for all."""

    def __init__(
        self, database: Database, cache: Cache, upstream: str, budgets: Callable[[], Awaitable[Sequence[BudgetView]]]
    ) -> None:
        self._database = database
        self._cache = cache
        self._upstream = upstream
        self._budgets = budgets

    async def run(self) -> None:
        """Sample every minute, for as long as the worker lives; what becomes known within one, soon after."""
        await repeat(f"noting what {self._upstream} allows", self.sample, _LOOK_SECONDS)

    async def sample(self) -> None:
        """Note what is known now, unless somebody has in this minute. Redis away: nothing is known."""
        now = time.time()
        known = [
            (view.account, view.limit, view.remaining)
            for view in await self._budgets()
            if view.limit is not None and view.remaining is not None
        ]
        turn = keys.sampled(self._upstream, int(now // MINUTE))
        if not known or await self._cache.increment(turn, 2 * MINUTE) != 1:
            return
        async with self._database.transaction() as transaction:
            for account, limit, remaining in known:
                await budget_samples.add(transaction, self._upstream, account, now, limit=limit, remaining=remaining)
                await budget_samples.remove_before(transaction, self._upstream, account, now - _KEPT_SECONDS)
