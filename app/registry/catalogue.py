"""The catalogue: list the repositories that a client may see."""

from __future__ import annotations

from app.database import Database, repositories
from app.projects.allowed_names import is_served


class Catalogue:
    """Lists the repositories that are not empty."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, last: str, limit: int, *, everything: bool) -> tuple[list[str], str | None]:
        """List full names in order, past ``last``: those in public projects, or all with ``everything``.

        Return them with the ``last`` of the next page, None if there is none. A page has fewer names than ``limit`` if
        the operators do not serve some of them.
        """
        project, _, repository = last.partition("/")
        # Read one repository more than the page has, to learn whether there is a next page.
        rows = await self._database.read(
            repositories.catalogue, (project, repository), limit + 1, everything=everything
        )
        there_are_more = 0 < limit < len(rows)
        rows = rows[:limit]
        names = [f"{project}/{repository}" for project, repository, settings in rows if is_served(settings, repository)]
        return names, "/".join(rows[-1][:2]) if there_are_more else None
