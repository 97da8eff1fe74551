"""Serve the bin of a project, and the projects in the bin."""

from __future__ import annotations

from typing import Any

from app.database.binned import DeletedProject, Entry

from .handler import ApiHandler
from .shapes import moment, storage


class _OnBin(ApiHandler):
    def spell(self, entry: Entry) -> dict[str, Any]:
        """Return an entry as an object of the API."""
        kind = {"type": "repository"} if entry.digest is None else {"type": "artifact", "digest": str(entry.digest)}
        return {
            "id": entry.id,
            **kind,
            "repository_name": f"{self.view.name}/{entry.repository}",
            "tags": list(entry.tags),
            "deleted_at": moment(entry.deleted_at),
            "deleted_by": entry.deleted_by.partition(":")[2],
            "ends_at": moment(self.services.bin.ends_at(entry.deleted_at)),
        }


class BinHandler(_OnBin):
    async def get(self) -> None:
        page = self.page(self.text("name"))
        entries = await self.services.bin.page(self.view.id, page)
        self.answer_page([self.spell(one) for one in entries], await self.services.bin.total(self.view.id, page.search))

    async def delete(self) -> None:
        count = await self.services.bin.empty(self.view.id)
        self.note("delete", "bin", f"{self.view.name}: {count}")


class BinEntryHandler(_OnBin):
    async def delete(self, bin_id: int) -> None:
        deleted = await self.services.bin.delete(self.view.id, bin_id)
        self.note("delete", "bin", f"{self.view.name}/{deleted.name}")


class RestoreHandler(_OnBin):
    async def post(self, bin_id: int) -> None:
        restored = await self.services.bin.restore(
            self.view.id, bin_id, self.principal.subject, self.query["name"] or None
        )
        self.note("restore", restored.kind, f"{self.view.name}/{restored.name}")
        named = f"{self.view.name}/{restored.repository}"
        self.answer({"repository_name": named, "tags": list(restored.tags), "not_restored": list(restored.taken)})


class DeletedProjectsHandler(ApiHandler):
    async def get(self) -> None:
        page = self.page(self.text("name"))
        rows = await self.services.bin.projects(self.principal, page)
        total = await self.services.bin.total_projects(self.principal, page.search)
        self.answer_page([self._spell(row) for row in rows], total)

    def _spell(self, row: DeletedProject) -> dict[str, Any]:
        return {
            "project_id": row.id,
            "name": row.name,
            "used": storage(row.used_bytes),
            "deleted_at": moment(row.deleted_at),
            "deleted_by": row.deleted_by.partition(":")[2],
            "ends_at": moment(self.services.bin.ends_at(row.deleted_at)),
        }


class DeletedProjectHandler(ApiHandler):
    async def delete(self, deleted_project_id: int) -> None:
        deleted = await self.services.bin.delete_project(self.principal, deleted_project_id)
        self.note("delete", "bin", deleted.name, (deleted.id, deleted.name))


class RestoreProjectHandler(ApiHandler):
    async def post(self, deleted_project_id: int) -> None:
        named = self.query["name"] or None
        restored = await self.services.bin.restore_project(self.principal, deleted_project_id, named)
        self.note("restore", "project", restored.name, (restored.id, restored.name))
        self.answer({"project_id": restored.id, "name": restored.name, "not_restored": list(restored.taken)})
