"""The catalogue: which repositories there are, for whom."""

from __future__ import annotations

from app.database import Database, projects


class Catalogue:
    """Lists repositories that hold something."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, last: str, limit: int, *, everything: bool) -> list[str]:
        """List full names by key, past ``last``: those in public projects, or with ``everything`` all."""
        project, _, repository = last.partition("/")
        rows = await self._database.read(projects.catalogue, (project, repository), limit, everything=everything)
        return [f"{project}/{repository}" for project, repository in rows]
