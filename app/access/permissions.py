"""The one place that decides who may do what in which project.

A caller that may not pull learns nothing: a private project answers like one that does not exist.
"""

from __future__ import annotations

from app.database import Database, members, projects

from .principal import Principal, PrincipalKind
from .roles import ACTION_RIGHTS, ALL_RIGHTS, NO_RIGHTS, PUBLIC_RIGHTS, Role, rights_of
from .scopes import ALL_ACTIONS, NO_PROJECT, Access

NOTHING: frozenset[str] = frozenset()


class Permissions:
    """Reads projects and members from the database for every question, so that a change shows at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def access(self, principal: Principal, project_name: str) -> Access:
        """Return what the principal may do in a project's repositories (pull, push, delete); raises Unavailable.

        An administrator may do everything in a missing project as well, so that a later step can say it is missing.
        """
        head = await projects.head(self._database, project_name)
        if head is None:
            return Access(ALL_ACTIONS if principal.administers else NOTHING, NO_PROJECT)
        rights = await self.rights(principal, head[0], public=head[1])
        return Access(frozenset(action for action, right in ACTION_RIGHTS.items() if right in rights), head[0])

    async def is_public_mirror(self, project_name: str) -> bool:
        """Return whether a project mirrors an upstream for everybody; raises Unavailable."""
        head = await projects.head(self._database, project_name)
        return head is not None and head[1] and head[2] is not None

    async def rights(self, principal: Principal, project_id: int, *, public: bool) -> frozenset[str]:
        """Return every right that the principal has in a project; raises Unavailable."""
        everybodys = PUBLIC_RIGHTS if public else NO_RIGHTS
        if principal.kind is PrincipalKind.ROBOT:
            return everybodys | principal.limited(project_id)
        own = ALL_RIGHTS if principal.is_admin else await self._of_roles(principal, project_id)
        if principal.limits is not None:
            own &= principal.limited(project_id)
        return everybodys | own

    async def _of_roles(self, principal: Principal, project_id: int) -> frozenset[str]:
        if principal.id is None:
            return NO_RIGHTS
        roles = await members.roles(self._database, project_id, principal.id, principal.groups)
        return NO_RIGHTS.union(*(rights_of(Role(role)) for role in roles))
