"""Statistics of the registry: exact while it is small, else as of the last count of everything.

Everything is counted apart from requests, because that reads whole tables. Each worker counts for itself.
"""

from __future__ import annotations

from dataclasses import replace

from app.access.principal import Principal
from app.database import Database, projects
from app.database.keyset import MOST_COUNTED
from app.database.projects import Statistics
from app.kit.jobs import repeat

from .viewers import viewer_of

_PAUSE_SECONDS = 300.0


class Census:
    """Counts what a principal may see; `run` counts everything until cancelled."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._everything: Statistics | None = None

    async def run(self) -> None:
        """Count everything now and every five minutes."""
        await repeat("counting projects and repositories", self.count, _PAUSE_SECONDS, now=True)

    async def count(self) -> None:
        """Count everything once; raises Unavailable."""
        self._everything = await self._database.read(projects.census)

    async def statistics(self, principal: Principal) -> Statistics:
        """Count the projects and repositories that the principal may see; bytes are None except for administrators.

        A number beyond `MOST_COUNTED` is of the last count of everything, which `Statistics.counted_at` tells. Nobody
        counts the private projects of one person apart: one more than `MOST_COUNTED` says that there are more.
        """
        found = await self._database.read(projects.statistics, viewer_of(principal))
        whole = self._everything
        if whole is not None and max(found.public_projects, found.public_repositories) > MOST_COUNTED:
            found = replace(
                found,
                public_projects=whole.public_projects,
                public_repositories=whole.public_repositories,
                counted_at=whole.counted_at,
            )
        if not principal.administers:
            return replace(found, used_bytes=None)
        small = max(
            found.public_projects, found.private_projects, found.public_repositories, found.private_repositories
        )
        return found if whole is None or small <= MOST_COUNTED else whole
