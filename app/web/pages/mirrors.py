"""The pages of mirrors: the cache, the traffic saved, the limits of upstreams and the running fills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from app.access.errors import Missing
from app.access.roles import READ_PROJECT
from app.database import budget_samples, traffic
from app.database.budget_samples import BudgetSample
from app.database.projects import Filter, ProjectEntry
from app.database.traffic import CachedRepository, Counts
from app.mirror.statistics import BudgetView, RunningFill
from app.mirror.status import Room
from app.oci.errors import Unauthorized
from app.web.access_control import ProjectView

from . import plot
from .base import PageHandler

_DAY = 86400
# How far ahead plans are drawn.
_AHEAD = 86400
_HOTTEST = 12


@dataclass(frozen=True, slots=True)
class AccountBudget:
    """The requests that one account of an upstream has left, now and over the last day."""

    view: BudgetView
    plot: plot.Plot


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the page shows of one mirror."""

    project: ProjectView
    room: Room
    today: Counts
    month: Counts
    hottest: Sequence[CachedRepository]
    accounts: Sequence[AccountBudget]
    fills: Sequence[RunningFill]


@dataclass(frozen=True, slots=True)
class Row:
    """One mirror in the list of all mirrors."""

    entry: ProjectEntry
    month: Counts
    fills: int


class OfMirror(PageHandler):
    """A page about mirrors."""

    section = "mirror"

    async def state(self, project: ProjectView) -> State:
        mirror, database = self.services.mirror, self.services.database
        assert project.upstream is not None  # noqa: S101 - for the types; asked for mirrors only
        return State(
            project=project,
            room=await mirror.room(project.id),
            today=await mirror.totals(project.id, self.now - _DAY),
            month=await mirror.totals(project.id, self.now - 30 * _DAY),
            hottest=await database.read(traffic.hottest, project.id, _HOTTEST),
            accounts=[await self._account(view) for view in await mirror.budgets(project.upstream, project.id)],
            fills=await mirror.fills(project.name),
        )

    async def _account(self, view: BudgetView) -> AccountBudget:
        read, since = self.services.database.read, self.now - _DAY
        samples = await read(budget_samples.since, view.upstream, view.account, since)
        if view.limit is not None and view.remaining is not None:
            samples.append(BudgetSample(int(self.now), view.limit, view.remaining))
        ahead = await self._ahead(view)
        return AccountBudget(view, plot.draw(samples, since, self.now + (_AHEAD if ahead else 0), ahead))

    async def _ahead(self, view: BudgetView) -> list[plot.Coming]:
        """Return what plans take of a budget ahead, and what others are expected to; empty without a plan."""
        ahead = await self.services.plans.ahead(view)
        if ahead is None or not any(gets for _, _, gets in ahead.windows):
            return []
        use = ahead.forecast
        return [
            plot.Coming(start, end, gets, use.expected(start, end), use.at_most(start, end))
            for start, end, gets in ahead.windows
        ]


class MirrorPage(OfMirror):
    """The list of all mirrors that the visitor may see, and the full state of those that are configured."""

    needs = "nothing"

    async def get(self) -> None:
        ask = partial(self.services.projects.page, self.principal, wanted=Filter(mirrors=True))
        listing = await self.listing(ask, lambda entry: entry.project.name)
        begins = not self.query("after") and not self.query("before")
        self.show(
            "mirror.html",
            listing=listing,
            rows=await self._rows(listing.items),
            states=await self._states() if begins else (),
        )

    async def _rows(self, entries: Sequence[ProjectEntry]) -> list[Row]:
        fills = Counter(
            project
            for fill in await self.services.mirror.fills()
            for project in {name.partition("/")[0] for name in fill.repositories}
        )
        ids = [one.project.id for one in entries]
        month = await self.services.database.read(traffic.totals, ids, self.now - 30 * _DAY)
        return [Row(one, month[one.project.id], fills[one.project.name]) for one in entries]

    async def _states(self) -> list[State]:
        states = []
        for name in self.services.mirrors.values():
            try:
                project = await self.services.access_control.open(self.principal, name, READ_PROJECT)
            except (Missing, Unauthorized):
                continue
            if project.upstream is not None:
                states.append(await self.state(project))
        return states


class CachePage(OfMirror):
    """One mirror, as a tab of its project."""

    needs = READ_PROJECT
    section = "projects"

    async def get(self, project: str) -> None:
        if self.opened.upstream is None:
            raise Missing
        self.show("project-cache.html", tab="cache", states=[await self.state(self.opened)])


class FillsPage(OfMirror):
    """Only the running fills, for the script that refreshes them."""

    needs = READ_PROJECT

    async def get(self, project: str) -> None:
        if self.opened.upstream is None:
            raise Missing
        self.show("fills.html", fills=await self.services.mirror.fills(self.opened.name))
