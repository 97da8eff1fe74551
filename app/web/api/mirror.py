"""Show a pull-through cache's budget, running fills and traffic; Harbor does not have this."""

from __future__ import annotations

import time
from typing import Any

from app.access.errors import Missing
from app.database import budget_samples, traffic
from app.database.traffic import Counts
from app.mirror.statistics import BudgetView, RunningFill

from .handler import ApiHandler
from .shapes import moment, some

_HOUR = 3600


class OfMirror(ApiHandler):
    """The base of handlers of a pull-through cache."""

    async def examine(self) -> None:
        await super().examine()
        if self.view.upstream is None:
            raise Missing(
                "%(project)s hosts images and is no pull-through cache; choose a project that is one",
                project=self.view.name,
            )

    @property
    def since(self) -> float:
        return time.time() - _HOUR * int(self.query["hours"])


class BudgetHandler(OfMirror):
    async def get(self) -> None:
        views = await self.services.mirror.budgets(self.view.upstream or "", self.view.id)
        self.answer([await self._spell(view) for view in views])

    async def _spell(self, view: BudgetView) -> dict[str, Any]:
        samples = await self.services.database.read(budget_samples.since, view.upstream, view.account, self.since)
        return some(
            upstream=view.upstream,
            account=view.account if self.principal.administers else None,
            unlimited=view.unlimited,
            limit=view.limit,
            remaining=view.remaining,
            resets_at=moment(view.resets_at),
            blocked_until=moment(view.blocked_until),
            samples=[{"at": moment(one.at), "limit": one.limit, "remaining": one.remaining} for one in samples],
        )


class FillsHandler(OfMirror):
    async def get(self) -> None:
        self.answer([_fill(fill) for fill in await self.services.mirror.fills(self.view.name)])


class TrafficHandler(OfMirror):
    async def get(self) -> None:
        room = await self.services.mirror.room(self.view.id)
        hours = await self.services.database.read(traffic.by_hour, self.view.id, self.since)
        self.answer(
            some(
                total=_counts(await self.services.mirror.totals(self.view.id, self.since)),
                hours=[{"at": moment(at), **_counts(counts)} for at, counts in sorted(hours.items())],
                used_bytes=room.used,
                bound_bytes=room.bound,
            )
        )


def _counts(counts: Counts) -> dict[str, Any]:
    return {
        "hits": counts.hits,
        "misses": counts.misses,
        "served_bytes": counts.served_bytes,
        "fetched_bytes": counts.fetched_bytes,
    }


def _fill(fill: RunningFill) -> dict[str, Any]:
    return some(
        digest=fill.digest,
        repositories=list(fill.repositories),
        received=fill.received,
        size=fill.size,
        clients=fill.clients,
        started=moment(fill.started),
    )
