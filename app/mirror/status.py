"""Show people the state of a mirror project: its hottest content, its traffic, the upstream's budget, running fills.

The caller has checked that the person may see the project. `MirrorStatus.fills` shows only that project's fills.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from app.cache import Cache
from app.database import Database, projects, traffic
from app.database.traffic import Counts

from .statistics import BudgetView, RunningFill, running_fills
from .upstream_access import AccessByProject


@dataclass(frozen=True, slots=True)
class Room:
    """The bytes that a mirror's blobs use, and the most they may use; ``bound`` is None if there is no bound."""

    used: int
    bound: int | None


class MirrorStatus:
    """Serves pages and the API on any worker; ``access`` is this worker's, by the upstream's name."""

    def __init__(self, database: Database, cache: Cache, access: Mapping[str, AccessByProject]) -> None:
        self._database = database
        self._cache = cache
        self._access = access

    async def room(self, project_id: int) -> Room:
        """Return the used and the allowed bytes of a mirror; a project that is gone uses none."""
        project = await self._database.read(projects.get, project_id)
        if project is None:
            return Room(0, None)
        bound = project.settings.get("cache_bytes")
        return Room(project.used_bytes, bound if isinstance(bound, int) else None)

    async def totals(self, project_id: int, since: float) -> Counts:
        """Return the sums of a mirror's traffic from the hour of ``since`` (Unix seconds) on."""
        return (await self._database.read(traffic.totals, [project_id], since))[project_id]

    async def budgets(self, upstream: str, project_id: int | None = None) -> Sequence[BudgetView]:
        """List the budgets of the accounts that a project uses; with None, those of the configured accounts.

        Empty if the upstream is not configured. Raises Unavailable if the project's own credential cannot be read.
        """
        access = self._access.get(upstream)
        return [] if access is None else await access.budgets(project_id)

    @property
    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Return a check for each upstream, by its name; a check raises an error if the upstream does not answer."""
        return {name: access.ping for name, access in sorted(self._access.items())}

    async def fills(self, project: str | None = None) -> list[RunningFill]:
        """List the fills on all workers of all hosts, oldest first: all, or those for a project's repositories.

        With a project, repositories of other projects are not named. Empty if Redis is down.
        """
        running = await running_fills(self._cache)
        if project is None:
            return running
        mine = [
            replace(fill, repositories=tuple(name for name in fill.repositories if name.startswith(f"{project}/")))
            for fill in running
        ]
        return [fill for fill in mine if fill.repositories]
