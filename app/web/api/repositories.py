"""List, describe and delete repositories."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from app.access.errors import Forbidden, Missing
from app.access.roles import LIST_REPOSITORIES
from app.database import repositories
from app.database.repositories import Repository, RepositoryEntry
from app.oci.errors import Unauthorized

from .handler import ApiHandler
from .shapes import moment


def repository(entry: RepositoryEntry) -> dict[str, Any]:
    """Return a repository in Harbor's form."""
    return {
        "id": entry.id,
        "project_id": entry.project_id,
        "name": entry.full_name,
        "description": entry.description,
        "artifact_count": entry.artifacts,
        "pull_count": entry.pulls,
        "creation_time": moment(entry.created_at),
        "update_time": moment(entry.updated_at),
    }


class InRepository(ApiHandler):
    """The base of handlers of a repository and its content."""

    async def repository(self, repository_name: str) -> Repository:
        """Return the repository of the path, in which its name is encoded twice; raises Missing."""
        return await self.services.repositories.find(self.view.id, unquote(repository_name))


class AllRepositoriesHandler(ApiHandler):
    async def get(self) -> None:
        exact = self.exactly("name")
        if exact is not None:
            self.answer_whole([repository(entry) for entry in await self._named(exact)])
            return
        page = self.page(self.text("name"))
        entries = await self.services.repositories.search(self.principal, page)
        total = await self.services.repositories.found(self.principal, page.search)
        self.answer_page([repository(entry) for entry in entries], total)

    async def _named(self, full_name: str) -> list[RepositoryEntry]:
        project, _, name = full_name.partition("/")
        try:
            view = await self.services.access_control.open(self.principal, project, LIST_REPOSITORIES)
            return [await self.services.repositories.entry(view.id, name)]
        except (Missing, Unauthorized, Forbidden):
            return []


class RepositoriesHandler(ApiHandler):
    async def get(self) -> None:
        exact = self.exactly("name")
        if exact is not None:
            self.answer_whole([repository(entry) for entry in await self._named(exact)])
            return
        page = self.page(self.text("name"))
        entries = await self.services.database.read(repositories.page, self.view.id, page)
        total = await self.services.database.read(repositories.total, self.view.id, page.search)
        self.answer_page([repository(entry) for entry in entries], total)

    async def _named(self, name: str) -> list[RepositoryEntry]:
        """Return the repository of a full name, or of a name within the project."""
        try:
            return [await self.services.repositories.entry(self.view.id, name.removeprefix(f"{self.view.name}/"))]
        except Missing:
            return []


class RepositoryHandler(InRepository):
    async def get(self, repository_name: str) -> None:
        self.answer(repository(await self.services.repositories.entry(self.view.id, unquote(repository_name))))

    async def put(self, repository_name: str) -> None:
        entry = await self.repository(repository_name)
        await self.services.repositories.describe(entry.id, self.body["description"])
        self.note("update", "repository", entry.full_name)

    async def delete(self, repository_name: str) -> None:
        entry = await self.repository(repository_name)
        await self.services.repositories.remove(entry.id, self.principal.subject)
        self.note("delete", "repository", entry.full_name)
