"""Serve the quotas of projects; a quota has its project's number."""

from __future__ import annotations

from typing import Any

from app.access.errors import Missing
from app.database import quotas
from app.database.quotas import Usage

from .handler import ApiHandler
from .shapes import NO_END, moment, some, storage


def quota(usage: Usage) -> dict[str, Any]:
    """Return a quota in Harbor's form."""
    return {
        "id": usage.project_id,
        "ref": some(id=usage.project_id, name=usage.project, owner_name=usage.owner),
        "hard": storage(usage.quota_bytes),
        "used": storage(usage.used_bytes),
        "creation_time": moment(usage.created_at),
    }


class QuotasHandler(ApiHandler):
    async def get(self) -> None:
        if self.query["reference_id"] is not None:
            try:
                found = [await self.services.quotas.usage(int(self.query["reference_id"]))]
            except Missing:
                found = []
            self.answer_whole([quota(usage) for usage in found])
            return
        usages = await self.services.database.read(quotas.page, self.page())
        self.answer_page([quota(usage) for usage in usages], await self.services.database.read(quotas.total))


class QuotaHandler(ApiHandler):
    async def get(self, id: int) -> None:  # noqa: A002  # the document's name of it
        self.answer(quota(await self.services.quotas.usage(id)))

    async def put(self, id: int) -> None:  # noqa: A002  # the document's name of it
        size = self.body["hard"]["storage"]
        usage = await self.services.quotas.set(self.principal, id, None if size == NO_END else size)
        self.note("update", "quota", usage.project, (usage.project_id, usage.project))
