"""Quotas of projects: how much is used, and who may set how much."""

from __future__ import annotations

from app.access.errors import Invalid, Missing, PreconditionFailed
from app.access.principal import Principal
from app.config import Policy
from app.database import Database, Transaction, projects, quotas
from app.database.quotas import Usage, in_words
from app.kit.ids import is_id

from .service import check_quota


class Quotas:
    """What is charged, and when: `app.registry.uploads` and `app.database.blobs`."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self._database = database
        self._policy = policy

    async def usage(self, project_id: int) -> Usage:
        """Read what a project uses and may use; raises Missing."""
        found = await quotas.usage(self._database, project_id) if is_id(project_id) else None
        if found is None:
            raise _missing(project_id)
        return found

    async def set(self, by: Principal, project_id: int, quota_bytes: int | None) -> Usage:
        """Set a quota; None is no end.

        Raises Missing, Invalid for a negative one or a mirror (which has a cache size), and for whoever is no
        administrator Forbidden for no end or more than the configured most, PreconditionFailed below what is used.
        """
        check_quota(quota_bytes, by, self._policy)

        async def change(transaction: Transaction) -> None:
            # Nothing is charged between the look and the change.
            await quotas.room(transaction, project_id)
            project = await projects.get(transaction, project_id)
            if project is None:
                raise _missing(project_id)
            if project.upstream is not None:
                raise Invalid("%(name)s is a cache: it has a cache size, not a quota", name=project.name)
            if quota_bytes is not None and quota_bytes < project.used_bytes and not by.administers:
                raise PreconditionFailed(
                    "%(name)s uses %(used)s already; delete something first, or choose a larger quota",
                    name=project.name,
                    used=in_words(project.used_bytes),
                )
            await quotas.set_quota(transaction, project_id, quota_bytes)

        if is_id(project_id):
            await self._database.transact(change)
        return await self.usage(project_id)

    async def warning(self, project_id: int) -> str | None:
        """Say in words that a project has little left, from 85 % on."""
        found = await quotas.usage(self._database, project_id)
        return found.warning if found else None


def _missing(project_id: int) -> Missing:
    return Missing("there is no project of the id %(number)s that you may see", number=project_id)
