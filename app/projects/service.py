"""Finds the project and repository a request names; every request begins here."""

from __future__ import annotations

from dataclasses import dataclass

from app.database import Database, Transaction, projects
from app.oci.errors import Denied, NameUnknown
from app.oci.reference import Name


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository a request names. ``id`` is None where nothing has been put there yet."""

    name: Name
    project_id: int
    public: bool
    upstream: str | None
    id: int | None


class Projects:
    """Looks projects and repositories up; holds no state of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, name: Name) -> Repository:
        """Find what a name names; raises NameUnknown where there is no such project."""
        found = await projects.resolve(self._database, name.project, name.repository)
        if found is None:
            raise NameUnknown(f"there is no project {name.project!r}")
        return Repository(name, *found)

    async def open_to_write(self, name: Name) -> Repository:
        """Find a repository that may be pushed to; raises NameUnknown, and Denied for a mirror."""
        repository = await self.open(name)
        if repository.upstream is not None:
            raise Denied(
                f"{name.project}/ is a pull-through cache of {repository.upstream}, nothing can be pushed there; "
                "push to a project of your own"
            )
        if not name.repository:
            raise NameUnknown(f"push to {name.project}/NAME: an image needs a name within the project")
        return repository


async def ensure(transaction: Transaction, repository: Repository) -> int:
    """Answer the repository's id, making it where this is the first thing put there."""
    if repository.id is not None:
        return repository.id
    return await projects.ensure_repository(transaction, repository.project_id, repository.name.repository)
