"""Spend what would lapse of an account of our own: compare the tags that people pull, and fetch those that moved.

In the last part of a window, after the plans and the pulls that wait, some of its GETs may still be left
(`app.plans.core.Schedule.spare`). A tag that was fetched then costs nothing when the next window is busy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from cachetools import TTLCache

from app.database import Database, manifests, plans, projects
from app.database.projects import Project
from app.kit import facts
from app.mirror.preparation import REFRESH_GETS, Preparation
from app.oci.errors import OCIError, TooManyRequests
from app.oci.reference import Tag

from .budgets import Forecasts, budget_of
from .core import schedule
from .standing import Standing

_PULLED_SECONDS = 7 * 86400.0
_COMPARED_SECONDS = 3600.0
# The tags of a mirror are listed this often, because the list looks at each of its repositories.
_LIST_SECONDS, _MOST_TAGS = 600.0, 200
# A run of the executor is not held up for long.
_TAGS_AT_ONCE = 8

log = logging.getLogger(__name__)


class Refreshing:
    """Refreshes tags; ``preparations`` are those of the mirrors, by their upstreams' names."""

    def __init__(
        self,
        database: Database,
        preparations: Mapping[str, Preparation],
        forecasts: Forecasts,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._preparations = preparations
        self._forecasts = forecasts
        self._standing = Standing(database, preparations)
        self._clock = clock
        self._tags: TTLCache[int, list[tuple[str, str]]] = TTLCache(64, _LIST_SECONDS)

    async def step(self) -> None:
        """Refresh some tags of each mirror whose budget would lapse now."""
        for project in await self._database.read(projects.mirrors):
            preparation = self._preparations.get(project.upstream or "")
            if preparation is not None:
                await self._refresh(preparation, project)

    async def _refresh(self, preparation: Preparation, project: Project) -> None:
        now, view = self._clock(), await preparation.budget(project.id)
        budget = budget_of(view, None, now)
        if budget is None or not budget.lapses(now):
            return
        needs, waiting = await self._standing.needs(view, now)
        spare = schedule(budget, needs, await self._forecasts.of(view.upstream, view.account), now, waiting).spare
        tags, spent = await self._listed(project, now), 0
        for _ in range(min(_TAGS_AT_ONCE, len(tags))):
            if spare - spent < REFRESH_GETS:
                break
            name, tag = tags.pop(0)
            counted = facts.begin("")
            try:
                await preparation.refresh(project.name, name, Tag(tag))
            except TooManyRequests:
                break
            except OCIError as error:
                log.info("%s/%s:%s is not refreshed: %s", project.name, name, tag, error.message)
            finally:
                spent += counted.pulls
        if spent:
            # Nobody would have pulled them, so a forecast does not expect them again.
            noted = partial(plans.add_spent, upstream=view.upstream, credential=view.account, at=now, gets=spent)
            await self._database.transact(noted, answers=False)

    async def _listed(self, project: Project, now: float) -> list[tuple[str, str]]:
        if project.id not in self._tags:
            since, before = now - _PULLED_SECONDS, now - _COMPARED_SECONDS
            self._tags[project.id] = await self._database.read(
                manifests.compared_before, project.id, since, before, _MOST_TAGS
            )
        return self._tags[project.id]
