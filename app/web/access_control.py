"""The one place where pages and the REST API ask whether somebody may do something.

What a handler's method needs is said in one word:

    nothing             anybody may
    login               whoever is logged in, in whatever way: in the browser, by a password, an access key or a robot
    person              a person in person: not by a key or a robot, so that a secret that got out makes no others
    admin               an administrator in person
    project:read …      a right of `app.access.roles`, in the project that is named

Whoever lacks project:read is told the same as where there is no such project: 404, or 401 for nobody in particular,
whom logging in may help.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.access.errors import Forbidden, Missing
from app.access.permissions import Permissions
from app.access.principal import Principal, PrincipalKind
from app.access.roles import ALL_RIGHTS, READ_PROJECT
from app.oci.errors import Unauthorized
from app.projects.service import Projects

_LOG_IN = "log in to do this; without logging in public projects can be read, and nothing else"
_ADMINS_ONLY = "only an administrator may do this"
_NOT_BY_KEY = "only an administrator may do this, and not by a key"

WORDS = frozenset({"nothing", "login", "person", "admin"})


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project, and what whoever asks may do in it. ``upstream`` names what it mirrors, None where it hosts."""

    id: int
    name: str
    public: bool
    upstream: str | None
    rights: frozenset[str]

    def may(self, right: str) -> bool:
        return right in self.rights


class AccessControl:
    """Opens doors; asks the database with every question, so that a change shows with the next request."""

    def __init__(self, projects: Projects, permissions: Permissions) -> None:
        self._projects = projects
        self._permissions = permissions

    def admit(self, principal: Principal, needs: str) -> None:
        """Check one of `WORDS`; raises Unauthorized for nobody in particular, Forbidden for anybody else."""
        if needs not in WORDS:
            raise ValueError(needs)
        if needs == "nothing":
            return
        if principal.is_anonymous:
            raise Unauthorized(_LOG_IN)
        in_person = principal.kind is PrincipalKind.PERSON and principal.limits is None
        if needs == "person" and not in_person:
            raise Forbidden("an access key or a robot account may not do this; log in yourself")
        if needs == "admin" and not principal.administers:
            raise Forbidden(_NOT_BY_KEY if principal.is_admin else _ADMINS_ONLY)

    async def open(
        self, principal: Principal, project: str | int | None, needs: str, *, otherwise: str | None = None
    ) -> ProjectView:
        """Find a project by its name or id (None: the one looked for is not there) and check a right in it.

        ``otherwise`` is what whoever may not see it is told, where it was not asked for by its own name.
        Raises Unauthorized, Missing, Forbidden, and Unavailable.
        """
        if needs not in ALL_RIGHTS:
            raise ValueError(needs)
        view = None if project is None else await self._view(principal, project)
        if view is not None and needs in view.rights:
            return view
        if principal.is_anonymous:
            raise Unauthorized(_LOG_IN)
        if view is None or READ_PROJECT not in view.rights:
            if otherwise is not None:
                raise Missing(otherwise)
            raise Missing("there is no project %(project)r, or you are not a member of it", project=project)
        raise Forbidden(
            "you may not do this in %(name)s: it takes %(right)s; ask one of its project admins",
            name=view.name,
            right=needs,
        )

    async def _view(self, principal: Principal, project: str | int) -> ProjectView | None:
        try:
            found = await (self._projects.get(project) if isinstance(project, int) else self._projects.find(project))
        except Missing:
            return None
        rights = await self._permissions.rights(principal, found.id, public=found.public)
        return ProjectView(found.id, found.name, found.public, found.upstream, rights)
