"""List, describe and delete repositories for people."""

from __future__ import annotations

from app.access.errors import Missing
from app.access.principal import Principal
from app.database import Database, repositories
from app.database.keyset import Count, Entries, Page
from app.database.repositories import Holding, Repository, RepositoryEntry
from app.database.text import storable
from app.oci.errors import Term
from app.projects import checks
from app.projects.removal import remove_repository
from app.projects.viewers import viewer_of


class Repositories:
    """The repositories of hosting projects and of mirrors."""

    def __init__(self, database: Database, *, has_bin: bool = False) -> None:
        """``has_bin``: what is deleted goes to the bin."""
        self._has_bin = has_bin
        self._database = database

    async def search(
        self, principal: Principal, page: Page[str], holding: Holding | None = None
    ) -> Entries[RepositoryEntry]:
        """List repositories in projects that the principal may see, by full name, which is their key.

        ``holding``: only those that hold such a tag or manifest.
        """
        if holding is not None and not storable(holding.begins):
            return Entries()
        found = await self._database.read(repositories.search, viewer_of(principal), page.with_keys(_split), holding)
        return Entries(found, None if found.reached is None else "/".join(found.reached))

    async def found(self, principal: Principal, text: str) -> Count:
        """Count the repositories that `search` lists."""
        return await self._database.read(repositories.found, viewer_of(principal), text)

    async def find(self, project_id: int, name: str) -> Repository:
        """Return a repository by its name within the project; raises Missing."""
        found = await self._database.read(repositories.find, project_id, name) if storable(name) else None
        if found is None:
            raise _unknown(name)
        return found

    async def entry(self, project_id: int, name: str) -> RepositoryEntry:
        """Return a repository, as `search` lists it, by its name within the project; raises Missing."""
        found = await self._database.read(repositories.entry, project_id, name) if storable(name) else None
        if found is None:
            raise _unknown(name)
        return found

    async def describe(self, repository_id: int, description: str) -> None:
        """Write the description; raises Missing and Invalid."""
        checks.text(description, Term("description"))
        async with self._database.transaction() as transaction:
            there = await repositories.describe(transaction, repository_id, description)
        if not there:
            raise _gone()

    async def remove(self, repository_id: int, deleted_by: str = "") -> None:
        """Remove a repository with its content; clients see it gone at once, blobs go in batches. Raises Missing.

        ``deleted_by`` is a principal's subject.
        """
        if not await remove_repository(self._database, repository_id, deleted_by if self._has_bin else None):
            raise _gone()


def _split(full_name: str) -> tuple[str, str]:
    project, _, name = full_name.partition("/")
    return project, name


def _gone() -> Missing:
    return Missing("this repository is gone")


def _unknown(name: str) -> Missing:
    return Missing("there is no repository %(name)r in this project", name=name[:200])
