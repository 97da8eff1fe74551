"""The catalogue: list the repositories that a client may see."""

from __future__ import annotations

from app.database import Database, projects


class Catalogue:
    """Lists the repositories that are not empty."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, last: str, limit: int, *, everything: bool) -> list[str]:
        """List full names in order, past ``last``: those in public projects, or all with ``everything``."""
        project, _, repository = last.partition("/")
        rows = await self._database.read(projects.catalogue, (project, repository), limit, everything=everything)
        return [f"{project}/{repository}" for project, repository in rows]
