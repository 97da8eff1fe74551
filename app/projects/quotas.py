"""Read and set the quotas of projects."""

from __future__ import annotations

from app.access.errors import Invalid, Missing, PreconditionFailed
from app.access.principal import Principal
from app.config import Policy
from app.database import Database, Transaction, projects, quotas
from app.database.quotas import Usage, in_words
from app.database.webhooks import EventType
from app.kit.ids import is_id

from . import unfinished
from .service import check_quota


class Quotas:
    """Quotas of projects; `app.registry.uploads` and `app.database.blobs` charge the bytes."""

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
        """Set a quota in bytes, None for no limit; return the usage.

        Raises Missing, and Invalid for a negative quota or a mirror, which has a cache size instead. For people who are
        no administrators, it raises Forbidden for no limit or more than the configured maximum, and PreconditionFailed
        for less than the used bytes.
        """
        check_quota(quota_bytes, by, self._policy)

        async def change(transaction: Transaction) -> None:
            # The lock keeps other transactions from charging bytes between the check and the change.
            await quotas.room(transaction, project_id)
            project = await projects.get(transaction, project_id)
            if project is None:
                raise _missing(project_id)
            if project.upstream is not None:
                raise Invalid("%(name)s is a cache and has no quota; set its cache size instead", name=project.name)
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

    async def unfinished(self, project_id: int) -> int:
        """Return what unfinished pushes hold of a project's quota, in bytes."""
        return await unfinished.charged(self._database, project_id)

    async def free_unfinished(self, project_id: int) -> int:
        """Free what unfinished pushes hold, and return the bytes; pushes that are under way have to begin again."""
        return await unfinished.free_all(self._database, project_id)

    async def warning(self, project_id: int) -> str | None:
        """Return a warning if a project has used 85 % of its quota or more, otherwise None; tell its webhooks, too."""
        found = await quotas.usage(self._database, project_id)
        if found is None or found.warning is None:
            return None
        await unfinished.tell_quota(self._database, project_id, EventType.QUOTA_WARNING, str(found.warning))
        return found.warning


def _missing(project_id: int) -> Missing:
    return Missing("there is no project with the id %(number)s that you may see", number=project_id)
