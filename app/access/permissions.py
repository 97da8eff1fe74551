"""The one place that answers who may do what in which project.

Whoever may not pull learns nothing: a private project answers like one that is not there. What roles of members
and rights of robot accounts add is answered here too, and nowhere else.
"""

from __future__ import annotations

from app.database import Database, projects

from .principal import Principal
from .scopes import ALL_ACTIONS, PULL

NOTHING: frozenset[str] = frozenset()


class Permissions:
    """Reads projects from the database with every question, so that a change shows at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def actions(self, principal: Principal, project_name: str) -> frozenset[str]:
        """Answer what the principal may do in a project's repositories; raises Unavailable.

        The admin may do everything in a project that is missing as well, to be told so by what comes after.
        """
        if principal.is_admin:
            return ALL_ACTIONS
        head = await projects.head(self._database, project_name)
        if head is None:
            return NOTHING
        _, public, _ = head
        return PULL if public else NOTHING

    def may_list_catalogue(self, principal: Principal) -> bool:
        """Answer whether the catalogue may be asked for: by everybody, for it shows the public projects only.

        What it shows beyond them: `Grant.may_list_everything`.
        """
        return True
