"""The operators' first page: the state of everything, the budgets, and why requests were refused, failed or slow."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.access.principal import PrincipalKind
from app.database import accounts, budget_samples
from app.database.requests import MOST_LOOKED, RequestEntry
from app.mirror.forecast import empty_at
from app.mirror.statistics import BudgetView
from app.projects.condition import Look
from app.projects.explanations import explain

from . import words
from .base import PAGE_SIZE, Listing, PageHandler
from .search import name_in
from .shapes import beginning
from .texts import mark

_HOUR = 3600
_MOST_RECENT = 8
_MOST_SPENDERS = 5
_LONGEST = 300
# A request that succeeded is kept if it was slow.
_SUCCEEDED = ("hit", "stale", "asked", "followed", "done", "left", "challenged", "absent")
_SHOWN: Mapping[str, Collection[str]] = {
    "": (),
    "refused": ("refused",),
    "failed": ("failed",),
    "slow": _SUCCEEDED,
    "filled": ("filled",),
}


@dataclass(frozen=True, slots=True)
class Spender:
    """Somebody who spent pulls of a budget, in words."""

    name: str
    is_robot: bool
    pulls: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """A budget with the time at which it is empty at this pace, None if it is not being spent, and who spent most."""

    view: BudgetView
    empty_at: float | None
    spenders: Sequence[Spender]


class Operations(PageHandler):
    """A page that shows budgets or requests."""

    needs = "admin"
    section = "administration"

    async def forecasts(self) -> list[Forecast]:
        """Read the budgets of all configured accounts as they are now."""
        mirror = self.services.mirror
        views = await asyncio.gather(*(mirror.budgets(name) for name in sorted(self.services.upstreams)))
        return [await self._forecast(view) for each in views for view in each]

    async def _forecast(self, view: BudgetView) -> Forecast:
        read = self.services.database.read
        samples = await read(budget_samples.since, view.upstream, view.account, self.now - _HOUR)
        if view.limit is not None and view.remaining is not None:
            samples.append(budget_samples.BudgetSample(int(self.now), view.limit, view.remaining))
        most = sorted(view.clients.items(), key=lambda one: -one[1])[:_MOST_SPENDERS]
        return Forecast(view, empty_at(samples), [await self._spender(who, pulls) for who, pulls in most if pulls])

    async def _spender(self, who: str, pulls: int) -> Spender:
        kind, _, name = who.partition(":")
        if kind == PrincipalKind.PERSON:
            person = await self.services.database.read(accounts.person_by_name, name)
            full_name = person.full_name if person else ""
            return Spender(f"{full_name} ({name})" if full_name else name, is_robot=False, pulls=pulls)
        if kind == PrincipalKind.ROBOT:
            return Spender(name, is_robot=True, pulls=pulls)
        return Spender(self._("not logged in, at %(address)s") % {"address": who}, is_robot=False, pulls=pulls)


class OverviewPage(Operations):
    """The first page of the administration."""

    needs = "admin"

    async def get(self) -> None:
        services = self.services
        upstreams = {f"upstream {name}": check for name, check in services.mirror.checks.items()}
        looks, recent, forecasts, statistics = await asyncio.gather(
            services.condition.looks({**services.required, **services.optional, **upstreams}),
            services.requests.recent(outcomes=("refused", "failed"), limit=_MOST_RECENT),
            self.forecasts(),
            services.census.statistics(self.principal),
        )
        self.show(
            "overview.html",
            tab="overview",
            # Those that somebody must look at come first.
            looks=[(self._named(look), look) for look in sorted(looks, key=lambda look: look.good)],
            about=_PARTS,
            forecasts=forecasts,
            listing=Listing(recent, None),
            explain=explain,
            beginning=beginning,
            statistics=statistics,
            outcome_names=words.OUTCOMES,
            phase_names=words.PHASES,
        )

    def _named(self, look: Look) -> str:
        name, _, upstream = look.what.partition(" ")
        return f"{self._(_LOOKS[name])} {upstream}".strip() if name in _LOOKS else look.what


# The data that each part keeps, and the actions that fail without it.
_PARTS: Mapping[str, str] = {
    "database": mark(
        "Projects, people, tags and manifests. Without it nothing can be changed, but cached answers are still served."
    ),
    "storage": mark("The images' layers. Without it nothing can be pulled or pushed."),
    "redis": mark(
        "Browser sessions and upstreams' limits. Without it nobody can log in with a browser, but pulls still work."
    ),
}
# The names of looks; that of an upstream follows its own word.
_LOOKS: Mapping[str, str] = {
    "database": mark("Database"),
    "storage": mark("Store of blobs"),
    "redis": "Redis",
    "upstream": mark("Upstream"),
    "workers": mark("Workers"),
    "disk": mark("Disk"),
    "certificate": mark("Certificate"),
    "backup": mark("Last backup"),
    "versions": mark("Versions"),
}


class BudgetsPage(Operations):
    """Only the budgets, for the script that refreshes them."""

    needs = "admin"

    async def get(self) -> None:
        self.show("budgets.html", forecasts=await self.forecasts())


class RequestsPage(Operations):
    """The requests that were refused, failed, were slow or filled the cache, and why: all, or those searched for."""

    needs = "admin"

    async def get(self) -> None:
        search = name_in(self.query("q")[:_LONGEST], self.services.host)
        chosen, before = self.query("show"), self.number("before")
        found = await self._found(search, chosen, before)
        self.show(
            "requests.html",
            tab="requests",
            listing=Listing.cut(found, lambda request: request.id),
            search=search,
            chosen=chosen,
            looked=MOST_LOOKED if chosen and not search else None,
            explain=explain,
            beginning=beginning,
            outcome_names=words.OUTCOMES,
            phase_names=words.PHASES,
        )

    async def _found(self, search: str, chosen: str, before: int | None) -> Sequence[RequestEntry]:
        requests = self.services.requests
        if search:
            return await requests.find(search, after=before, limit=PAGE_SIZE + 1)
        return await requests.recent(outcomes=_SHOWN.get(chosen, ()), after=before, limit=PAGE_SIZE + 1)
