"""What people see of a mirror project: how hot its cache is, what it saved, what the upstream still gives, what runs.

Whoever asks has been let in to the project; `MirrorStatus.fills` shows no more than that project has to do with.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from app.cache import Cache
from app.database import Database, budget_samples, projects, traffic
from app.database.budget_samples import BudgetSample
from app.database.traffic import CachedRepository, Counts

from .budget import BudgetView
from .mirror import Mirror
from .progress import RunningFill, running_fills


@dataclass(frozen=True, slots=True)
class Room:
    """What a mirror's blobs take up and may take up, in bytes; ``bound`` is None where there is none."""

    used: int
    bound: int | None


class MirrorStatus:
    """Asked by pages and API, on any worker; ``mirrors`` are those of this worker, by their upstream's name."""

    def __init__(self, database: Database, cache: Cache, mirrors: Mapping[str, Mirror]) -> None:
        self._database = database
        self._cache = cache
        self._mirrors = mirrors

    async def room(self, project_id: int) -> Room:
        """Say how full a mirror is; nothing is used by a project that is gone."""
        async with self._database.reading() as transaction:
            project = await projects.get(transaction, project_id)
        if project is None:
            return Room(0, None)
        bound = project.settings.get("cache_bytes")
        return Room(project.used_bytes, bound if isinstance(bound, int) else None)

    async def hottest(self, project_id: int, limit: int = 20) -> list[CachedRepository]:
        """List the repositories of a mirror that are pulled most, with what each has cached."""
        async with self._database.reading() as transaction:
            return await traffic.hottest(transaction, project_id, limit)

    async def totals(self, project_id: int, since: float) -> Counts:
        """Sum what a mirror served and fetched from the hour of ``since`` (Unix seconds) on."""
        return (await self.totals_of([project_id], since))[project_id]

    async def totals_of(self, project_ids: Collection[int], since: float) -> Mapping[int, Counts]:
        """Sum the same of many mirrors at once, by their ids."""
        async with self._database.reading() as transaction:
            return await traffic.totals(transaction, project_ids, since)

    async def by_hour(self, project_id: int, since: float) -> Mapping[int, Counts]:
        """Give the same hour by hour, by the Unix time at which each begins; those without traffic are left out."""
        async with self._database.reading() as transaction:
            return await traffic.by_hour(transaction, project_id, since)

    async def budgets(self, upstream: str, project_id: int | None = None) -> Sequence[BudgetView]:
        """Say what the accounts a project uses have left now and when it comes back; with None, those configured.

        None at all where the upstream is not configured. Raises Unavailable where the project's own account cannot be
        read.
        """
        mirror = self._mirrors.get(upstream)
        return [] if mirror is None else await mirror.budgets(project_id)

    @property
    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Give, by each upstream's name, what asks whether it answers; raises in words where it does not."""
        return {name: mirror.ping for name, mirror in sorted(self._mirrors.items())}

    async def samples(self, upstream: str, account: str, since: float) -> list[BudgetSample]:
        """List what an account had left, by the minute, from ``since`` on; a week is kept.

        ``account`` is as `BudgetView` has it. Minutes in which nobody knew are left out.
        """
        async with self._database.reading() as transaction:
            return await budget_samples.since(transaction, upstream, account, since)

    async def fills(self, project: str | None = None) -> list[RunningFill]:
        """List the fills that run on any worker of any host, oldest first: all, or those for a project's repositories.

        Repositories of other projects are not named then. None where Redis is away.
        """
        running = await running_fills(self._cache)
        if project is None:
            return running
        mine = [
            replace(fill, repositories=tuple(name for name in fill.repositories if name.startswith(f"{project}/")))
            for fill in running
        ]
        return [fill for fill in mine if fill.repositories]
